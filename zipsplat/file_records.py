"""Records of downloaded files, kept beside them and checked from then on.

`<name>.json` beside `<name>` stores the source, revision, size and SHA-256 of the download, so that
neither a changed file nor a changed source goes unnoticed.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from zipsplat.digests import sha256_of
from zipsplat.files import write_text
from zipsplat.http_responses import DownloadError
from zipsplat.untrusted_files import read_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Record:
    """The record of a downloaded file, stored beside it as JSON.

    Args:
        url: where it came from, without credentials and query.
        size: bytes.
        sha256: hexadecimal digest.
        revision: of the repository, if it has revisions.
        etag: the server's name for this version.
        verified_mtime_ns: modification time of the file when the digest was last computed.
        licence: as its repository stated it when the file was fetched.
    """

    url: str
    size: int
    sha256: str
    revision: str | None = None
    etag: str | None = None
    verified_mtime_ns: int = 0
    licence: str | None = None

    @staticmethod
    def path_for(file: Path) -> Path:
        """The path of a file's record."""
        return file.with_name(file.name + ".json")

    @classmethod
    def read(cls, file: Path) -> Record | None:
        """The record of a file, or None if it has none."""
        path = cls.path_for(file)
        try:
            content: dict[str, Any] = read_json(path)
            known = {item.name for item in fields(cls)}
            record = cls(**{key: value for key, value in content.items() if key in known})
            texts = (record.url, record.sha256, *_stated(record))
            if not all(isinstance(text, str) for text in texts):
                raise ValueError("a text field is not a string")
            if not all(isinstance(n, int) for n in (record.size, record.verified_mtime_ns)):
                raise ValueError("a number field is not a number")
            return record
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, AttributeError) as error:
            raise DownloadError(f"{path} is damaged ({error}); delete it") from error

    def write(self, file: Path) -> None:
        """Write this as the record of a file."""
        text = json.dumps(asdict(self), indent=2) + "\n"
        write_text(self.path_for(file), text)


def _stated(record: Record) -> list[str]:
    """The optional texts that are present in a record."""
    optional = (record.revision, record.etag, record.licence)
    return [text for text in optional if text is not None]


def verify(file: Path, url: str = "", size: int | None = None, sha256: str | None = None) -> Record:
    """Check a file against its record; a file without one, put there by hand, gets one.

    The digest is computed again whenever the file's modification time has changed.

    Args:
        file: an existing file.
        url: the source to record for a file without a record.
        size: its announced size in bytes.
        sha256: its announced digest, or its beginning.

    Raises:
        DownloadError: if size or digest differ.
    """
    stat = file.stat()
    record = Record.read(file)
    known = record or Record(url, stat.st_size if size is None else size, sha256 or "")
    if known.size != stat.st_size:
        raise _mismatch(file, f"{known.size} bytes", f"{stat.st_size}")
    if record and record.verified_mtime_ns == stat.st_mtime_ns:
        return record
    digest = sha256_of(file)
    if not digest.startswith(known.sha256.lower()):
        raise _mismatch(file, f"SHA-256 {known.sha256}", digest)
    checked = replace(known, sha256=digest, verified_mtime_ns=stat.st_mtime_ns)
    try:
        checked.write(file)
    except OSError as error:  # e.g. in a read-only folder
        logger.info("no record of %s could be written (%s)", file, error)
    return checked


def public_address(url: str) -> str:
    """The URL without user name, password and query, which may contain secrets."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    host = host if parts.port is None else f"{host}:{parts.port}"
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _mismatch(file: Path, wanted: str, got: str) -> DownloadError:
    return DownloadError(
        f"{file} is not the announced file: wanted {wanted}, got {got}; delete it (and "
        f"{Record.path_for(file).name}) to fetch it again"
    )
