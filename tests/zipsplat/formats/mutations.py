"""Seeded damage to scene files, inside of their compression too, and what reading it may do.

A harness takes `FORMATS_TRIED`, `mutated` and `try_reading`; as a program this file is one:

    python -m tests.zipsplat.formats.mutations --count 20000 --command-every 400 [--format spz]
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import io
import logging
import random
import resource
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from zipsplat import Gaussians
from zipsplat.cli import main

ROOT = Path(__file__).parents[2]
MOST_SECONDS = 10.0
MOST_KILOBYTES = 1 << 20  # above what is in use before the first file
_NUMBERS = (b"0", b"-1", b"1", b"255", b"65536", b"2147483647", b"4294967296", b"1e308", b"nan")
_WORDS = (b"\x00", b"\xff", b"\x7f\x7f\x80\xff", b"\x00\x00\xc0\x7f", b"\xff" * 8, b'"', b"[", b"}")

_GOLDEN, _PEOPLE = ROOT / "golden" / "formats", ROOT / "files_of_people"
_SEEDS: dict[str, list[Path]] = {
    "ply": [_GOLDEN / "scene.ply", _PEOPLE / "p12_sh4.ply", _PEOPLE / "p10b_face_list_two.ply"],
    "compressed_ply": [_GOLDEN / "peer.compressed.ply", _PEOPLE / "c01_12col.compressed.ply"],
    "spz": [_GOLDEN / "peer_v3.spz", _PEOPLE / "s03_v3_coord6.spz"],
    "spz4": [_GOLDEN / "peer_v4.spz", _PEOPLE / "s03_v4_coord8.spz"],
    "sog": [_GOLDEN / "peer.sog"],
    "splat": [],
    "glb": [
        _GOLDEN / "peer.glb",
        _PEOPLE / "g05_two_nodes.glb",
        _PEOPLE / "g11_spz_compressed.glb",
    ],
}
FORMATS_TRIED = tuple(_SEEDS)
_SUFFIXES = {"compressed_ply": ".compressed.ply", "spz4": ".spz"}


@dataclass
class Tally:
    """What became of the files of one format."""

    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    failures: list[str] = field(default_factory=list)


def sources(name: str) -> list[bytes]:
    """Whole files of a format, to be damaged."""
    if name == "splat":
        scene = Gaussians.load(_GOLDEN / "scene.ply").with_sh_degree(0)
        return [scene.to_bytes("splat", note="")]
    return [path.read_bytes() for path in _SEEDS[name]]


def mutated(name: str, seed: int, whole: list[bytes]) -> bytes:
    """A damaged file, always the same for a seed.

    Args:
        name: of `FORMATS_TRIED`.
        seed: of the damage.
        whole: `sources(name)`.
    """
    rng = random.Random(f"{name} {seed}")
    data = rng.choice(whole)
    inside = _INSIDE.get(name)
    if inside is not None and rng.random() < 0.7:
        with contextlib.suppress(Exception):  # some sources are packed otherwise
            return inside(data, rng)
    return _damaged(data, rng)


def _damaged(data: bytes, rng: random.Random) -> bytes:
    """One to four injuries."""
    for _ in range(rng.randint(1, 4)):
        data = rng.choice(_INJURIES)(data, rng)
    return data


def _place(data: bytes, rng: random.Random) -> int:
    """Half of all injuries are in the first bytes, where counts and types are."""
    near = min(len(data), 400)
    return rng.randrange(max(1, near if rng.random() < 0.5 else len(data)))


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return (
        data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :] if data else data
    )


def _overwrite(data: bytes, rng: random.Random) -> bytes:
    at, word = _place(data, rng), rng.choice(_WORDS)
    return data[:at] + word + data[at + len(word) :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: _place(data, rng)]


def _remove(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at + rng.randint(1, 64) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    at = _place(data, rng)
    return data[:at] + data[at : at + rng.randint(1, 64)] * rng.randint(2, 40) + data[at:]


def _renumber(data: bytes, rng: random.Random) -> bytes:
    """Another number in a text, as in headers and JSON."""
    digits = [i for i in range(min(len(data), 4000)) if data[i : i + 1].isdigit()]
    if not digits:
        return _flip(data, rng)
    at = rng.choice(digits)
    end = at
    while end < len(data) and data[end : end + 1].isdigit():
        end += 1
    return data[:at] + rng.choice(_NUMBERS) + data[end:]


def _swap(data: bytes, rng: random.Random) -> bytes:
    """Exchange two lines, as of a header."""
    lines = data[:2000].split(b"\n")
    if len(lines) < 3:
        return _repeat(data, rng)
    a, b = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[a], lines[b] = lines[b], lines[a]
    return b"\n".join(lines) + data[2000:]


_INJURIES = (_flip, _flip, _overwrite, _cut, _remove, _repeat, _renumber, _renumber, _swap)


def _in_gzip(data: bytes, rng: random.Random) -> bytes:
    return gzip.compress(_damaged(gzip.decompress(data), rng), 1, mtime=0)


def _in_zip(data: bytes, rng: random.Random) -> bytes:
    """Damage to one member of a `.sog`, or to the directory of the archive."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    hurt = rng.choice([*members, "meta.json"])
    members[hurt] = _damaged(members[hurt], rng)
    if rng.random() < 0.1:
        del members[rng.choice(list(members))]
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


_INSIDE: dict[str, Callable[[bytes, random.Random], bytes]] = {"spz": _in_gzip, "sog": _in_zip}


def try_reading(path: Path) -> bool:
    """Whether a file is read; anything but a renderable scene or a `ValueError` is an error."""
    try:
        Gaussians.load(path).check()
    except ValueError:
        return False
    return True


def try_command(path: Path) -> str:
    """What is wrong with how `info` and `convert` take a file; empty if nothing."""
    out = path.with_name("out.ply")
    for arguments in (["info", str(path)], ["convert", str(path), str(out), "--overwrite"]):
        stderr = io.StringIO()
        with contextlib.redirect_stderr(stderr), contextlib.redirect_stdout(io.StringIO()):
            status = main(arguments)
        text = stderr.getvalue()
        if status not in (0, 1) or "Traceback" in text or (status and not text.strip()):
            return f"{arguments[0]} ended with {status} and said {text[-300:]!r}"
    return ""


def run(name: str, seeds: range, command_every: int, folder: Path) -> Tally:
    """Try the files of some seeds; what fails is kept in the folder as `NAME-SEED`."""
    whole, tally = sources(name), Tally()
    path = folder / f"scene{_SUFFIXES.get(name, '.' + name)}"
    for seed in seeds:
        path.write_bytes(mutated(name, seed, whole))
        before, begin = _peak(), time.process_time()
        wrong = _attempt(path, tally, with_command=seed % command_every == 0)
        seconds = time.process_time() - begin
        tally.slowest = max(tally.slowest, seconds)
        if seconds > MOST_SECONDS:
            wrong = wrong or f"{seconds:.1f} s"
        if _peak() - before > MOST_KILOBYTES:
            wrong = wrong or f"{(_peak() - before) >> 10} MiB"
        if wrong:
            (folder / f"{name}-{seed}").write_bytes(path.read_bytes())
            tally.failures.append(f"{name} {seed}: {wrong}")
    return tally


def _attempt(path: Path, tally: Tally, with_command: bool) -> str:
    try:
        with _alarm(6 * MOST_SECONDS):
            is_read = try_reading(path)
            tally.read += is_read
            tally.refused += not is_read
            return try_command(path) if with_command else ""
    except Exception as error:  # that is what is looked for
        return f"{type(error).__name__}: {str(error)[:200]}"


@contextlib.contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """End what hangs."""

    def ring(*_: object) -> None:
        raise TimeoutError(f"more than {seconds} s by the clock")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _peak() -> int:
    """Most memory that this process has used, KiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _main() -> int:
    parser = argparse.ArgumentParser(description="Damage scene files and read them.")
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--command-every", type=int, default=100)
    parser.add_argument("--format", choices=FORMATS_TRIED, action="append")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    folder = Path(tempfile.mkdtemp(prefix="zipsplat-mutations-"))
    failed = False
    for name in options.format or FORMATS_TRIED:
        seeds = range(options.first, options.first + options.count)
        tally = run(name, seeds, options.command_every, folder)
        sys.stdout.write(
            f"{name}: {tally.read} read, {tally.refused} refused, {len(tally.failures)} failures,"
            f" slowest {tally.slowest:.2f} s\n"
        )
        sys.stdout.writelines(f"  {line}\n" for line in tally.failures[:20])
        sys.stdout.flush()
        failed |= bool(tally.failures)
    sys.stdout.write(f"failing files are in {folder}\n" if failed else "")
    return int(failed)


if __name__ == "__main__":
    sys.exit(_main())
