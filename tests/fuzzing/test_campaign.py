"""The campaign finds planted faults, and faults it once found stay fixed."""

from __future__ import annotations

import os
import random
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from tests.contained import GIB, contained
from tests.fuzzing import campaign
from tests.fuzzing.campaign import REGRESSIONS, damaged, fault_of
from tests.fuzzing.readers import READERS, Reader

FOUND = sorted(path.name for path in REGRESSIONS.glob("*-*-*"))


@pytest.mark.parametrize("name", READERS)
def test_seeds_are_valid_and_damage_is_handled(name: str, tmp_path: Path) -> None:
    reader = READERS[name]
    good = 0
    for file, data in reader.seeds().items():
        folder = tmp_path / file
        folder.mkdir()
        (folder / file).write_bytes(data)
        with suppress(reader.allowed):  # some seeds are valid files that no reader supports
            reader.read(folder / file)
            good += 1
    assert good >= 0.8 * len(reader.seeds())
    assert campaign.campaign(name, reader, 25, seed=1) == []


@pytest.mark.parametrize("name", FOUND)
def test_faults_found_once(name: str, tmp_path: Path) -> None:
    reader, _, file = name.split("-", 2)
    path = tmp_path / file
    shutil.copy(REGRESSIONS / name, path)

    def read() -> int:
        reason = fault_of(READERS[reader], path)
        print(reason)
        return bool(reason)

    ended = contained(read)
    assert ended.status == 0, ended.output
    assert ended.grown < GIB


def test_a_seed_reproduces_its_files() -> None:
    seeds = READERS["transforms"].seeds()
    made = [damaged("x", seeds, 3, number) for number in range(50)]
    assert made == [damaged("x", seeds, 3, number) for number in range(50)]
    assert len({data for _, data in made}) > 40
    assert made != [damaged("x", seeds, 4, number) for number in range(50)]


def _raise(path: Path) -> None:
    if b"7" in path.read_bytes():
        raise KeyError("a traceback")


def _crash(path: Path) -> None:
    if b"7" in path.read_bytes():
        os.kill(os.getpid(), signal.SIGKILL)


def _hang(path: Path) -> None:
    while b"7" in path.read_bytes():
        pass


def _grow(path: Path) -> None:
    if b"7" in path.read_bytes():
        bytearray(int(1.3 * GIB))[:: 1 << 12] = b"x" * len(range(0, int(1.3 * GIB), 1 << 12))


@pytest.mark.parametrize(
    ("read", "reason", "seconds"),
    [
        (_raise, "KeyError", 10),
        (_crash, "ended by -9", 10),
        (_hang, "did not end", 0.5),
        (_grow, "GiB", 10),
    ],
)
def test_planted_faults_are_found(
    read: object, reason: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, "SECONDS", seconds)
    reader = Reader(lambda: {"x.txt": b"0123456"}, read)  # type: ignore[arg-type]

    def append(data: bytes, rng: random.Random) -> bytes:
        return data + rng.choice((b"1", b"1", b"7"))

    monkeypatch.setattr(campaign, "mutate", append)
    faults = campaign.campaign("planted", reader, 12)
    assert 1 <= len(faults) < 12
    assert all(reason in fault.reason and b"7" in fault.data for fault in faults)
