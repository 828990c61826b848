"""Images of every kind arrive upright, in the right colours, or with one clear error."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zipsplat.images import (
    aspect_size,
    background_color,
    crop_box,
    crop_to_ar,
    load_image,
    resize,
    to_square,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "image.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return dict(arrays)


def smooth(height: int, width: int) -> np.ndarray:
    """An image whose four corners differ, smooth enough to survive JPEG."""
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    return np.stack([40 + 180 * x, 40 + 180 * y, 200 - 120 * x * y], -1).astype(np.uint8)


def levels(image: torch.Tensor) -> np.ndarray:
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()


# --- resizing, against the golden file ---


@pytest.mark.parametrize("index", [0, 1, 3, 4])
def test_to_square_equals_the_golden_images(golden, index):
    image = torch.from_numpy(golden[f"img{index}"]).permute(2, 0, 1).float() / 255
    size = int(golden[f"sq{index}_size"])
    square = to_square(image, size)
    assert torch.equal(square, torch.from_numpy(golden[f"sq{index}"]).float() / 255)
    large = to_square(image)[:, ::7, ::7]
    expected = torch.from_numpy(golden[f"sq{index}_252_stride7"]).float() / 255
    assert torch.equal(large, expected)


def test_to_square_of_floats_off_the_grid_equals_the_golden_image(golden):
    square = to_square(torch.from_numpy(golden["float_img"]), 28)
    assert torch.equal(square, torch.from_numpy(golden["float_sq28"]).float() / 255)


def test_an_image_of_the_right_size_is_untouched(golden):
    image = torch.from_numpy(golden["same_size"])
    assert to_square(image, 28) is not None
    assert torch.equal(to_square(image, 28), torch.from_numpy(golden["same_size_out"]))


def test_crop_boxes_equal_the_golden_ones(golden):
    names = [name for name in golden if name.startswith("crop_")]
    assert len(names) == 5
    for name in names:
        _, size, percent = name.split("_")
        height, width = map(int, size.split("x"))
        box = crop_box(height, width, int(percent) / 100)
        assert list(box) == golden[name].tolist(), name
        cropped = crop_to_ar(torch.zeros(3, height, width), int(percent) / 100)
        assert cropped.shape == (3, box.height, box.width)


def test_resize_keeps_dtype_and_every_8_bit_level():
    image = (torch.arange(256).float() / 255).expand(3, 2, 256)
    wide = resize(image.double(), 4, 256)
    assert wide.dtype == torch.float64
    assert torch.equal((wide[0, 0] * 255).round(), torch.arange(256).double())


@pytest.mark.parametrize(
    "image",
    [
        torch.zeros(4, 8, 8),
        torch.zeros(8, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 0, 8),
    ],
    ids=["rgba", "no channels", "uint8", "empty"],
)
def test_resize_refuses_what_is_not_an_image(image):
    with pytest.raises(ValueError, match=r"image|resize"):
        resize(image, 4, 4)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(1080, 1920, (252, 448)), (1920, 1080, (448, 252)), (3000, 4000, (252, 336)), (9, 900, None)],
)
def test_aspect_size(height, width, expected):
    rows, columns = aspect_size(height, width)
    assert rows % 14 == columns % 14 == 0
    if expected:
        assert (rows, columns) == expected
    assert abs(columns / rows - width / height) < 0.06 * width / height


def test_aspect_size_refuses_nothing():
    with pytest.raises(ValueError, match="positive"):
        aspect_size(0, 10)


# --- reading ---


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp", ".ppm", ".tga", ".avif"])
def test_lossless_kinds_are_read(tmp_path, suffix):
    pixels = smooth(20, 30)
    path = tmp_path / f"image{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {}
    options = {"quality": 100, "subsampling": "4:4:4"} if suffix == ".avif" else options
    Image.fromarray(pixels).save(path, **options)
    image = load_image(path)
    assert image.dtype == torch.float32
    assert image.shape == (3, 20, 30)
    assert image.is_contiguous()
    tolerance = 3 if suffix == ".avif" else 0
    assert np.abs(levels(image).astype(int) - pixels).max() <= tolerance


def test_a_string_path_and_a_wrong_suffix_are_fine(tmp_path):
    path = tmp_path / "image.jpg"
    Image.fromarray(smooth(8, 9)).save(path, format="PNG")
    assert load_image(str(path)).shape == (3, 8, 9)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "avif"])
def test_every_exif_orientation_is_turned_upright(tmp_path, kind, orientation):
    upright = smooth(24, 40)
    # The image as a camera would store it: the inverse of what the tag asks for.
    inverse = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }
    stored = np.ascontiguousarray(inverse[orientation](upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image.{kind}"
    Image.fromarray(stored).save(path, exif=exif, quality=98)
    image = load_image(path)
    assert image.shape == (3, 24, 40)
    assert np.abs(levels(image).astype(int) - upright).max() <= 12
    small = load_image(path, max_side=20)
    assert small.shape == (3, 12, 20)


def test_transparency_is_composited_not_dropped(tmp_path):
    pixels = np.zeros((4, 6, 4), np.uint8)
    pixels[..., 0] = 200  # a hidden red
    pixels[:, 3:, 3] = 255
    pixels[:, 2, 3] = 51  # one fifth
    path = tmp_path / "alpha.png"
    Image.fromarray(pixels).save(path)
    white = levels(load_image(path))
    assert white[0, 0].tolist() == [255, 255, 255]
    assert white[0, 5].tolist() == [200, 0, 0]
    assert np.abs(white[0, 2].astype(int) - [244, 204, 204]).max() <= 1
    assert levels(load_image(path, background="black"))[0, 0].tolist() == [0, 0, 0]
    assert levels(load_image(path, background=(0, 0.5, 1)))[0, 0].tolist() == [0, 128, 255]
    assert levels(load_image(path, background="#204060"))[0, 0].tolist() == [32, 64, 96]


def test_grey_with_alpha_and_palette_with_transparency(tmp_path):
    grey = np.full((4, 4, 2), 90, np.uint8)
    grey[:2, :, 1], grey[2:, :, 1] = 0, 255
    Image.fromarray(grey).save(tmp_path / "la.png")
    assert levels(load_image(tmp_path / "la.png"))[:, 0, 0].tolist() == [255, 255, 90, 90]

    palette = Image.new("P", (4, 4), 0)
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 1), 1)
    palette.save(tmp_path / "p.png", transparency=0)
    palette.save(tmp_path / "p.gif", transparency=0)
    for name in ("p.png", "p.gif"):
        pixels = levels(load_image(tmp_path / name))
        assert pixels[1, 1].tolist() == [200, 100, 50]
        assert pixels[0, 0].tolist() == [255, 255, 255]

    Image.new("RGB", (4, 4), (1, 2, 3)).save(tmp_path / "key.png", transparency=(1, 2, 3))
    assert levels(load_image(tmp_path / "key.png"))[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / f"deep{suffix}")
    image = load_image(tmp_path / f"deep{suffix}")
    assert torch.equal(image[0], image[1])
    assert np.abs(image[0].numpy() - values / 65535).max() <= 0.5 / 255 + 1e-6


def test_16_bit_rgb_is_scaled(tmp_path):
    values = np.zeros((3, 4, 3), ">u2")
    values[..., 0], values[..., 1], values[..., 2] = 65535, 32768, 257
    raw = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", 4, 3, 16, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")
    (tmp_path / "deep.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    assert levels(load_image(tmp_path / "deep.png"))[0, 0].tolist() == [255, 128, 1]


def test_float_images_in_unit_range_are_scaled_others_refused(tmp_path):
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    Image.fromarray(values).save(tmp_path / "unit.tif")
    assert np.abs(load_image(tmp_path / "unit.tif")[0].numpy() - values).max() <= 0.5 / 255 + 1e-6
    Image.fromarray(values * 900).save(tmp_path / "wide.tif")
    with pytest.raises(ValueError, match=r"wide\.tif.*0 to 900"):
        load_image(tmp_path / "wide.tif")
    values[0, 0] = np.nan
    Image.fromarray(values).save(tmp_path / "nan.tif")
    with pytest.raises(ValueError, match=r"nan\.tif.*nan"):
        load_image(tmp_path / "nan.tif")


def test_other_modes_become_rgb(tmp_path):
    Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(tmp_path / "cmyk.jpg", quality=98)
    assert (
        np.abs(levels(load_image(tmp_path / "cmyk.jpg"))[4, 4].astype(int) - [0, 255, 255]).max()
        < 6
    )
    Image.new("L", (8, 8), 77).save(tmp_path / "grey.png")
    assert levels(load_image(tmp_path / "grey.png"))[4, 4].tolist() == [77, 77, 77]
    Image.new("1", (8, 8), 1).save(tmp_path / "bit.png")
    assert levels(load_image(tmp_path / "bit.png"))[4, 4].tolist() == [255, 255, 255]


@pytest.mark.parametrize("kind", ["gif", "webp", "png"])
def test_animations_give_their_first_frame(tmp_path, kind):
    frames = [Image.new("RGB", (16, 12), color) for color in ("red", "lime", "blue")]
    path = tmp_path / f"moving.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=50, lossless=True)
    assert levels(load_image(path))[5, 5].tolist() == [255, 0, 0]


def test_several_images_in_one_jpeg_give_the_first(tmp_path):
    first, second = Image.fromarray(smooth(400, 600)), Image.new("RGB", (300, 200), "blue")
    first.save(tmp_path / "pair.mpo", save_all=True, append_images=[second], quality=95)
    os.rename(tmp_path / "pair.mpo", tmp_path / "pair.jpg")
    assert load_image(tmp_path / "pair.jpg").shape == (3, 400, 600)
    assert load_image(tmp_path / "pair.jpg", max_side=60).shape == (3, 40, 60)


def test_max_side_bounds_the_image_and_stays_close_to_full_decoding(tmp_path):
    pixels = smooth(900, 1200)
    path = tmp_path / "large.jpg"
    Image.fromarray(pixels).save(path, quality=95)
    full = Image.fromarray(levels(load_image(path))).resize((120, 90), Image.Resampling.LANCZOS)
    small = load_image(path, max_side=120)
    assert small.shape == (3, 90, 120)
    assert np.abs(levels(small).astype(int) - np.asarray(full)).max() <= 3
    assert load_image(path, max_side=5000).shape == (3, 900, 1200)
    with pytest.raises(ValueError, match="max_side"):
        load_image(path, max_side=0)


def test_max_side_decodes_a_jpeg_at_reduced_size(tmp_path, monkeypatch):
    path = tmp_path / "large.jpg"
    Image.fromarray(smooth(800, 800)).save(path)
    sizes = []
    from PIL import JpegImagePlugin

    original = JpegImagePlugin.JpegImageFile.draft

    def spy(self, mode, size):
        sizes.append(size)
        return original(self, mode, size)

    monkeypatch.setattr(JpegImagePlugin.JpegImageFile, "draft", spy)
    load_image(path, max_side=100)
    assert sizes == [(200, 200)]
    load_image(path)
    assert len(sizes) == 1


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = tmp_path / "phone.jpg"  # phones rename them
    path.write_bytes(struct.pack(">I", 24) + b"ftypheic" + bytes(100))
    with pytest.raises(ValueError, match=r"phone\.jpg.*zipsplat\[heic\]"):
        load_image(path)


def test_heic_is_read(tmp_path):
    heif = pytest.importorskip("pillow_heif", reason="the extra zipsplat[heic] is not installed")
    heif.register_heif_opener()
    pixels = smooth(48, 64)
    Image.fromarray(pixels).save(tmp_path / "phone.heic", quality=95)
    image = load_image(tmp_path / "phone.heic")
    assert np.abs(levels(image).astype(int) - pixels).max() <= 12


# --- what cannot be read ---


def jpeg(height: int = 64, width: int = 64) -> bytes:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, "JPEG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A small PNG header that claims 60 000 × 60 000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(bytes(1000))
    parts = [header, data, b"IEND"]
    chunks = [struct.pack(">I", len(p) - 4) + p + struct.pack(">I", zlib.crc32(p)) for p in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("truncated.jpg", jpeg()[:-500], "truncated"),
        ("header-only.jpg", jpeg()[:200], "cannot be read"),
        ("empty.jpg", b"", "empty"),
        ("text.jpg", b"not an image\n" * 20, "not a supported image format"),
        ("zeros.png", bytes(5000), "not a supported image format"),
        ("bomb.png", bomb(), "million pixels"),
        (
            "script.eps",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
            "not a supported",
        ),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, words):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        load_image(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "AVIF", "GIF", "TIFF", "JPEG2000", "BMP"])
def test_truncation_anywhere_is_an_error_or_an_image_never_something_else(tmp_path, kind):
    buffer = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(noise).save(buffer, kind)
    whole = buffer.getvalue()
    path, messages = tmp_path / "cut", []
    for cut in np.linspace(1, len(whole) - 1, 25).astype(int):
        path.write_bytes(whole[:cut])
        try:
            image = load_image(path)
        except ValueError as error:
            messages.append(str(error))
        else:
            assert image.shape == (3, 24, 24)
    assert messages, "at least the shortest pieces cannot be images"
    assert all(str(path) in message for message in messages)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        load_image(tmp_path / "nothing.jpg")
    with pytest.raises(IsADirectoryError):
        load_image(tmp_path)


def test_large_phone_images_do_not_warn(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "big.png")  # between the limit and twice it
    assert load_image(tmp_path / "big.png").shape == (3, 40, 40)


@pytest.mark.parametrize("value", ["no colour", (1, 2, 3), (0.5, 0.5), (float("nan"), 0, 0)])
def test_backgrounds_that_make_no_sense(value):
    with pytest.raises(ValueError, match="background"):
        background_color(value)


def test_background_colors():
    assert background_color("white") == (1, 1, 1)
    assert background_color([0, 0.25, 1]) == (0, 0.25, 1)
