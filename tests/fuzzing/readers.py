"""All readers of untrusted files: seed files to damage, and how to read the result."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save

from splatfactory import config
from splatfactory.datasets import offsets
from splatfactory.datasets.frames import FrameError
from splatfactory.datasets.store import SceneError, ShardStore
from tests.zipsplat.tiny_network import TINY, tiny_network
from zipsplat import weights
from zipsplat.camera_estimation import colmap_model, nerfstudio
from zipsplat.camera_estimation.capture import Lens
from zipsplat.camera_estimation.load import list_cameras
from zipsplat.file_records import Record
from zipsplat.inputs import load_views
from zipsplat.model.checkpoint_layout import network_from_tensors
from zipsplat.scene_files import read_scene
from zipsplat.trajectories import load_camera_path
from zipsplat.viewer.uploads import Upload, load_upload

TESTS = Path(__file__).parents[1]
PEOPLE, GOLDEN = TESTS / "files_of_people", TESTS / "golden"
SMALLEST = replace(
    TINY,
    backbone=replace(
        TINY.backbone, dim=16, depth=3, out_layers=(1, 2), alt_start=1, qknorm_start=1, rope_start=1
    ),
)  # less weight to read and build for each of thousands of files
ROOMY = 30  # maximum size of a seed file in kB: damage to small files is more likely to matter


@dataclass(frozen=True)
class Reader:
    """One kind of file.

    Args:
        seeds: good files by name; the suffix of a name is that of the damaged file.
        read: reads the file at a path; expected errors are not faults.
    """

    seeds: Callable[[], dict[str, bytes]]
    read: Callable[[Path], object]
    allowed: tuple[type[Exception], ...] = (ValueError, OSError)


def _files(*paths: Path) -> dict[str, bytes]:
    found = {path.name: path.read_bytes() for path in paths}
    return {name: data for name, data in found.items() if 0 < len(data) < ROOMY * 1000}


def _scenes() -> dict[str, bytes]:
    patterns = ("*.ply", "*.spz", "*.sog", "*.splat", "*.glb")
    folders = (PEOPLE, GOLDEN / "formats")
    return _files(*(file for folder in folders for p in patterns for file in folder.glob(p)))


def _checkpoints() -> dict[str, bytes]:
    return _stored(dict(tiny_network(config=SMALLEST).state_dict()))


def _few_tensors() -> dict[str, bytes]:
    """Checkpoints of 3 kB, where most damage affects structure, not weights."""
    return _stored({"a": torch.ones(2), "b": torch.ones(2, 3, dtype=torch.float16).T})


def _stored(state: dict[str, torch.Tensor]) -> dict[str, bytes]:
    """Tensors in the three formats of checkpoints."""
    content = {"model": state, "conf": SMALLEST.to_conf(), "epoch": 3}
    whole = {name: value.contiguous() for name, value in state.items()}
    seeds = {"x.safetensors": save(whole, {"conf": json.dumps(SMALLEST.to_conf())})}
    for name, is_zip in (("x.pt", True), ("old.pt", False)):
        buffer = io.BytesIO()
        torch.save(content, buffer, _use_new_zipfile_serialization=is_zip)
        seeds[name] = buffer.getvalue()
    return seeds


def _read_checkpoint(path: Path) -> object:
    checkpoint = weights.read(path)
    return network_from_tensors(checkpoint.tensors, checkpoint.conf)


def _images() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 256, (20, 24, 4), dtype=np.uint8)
    image, seeds = Image.fromarray(pixels), {}
    exif = Image.Exif()
    exif[0x0112] = 6
    for suffix, mode, options in (
        ("jpg", "RGB", {"exif": exif}), ("jpeg", "RGB", {"progressive": True}),
        ("png", "RGBA", {"exif": exif}), ("png", "P", {}), ("webp", "RGBA", {}),
        ("webp", "RGB", {"lossless": True}), ("tif", "RGB", {"compression": "tiff_lzw"}),
        ("tif", "I;16", {}), ("bmp", "RGB", {}), ("gif", "P", {}), ("tga", "RGB", {}),
        ("ppm", "RGB", {}), ("jp2", "RGB", {}), ("avif", "RGB", {}),
        ("gif", "P", {"save_all": True, "append_images": [image.convert("P")]}),
    ):  # fmt: skip
        buffer = io.BytesIO()
        converted = image.convert("L").convert(mode) if mode == "I;16" else image.convert(mode)
        kind = {"jpg": "jpeg", "tif": "tiff", "jp2": "jpeg2000"}.get(suffix, suffix)
        converted.save(buffer, kind, **options)  # type: ignore[arg-type]
        seeds[f"{len(seeds)}.{suffix}"] = buffer.getvalue()
    return seeds


def _uploads() -> dict[str, bytes]:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in _images().items():
            archive.writestr(name, data)
    return {"x.zip": buffer.getvalue()}


def _shards() -> dict[str, bytes]:
    return {
        "x.tar": (GOLDEN / "data/shards/synth/90x160/test-scenes/shard-000001.tar").read_bytes()
    }


def _read_shard(path: Path) -> None:
    folder = path.parent / "shards"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    shutil.copy(path, folder / "shard-000000.tar")
    _read_store(folder)


def _read_store(folder: Path) -> None:
    store = ShardStore(folder)
    for scene, info in enumerate(store.scenes):
        try:
            store.read(scene)
            for frame in store.frames(scene, range(min(2, info.num_views))):
                height, width = frame.size
                frame.sample_depth(np.arange(height), np.arange(width))
        except (SceneError, FrameError):
            continue


def _sidecars() -> dict[str, bytes]:
    index = offsets.scan(GOLDEN / "data/shards/synth/90x160/test-scenes/shard-000001.tar")
    buffer = io.BytesIO()
    arrays = {name: getattr(index, name) for name in ("num_views", "has_depth", "first", "spans")}
    text = json.dumps({"keys": index.keys, "broken": {}, "damage": "", "stamp": {}}).encode()
    np.savez(buffer, text=np.frombuffer(text, np.uint8), **arrays)
    return {"x.npz": buffer.getvalue()}


def _read_sidecar(path: Path) -> None:
    """Read a sidecar with a valid stamp; damage is detected, and the shard read instead."""
    shard = path.parent / "shard-000000.tar"
    if not shard.exists():
        shutil.copy(GOLDEN / "data/shards/synth/90x160/test-scenes/shard-000001.tar", shard)
    stamp, offsets._stamp = offsets._stamp, lambda _shard: {}
    try:
        index = offsets._read(path, shard)
    finally:
        offsets._stamp = stamp
    if index is not None:
        for scene in range(len(index.keys)):
            index.poses(scene)


def _transforms() -> dict[str, bytes]:
    frame = {"file_path": "a.png", "transform_matrix": np.eye(4).tolist()}
    content = {
        "w": 24, "h": 20, "fl_x": 20.0, "cx": 12, "cy": 10, "k1": 0.01, "camera_model": "OPENCV",
        "applied_scale": 2.0, "applied_transform": np.eye(4)[:3].tolist(), "frames": [frame, frame],
    }  # fmt: skip
    return {"transforms.json": json.dumps(content).encode()}


def _read_transforms(path: Path) -> None:
    (path.parent / "a.png").write_bytes(_images()["2.png"])
    for read in (list_cameras, nerfstudio.read):
        try:
            read(path)
        except ValueError:
            continue


def _camera_lists() -> dict[str, bytes]:
    entry = {
        "id": 0, "img_name": "a.png", "width": 24, "height": 20, "position": [0, 0, 1],
        "rotation": np.eye(3).tolist(), "fx": 20.0, "fy": 20.0,
    }  # fmt: skip
    path = {"world_from_camera": [np.eye(4).tolist()] * 3, "fov_deg": 60}
    return {
        "cameras.json": json.dumps([entry] * 2).encode(),
        "path.json": json.dumps(path).encode(),
    }


def _read_camera_list(path: Path) -> None:
    for read in (list_cameras, load_camera_path):
        try:
            read(path)
        except ValueError:
            continue


@cache
def _colmap() -> dict[str, bytes]:
    """The three files of a small model, as binary and text."""
    track = np.array([(1, 0), (2, 1)], colmap_model._TRACK)
    pixels, ids = np.array([[3.0, 4.0], [5.0, 6.0]]), np.array([1, -1])
    images = {
        number: colmap_model.ModelImage(f"{number}.png", 1, np.eye(4), pixels, ids)
        for number in (1, 2)
    }
    point = colmap_model.ModelPoint((0.0, 0.0, 1.0), (1, 2, 3), 0.5, track)
    lens = Lens("SIMPLE_RADIAL", 24, 20, (20.0, 12.0, 10.0, 0.01))
    model = colmap_model.Model({1: lens}, images, {1: point, 2: point})
    with TemporaryDirectory() as folder:
        for as_text in (False, True):
            colmap_model.write_model(Path(folder), model, as_text=as_text)
        return _files(*Path(folder).iterdir())


def _read_colmap(path: Path) -> None:
    """Read a model with one damaged file, given by name."""
    folder = path.parent / "model"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, data in _colmap().items():
        if name.endswith(path.suffix):
            (folder / name).write_bytes(data)
    shutil.copy(path, folder / path.name)
    colmap_model.read(folder, Path)


def _yaml() -> dict[str, bytes]:
    text = (
        "model:\n  name: networks.zipsplat\n  weights: null\ndata: &d\n  seed: 3\n  batch_size: 2\n"
        "train:\n  num_steps: 10\n  lr: 1.0e-4\neval:\n  num_views: ${data.batch_size}\n"
    )
    return {"x.yaml": text.encode(), **_files(*(config.CONFIG_DIR.glob("*.yaml")))}


def _read_yaml(path: Path) -> None:
    try:
        config.merge([config.read_yaml(path)], [])
    except config.ConfigError:
        config.load(config.Request(str(path), ()))


def _records() -> dict[str, bytes]:
    record = {"url": "https://x.org/y", "size": 3, "sha256": "ab", "verified_mtime_ns": 1}
    return {"file.bin.json": json.dumps(record).encode()}


READERS: dict[str, Reader] = {
    "scenes": Reader(_scenes, read_scene),
    "checkpoints": Reader(_checkpoints, _read_checkpoint),
    "tensors": Reader(_few_tensors, weights.read),
    "images": Reader(_images, lambda path: load_views(path, max_side=64)),
    "uploads": Reader(
        _uploads, lambda path: load_upload(Upload(path.name, path.read_bytes()), 2, 64, 10**8)
    ),
    "shards": Reader(_shards, _read_shard),
    "sidecars": Reader(_sidecars, _read_sidecar),
    "transforms": Reader(_transforms, _read_transforms),
    "cameras": Reader(_camera_lists, _read_camera_list),
    "colmap": Reader(_colmap, _read_colmap),
    "yaml": Reader(_yaml, _read_yaml),
    "records": Reader(_records, lambda path: Record.read(path.with_suffix(""))),
}
