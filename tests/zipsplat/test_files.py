"""Files are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from zipsplat.files import atomic_path, write_atomically


def test_replaces_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.bin"
    write_atomically(path, lambda file: file.write(b"one"))
    write_atomically(path, lambda file: file.write(b"two"))
    assert path.read_bytes() == b"two"
    assert os.listdir(path.parent) == ["file.bin"]


def test_failure_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    path.write_bytes(b"old")

    def interrupted() -> None:
        with atomic_path(path) as temporary:
            temporary.write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file.bin"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    old = os.umask(0o027)
    try:
        write_atomically(path, lambda file: file.write(b"x"))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o640
