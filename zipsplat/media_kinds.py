"""Whether a file holds an image or a video, by its first bytes or else by its suffix.

Source of the signatures: the specifications of the formats, as in the `file` command.
"""

from __future__ import annotations

from pathlib import Path

from zipsplat.files import open_file

IMAGE, VIDEO = "image", "video"

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".tif", ".tiff", ".gif"),
    *(".avif", ".heic", ".heif", ".hif", ".jp2", ".ppm", ".pgm", ".tga"),
)
VIDEO_SUFFIXES = (
    *(".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".ts", ".3gp"),
    *(".mpg", ".mpeg", ".wmv", ".asf", ".flv", ".ogv", ".qt", ".vob", ".mxf", ".dv"),
)
CHECKPOINT_SUFFIXES = (".safetensors", ".tar", ".pth", ".pt", ".ckpt")
HEIC_BRANDS = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")

_IMAGES = (
    *(b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*"),
    *(b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51"),
    *(b"P%d%b" % (kind, blank) for kind in range(1, 7) for blank in (b" ", b"\n", b"\t", b"\r")),
)
_VIDEOS = (
    *(b"\x1aE\xdf\xa3", b"OggS", b"FLV", b"0&\xb2u", b"\0\0\x01\xba", b"\0\0\x01\xb3"),
    b"\x06\x0e+4\x02\x05\x01\x01",
)
_BOXES = (b"moov", b"mdat", b"wide", b"skip", b"free")  # possible first boxes of QuickTime files
_PACKETS = ((0, 188), (4, 192))  # offset and period of the sync byte 0x47 in MPEG transport streams


def kind_of(path: str | Path) -> str | None:
    """`IMAGE`, `VIDEO`, or None for neither.

    Raises:
        OSError: if the file cannot be opened.
    """
    path = Path(path)
    with open_file(path) as file:
        found = _by_content(file.read(1024))
    return found or kind_by_suffix(path)


def kind_by_suffix(path: Path) -> str | None:
    """`IMAGE`, `VIDEO`, or None, from the file name alone."""
    suffix = path.suffix.lower()
    if suffix in IMAGE_SUFFIXES:
        return IMAGE
    return VIDEO if suffix in VIDEO_SUFFIXES else None


def _by_content(head: bytes) -> str | None:
    if head[4:8] == b"ftyp":
        return IMAGE if head[8:12] in (*HEIC_BRANDS, b"avif", b"avis") else VIDEO
    if head.startswith(_IMAGES) or (head[:4] == b"RIFF" and head[8:12] == b"WEBP"):
        return IMAGE
    if head[:2] == b"BM" and head[6:10] == bytes(4):
        return IMAGE
    if head.startswith(_VIDEOS) or (head[:4] == b"RIFF" and head[8:11] == b"AVI"):
        return VIDEO
    is_stream = any(
        len(head) > start + 2 * step and head[start : start + 2 * step + 1 : step] == b"GGG"
        for start, step in _PACKETS
    )
    return VIDEO if head[4:8] in _BOXES or is_stream else None
