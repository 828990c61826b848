"""Kernels from bitcode are those of the sources, and numba's take over where they do not fit."""

from __future__ import annotations

import re
import sysconfig
import zipfile
from pathlib import Path

import numpy as np
import pytest

from zipsplat.kernel_folder import CACHE_VARIABLE
from zipsplat.render.cpu import bitcode
from zipsplat.render.cpu.bin import Sortable, number_intersections, sort_slots
from zipsplat.render.cpu.flat_calls import flattened
from zipsplat.render.cpu.kernels import Kernel
from zipsplat.render.cpu.layout import Slots, Workspace
from zipsplat.render.cpu.sources import PACKAGE, code_digest

HERE = bitcode.ARCHIVE
WRITTEN_BY = {entry["llvm"] for entry in bitcode._index(HERE).values()}
needs_bitcode = pytest.mark.skipif(
    not WRITTEN_BY or max(WRITTEN_BY) > bitcode.llvm.llvm_version_info[0],
    reason=f"there is no {HERE.name}, or LLVM is older than {WRITTEN_BY}",
)
ALL = sorted(HERE.parent.glob("*.zip"))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "kernels"
    monkeypatch.setenv(CACHE_VARIABLE, str(folder))
    return folder


@pytest.mark.parametrize("archive", ALL, ids=lambda path: path.stem)
def test_bitcode_is_that_of_the_sources(archive: Path) -> None:
    for name, entry in bitcode._index(archive).items():
        assert entry["code"] == code_digest(PACKAGE / entry["file"]), (
            f"the bitcode of {name} is out of date; run `make bitcode`"
        )


@pytest.mark.parametrize("archive", ALL, ids=lambda path: path.stem)
def test_every_kernel_has_bitcode(archive: Path) -> None:
    text = "".join(path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py"))
    names = set(re.findall(r"@kernel\n *def (\w+)", text))
    assert len(names) >= 12
    assert {name.partition("-")[0] for name in bitcode._index(archive)} == names


def slots_of(counts: list[int]) -> Slots:
    """One chunk of Gaussians that touch these numbers of tiles."""
    slots = Slots(*(np.zeros(4096, kind) for kind in "fiiiiiii"))
    slots.num_intersections[: len(counts)] = counts
    slots.chunk_count[:] = 0
    slots.chunk_count[0] = len(counts)
    return slots


def fresh(kernel: Kernel) -> Kernel:
    return Kernel(kernel.dispatcher, kernel.file)


def tried(kernel: Kernel) -> tuple[int, int]:
    """Results on a small example."""
    slots = slots_of([2, 0, 3])
    total: tuple[int, int] = kernel(slots)
    assert slots.first_intersection[:3].tolist() == [0, 2, 2]
    return total


@needs_bitcode
def test_bitcode_computes_what_numba_does(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = np.random.default_rng(0).integers(0, 1 << 30, 5000, np.int32)
    orders = []
    for archive in (HERE, cache / "none.zip"):
        monkeypatch.setattr(bitcode, "ARCHIVE", archive)
        number, sort = fresh(number_intersections), fresh(sort_slots)  # type: ignore[arg-type]
        assert tried(number) == (3, 5)
        assert (number._flat is not None) == (archive is HERE)
        parts = [Sortable(keys.copy(), np.arange(5000, dtype=np.int32)) for _ in range(3)]
        work = Workspace(np.zeros(1, np.float32), np.zeros(1 << 11, np.int32))
        whole = np.array([0], np.int64), np.array([5000], np.int32)
        in_first = sort(parts[0], *whole, parts[1], parts[2], work)
        assert type(in_first) is bool
        orders.append((parts[1] if in_first else parts[2]).slots)
    np.testing.assert_array_equal(orders[0], np.argsort(keys, kind="stable"))
    np.testing.assert_array_equal(*orders)


@needs_bitcode
def test_other_arguments_are_left_to_numba(cache: Path) -> None:
    kernel = fresh(number_intersections)  # type: ignore[arg-type]
    slots = slots_of([1, 1])
    strided = slots._replace(records=slots.records[::2])
    assert flattened((strided,))[0] != kernel._flat.form  # type: ignore[union-attr]
    assert kernel(slots) == kernel(strided) == (2, 2)


def test_forms_tell_kinds_apart() -> None:
    floats = np.zeros(3, np.float32)
    assert flattened(((floats, 2), True, 1.5)) == (
        "(*fq)?d",
        [floats.ctypes.data, 3, 2, True, 1.5],
    )
    read_only = floats.copy()
    read_only.flags.writeable = False
    for other in (read_only, floats[::2], floats.reshape(1, 3), np.float32(1), "text"):
        assert "-" in flattened((other,))[0]
    assert flattened((np.int64(1), np.float64(1)))[0] == "qd"


@needs_bitcode
def test_machine_code_is_kept_and_made_again_if_damaged(cache: Path) -> None:
    for damage in (b"", b"something else", None):
        assert tried(fresh(number_intersections)) == (3, 5)  # type: ignore[arg-type]
        (kept,) = cache.rglob("number_intersections.*.o")
        if damage is not None:
            kept.write_bytes(damage)
    time = kept.stat().st_mtime_ns
    assert tried(fresh(number_intersections)) == (3, 5)  # type: ignore[arg-type]
    assert kept.stat().st_mtime_ns == time


@needs_bitcode
@pytest.mark.parametrize("fault", ["no archive", "other sources", "no bitcode", "not an archive"])
def test_numba_takes_over(fault: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = cache.parent / "other.zip"
    if fault == "not an archive":
        other.write_bytes(b"something else")
    elif fault == "no bitcode":
        with zipfile.ZipFile(HERE) as archive, zipfile.ZipFile(other, "w") as damaged:
            damaged.writestr(bitcode.INDEX, archive.read(bitcode.INDEX))
            damaged.writestr("number_intersections", b"BC\xc0\xde" + bytes(100))
    elif fault == "other sources":
        other = HERE
        monkeypatch.setattr(bitcode, "code_digest", lambda *_files: "another")
    monkeypatch.setattr(bitcode, "ARCHIVE", other)
    kernel = fresh(number_intersections)  # type: ignore[arg-type]
    assert kernel._flat is None
    assert tried(kernel) == (3, 5)


def test_the_code_of_a_file_is_more_than_its_words(tmp_path: Path) -> None:
    def digest(text: str) -> str:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        file.write_text(text)
        return code_digest(file)

    plain = digest('"""About."""\ndef f(a):\n    """Say."""\n    return a + 1\n')
    assert plain == digest("# A note.\n\n\ndef f( a ):\n    # another\n    return a+1  # more\n")
    assert plain != digest("def f(a):\n    return a + 2\n")
    assert plain != digest("def f(a):\n    pass\nreturn a + 1\n")
    assert digest('a = """x"""\n') != digest('a = """y"""\n')


def test_the_archive_is_that_of_this_system() -> None:
    assert HERE.stem == sysconfig.get_platform()
