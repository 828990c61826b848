"""Images whose few bytes stand for gigabytes are judged before they are decoded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.contained import GIB, contained
from zipsplat import images
from zipsplat.images import load_alpha, load_image
from zipsplat.inputs import load_views
from zipsplat.viewer.uploads import Upload, load_upload

FILES = Path(__file__).parents[1] / "hostile_files"


NAMES = [
    *("thin.png", "wide.png", "rgba.png", "rgb.png", "huge.webp", "large.webp"),
    *("progressive.jpg", "beyond.jpg", "flat.jpg"),
]


def png_header(width: int, height: int, kind: int = 2) -> bytes:
    """A PNG of some size (kind 0 grey, 2 RGB, 6 RGBA) with a few pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        checksum = zlib.crc32(name + data)
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)

    head = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    data = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + data


def webp_header(width: int, height: int) -> bytes:
    """A lossless WebP of one colour: 14 bits each of width and height, less one."""
    bits = (width - 1) | (height - 1) << 14
    data = b"\x2f" + struct.pack("<I", bits) + bytes(8)
    chunk = b"VP8L" + struct.pack("<I", len(data)) + data + bytes(len(data) % 2)
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def jpeg_header(tmp_path: Path, width: int, height: int, progressive: bool) -> bytes:
    """A small JPEG that says to be larger."""
    path = tmp_path / "small.jpg"
    Image.new("RGB", (64, 64)).save(path, progressive=progressive)
    marker = b"\xff\xc2" if progressive else b"\xff\xc0"
    data = bytearray(path.read_bytes())
    at = data.index(marker) + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def bombs(tmp_path: Path) -> dict[str, bytes]:
    return {
        "thin.png": png_header(1, 178_000_000),
        "wide.png": png_header(178_000_000, 1),
        "rgba.png": png_header(13_400, 13_400, 6),
        "rgb.png": png_header(20_000, 20_000),
        "huge.webp": webp_header(16_383, 16_383),
        "large.webp": webp_header(11_000, 11_000),
        "progressive.jpg": jpeg_header(tmp_path, 22_000, 22_000, True),
        "beyond.jpg": jpeg_header(tmp_path, 30_000, 30_000, False),
        "flat.jpg": jpeg_header(tmp_path, 65_500, 10, False),
    }


@pytest.mark.parametrize("name", NAMES)
def test_bombs_are_refused_before_they_are_decoded(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(bombs(tmp_path)[name])

    def read() -> int:
        with pytest.raises(ValueError, match=rf"{name}: .*(narrow|too few|MiB|exceeds limit)"):
            load_views(path, max_side=504)
        for load in (load_image, load_alpha):
            with pytest.raises(ValueError, match=rf"{name}: .*(narrow|MiB|exceeds limit)"):
                load(path)
        return 0

    ended = contained(read)
    assert ended.status == 0, ended.output[-1500:]
    assert ended.grown < 100e6


SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("LA", "I;16", "P")]


def test_slivers(tmp_path: Path) -> None:
    Image.new("L", (20, 4001)).save(tmp_path / "narrow.png")
    with pytest.raises(ValueError, match=r"narrow\.png: .*too narrow; the longer side may be 200"):
        load_views(tmp_path / "narrow.png", max_side=504)


@pytest.mark.parametrize("kind", ["RGBA", *SLOW])
def test_the_largest_images_take_a_gigabyte(kind: str, tmp_path: Path) -> None:
    """Just below the limit, and decoded: 512 MiB in all modes, compressible to nothing."""
    side = {"RGBA": 11_500, "P": 23_000, "LA": 16_000, "I;16": 16_000}[kind]
    path = tmp_path / "large.png"

    def read() -> int:
        assert load_image(path, max_side=504).shape == (3, 504, 504)
        return 0

    def write() -> int:
        Image.new(kind, (side, side)).save(path, compress_level=1)
        return 0

    assert contained(write).status == 0
    ended = contained(read, seconds=120)
    assert ended.status == 0, ended.output[-1500:]
    assert ended.grown < GIB


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_large_images_in_bands_are_as_others(
    mode: str, orientation: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 256, (9, 12, 4), dtype=np.uint8))
    image = smooth.resize((1201, 907), Image.Resampling.BICUBIC).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "x.png"
    image.save(path, exif=exif)
    plain = load_image(path, max_side=200, background="red")
    monkeypatch.setattr(images, "_LARGE_PIXELS", 1)
    monkeypatch.setattr(images, "_BAND_PIXELS", 50_000)
    banded = load_image(path, max_side=200, background="red")
    assert banded.shape == plain.shape
    assert (banded - plain).abs().mean() < 0.004
    torch.testing.assert_close(banded, plain, rtol=0, atol=0.06)
    whole = load_image(path, background="red")
    monkeypatch.undo()
    torch.testing.assert_close(whole, load_image(path, background="red"), rtol=0, atol=0)


def test_uploads_are_judged_alike() -> None:
    for name in ("thin_tall.png", "rgb_400MP.png"):
        upload = Upload(name, (FILES / name).read_bytes())

        def read(upload: Upload = upload) -> int:
            with pytest.raises(ValueError, match=f"{upload.name}: "):
                load_upload(upload, 24, 1008, 10**9)
            return 0

        ended = contained(read)
        assert ended.status == 0, ended.output[-1500:]
        assert ended.grown < 100e6
