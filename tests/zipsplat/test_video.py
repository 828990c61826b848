"""Frames arrive in the order shown, upright, in the right colours; videos are whole or absent.

The clips carry their frame number as ten white or black squares, so each frame says which it is.
"""

import struct
import threading
import weakref
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

import zipsplat.video
from zipsplat.video import (
    frame_name,
    frame_number,
    frames_at,
    load_video,
    numbered_frames,
    video_info,
    write_video,
)

av = pytest.importorskip("av")

HEIGHT, WIDTH = 64, 96


def numbered(index: int) -> np.ndarray:
    """A frame that says its number and which way is up (a red bar along the top)."""
    frame = np.full((HEIGHT, WIDTH, 3), 30, np.uint8)
    frame[:8] = (220, 20, 20)
    for bit in range(10):
        if index >> bit & 1:
            frame[24:48, 4 + bit * 9 : 11 + bit * 9] = 230
    return frame


def number(image: torch.Tensor) -> int:
    assert image[0, 2, 40] > 0.6 > 0.4 > image[1, 2, 40], "the red bar is not at the top"
    row = image[:, 36].mean(0)
    return sum(1 << bit for bit in range(10) if row[7 + bit * 9] > 0.5)


def write_clip(path, count, *, codec="libx264", pts=None, cut=0, rotation=0, options=None):
    """A clip with B-frames; `cut` frames lie before its start, hidden by an edit list."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=30, options=options or {"bf": "2", "g": "25"})
        turned = np.rot90(numbered(0), -(rotation // 90))
        stream.height, stream.width = turned.shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = stream.time_base = Fraction(1, 600)

        def mux(packets):
            for packet in packets:
                packet.pts -= cut * 20
                packet.dts -= cut * 20
                container.mux(packet)

        for index in range(count):
            stored = np.ascontiguousarray(np.rot90(numbered(index), -(rotation // 90)))
            frame = av.VideoFrame.from_ndarray(stored, format="rgb24")
            frame.pts = pts(index) if pts else index * 20
            frame.time_base = Fraction(1, 600)
            mux(stream.encode(frame))
        mux(stream.encode())
    if rotation:
        set_rotation(path, rotation)
    return path


def set_rotation(path, rotation):
    """Write the display matrix of an MP4 as a phone does that was held upright (ISO 14496-12)."""
    content = bytearray(path.read_bytes())
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[rotation]
    matrix = struct.pack(">9i", cos << 16, -sin << 16, 0, sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    start = content.index(b"tkhd") + 44
    content[start : start + 36] = matrix
    path.write_bytes(content)


def wanted(first: int, count: int, num_frames: int) -> list[int]:
    return [first + round(i) for i in np.linspace(0, count - 1, num_frames)]


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "plain.mp4", 120)


# --- which frames ---


def test_frames_are_evenly_spaced_from_the_first_to_the_last(plain):
    images = load_video(plain, num_frames=7)
    assert [number(image) for image in images] == wanted(0, 120, 7)
    assert images[0].shape == (3, HEIGHT, WIDTH)
    assert images[0].dtype == torch.float32
    assert 0 <= min(p.min() for p in images) <= max(p.max() for p in images) <= 1


def test_eight_frames_by_default_and_one_is_the_first(plain):
    assert len(load_video(str(plain))) == 8
    assert [number(p) for p in load_video(plain, num_frames=1)] == [0]


def test_stride_counts_from_the_first_frame_and_outranks_num_frames(plain):
    assert [number(p) for p in load_video(plain, num_frames=2, stride=25)] == [0, 25, 50, 75, 100]


def test_numbered_frames_are_those_of_load_video_and_can_be_read_again(plain):
    numbered_ones = numbered_frames(plain, 5, max_side=48)
    assert [number(frame) for frame in numbered_frames(plain, 5).values()] == list(numbered_ones)
    for frame, same in zip(numbered_ones.values(), load_video(plain, 5, max_side=48), strict=True):
        assert torch.equal(frame, same)
    names = [frame_name(n) for n in numbered_ones]
    again = frames_at(plain, [frame_number(name) for name in names], max_side=48)
    assert list(again) == list(numbered_ones)
    assert all(torch.equal(again[n], numbered_ones[n]) for n in again)


def test_frames_that_a_clip_does_not_have_are_left_out(plain):
    assert [number(frame) for frame in frames_at(plain, [3, 5000]).values()] == [3]
    assert frames_at(plain, [5000]) == {}


@pytest.mark.parametrize("name", ["img_000003.png", "frame_3.png", "frame_000003.jpg", "3"])
def test_other_names_tell_no_frame(name):
    assert frame_number(name) is None


def test_short_clips_give_all_their_frames(tmp_path):
    clip = write_clip(tmp_path / "short.mp4", 5)
    assert [number(p) for p in load_video(clip, num_frames=24)] == [0, 1, 2, 3, 4]


def test_variable_frame_rate_is_counted_by_frames_not_by_time(tmp_path):
    clip = write_clip(tmp_path / "vfr.mp4", 100, pts=lambda i: i * 20 + (i % 5) * 4 + i // 30 * 900)
    assert [number(p) for p in load_video(clip, num_frames=10)] == wanted(0, 100, 10)


def test_an_edit_list_hides_the_frames_before_the_cut(tmp_path):
    clip = write_clip(tmp_path / "cut.mp4", 120, cut=37)
    assert [number(p) for p in load_video(clip, num_frames=9)] == wanted(37, 83, 9)
    assert video_info(clip).num_frames == 83


def test_packets_that_are_not_frames_do_not_shift_the_frames(plain, monkeypatch):
    monkeypatch.setattr(zipsplat.video._Clip, "count_packets", lambda _: 200)
    assert [number(p) for p in load_video(plain, num_frames=7)] == wanted(0, 120, 7)
    assert [number(p) for p in load_video(plain, stride=50)] == [0, 50, 100]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mkv", "libx264"), (".ts", "libx264"), (".avi", "mpeg4"), (".webm", "libvpx-vp9")],
)
def test_other_containers_and_codecs(tmp_path, suffix, codec):
    options = (
        {"deadline": "realtime", "cpu-used": "8"} if "vp9" in codec else {"g": "12", "bf": "0"}
    )
    clip = write_clip(tmp_path / f"clip{suffix}", 40, codec=codec, options=options)
    assert [number(p) for p in load_video(clip, num_frames=6)] == wanted(0, 40, 6)


def test_only_wanted_frames_are_converted(plain, monkeypatch):
    converted = []
    original = zipsplat.video._converted
    monkeypatch.setattr(
        zipsplat.video, "_converted", lambda *a: converted.append(1) or original(*a)
    )
    load_video(plain, num_frames=5)
    assert len(converted) == 5


# --- how they look ---


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_rotated_clips_are_turned_upright(tmp_path, rotation):
    clip = write_clip(tmp_path / "turned.mp4", 8, rotation=rotation)
    images = load_video(clip, num_frames=3)
    assert images[0].shape == (3, HEIGHT, WIDTH)
    assert [number(p) for p in images] == wanted(0, 8, 3)
    info = video_info(clip)
    assert (info.height, info.width) == (HEIGHT, WIDTH)
    assert info.rotation_deg % 360 == rotation


def test_non_square_pixels_are_made_square(tmp_path):
    path = tmp_path / "wide.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(2, 1)
        frame = av.VideoFrame.from_ndarray(numbered(0)[:, ::2].copy(), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert load_video(path)[0].shape == (3, 64, 96)


def test_max_side_scales_down_never_up(plain):
    assert load_video(plain, num_frames=1, max_side=48)[0].shape == (3, 32, 48)
    assert load_video(plain, num_frames=1, max_side=999)[0].shape == (3, HEIGHT, WIDTH)


def test_colors_survive_writing_and_reading(tmp_path):
    colors = np.array([[200, 30, 60], [20, 180, 40], [30, 60, 210], [128, 128, 128]], np.uint8)
    frame = np.repeat(np.repeat(colors.reshape(2, 2, 3), 32, 0), 32, 1)
    write_video(tmp_path / "colors.mp4", [frame] * 3)
    image = load_video(tmp_path / "colors.mp4", num_frames=1)[0] * 255
    for row, column in ((16, 16), (16, 48), (48, 16), (48, 48)):
        assert np.abs(image[:, row, column].numpy() - frame[row, column]).max() < 6


def test_progress_reaches_its_total(plain):
    reports = []
    load_video(plain, num_frames=2, report=lambda done, total: reports.append((done, total)))
    assert reports[-1] == (120, 120)
    assert [done for done, _ in reports] == sorted(done for done, _ in reports)


def test_metadata_in_any_encoding_do_not_matter(tmp_path):
    path = tmp_path / "titled.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "A-title"
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(0), format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    assert content.count(b"A-title") == 1
    path.write_bytes(content.replace(b"A-title", b"\xc4-titel"))  # Latin-1, as old cameras write
    assert number(load_video(path)[0]) == 0


# --- what cannot be read ---


def audio_only(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        frame.rate = 44100
        for _ in range(4):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def without_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        container.start_encoding()


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("empty.mp4", lambda path: path.write_bytes(b""), "empty"),
        ("text.mp4", lambda path: path.write_text("no video\n" * 99), "cannot be read as a video"),
        ("zeros.mp4", lambda path: path.write_bytes(bytes(9999)), "cannot be read as a video"),
        ("sound.m4a", audio_only, "no video in this file"),
        ("nothing.mp4", without_frames, "sound|no frames|no video|cannot be read"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, make, words):
    path = tmp_path / name
    make(path)
    with pytest.raises(ValueError, match=words) as caught:
        load_video(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_cut_off_file_is_an_error_unless_bad_parts_may_be_skipped(tmp_path):
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8) for _ in range(90)]
    write_video(tmp_path / "whole.mp4", frames)
    content = (tmp_path / "whole.mp4").read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.mp4.*cut off.*skip_bad"):
        load_video(path)
    assert len(load_video(path, num_frames=4, skip_bad=True)) in (3, 4)
    path.write_bytes(content[:50])
    with pytest.raises(ValueError, match=r"cut\.mp4"):
        load_video(path, skip_bad=True)


def test_damaged_frames_are_left_out_on_request(plain, monkeypatch):
    class Damaged:
        is_corrupt = True

    original = zipsplat.video._Clip._is_whole
    monkeypatch.setattr(
        zipsplat.video._Clip,
        "_is_whole",
        lambda self, frame, index: original(self, Damaged() if index == 119 else frame, index),
    )
    with pytest.raises(ValueError, match="frame 119 is damaged"):
        load_video(plain, num_frames=3)
    assert [number(p) for p in load_video(plain, num_frames=3, skip_bad=True)] == wanted(0, 120, 3)[
        :2
    ]


def test_a_playlist_does_not_make_other_files_be_read(tmp_path, plain):
    (tmp_path / "list.mp4").write_text(f"ffconcat version 1.0\nfile {plain}\n")
    with pytest.raises(ValueError, match=r"list\.mp4"):
        load_video(tmp_path / "list.mp4")


@pytest.mark.parametrize(
    "arguments",
    [{"num_frames": 0}, {"num_frames": None}, {"num_frames": 2.5}, {"stride": 0}, {"max_side": 0}],
)
def test_numbers_out_of_range(plain, arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        load_video(plain, **arguments)


def test_missing_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        load_video(tmp_path / "nothing.mp4")


# --- writing ---


@pytest.mark.parametrize(("height", "width"), [(64, 96), (63, 97), (1, 1)])
def test_any_size_can_be_written(tmp_path, height, width):
    path = tmp_path / "folder" / "odd.mp4"
    write_video(path, (np.full((height, width, 3), i, np.uint8) for i in range(3)), fps=24)
    info = video_info(path)
    assert (info.num_frames, info.height, info.width) == (3, height + height % 2, width + width % 2)
    assert info.codec == "h264"
    assert info.duration_s == pytest.approx(3 / 24)


def test_what_players_need_is_stored(tmp_path):
    path = tmp_path / "video.mp4"
    write_video(path, [numbered(0)] * 2)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        tags = (frame.colorspace, frame.color_primaries, frame.color_trc, frame.color_range)
        assert tags == (1, 1, 1, 1)
        assert frame.format.name == "yuv420p"
    content = path.read_bytes()
    assert 0 < content.find(b"moov") < content.find(b"mdat"), "browsers want the index first"


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "no frames"),
        ([np.zeros((8, 8, 3), np.float32)], "uint8"),
        ([np.zeros((3, 8, 8), np.uint8)], r"\(H, W, 3\)"),
        ([np.zeros((8, 8), np.uint8)], r"\(H, W, 3\)"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], "after"),
    ],
)
def test_frames_that_cannot_be_written_leave_no_file(tmp_path, frames, words):
    with pytest.raises(ValueError, match=words):
        write_video(tmp_path / "video.mp4", frames)
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_the_old_file(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"the old one")

    def frames():
        yield numbered(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_video(path, frames())
    assert path.read_bytes() == b"the old one"
    assert list(tmp_path.iterdir()) == [path]


def test_names_and_rates_that_make_no_sense(tmp_path):
    with pytest.raises(ValueError, match=r"\.mp4"):
        write_video(tmp_path / "video.gif", [numbered(0)])
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps"):
            write_video(tmp_path / "video.mp4", [numbered(0)], fps=fps)


def test_few_frames_are_alive_while_a_video_is_written(tmp_path):
    alive, most = [0], 0

    def frames(count):
        nonlocal most
        for index in range(count):
            frame = numbered(index)
            alive[0] += 1
            weakref.finalize(frame, lambda: alive.__setitem__(0, alive[0] - 1))
            most = max(most, alive[0])
            yield frame

    write_video(tmp_path / "long.mp4", frames(120))
    assert most <= zipsplat.video._FRAMES_AHEAD + 3  # the first, the next, the one being encoded
    assert video_info(tmp_path / "long.mp4").num_frames == 120


def test_frames_are_encoded_while_the_next_are_made(tmp_path, monkeypatch):
    encode, next_is_made = zipsplat.video._encode_frame, threading.Event()

    def patient(*arguments):
        assert next_is_made.wait(60)
        encode(*arguments)

    def frames():
        yield numbered(0)
        yield numbered(1)
        next_is_made.set()

    monkeypatch.setattr(zipsplat.video, "_encode_frame", patient)
    write_video(tmp_path / "a.mp4", frames())
    assert [number(frame) for frame in load_video(tmp_path / "a.mp4")] == [0, 1]
