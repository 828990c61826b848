"""Reading untrusted JSON and zip files within limits that are checked before allocating memory."""

from __future__ import annotations

import json
import os
import zipfile
from typing import IO, Any

from zipsplat.files import open_file

MAX_JSON_BYTES = 64 << 20
"""Limit for JSON; cameras of 100,000 photos take less."""
_MAX_DIRECTORY_BYTES = 8 << 20  # of a zip: some 100,000 members, two seconds
_END_BYTES, _END64_BYTES, _LOCATOR_BYTES = 22, 56, 20
_MAX_COMMENT_BYTES = 0xFFFF
_QUOTED = 200  # characters of names and of messages of `zipfile`, which can quote a whole member


def parse_json(text: str | bytes) -> Any:
    """Parse JSON.

    Raises:
        ValueError: if it is not JSON, too long, or nested too deeply.
    """
    if len(text) > MAX_JSON_BYTES:
        raise ValueError(f"{len(text) / 1e6:.0f} MB of JSON exceed the limit")
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read a JSON file.

    Raises:
        OSError: if it cannot be read.
        ValueError: as `parse_json`; the caller names the file.
    """
    with open_file(path) as file:
        return parse_json(file.read(MAX_JSON_BYTES + 1).decode("utf-8"))


def open_zip(source: str | os.PathLike[str] | IO[bytes]) -> zipfile.ZipFile:
    """Open a zip archive, unless its directory itself is a decompression bomb.

    Raises:
        zipfile.BadZipFile: if it is not a zip archive, has too many members, or one without a name.
    """
    if isinstance(source, (str, os.PathLike)):
        with open_file(source) as file:
            num_bytes = _directory_bytes(file)
    else:
        num_bytes = _directory_bytes(source)
    if num_bytes > _MAX_DIRECTORY_BYTES:
        raise zipfile.BadZipFile(f"{num_bytes / 1e6:.0f} MB of names exceed the limit")
    archive = zipfile.ZipFile(source)
    if not all(info.filename for info in archive.infolist()):
        archive.close()
        raise zipfile.BadZipFile("a member has no name")  # `ZipInfo.is_dir` expects one
    return archive


def zip_member(archive: zipfile.ZipFile, name: str | zipfile.ZipInfo, max_bytes: int) -> bytes:
    """Read a member, whose stated size may be wrong.

    Raises:
        KeyError: if there is no such member.
        ValueError: if it is longer than `max_bytes`.
        zipfile.BadZipFile: if it is damaged or longer than stated.
    """
    info = archive.getinfo(name) if isinstance(name, str) else name
    if info.file_size > max_bytes:
        raise ValueError(
            f"{info.filename[:_QUOTED]} unpacks to {info.file_size / 1e6:.0f} MB, which exceeds the"
            f" limit of {max_bytes / 1e6:.0f} MB"
        )
    try:
        with archive.open(info) as file:
            return file.read(info.file_size)
    except zipfile.BadZipFile as error:
        raise zipfile.BadZipFile(str(error)[:_QUOTED]) from error


def _directory_bytes(file: IO[bytes]) -> int:
    """The stated size of a zip's central directory; 0 if the file is not a zip.

    Source: PKWARE, APPNOTE.TXT, 4.3.14 to 4.3.16.
    """
    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _END_BYTES - _MAX_COMMENT_BYTES - _LOCATOR_BYTES - _END64_BYTES))
    tail = file.read()
    file.seek(0)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0:
        return 0
    num_bytes = int.from_bytes(tail[at + 12 : at + 16], "little")
    at -= _LOCATOR_BYTES + _END64_BYTES
    if at >= 0 and tail[at : at + 4] == b"PK\x06\x06":
        num_bytes = max(num_bytes % 0xFFFFFFFF, int.from_bytes(tail[at + 40 : at + 48], "little"))
    return num_bytes
