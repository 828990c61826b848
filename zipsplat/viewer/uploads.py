"""Uploaded files: images, one video, or several images in a .zip."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory

from torch import Tensor

from zipsplat.images import is_image_file
from zipsplat.inputs import load_views, natural_key
from zipsplat.untrusted_files import open_zip, zip_member
from zipsplat.video import is_video_file

MAX_MEMBERS = 100  # about 9 MB each after scaling down, 1 GB together
_MAX_NAME = 255  # characters of a member's name in messages
# Raised for damaged, encrypted and unsupported archives.
_ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError, OSError
)  # fmt: skip


@dataclass(frozen=True)
class Upload:
    """An uploaded file. The name is only a claim; the content decides."""

    name: str
    content: bytes


def load_upload(
    upload: Upload,
    num_frames: int,
    max_side: int,
    max_bytes: int,
    report: Callable[[int, int], object] | None = None,
) -> tuple[Tensor, ...]:
    """Load the images of an uploaded file.

    Args:
        upload: an image, a video, or a .zip of images or of one video.
        num_frames: frames to take from a video, evenly spaced.
        max_side: images are scaled down to this longer side.
        max_bytes: limit on the unpacked size of a .zip.
        report: called with (done, total).

    Returns:
        Images (3, H, W), RGB in [0, 1].

    Raises:
        ValueError: the file holds no image or video, is damaged or too large. The message names it.
    """
    with TemporaryDirectory(prefix="zipsplat-viewer-") as folder:
        files = _unpack(upload, Path(folder), max_bytes)
        is_video = any(is_video_file(path) for path in files)
        try:
            views = load_views(
                list(files),
                num_frames=num_frames if is_video else None,
                max_side=max_side,
                report=report,
            )
        except ValueError as error:
            text = str(error)
            for path, name in files.items():  # temporary paths mean nothing to the user
                text = text.replace(str(path), name)
            raise ValueError(text) from error
        return tuple(views)


def _unpack(upload: Upload, folder: Path, max_bytes: int) -> dict[Path, str]:
    """Write the contents of an upload to a folder; returns the user's name of each file."""
    if Path(upload.name).suffix.lower() != ".zip":
        return {_store(folder, 0, upload.name, upload.content): upload.name}
    stored = {}
    try:
        with open_zip(io.BytesIO(upload.content)) as archive:
            members = list(_members(archive))
            if len(members) > MAX_MEMBERS or sum(m.file_size for m in members) > max_bytes:
                raise ValueError(
                    f"{upload.name}: at most {MAX_MEMBERS} images of {max_bytes / 1e6:.0f} MB"
                    " together are allowed"
                )
            for index, member in enumerate(members):
                content = zip_member(archive, member, max_bytes)
                name = f"{upload.name}, {member.filename[:_MAX_NAME]}"
                stored[_store(folder, index, member.filename, content)] = name
    except _ZIP_ERRORS as error:
        raise ValueError(f"{upload.name}: cannot be read as a .zip ({error})") from error
    if not stored:
        raise ValueError(f"{upload.name}: there are no images and no video in this archive")
    return stored


def _members(archive: zipfile.ZipFile) -> Iterator[zipfile.ZipInfo]:
    """Images and videos in natural order, without hidden files."""
    for member in sorted(archive.infolist(), key=lambda one: natural_key(one.filename)):
        path = PurePosixPath(member.filename)
        is_hidden = any(part.startswith((".", "__MACOSX")) for part in path.parts)
        is_usable = is_image_file(Path(path.name)) or is_video_file(Path(path.name))
        if not member.is_dir() and not is_hidden and is_usable:
            yield member


def _store(folder: Path, index: int, name: str, content: bytes) -> Path:
    """Write one file; only a plain suffix of the user's name is used."""
    suffix = Path(name).suffix.lower()
    path = folder / f"{index:04d}{suffix if suffix[1:].isalnum() else ''}"
    path.write_bytes(content)
    return path
