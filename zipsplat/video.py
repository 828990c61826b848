"""Videos: load evenly spaced frames, and write H.264 files.

Frames are counted in display order, by decoding: a header's frame count, a seek, or a time divided
by a nominal rate is wrong for clips with a variable frame rate, edit lists or B-frames, which is
what phones record. Decoding is sequential, and only the requested frames are kept.
"""

from __future__ import annotations

import logging
import operator
import re
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zipsplat.files import atomic_path, open_file
from zipsplat.hdr import TRANSFERS, tone_map
from zipsplat.images import Background, background_color, reduction
from zipsplat.media_kinds import VIDEO, kind_by_suffix
from zipsplat.orientation import Orientation

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_WRITABLE_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv")
_MISSING_TOLERANCE_S = 1.0  # by how much a header may overstate the duration of an intact file
_BT709 = 1  # ITU-T H.273's code for matrix, primaries and transfer function alike
_LIMITED_RANGE = 1  # FFmpeg's code for luma 16…235
_UNSPECIFIED = (0, 2, None)  # RGB has no matrix; 2 means unspecified
_SD_SIZE = (1279, 576)  # width and height up to which untagged colours are taken as BT.601
_ALPHA_DECODERS = {
    "vp8": "libvpx",
    "vp9": "libvpx-vp9",
}  # FFmpeg's native decoders ignore the alpha of WebM
# Visually lossless; "veryfast" files are no larger than the default's (benchmarks/videos.md).
_X264 = {"crf": "18", "preset": "veryfast"}
_FRAMES_AHEAD = 4  # that may wait to be encoded
SKIP_BAD = "skip_bad (--skip-bad on the command line)"

Report = Callable[[int, int], object]
"""Progress callback, called with (done, total); the total may be an estimate."""


@dataclass(frozen=True)
class VideoInfo:
    """Metadata of a clip.

    Args:
        num_frames: counted by decoding.
        width: in pixels, once upright.
        height: in pixels, once upright.
        rotation_deg: counterclockwise rotation that makes frames upright, 0 to 270.
        duration_s: in seconds, if known.
        codec: FFmpeg's name.
        is_mirrored: whether frames are flipped horizontally before the rotation.
        hdr: "PQ" or "HLG" if frames are tone mapped.
    """

    num_frames: int
    width: int
    height: int
    rotation_deg: int
    duration_s: float | None
    codec: str
    is_mirrored: bool = False
    hdr: str | None = None


def load_video(
    path: str | Path,
    num_frames: int = 8,
    stride: int | None = None,
    *,
    max_side: int | None = None,
    min_side: int | None = None,
    background: Background = "white",
    skip_bad: bool = False,
    report: Report | None = None,
) -> list[Tensor]:
    """Load evenly spaced frames of a clip, upright, in display order.

    Frames are rotated and mirrored as the container says. HDR is tone mapped to sRGB; see
    `zipsplat.hdr`. Untagged colours are taken as BT.601 up to 576 rows and 1279 columns, beyond as
    BT.709.

    Args:
        path: any container and codec that FFmpeg decodes.
        num_frames: how many, including the first and the last; shorter clips give all frames.
        stride: if given, every `stride`-th frame from the first on, ignoring `num_frames`.
        max_side: frames are scaled down so that their longer side has at most this many pixels.
        min_side: if given, lower limit on the shorter side when scaling down.
        background: colour behind transparency.
        skip_bad: use the readable part of a damaged or cut-off file, leaving out damaged frames.
        report: called with (decoded frames, expected frames).

    Returns:
        Images (3, H, W), float32 RGB in [0, 1].

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no video in the file, it is damaged, or a number is out of range.
    """
    _positive("num_frames", num_frames)
    if max_side is not None:
        _positive("max_side", max_side)
    clip = _Clip(Path(path), max_side, skip_bad, report, min_side, background_color(background))
    return list(clip.evenly_spaced(num_frames, stride).values())


def numbered_frames(
    path: str | Path, num_frames: int, *, max_side: int | None = None
) -> dict[int, Tensor]:
    """Evenly spaced frames by frame number, counted from 0; otherwise as `load_video`."""
    _positive("num_frames", num_frames)
    return _Clip(Path(path), max_side).evenly_spaced(num_frames)


def frames_at(
    path: str | Path, numbers: Collection[int], *, max_side: int | None = None
) -> dict[int, Tensor]:
    """Load frames by number, as `numbered_frames` numbers them.

    Args:
        path: of the clip.
        numbers: counted from 0 in display order.
        max_side: frames are scaled down so that their longer side has at most this many pixels.

    Returns:
        Images (3, H, W), float32 RGB in [0, 1]; numbers beyond the clip are omitted.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no video in the file, or one of these frames is damaged.
    """
    clip = _Clip(Path(path), max_side)
    frames, _ = clip.decode(numbers, clip.count_packets())
    return clip.images(frames)


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float = 30) -> None:
    """Write images as an H.264 video that common players and browsers show in the right colours.

    Odd sizes are padded by repeating the last row or column, as the pixel format requires. The file
    is written atomically.

    Args:
        path: name ending in .mp4, .m4v, .mov or .mkv.
        frames: (H, W, 3) uint8 RGB, all of one size; consumed one by one, so a generator works.
        fps: frames per second.

    Raises:
        ValueError: for an unsupported suffix, no frames, or frames of differing or unsupported
            shape or dtype.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITABLE_SUFFIXES:
        raise ValueError(f"{path}: a video's name must end in {', '.join(_WRITABLE_SUFFIXES)}")
    if not 0 < fps <= 1000:
        raise ValueError(f"fps must be in (0, 1000], got {fps}")
    remaining = iter(frames)
    first = next(remaining, None)
    if first is None:
        raise ValueError(f"{path}: there are no frames to write")
    with atomic_path(path) as temporary:
        _encode(temporary, first, remaining, Fraction(fps))


def video_info(path: str | Path, report: Report | None = None) -> VideoInfo:
    """Read the metadata of a clip, decoding all of it to count frames.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: there is no video in the file or it is damaged.
    """
    clip = _Clip(Path(path), report=report)
    frames, count = clip.decode([0], clip.count_packets())
    height, width = frames[0].shape[:2]
    with clip.open() as (container, stream):
        duration = stream.duration * stream.time_base if stream.duration else None
        first = next(container.decode(stream))
        orientation = _orientation(first)
        return VideoInfo(
            num_frames=count,
            width=width,
            height=height,
            rotation_deg=orientation.turn_deg,
            duration_s=None if duration is None else float(duration),
            codec=stream.codec_context.name,
            is_mirrored=orientation.is_mirrored,
            hdr=TRANSFERS.get(first.color_trc),
        )


def frame_indices(count: int, num_frames: int, stride: int | None = None) -> list[int]:
    """Which of `count` frames to use, ascending: every `stride`-th, or `num_frames` of them.

    Without a stride they are spread evenly from the first to the last, rounding half to even.

    Raises:
        ValueError: a number is not positive.
    """
    if stride is not None:
        return list(range(0, count, _positive("stride", stride)))
    chosen = min(_positive("num_frames", num_frames), count)
    return [int(index) for index in np.linspace(0, count - 1, chosen).round()]


def frame_name(number: int) -> str:
    """The image name of a frame, which contains the frame number."""
    return f"frame_{number:06d}.png"


def frame_number(name: str) -> int | None:
    """The inverse of `frame_name`; None for other names."""
    match = re.fullmatch(r"frame_(\d{6,})\.png", name)
    return None if match is None else int(match.group(1))


def is_video_file(path: Path) -> bool:
    """Whether the suffix is one of a video."""
    return kind_by_suffix(path) == VIDEO


def _positive(name: str, value: int) -> int:
    """Check a count."""
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be an integer, got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number


@dataclass(frozen=True)
class _Clip:
    """A video file, and options for reading it."""

    path: Path
    max_side: int | None = None
    skip_bad: bool = False
    report: Report | None = None
    min_side: int | None = None
    background: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @contextmanager
    def open(self) -> Iterator[tuple[Any, Any]]:
        """Open the file and its main video stream; FFmpeg errors become a ValueError."""
        import av

        with open_file(self.path) as file:  # raises for missing and unreadable files
            if not file.read(1):
                raise ValueError(f"{self.path}: the file is empty")
        try:
            # A playlist disguised as a video must not make FFmpeg open other files or URLs.
            options = {"protocol_whitelist": "file"}
            with av.open(
                str(self.path.absolute()), options=options, metadata_errors="replace"
            ) as container:
                stream = container.streams.best("video")
                if stream is None or stream.disposition & av.stream.Disposition.attached_pic:
                    raise ValueError(f"{self.path}: there is no video in this file")
                stream.thread_type = "AUTO"
                yield container, stream
        except av.error.FFmpegError as error:
            reason = error.strerror or type(error).__name__
            raise ValueError(f"{self.path}: cannot be read as a video ({reason})") from error

    def report_conversion(self) -> None:
        """Warn if frames were tone mapped."""
        with self.open() as (_, stream):
            transfer = TRANSFERS.get(stream.codec_context.color_trc)
        if transfer is not None:
            logger.warning("%s: HDR (%s) was tone mapped to sRGB", self.path, transfer)

    def count_packets(self) -> int:
        """Expected number of frames, quickly, from the packets to be displayed.

        Raises:
            ValueError: the file is cut off (unless `skip_bad`).
        """
        count, is_cut = 0, False
        end = Fraction(0)  # of the last packet of any stream, in seconds
        with self.open() as (container, video):
            for packet in container.demux():
                if packet.stream is video:
                    count += bool(packet.size) and not packet.is_discard
                    is_cut |= packet.is_corrupt
                ticks = (packet.pts or 0) + (packet.duration or 0)
                end = max(end, Fraction(ticks * (packet.time_base or 0)))
            promised = ((video.duration or 0) + (video.start_time or 0)) * (video.time_base or 0)
            # Some containers only give the total duration, which may be that of the audio.
            is_cut |= promised - end > _MISSING_TOLERANCE_S
        if is_cut and not self.skip_bad:
            raise ValueError(
                f"{self.path}: the video is cut off or damaged after {count} frames; {SKIP_BAD}"
                " uses the readable part"
            )
        return count

    def evenly_spaced(self, num_frames: int, stride: int | None = None) -> dict[int, Tensor]:
        """Frames by number, as selected by `frame_indices`.

        Raises:
            ValueError: the video is damaged (unless `skip_bad`), or every frame is.
        """
        expected = self.count_packets()
        wanted = frame_indices(expected, num_frames, stride)
        frames, count = self.decode(wanted, expected)
        exact = frame_indices(count, num_frames, stride)
        if exact != wanted:  # packets and displayed frames differ: field-coded video, edit lists
            frames, _ = self.decode(exact, count)
        if not frames:
            raise ValueError(f"{self.path}: every frame is damaged")
        return self.images(frames)

    def images(self, frames: dict[int, np.ndarray]) -> dict[int, Tensor]:
        """Convert decoded frames to images (3, H, W) in [0, 1]; warns if they were tone mapped."""
        import torch  # here, so that describing a clip does not wait for it

        self.report_conversion()
        return {
            number: torch.from_numpy(frame).permute(2, 0, 1).float() / 255
            for number, frame in frames.items()
        }

    def decode(self, wanted: Collection[int], expected: int) -> tuple[dict[int, np.ndarray], int]:
        """Decode the whole clip; returns the wanted frames (H, W, 3) and the frame count.

        Raises:
            ValueError: there are no frames, or a wanted one is damaged (unless `skip_bad`).
        """
        indices = frozenset(wanted)
        kept: dict[int, np.ndarray] = {}
        count = 0
        with self.open() as (container, stream):
            for frame in self._frames(container, stream):
                if count in indices and self._is_whole(frame, count):
                    kept[count] = self._upright_rgb(frame, stream.sample_aspect_ratio)
                count += 1
                if self.report is not None and (count % 16 == 0 or count == expected):
                    self.report(count, max(count, expected))
        if count == 0:
            raise ValueError(f"{self.path}: the video holds no frames")
        return kept, count

    def _frames(self, container: Any, stream: Any) -> Iterator[Any]:
        """All frames in display order, skipping undecodable ones if `skip_bad`."""
        import av

        decoder = _decoder(stream)
        count = 0
        for packet in container.demux(stream):
            try:
                for frame in decoder.decode(packet):
                    yield frame
                    count += 1
            except av.error.InvalidDataError as error:
                if not self.skip_bad:
                    raise ValueError(
                        f"{self.path}: the video is damaged after {count} frames; {SKIP_BAD} uses"
                        " the others"
                    ) from error

    def _is_whole(self, frame: Any, index: int) -> bool:
        """Whether a frame is undamaged; a damaged one raises, or is skipped if `skip_bad`."""
        if not frame.is_corrupt:
            return True
        if self.skip_bad:
            logger.warning("%s: left out frame %d, which is damaged", self.path, index)
            return False
        raise ValueError(
            f"{self.path}: frame {index} is damaged; {SKIP_BAD} leaves out damaged frames"
        )

    def _upright_rgb(self, frame: Any, aspect: Fraction | None) -> np.ndarray:
        """One frame for display as (H, W, 3) uint8: square pixels, scaled down, upright."""
        width, height = frame.width * float(aspect or 1), float(frame.height)
        factor = reduction(width, height, self.max_side, self.min_side)
        size = max(1, round(width * factor)), max(1, round(height * factor))
        transfer = TRANSFERS.get(frame.color_trc)
        if transfer is not None:
            rgb = tone_map(_converted(frame, "rgb48le", size), transfer)
        elif any(component.is_alpha for component in frame.format.components):
            rgb = self._over_background(
                _converted(frame, "rgba", (frame.width, frame.height)), size
            )
        else:
            rgb = _converted(frame, "rgb24", size)
        return _orientation(frame).apply(rgb)

    def _over_background(self, rgba: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        """Blend over the background at full size, so that colours of transparent pixels vanish."""
        from PIL import Image

        alpha = rgba[..., 3:].astype(np.float32) / 255
        color = 255 * np.array(self.background, np.float32)
        blended = rgba[..., :3] * alpha + (1 - alpha) * color
        image = Image.fromarray(np.rint(blended).astype(np.uint8))
        return np.array(image.resize(size, Image.Resampling.LANCZOS))


def _decoder(stream: Any) -> Any:
    """The decoder of a stream, including its alpha channel if it has one."""
    import av

    name = _ALPHA_DECODERS.get(stream.codec_context.name)
    if name is None or stream.metadata.get("alpha_mode") != "1":
        return stream.codec_context
    decoder = av.CodecContext.create(name, "r")
    decoder.extradata = stream.codec_context.extradata
    return decoder


def _converted(frame: Any, pixels: str, size: tuple[int, int]) -> np.ndarray:
    """Convert a frame to a pixel format and size, with colours by its tags or defaults."""
    is_untagged = frame.colorspace in _UNSPECIFIED and not frame.format.is_rgb
    is_hd = frame.width > _SD_SIZE[0] or frame.height > _SD_SIZE[1]
    matrix = {"src_colorspace": "ITU709"} if is_untagged and is_hd else {}
    return np.asarray(
        frame.to_ndarray(
            format=pixels, width=size[0], height=size[1], interpolation="LANCZOS", **matrix
        )
    )


def _orientation(frame: Any) -> Orientation:
    matrix = frame.side_data.get("DISPLAYMATRIX")
    return Orientation() if matrix is None else Orientation.from_matrix(bytes(matrix))


def _encode(path: Path, first: np.ndarray, others: Iterable[np.ndarray], fps: Fraction) -> None:
    """Encode frames of one shape on another thread, while the next ones are rendered."""
    import av

    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        shape = np.shape(first)
        height, width = _even(first, shape).shape[:2]
        stream = _add_stream(container, height, width, fps)
        with ThreadPoolExecutor(1, "zipsplat-encode") as pool:
            waiting = deque[Future[None]]()
            for frame in chain([first], others):
                if len(waiting) == _FRAMES_AHEAD:
                    waiting.popleft().result()
                waiting.append(pool.submit(_encode_frame, container, stream, _even(frame, shape)))
            for encoded in waiting:
                encoded.result()
        container.mux(stream.encode())


def _add_stream(container: Any, height: int, width: int, fps: Fraction) -> Any:
    """An H.264 stream, visually lossless, in the colours of BT.709."""
    stream = container.add_stream("libx264", rate=fps.limit_denominator(1001), options=_X264)
    stream.height, stream.width = height, width
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.color_range = _LIMITED_RANGE
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    return stream


def _encode_frame(container: Any, stream: Any, pixels: np.ndarray) -> None:
    import av

    frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
    container.mux(stream.encode(frame.reformat(format="yuv420p", dst_colorspace="ITU709")))


def _even(frame: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Check a frame, and pad odd sizes by repeating the last row and column."""
    if not isinstance(frame, np.ndarray) or frame.dtype != np.uint8 or frame.ndim != 3:
        kind = getattr(frame, "dtype", type(frame).__name__)
        raise ValueError(f"frames must be uint8 arrays (H, W, 3), got {np.shape(frame)} {kind}")
    if frame.shape[2] != 3 or 0 in frame.shape or frame.shape != shape:
        raise ValueError(f"frames must all be (H, W, 3), got {frame.shape} after {shape}")
    height, width = frame.shape[:2]
    if height % 2 or width % 2:
        frame = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(frame)
