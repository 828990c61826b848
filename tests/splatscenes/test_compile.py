"""Compiled code is kept, but never beyond a change of any source or of itself."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from splatscenes import _compile

_PROGRAM = """
import sys
sys.path.insert(0, {folder!r})
from outer import answer
print(answer(1), sum(answer.stats.cache_hits.values()))
"""
_OUTER = (
    "from wrap import kernel\nfrom inner import add\n\n@kernel\ndef answer(x):\n    return add(x)\n"
)
_INNER = "from wrap import inlined\n\n@inlined\ndef add(x):\n    return x + {number}\n"


def test_a_change_in_a_called_file_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "wrap.py").write_text(Path(_compile.__file__).read_text())
    (tmp_path / "outer.py").write_text(_OUTER)
    environment = {**os.environ, "ZIPSPLAT_KERNEL_CACHE": str(tmp_path / "cache")}

    def run(number: int) -> str:
        (tmp_path / "inner.py").write_text(_INNER.format(number=number))
        program = _PROGRAM.format(folder=str(tmp_path))
        command = [sys.executable, "-B", "-c", program]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    assert run(2) == "3 0"
    assert run(2) == "3 1"  # taken from the cache
    (kept,) = (tmp_path / "cache").rglob("*.nbc")
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")
    assert run(2) == "3 0"  # nothing damaged is run
    assert run(40) == "41 0"  # outer.py is unchanged, yet nothing old is run


def test_a_read_only_cache_is_not_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZIPSPLAT_KERNEL_CACHE", str(tmp_path / "file" / "kernels"))

    def double(number: int) -> int:
        return 2 * number

    with caplog.at_level(logging.WARNING):
        assert _compile.kernel(double)(21) == 42
    assert "compiling the scene generator" in caplog.text
    assert "stored in nowhere" in caplog.text
