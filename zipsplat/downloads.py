"""Downloads on first use: resumable, verified, with a record beside the file.

Files go to a cache folder, `$ZIPSPLAT_CACHE` if set. An interrupted download is resumed by the next
attempt (HTTP range requests, guarded by the server's ETag). A file is kept only if it is known to
be complete.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import urllib.error
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from zipsplat.digests import sha256_of
from zipsplat.file_records import Record, public_address, verify
from zipsplat.files import user_cache
from zipsplat.http_responses import DownloadError, Response, open_within, request_for

CACHE_VARIABLE = "ZIPSPLAT_CACHE"
CHUNK_BYTES = 1 << 20
TIMEOUT_S = 10
"""Seconds to wait for a response, or for the next bytes."""
PATIENCE_S = 30
"""Seconds without progress of `SLOWEST_RATE`, over all attempts, before giving up."""
FIRST_PAUSE_S = 0.2
SLOWEST_RATE = 1000
"""Minimum bytes per second."""
MAX_UNKNOWN_BYTES = 2_000_000_000
"""Limit for a file of unknown size."""

__all__ = ["DownloadError", "Source", "cache_dir", "fetch"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a file comes from, and what is known about it beforehand.

    Args:
        url: http or https URL.
        sha256: hexadecimal digest, or its beginning.
        size: bytes.
        revision: of the repository the file belongs to.
        headers: sent to the first host only, not to redirect targets.
        licence: of the file, recorded beside it.
    """

    url: str
    sha256: str | None = None
    size: int | None = None
    revision: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None

    @property
    def address(self) -> str:
        """The URL without credentials and query."""
        return public_address(self.url)


def cache_dir() -> Path:
    """The folder for downloads: `$ZIPSPLAT_CACHE`, or `zipsplat` in the user's cache folder."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    return user_cache() / "zipsplat"


def fetch(source: Source, destination: Path) -> Path:
    """Download a file, unless it exists already, and verify it.

    An existing file is only checked, without network access.

    Args:
        source: where the file comes from.
        destination: where it goes.

    Returns:
        `destination`.

    Raises:
        DownloadError: if it cannot be downloaded, or differs from what was announced or recorded.
    """
    if not destination.exists():
        _download_alone(source, destination)
    verify(destination, source.address, source.size, source.sha256)
    return destination


def _download_alone(source: Source, destination: Path) -> None:
    """Download unless another process has just done so."""
    from filelock import FileLock

    destination.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(destination.with_name(destination.name + ".lock")):
        if not destination.exists():
            _download(source, destination)


def _download(source: Source, destination: Path) -> None:
    """Download to `<name>.part`, verify, record, and move into place."""
    earlier = Record.read(destination)
    part = destination.with_name(destination.name + ".part")
    logger.info("fetching %s to %s", source.address, destination)
    etag = _transfer_with_retries(source, part, destination)
    size, digest = part.stat().st_size, sha256_of(part)
    wanted_size = earlier.size if earlier else source.size
    wanted = earlier.sha256 if earlier else source.sha256
    if wanted_size not in (None, size) or (wanted and not digest.startswith(wanted.lower())):
        _forget(part)
        raise DownloadError(
            f"{source.address} returned another file than announced for {destination.name}: "
            f"wanted {wanted_size} bytes and SHA-256 {wanted}, got {size} bytes and {digest}; "
            "nothing was kept"
        )
    mtime = part.stat().st_mtime_ns
    record = Record(source.address, size, digest, source.revision, etag, mtime, source.licence)
    record.write(destination)
    part.replace(destination)
    _forget(part)


def _transfer_with_retries(source: Source, part: Path, destination: Path) -> str | None:
    wasted, pause = 0.0, FIRST_PAUSE_S
    while True:
        start, have = time.monotonic(), _size(part)
        try:
            return _transfer(source, part)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code < 500:
                raise _unreachable(
                    source, destination, f"HTTP {error.code} {error.reason}"
                ) from error
            problem: Exception = error
        except (OSError, HTTPException) as error:
            if isinstance(error, DownloadError):
                raise
            problem = error
        elapsed = time.monotonic() - start + pause
        if _size(part) - have >= SLOWEST_RATE * elapsed:
            wasted, pause = 0.0, FIRST_PAUSE_S
        wasted += elapsed
        if wasted > PATIENCE_S:
            raise _unreachable(source, destination, str(problem)) from problem
        logger.info("interrupted (%s); continuing", problem)
        time.sleep(pause)
        pause *= 2


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _unreachable(source: Source, destination: Path, reason: str) -> DownloadError:
    return DownloadError(
        f"cannot download {destination.name} from {source.address} ({reason}). Download it "
        f"manually on a machine with a connection and put it at {destination}"
    )


def _transfer(source: Source, part: Path) -> str | None:
    """Append the missing part of a file; returns its ETag."""
    etag_file = part.with_name(part.name + ".etag")
    have = _size(part)
    known = etag_file.read_text(encoding="utf-8") if etag_file.exists() else ""
    known_etag, _, known_total = known.partition("\n")
    request = request_for(source.url, source.headers)
    if have and known_etag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known_etag)
    try:
        response = open_within(request, TIMEOUT_S, PATIENCE_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        _forget(part)  # the partial file is as long as the file or longer: start over
        return _transfer(source, part)
    with response:
        answer = Response.of(response, source.address)
        if answer.begin is not None and not (have and known_etag):
            raise DownloadError(f"{source.address} sent a part of the file that was not requested")
        if answer.begin is None:
            _forget(part)
            have = 0
            strong = answer.etag if answer.etag and not answer.etag.startswith("W/") else ""
            etag_file.write_text(f"{strong}\n{answer.total}", encoding="utf-8")
        elif not answer.continues(have, known_etag, known_total):
            _forget(part)
            raise ConnectionError("the file has changed, or another part came; starting over")
        if answer.total is None and not (source.sha256 or source.size or answer.has_end):
            raise DownloadError(
                f"{source.address} does not state the size of the file, so a cut-off download could"
                " not be detected"
            )
        _check_space(part, answer.total, have)
        try:
            _copy(response, part, have, answer.total)
        except DownloadError:
            _forget(part)
            raise
    return answer.etag


def _copy(response: Any, part: Path, have: int, total: int | None) -> None:
    from tqdm import tqdm

    name = part.name.removesuffix(".part")
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, disable=None)
    window, count = time.monotonic(), 0
    with part.open("ab" if have else "wb") as file, bar:
        while chunk := response.read1(CHUNK_BYTES):
            if total is not None and file.tell() + len(chunk) > total:
                raise DownloadError(f"the server sent more of {name} than the {total} bytes it has")
            file.write(chunk)
            bar.update(len(chunk))
            count += len(chunk)
            if total is None and file.tell() > MAX_UNKNOWN_BYTES:
                raise DownloadError(
                    f"{name} is larger than {MAX_UNKNOWN_BYTES / 1e9:.0f} GB, the limit"
                )
            if time.monotonic() - window > PATIENCE_S:
                if count < SLOWEST_RATE * PATIENCE_S:
                    raise ConnectionError(f"only {count} bytes in {PATIENCE_S} seconds")
                window, count = time.monotonic(), 0
        done = file.tell()
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _check_space(part: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        raise DownloadError(
            f"{part.name.removesuffix('.part')} needs {(total - have) / 1e9:.2f} GB in "
            f"{part.parent}, where {free / 1e9:.2f} GB are free; make room, or set "
            f"${CACHE_VARIABLE} to another folder"
        )


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    part.with_name(part.name + ".etag").unlink(missing_ok=True)
