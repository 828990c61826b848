"""Files fetched on first use: resumable, verified, recorded beside the file.

What is fetched goes to a cache folder, `$ZIPSPLAT_CACHE` if set. A file that stops half-way is
continued by the next attempt (HTTP range requests, guarded by the server's ETag).
"""

from __future__ import annotations

import logging
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from zipsplat.file_records import (
    CHUNK_BYTES,
    DownloadError,
    Record,
    public_address,
    sha256_of,
    verify,
)
from zipsplat.files import user_cache

CACHE_VARIABLE = "ZIPSPLAT_CACHE"
TIMEOUT_S = 30
ATTEMPTS = 4

__all__ = ["DownloadError", "Source", "cache_dir", "fetch"]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a file comes from and what is known of it beforehand.

    Args:
        url: http or https address.
        sha256: hexadecimal digest, or the beginning of it.
        size: bytes.
        revision: of the repository the file belongs to.
        headers: sent to the first host only, not to where it redirects.
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
        """The URL without anything secret."""
        return public_address(self.url)


def cache_dir() -> Path:
    """The folder for fetched files: `$ZIPSPLAT_CACHE`, or `zipsplat` in the user's cache folder."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE]).expanduser()
    return user_cache() / "zipsplat"


def fetch(source: Source, destination: Path) -> Path:
    """Make sure that a file is there and is the right one.

    A file that is there already is only checked, without any connection.

    Args:
        source: where the file comes from.
        destination: where it goes.

    Returns:
        `destination`.

    Raises:
        DownloadError: if it cannot be fetched, or is not what was announced or recorded.
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
    """Fetch into `<name>.part`, check, record, and move into place."""
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
            f"{source.address} gave another file than announced for {destination.name}: "
            f"wanted {wanted_size} bytes and SHA-256 {wanted}, got {size} bytes and {digest}; "
            "nothing was kept"
        )
    mtime = part.stat().st_mtime_ns
    record = Record(source.address, size, digest, source.revision, etag, mtime, source.licence)
    record.write(destination)
    part.replace(destination)
    _forget(part)


def _transfer_with_retries(source: Source, part: Path, destination: Path) -> str | None:
    for attempt in range(ATTEMPTS):
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
        if attempt + 1 < ATTEMPTS:
            logger.info("interrupted (%s); continuing", problem)
            time.sleep(0.2 * 2**attempt)
    raise _unreachable(source, destination, str(problem)) from problem


def _unreachable(source: Source, destination: Path, reason: str) -> DownloadError:
    return DownloadError(
        f"cannot fetch {destination.name} from {source.address} ({reason}). Where there is "
        f"a connection, download it by hand and put it at {destination}"
    )


def _transfer(source: Source, part: Path) -> str | None:
    """Append what is missing of a file; returns its ETag."""
    etag_file = part.with_name(part.name + ".etag")
    have = part.stat().st_size if part.exists() else 0
    known_etag = etag_file.read_text(encoding="utf-8") if etag_file.exists() else ""
    request = _request(source)
    if have and known_etag:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", known_etag)
    try:
        response = urllib.request.urlopen(request, timeout=TIMEOUT_S)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not have:
            raise
        error.close()
        _forget(part)  # the part is as long as the file or longer: begin again
        return _transfer(source, part)
    with response:
        continued = response.status == 206
        have = have if continued else 0
        etag: str | None = response.headers.get("ETag")
        etag_file.write_text(etag if etag and not etag.startswith("W/") else "", encoding="utf-8")
        announced = response.headers.get("Content-Length")
        total = None if announced is None else have + int(announced)
        _check_space(part, total, have)
        _copy(response, part, have, total)
    return etag


def _copy(response: Any, part: Path, have: int, total: int | None) -> None:
    from tqdm import tqdm

    name = part.name.removesuffix(".part")
    bar = tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, disable=None)
    with part.open("ab" if have else "wb") as file, bar:
        while chunk := response.read(CHUNK_BYTES):
            file.write(chunk)
            bar.update(len(chunk))
        done = file.tell()
    if total is not None and done < total:
        raise ConnectionError(f"the connection ended after {done} of {total} bytes")


def _request(source: Source) -> urllib.request.Request:
    parts = urlsplit(source.url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError(f"a download needs an http or https address, got {source.url!r}")
    request = urllib.request.Request(source.url, headers={"User-Agent": "zipsplat"})
    for name, value in source.headers.items():
        request.add_unredirected_header(name, value)
    return request


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
