"""COLMAP models as files, read and written without COLMAP.

The layouts are those of https://colmap.github.io/format.html: `cameras`, `images` and `points3D`,
either binary (little-endian, `.bin`) or text (`.txt`). Poses are stored as camera-from-world
quaternions wxyz and translations.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import torch

from zipsplat.camera_estimation.capture import (
    FARTHEST,
    Capture,
    Find,
    FloatArray,
    Lens,
    Photo,
    far_origin,
    moved_to,
    origin_notes,
)
from zipsplat.files import write_atomically
from zipsplat.inputs import natural_key
from zipsplat.posed_images import SparsePoints
from zipsplat.rotations import matrix_from_quat, quat_from_matrix

PARTS = ("cameras", "images", "points3D")
_MODEL_FOLDERS = ("sparse", "colmap/sparse", "colmap", ".")
# Model id in binary files, and number of parameters.
_MODELS = {
    "SIMPLE_PINHOLE": (0, 3),
    "PINHOLE": (1, 4),
    "SIMPLE_RADIAL": (2, 4),
    "RADIAL": (3, 5),
    "OPENCV": (4, 8),
    "OPENCV_FISHEYE": (5, 8),
    "FULL_OPENCV": (6, 12),
    "FOV": (7, 5),
    "SIMPLE_RADIAL_FISHEYE": (8, 4),
    "RADIAL_FISHEYE": (9, 5),
    "THIN_PRISM_FISHEYE": (10, 12),
}
_POINT_2D = np.dtype([("pixel", "<f8", 2), ("point", "<i8")])
_TRACK = np.dtype([("image", "<u4"), ("feature", "<u4")])
_LONGEST_NAME = 4096


@dataclass(frozen=True)
class ModelImage:
    """An image of a model.

    Attributes:
        name: of its file, relative to the folder of images.
        camera: id of its camera.
        world_from_camera: (4, 4) rigid, OpenCV axes.
        pixels: (N, 2) float64 features.
        point_ids: (N,) int64 ids of the points they observe, −1 for none.
    """

    name: str
    camera: int
    world_from_camera: FloatArray
    pixels: FloatArray
    point_ids: npt.NDArray[np.int64]


@dataclass(frozen=True)
class ModelPoint:
    """A point of a model.

    Attributes:
        position: x, y, z.
        color: red, green, blue, 0 to 255.
        error: mean reprojection error in pixels.
        track: records (L,) of `image` and `feature`.
    """

    position: tuple[float, float, float]
    color: tuple[int, int, int]
    error: float
    track: npt.NDArray[np.void]


@dataclass(frozen=True)
class Model:
    """A whole model, keyed by COLMAP's ids."""

    cameras: Mapping[int, Lens]
    images: Mapping[int, ModelImage]
    points: Mapping[int, ModelPoint]


def find_model(folder: Path) -> Path | None:
    """The folder of a COLMAP model (`cameras` and `images`, .bin or .txt) in a capture.

    Of several disconnected models (`sparse/0`, `sparse/1`, …) the one with most images.
    """
    for name in _MODEL_FOLDERS:
        numbered = _numbered_models(folder / name)
        if numbered:
            return max(numbered, key=lambda model: (_num_images(model), -int(model.name)))
        if _is_model(folder / name):
            return folder / name
    return None


def _numbered_models(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    models = (path for path in folder.iterdir() if path.name.isdecimal() and _is_model(path))
    return sorted(models, key=lambda model: int(model.name))


def _is_model(folder: Path) -> bool:
    return any(
        all((folder / f"{part}{suffix}").is_file() for part in PARTS[:2])
        for suffix in (".bin", ".txt")
    )


def _num_images(model: Path) -> int:
    """Number of images of a model from the header of its file; 0 if that is damaged."""
    binary = model / "images.bin"
    if not binary.is_file():
        return len(_text_lines(model / "images.txt")) // 2
    with binary.open("rb") as file:
        return int.from_bytes(file.read(8), "little")


def _other_models(model: Path) -> tuple[str, ...]:
    """A note on the other models beside this one, which are ignored."""
    others = [path for path in _numbered_models(model.parent) if path != model]
    if not model.name.isdecimal() or not others:
        return ()
    sizes = ", ".join(f"{path.name} ({_num_images(path)} images)" for path in others)
    return (f"model {model.name} ({_num_images(model)} images) is used, not the separate {sizes}",)


def read_model(folder: Path) -> Model:
    """Read the files of a model; prefers binary ones.

    Raises:
        ValueError: if it is damaged or has an unsupported camera model.
    """
    suffix = ".bin" if (folder / "cameras.bin").is_file() else ".txt"
    try:
        if suffix == ".bin":
            files = [_Bytes(folder / f"{part}.bin") for part in PARTS]
            return Model(_cameras(files[0]), _images(files[1]), _points(files[2]))
        lines = [_text_lines(folder / f"{part}.txt") for part in PARTS]
        return Model(
            dict(map(_camera_of_line, lines[0])),
            dict(map(_image_of_lines, lines[1][::2], lines[1][1::2])),
            dict(map(_point_of_line, lines[2])),
        )
    except (ValueError, IndexError, OverflowError, struct.error, OSError) as error:
        raise ValueError(f"{folder} is not a readable COLMAP model: {error}") from error


def read(model: Path, find: Find) -> Capture:
    """Read a model with its photos.

    Args:
        model: folder of the model.
        find: maps the name of a photo to its path.

    Raises:
        ValueError: if it is damaged or none of its photos exist.
    """
    content = read_model(model)
    kept: list[tuple[int, Photo]] = []
    missing = []
    for number, image in content.images.items():
        if image.camera not in content.cameras:
            raise ValueError(f"{model}: {image.name} has a camera that is not in the model")
        file = find(image.name)
        if file is None:
            missing.append(image.name)
        else:
            lens = content.cameras[image.camera]
            kept.append((number, Photo(file, lens, image.world_from_camera)))
    if not kept:
        raise ValueError(
            f"{model}: none of the model's {len(missing)} images exist, e.g. {missing[:1]};"
            " they are expected in the folder `images`"
        )
    kept.sort(key=lambda item: natural_key(item[1].path))
    photos = [photo for _, photo in kept]
    origin = far_origin(photos)
    lost = (f"{len(missing)} images do not exist, e.g. {missing[0]}",) if missing else ()
    notes = (*_other_models(model), *lost, *origin_notes(origin))
    points = _sparse_points(content, [number for number, _ in kept], origin)
    return Capture(moved_to(origin, photos), points, notes, origin)


def _sparse_points(model: Model, order: Sequence[int], origin: FloatArray) -> SparsePoints | None:
    """The points with their observations by some images, which become views in that order.

    Args:
        model: that they belong to.
        order: ids of the images.
        origin: (3,) position in the model that becomes the origin.
    """
    view_of = {number: view for view, number in enumerate(order)}
    rows, counts = [], []
    for point in model.points.values():
        seen = [
            (view_of[image], *model.images[image].pixels[feature])
            for image, feature in point.track.tolist()
            if image in view_of and feature < len(model.images[image].pixels)
        ]
        rows += seen
        counts.append(len(seen))
    if not counts:
        return None
    table = np.array(rows, np.float64).reshape(-1, 3)
    every = list(model.points.values())
    numbers = [*(x for point in every for x in (*point.position, point.error)), *table.ravel()]
    if not np.abs(numbers).max() < FARTHEST:
        raise ValueError("the model has points without usable positions")
    return SparsePoints(
        (np.array([point.position for point in every]) - origin).astype(np.float32),
        np.array([point.color for point in every], np.float32) / np.float32(255),
        np.array([point.error for point in every], np.float32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        table[:, 0].astype(np.int64),
        table[:, 1:].astype(np.float32),
    )


class _Bytes:
    """A binary reader; every count is checked against the bytes that are left."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.data = path.read_bytes() if path.is_file() or path.stem != "points3D" else bytes(8)
        self.place = 0

    def take(self, layout: str) -> tuple[float, ...]:
        """Read the values of a `struct` layout."""
        size = struct.calcsize(layout)
        self.need(size)
        values = struct.unpack_from(layout, self.data, self.place)
        self.place += size
        return values

    def records(self, dtype: np.dtype[np.void]) -> npt.NDArray[np.void]:
        """Read a uint64 count and that many records."""
        count = self.count(dtype.itemsize)
        found = np.frombuffer(self.data, dtype, count, self.place)
        self.place += count * dtype.itemsize
        return found

    def count(self, smallest: int) -> int:
        """Read a uint64 count of items, each at least `smallest` bytes long."""
        (count,) = self.take("<Q")
        self.need(int(count) * smallest)
        return int(count)

    def text(self) -> str:
        """Read a zero-terminated string."""
        end = self.data.find(b"\0", self.place, self.place + _LONGEST_NAME)
        if end < 0:
            raise ValueError(f"{self.name} is damaged: a name is not terminated")
        text = self.data[self.place : end].decode("utf-8", "replace")
        self.place = end + 1
        return text

    def need(self, size: int) -> None:
        """Raise unless `size` bytes are left."""
        if size > len(self.data) - self.place:
            raise ValueError(f"{self.name} is cut off or damaged")


def _cameras(file: _Bytes) -> dict[int, Lens]:
    names = {number: name for name, (number, _) in _MODELS.items()}
    cameras = {}
    for _ in range(file.count(48)):
        number, model, width, height = map(int, file.take("<IiQQ"))
        if model not in names:
            raise ValueError(f"{file.name} has a camera of the unknown model {model}")
        params = file.take(f"<{_MODELS[names[model]][1]}d")
        cameras[number] = Lens(names[model], width, height, params)
    return cameras


def _images(file: _Bytes) -> dict[int, ModelImage]:
    images = {}
    for _ in range(file.count(73)):
        (number,) = file.take("<I")
        quat_and_center = file.take("<7d")
        (camera,) = file.take("<I")
        name = file.text()
        found = file.records(_POINT_2D)
        pose = _world_from_camera(quat_and_center, name)
        image = ModelImage(name, int(camera), pose, found["pixel"], found["point"])
        images[int(number)] = image
    return images


def _points(file: _Bytes) -> dict[int, ModelPoint]:
    points = {}
    for _ in range(file.count(51)):
        number, x, y, z, red, green, blue, error = file.take("<Q3d3Bd")
        color = (int(red), int(green), int(blue))
        points[int(number)] = ModelPoint((x, y, z), color, error, file.records(_TRACK))
    return points


def _text_lines(path: Path) -> list[str]:
    if not path.is_file() and path.stem == "points3D":
        return []
    lines = [line.strip() for line in path.read_text("utf-8").splitlines()]
    lines = [line for line in lines if not line.startswith("#")]
    if path.stem != "images":
        return [line for line in lines if line]
    while lines and not lines[0]:
        lines.pop(0)
    return lines if len(lines) % 2 == 0 else [*lines, ""]  # the last image may have no features


def _camera_of_line(line: str) -> tuple[int, Lens]:
    words = line.split()
    return int(words[0]), Lens(words[1], int(words[2]), int(words[3]), tuple(map(float, words[4:])))


def _image_of_lines(line: str, features: str) -> tuple[int, ModelImage]:
    words = line.split(maxsplit=9)
    table = np.array(features.split()).reshape(-1, 3)
    pose = _world_from_camera(tuple(map(float, words[1:8])), words[9])
    pixels, points = table[:, :2].astype(np.float64), table[:, 2].astype(np.int64)
    return int(words[0]), ModelImage(words[9], int(words[8]), pose, pixels, points)


def _point_of_line(line: str) -> tuple[int, ModelPoint]:
    words = line.split()
    x, y, z = map(float, words[1:4])
    red, green, blue = map(int, words[4:7])
    if not 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
        raise ValueError(f"a point has the color {red} {green} {blue}, expected 0 to 255 each")
    pairs = np.array(words[8:], dtype=np.uint32).reshape(-1, 2)
    track = np.empty(len(pairs), _TRACK)
    track["image"], track["feature"] = pairs.T
    return int(words[0]), ModelPoint((x, y, z), (red, green, blue), float(words[7]), track)


def _world_from_camera(values: Sequence[float], name: str) -> FloatArray:
    quat, t = np.array(values[:4]), np.array(values[4:])
    is_usable = np.abs(values).max() < FARTHEST  # False for NaN, too
    norm = float(np.linalg.norm(quat)) if is_usable else 0.0
    if not 0.5 < norm < 2:
        raise ValueError(f"{name} has no usable pose")
    R = matrix_from_quat(torch.from_numpy(quat / norm)).numpy()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = R.T, -R.T @ t
    return pose


def model_of(
    names: Sequence[str],
    lenses: Sequence[Lens],
    poses: Sequence[FloatArray],
    points: SparsePoints | None,
) -> Model:
    """Make a model of views; equal lenses share a camera, ids start at 1."""
    distinct = list(dict.fromkeys(lenses))
    images = {}
    tracks = [] if points is None else _tracks(points)
    for view, (name, lens, pose) in enumerate(zip(names, lenses, poses, strict=True)):
        seen = np.zeros(0, np.int64) if points is None else np.flatnonzero(points.views == view)
        pixels = np.zeros((0, 2)) if points is None else points.pixels[seen].astype(np.float64)
        ids = np.zeros(0, np.int64) if points is None else _point_of_row(points)[seen] + 1
        images[view + 1] = ModelImage(name, distinct.index(lens) + 1, pose, pixels, ids)
    return Model(
        {number: lens for number, lens in enumerate(distinct, start=1)},
        images,
        {number: point for number, point in enumerate(tracks, start=1)},
    )


def _point_of_row(points: SparsePoints) -> npt.NDArray[np.int64]:
    return np.repeat(np.arange(len(points)), np.diff(points.offsets))


def _tracks(points: SparsePoints) -> list[ModelPoint]:
    """The points with their tracks; the features of an image are its observations in order."""
    feature = np.zeros(len(points.views), np.uint32)
    for view in np.unique(points.views):
        rows = np.flatnonzero(points.views == view)
        feature[rows] = np.arange(len(rows))
    colors = np.rint(points.colors * 255).astype(int).clip(0, 255)
    made = []
    for number, (start, end) in enumerate(zip(points.offsets, points.offsets[1:], strict=False)):
        track = np.empty(end - start, _TRACK)
        track["image"], track["feature"] = points.views[start:end] + 1, feature[start:end]
        x, y, z = map(float, points.positions[number])
        red, green, blue = map(int, colors[number])
        error = float(points.errors[number])
        made.append(ModelPoint((x, y, z), (red, green, blue), error, track))
    return made


def write_model(folder: Path, model: Model, *, as_text: bool = False) -> None:
    """Write the three files of a model.

    Args:
        folder: to write to; it is created.
        model: the model to write.
        as_text: write `.txt` instead of `.bin`.
    """
    writers = zip(PARTS, _TEXT_WRITERS if as_text else _BINARY_WRITERS, strict=True)
    for part, pieces in writers:
        suffix = "txt" if as_text else "bin"
        write_atomically(folder / f"{part}.{suffix}", _joined(pieces(model)))


def _joined(pieces: Iterator[bytes]) -> Callable[[BinaryIO], None]:
    return lambda file: file.writelines(pieces)


def _quat_and_center(pose: FloatArray) -> list[float]:
    R = pose[:3, :3].T
    quat = quat_from_matrix(torch.from_numpy(np.ascontiguousarray(R))).tolist()
    return [*quat, *(-R @ pose[:3, 3]).tolist()]


def _camera_bytes(model: Model) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.cameras))
    for number, lens in model.cameras.items():
        yield struct.pack("<IiQQ", number, _MODELS[lens.model][0], lens.width, lens.height)
        yield struct.pack(f"<{len(lens.params)}d", *lens.params)


def _image_bytes(model: Model) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.images))
    for number, image in model.images.items():
        pose = _quat_and_center(image.world_from_camera)
        yield struct.pack("<I7dI", number, *pose, image.camera) + image.name.encode() + b"\0"
        table = np.empty(len(image.pixels), _POINT_2D)
        table["pixel"], table["point"] = image.pixels, image.point_ids
        yield struct.pack("<Q", len(table)) + table.tobytes()


def _point_bytes(model: Model) -> Iterator[bytes]:
    yield struct.pack("<Q", len(model.points))
    for number, point in model.points.items():
        yield struct.pack("<Q3d3Bd", number, *point.position, *point.color, point.error)
        yield struct.pack("<Q", len(point.track)) + point.track.tobytes()


def _camera_text(model: Model) -> Iterator[bytes]:
    yield b"# CAMERA_ID, MODEL, WIDTH, HEIGHT, PARAMS[]\n"
    for number, lens in model.cameras.items():
        yield f"{number} {lens.model} {lens.width} {lens.height} {_words(lens.params)}\n".encode()


def _image_text(model: Model) -> Iterator[bytes]:
    yield b"# IMAGE_ID, QW, QX, QY, QZ, TX, TY, TZ, CAMERA_ID, NAME\n# POINTS2D[] as (X, Y, ID)\n"
    for number, image in model.images.items():
        pose = _words(_quat_and_center(image.world_from_camera))
        rows = zip(image.pixels.tolist(), image.point_ids.tolist(), strict=True)
        features = " ".join(f"{x!r} {y!r} {point}" for (x, y), point in rows)
        yield f"{number} {pose} {image.camera} {image.name}\n{features}\n".encode()


def _point_text(model: Model) -> Iterator[bytes]:
    yield b"# POINT3D_ID, X, Y, Z, R, G, B, ERROR, TRACK[] as (IMAGE_ID, POINT2D_IDX)\n"
    for number, point in model.points.items():
        values = f"{_words(point.position)} {_words(point.color)} {point.error!r}"
        track = " ".join(f"{image} {feature}" for image, feature in point.track.tolist())
        yield f"{number} {values} {track}\n".encode()


def _words(values: Sequence[float]) -> str:
    return " ".join(map(repr, values))


_BINARY_WRITERS = (_camera_bytes, _image_bytes, _point_bytes)
_TEXT_WRITERS = (_camera_text, _image_text, _point_text)
