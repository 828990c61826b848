"""Shared by the download commands: options, download, unpacking, reporting."""

from __future__ import annotations

import argparse
import posixpath
import shutil
import stat
import zipfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tqdm import tqdm

from splatfactory.datasets.scripts import conversion
from zipsplat.downloads import DownloadError, Source, fetch
from zipsplat.file_records import Record
from zipsplat.untrusted_files import open_zip

MAX_EXPANSION = 20
"""Reject zips that claim to unpack to more than this many times their size."""


def add_options(parser: argparse.ArgumentParser, output_dir: str) -> None:
    """Add `--output-dir`, `--overwrite`, `--extract`, `--num-workers`."""
    parser.add_argument(
        "--output-dir",
        type=Path,
        default=Path(output_dir),
        help="folder of the download (default: %(default)s)",
    )
    parser.add_argument("--overwrite", action="store_true", help="download again")
    parser.add_argument(
        "--extract", action="store_true", help="also unpack; the converters do not need it"
    )
    parser.add_argument(
        "--num-workers", type=int, default=0, help="parallel downloads (default: one)"
    )
    parser.add_argument(
        "--sample", action="store_true", help="only a small sample, if there is one"
    )


def archive_command(
    documentation: str, url: str, output_dir: str, argv: Sequence[str] | None
) -> int:
    """Run the download command of a single-archive data set; returns the exit status.

    Args:
        documentation: docstring of the command; its first line is shown by `--help`.
        url: URL of the archive.
        output_dir: default output folder.
        argv: command line; None uses the process's.
    """
    parser = argparse.ArgumentParser(description=documentation.splitlines()[0])
    add_options(parser, output_dir)
    options = parser.parse_args(argv)
    return conversion.run_command(
        lambda: single_archive(Source(url), options.output_dir, options.overwrite, options.extract)
    )


def single_archive(source: Source, output_dir: Path, overwrite: bool, extract: bool) -> int:
    """Download one archive, resuming an interrupted attempt; returns the exit status.

    Its size and SHA-256 are recorded beside it and checked from then on.
    """
    target = output_dir / posixpath.basename(source.url)
    if overwrite:
        target.unlink(missing_ok=True)
        Record.path_for(target).unlink(missing_ok=True)
    fetch(source, target)
    check_zip(target)
    record = Record.read(target)
    if record is not None:
        conversion.say(f"{target}: {record.size} bytes, SHA-256 {record.sha256}")
    if extract:
        unpack(target, output_dir)
    return 0


def check_zip(archive: Path) -> None:
    """Check that the central directory of a zip is readable.

    Raises:
        ValueError: if it is not.
    """
    try:
        with open_zip(archive):
            pass
    except zipfile.BadZipFile as error:
        raise ValueError(
            f"{archive} is not a zip file ({error}); download it again with --overwrite"
        ) from error


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a zip into a folder.

    Raises:
        ValueError: if a member escapes the folder or is a link, or the total is absurdly large;
            then nothing is unpacked.
        OSError: if the disk has too little space.
    """
    with open_zip(archive) as file:
        infos = file.infolist()
        for info in infos:
            _check_member(info, archive)
        total = sum(info.file_size for info in infos)
        if total > MAX_EXPANSION * max(archive.stat().st_size, 2**20):
            raise ValueError(f"{archive} claims to unpack to {total / 1e9:.1f} GB; not unpacked")
        folder.mkdir(parents=True, exist_ok=True)
        if total > shutil.disk_usage(folder).free:
            raise OSError(f"{folder} has no room for the {total / 1e9:.1f} GB of {archive}")
        for info in tqdm(infos, "extract", unit="file", disable=None):
            file.extract(info, folder)


def _check_member(info: zipfile.ZipInfo, archive: Path) -> None:
    parts = info.filename.replace("\\", "/").split("/")
    if info.filename.startswith(("/", "\\")) or ".." in parts or ":" in parts[0]:
        raise ValueError(f"{archive} has a member outside the folder: {info.filename!r}")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise ValueError(f"{archive} has a link as a member: {info.filename!r}")


def fetch_all(
    keys: Sequence[str], get: Callable[[str], None], num_workers: int, failed_log: Path
) -> int:
    """Download many files; failures are logged as `key TAB error` and make the exit status 1."""
    failures: dict[str, str] = {}

    def attempt(key: str) -> None:
        try:
            get(key)
        except (DownloadError, OSError, ValueError) as error:
            failures[key] = str(error)

    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        results = pool.map(attempt, keys)
        for _ in tqdm(results, "download", total=len(keys), unit="file", disable=None):
            pass
    if failures:
        failed_log.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"{key}\t{' '.join(error.split())}\n" for key, error in sorted(failures.items())]
        failed_log.write_text("".join(lines))
        conversion.say(f"{len(failures)} of {len(keys)} files failed, see {failed_log}")
    else:
        failed_log.unlink(missing_ok=True)
    return 1 if failures else 0
