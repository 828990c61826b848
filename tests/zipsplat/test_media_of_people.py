"""Images and videos after bug reports; see tests/files_of_people/README.md."""

from __future__ import annotations

import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from zipsplat.hdr import tone_map
from zipsplat.images import image_info, load_image
from zipsplat.inputs import find_inputs, load_views
from zipsplat.media_kinds import IMAGE, VIDEO, kind_of
from zipsplat.orientation import Orientation
from zipsplat.video import load_video, video_info

FOLDER = Path(__file__).parents[1] / "files_of_people"


def levels(view: torch.Tensor) -> np.ndarray:
    return np.rint(view.permute(1, 2, 0).numpy() * 255)


# --- K4: videos ---


@pytest.fixture(scope="module")
def plain() -> np.ndarray:
    """The first frame without a display matrix: `noext_video` is the same clip."""
    return levels(load_video(FOLDER / "noext_video", 1)[0])


@pytest.mark.parametrize(
    ("name", "mirrored", "turn"),
    [
        ("hflip.mp4", lambda frame: frame[:, ::-1], 0),
        ("vflip.mp4", lambda frame: frame[::-1], 180),
        ("transpose.mp4", lambda frame: frame.transpose(1, 0, 2), 90),
    ],
)
def test_mirrored_display_matrices_are_applied(plain, name, mirrored, turn):
    np.testing.assert_array_equal(levels(load_video(FOLDER / name, 1)[0]), mirrored(plain))
    info = video_info(FOLDER / name)
    assert info.is_mirrored
    assert info.rotation_deg == turn


@pytest.mark.parametrize("is_swapped", [False, True])
@pytest.mark.parametrize("flips_x", [False, True])
@pytest.mark.parametrize("flips_y", [False, True])
def test_turn_and_mirror_tell_what_is_done_to_a_frame(is_swapped, flips_x, flips_y):
    orientation = Orientation(is_swapped, flips_x, flips_y)
    pixels = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    upright = pixels[:, ::-1] if orientation.is_mirrored else pixels
    upright = np.rot90(upright, orientation.turn_deg // 90)
    np.testing.assert_array_equal(orientation.apply(pixels), upright)


def test_hd_without_tags_is_bt709():
    """As FFmpeg with scale=in_color_matrix=bt709 shows them; BT.601 would be off by 10 and more."""
    frame = levels(load_video(FOLDER / "hd_709_untagged.mp4", 1)[0])
    red, blue = frame[384, 40], frame[384, 800]
    np.testing.assert_allclose(red, (199, 39, 40), atol=2)
    np.testing.assert_allclose(blue, (40, 39, 198), atol=2)


def test_pq_is_tone_mapped_as_ffmpeg_does():
    """Flat patches of zscale=t=linear:npl=203, p=bt709, tonemap=mobius:desat=0:peak=4.926, sRGB."""
    frame = levels(load_video(FOLDER / "realhdr_pq.mov", 1)[0])
    ours = [frame[48, 5], frame[48, 80], frame[48, 100], frame[8, 10], frame[8, 50]]
    wanted = [(189, 37, 37), (40, 40, 40), (36, 37, 189), (209, 209, 209), (38, 176, 40)]
    np.testing.assert_allclose(ours, wanted, atol=2)
    assert video_info(FOLDER / "realhdr_pq.mov").hdr == "PQ"


def test_hlg_greys_are_tone_mapped_as_ffmpeg_does_and_hues_stay():
    """FFmpeg's zscale applies the system gamma to each channel, BT.2100 to the luminance."""
    frame = levels(load_video(FOLDER / "realhdr_hlg.mov", 1)[0])
    np.testing.assert_allclose([frame[48, 80], frame[8, 10]], [(25,) * 3, (208,) * 3], atol=2)
    red = frame[48, 5]
    assert abs(red[1] - red[2]) <= 2  # as in the PQ clip of the same patches
    assert video_info(FOLDER / "realhdr_hlg.mov").hdr == "HLG"


def bt2100_by_hand(signal: tuple[float, float, float], transfer: str) -> list[float]:
    """The module's tone mapping in plain arithmetic, from the texts of the recommendations."""
    if transfer == "HLG":
        scene = [
            s * s / 3
            if s <= 0.5
            else (2.718281828459045 ** ((s - 0.55991073) / 0.17883277) + 0.28466892) / 12
            for s in signal
        ]
        luminance = 0.2627 * scene[0] + 0.678 * scene[1] + 0.0593 * scene[2]
        nits = [1000 * luminance**0.2 * e for e in scene]
    else:
        m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
        powers = [s ** (1 / m2) for s in signal]
        nits = [10000 * (max(p - c1, 0) / (c2 - c3 * p)) ** (1 / m1) for p in powers]
    r, g, b = (n / 203 for n in nits)
    rgb = [
        max(1.6605 * r - 0.5876 * g - 0.0728 * b, 0),
        max(-0.1246 * r + 1.1329 * g - 0.0083 * b, 0),
        max(-0.0182 * r - 0.1006 * g + 1.1187 * b, 0),
    ]
    top, j, peak = max(rgb), 0.3, 1000 / 203
    if top > j:
        a = -j * j * (peak - 1) / (j * j - 2 * j + peak)
        q = (j * j - 2 * j * peak + peak) / (peak - 1)
        mapped = min((q * q + 2 * q * j + j * j) / (q - a) * (top + a) / (top + q), 1)
        rgb = [value * mapped / top for value in rgb]
    return [255 * (12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055) for v in rgb]


@pytest.mark.parametrize("transfer", ["PQ", "HLG"])
def test_tone_mapping_by_hand(transfer):
    rng = np.random.default_rng(3)
    signal = rng.integers(0, 50000, (1, 300, 3)).astype(np.uint16)
    signal[0, :4] = [[0] * 3, [65535] * 3, [30000] * 3, [47000, 100, 100]]
    got = tone_map(signal, transfer)[0]
    wanted = [bt2100_by_hand(tuple(row / 65535), transfer) for row in signal[0].astype(float)]
    assert np.abs(got - np.array(wanted)).max() <= 1


@pytest.mark.parametrize("name", ["alpha.webm", "alpha_prores.mov", "alpha_qtrle.mov"])
def test_alpha_of_videos_shows_the_background(name):
    white, black = (
        load_video(FOLDER / name, 1, background=background)[0] for background in ("white", "black")
    )
    difference = (white - black).mean(dim=0)  # 1 − alpha
    assert difference.max() > 0.99
    assert difference.min() < 0.01
    small = load_video(FOLDER / name, 1, max_side=80)[0]
    assert small.shape == (3, 48, 80)
    halved = torch.nn.functional.avg_pool2d(white, 2)
    assert (small - halved).abs().mean() < 0.02


def test_sound_that_is_longer_than_the_video_is_not_damage():
    assert video_info(FOLDER / "audio_longer.wmv").num_frames == 50


def test_damage_in_the_middle_names_the_way_out():
    with pytest.raises(ValueError, match=r"damaged_middle\.mp4: .*--skip-bad"):
        load_video(FOLDER / "damaged_middle.mp4")
    assert len(load_video(FOLDER / "damaged_middle.mp4", skip_bad=True)) > 1


# --- K5, K8, K9: images ---


def test_a_turned_tiff_has_the_size_that_it_is_shown_in():
    info, view = image_info(FOLDER / "exif6.tif"), load_image(FOLDER / "exif6.tif")
    assert (info.height, info.width) == tuple(view.shape[1:])
    assert info.orientation == 6


def test_an_image_that_is_too_small_is_reported_with_its_own_size(tmp_path):
    Image.new("RGB", (10, 3000)).save(tmp_path / "thin.png")
    with pytest.raises(ValueError, match=r"10×3000 pixels are too few"):
        load_views(tmp_path / "thin.png", max_side=1008)
    assert load_views(FOLDER / "sliver.png", max_side=1008)[0].shape == (3, 2100, 14)


def test_wide_panoramas_keep_the_rows_that_the_network_sees(tmp_path):
    Image.new("RGB", (6000, 500)).save(tmp_path / "wide.jpg")
    assert load_views(tmp_path, max_side=1008, min_side=504)[0].shape == (3, 500, 6000)
    assert load_views(tmp_path, max_side=1008, min_side=250)[0].shape == (3, 250, 3000)
    assert load_views(tmp_path, max_side=1008)[0].shape == (3, 84, 1008)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """A JPEG of 200 million pixels, 16320×12240, grey but for a red quarter at the lower right."""
    path = tmp_path_factory.mktemp("large") / "200mp.jpg"
    image = Image.new("RGB", (16320, 12240), (128, 128, 128))
    image.paste((200, 30, 30), (8160, 6120, 16320, 12240))
    image.save(path, quality=80)
    return path


@pytest.mark.slow
def test_an_image_of_200_million_pixels_is_read_scaled_down(large):
    view = load_image(large, max_side=2016, min_side=1008)
    assert view.shape == (3, 1512, 2016)
    np.testing.assert_allclose(levels(view)[1400, 1900], (200, 30, 30), atol=4)
    np.testing.assert_allclose(levels(view)[100, 1900], (128, 128, 128), atol=4)
    with pytest.raises(ValueError, match=r"200 million pixels \(16320×12240\).* 512 MiB; make"):
        load_image(large)


def test_what_would_decode_to_too_much_is_refused_with_advice(tmp_path):
    path = tmp_path / "wide.png"
    Image.new("1", (24000, 8000)).save(path)  # 192 million pixels of one byte
    assert load_image(path, max_side=300).shape == (3, 100, 300)
    header = bytearray(path.read_bytes())
    header[25] = 2  # RGB
    header[24] = 8
    header[29:33] = struct.pack(">I", zlib.crc32(header[12:29]))
    path.write_bytes(header)
    with pytest.raises(ValueError, match=r"wide\.png: .*192 million pixels .* 512 MiB"):
        load_image(path, max_side=300)


# --- K7: names ---


def test_brackets_in_a_folder_are_no_pattern(tmp_path):
    folder = tmp_path / "trip [2024]"
    folder.mkdir()
    for index in range(3):
        Image.new("RGB", (20, 20)).save(folder / f"{index}.jpg")
    assert len(find_inputs(f"{folder}/*.jpg").images) == 3
    assert len(find_inputs(f"{folder}/[01].jpg").images) == 2


def test_other_and_missing_suffixes(tmp_path):
    Image.new("RGB", (20, 20)).save(tmp_path / "1.jfif", "JPEG")
    Image.new("RGB", (20, 20)).save(tmp_path / "2", "PNG")
    Image.new("RGB", (20, 20)).save(tmp_path / "3.dng", "TIFF")  # beside its JPEG, not instead
    assert [path.name for path in find_inputs(tmp_path).images] == ["1.jfif", "2"]
    shutil.copy(FOLDER / "noext_video", tmp_path / "clip.bin")
    shutil.copy(FOLDER / "noext_video", tmp_path / "clip.jpg")
    for name in ("clip.bin", "clip.jpg"):
        assert find_inputs(tmp_path / name).video == tmp_path / name
        assert len(load_views(tmp_path / name, num_frames=2)) == 2
    assert len(load_views(FOLDER / "noext_video", num_frames=3)) == 3


@pytest.mark.parametrize("entry", ["", "  ", [""], ["a.jpg", ""]])
def test_an_empty_argument_is_an_error(entry, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (20, 20)).save("a.jpg")
    with pytest.raises(ValueError, match="an input is empty"):
        find_inputs(entry)


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_a_lone_animated_image_is_a_video(suffix, tmp_path):
    frames = [Image.new("RGB", (32, 32), (5 * i, 0, 0)) for i in range(50)]
    path = tmp_path / f"moving{suffix}"
    lossless = {"lossless": True} if suffix == ".webp" else {}
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=40, **lossless)
    assert find_inputs(path).video == path
    views = load_views(path)
    assert len(views) == 24
    reds = [float(view[0].mean()) * 51 for view in load_views(path, num_frames=3)]
    assert reds == pytest.approx([0, 24, 49], abs=1.5)
    Image.new("RGB", (32, 32)).save(tmp_path / "still.png")
    assert len(find_inputs([path, tmp_path / "still.png"]).images) == 2


def test_kinds_of_files(tmp_path):
    kinds = {path.name: kind_of(path) for path in FOLDER.iterdir()}
    for name, kind in kinds.items():
        suffix = Path(name).suffix
        if suffix in (".mp4", ".mov", ".webm", ".wmv") or name == "noext_video":
            assert kind == VIDEO, name
        else:
            assert kind == (IMAGE if suffix in (".png", ".tif") else None), name
    stream = tmp_path / "any"
    stream.write_bytes((b"G" + bytes(187)) * 6)
    assert kind_of(stream) == VIDEO
    stream.write_bytes(b"GIF89a" + bytes(500))
    assert kind_of(stream) == IMAGE
