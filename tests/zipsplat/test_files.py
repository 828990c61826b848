"""Files are whole or not there."""

from __future__ import annotations

import errno
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


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    target, link = tmp_path / "store" / "file.bin", tmp_path / "link.bin"
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, lambda file: file.write(b"new"))
    assert link.is_symlink()
    assert target.read_bytes() == b"new"
    assert os.listdir(tmp_path / "store") == ["file.bin"]
    dangling = tmp_path / "dangling.bin"
    dangling.symlink_to(tmp_path / "store" / "later.bin")
    write_atomically(dangling, lambda file: file.write(b"x"))
    assert (tmp_path / "store" / "later.bin").read_bytes() == b"x"


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file.bin"

    def write(_file: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left") as caught:
        write_atomically(path, write)
    assert caught.value.filename == str(path)
    assert os.listdir(tmp_path) == []
