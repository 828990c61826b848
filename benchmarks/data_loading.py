"""CPU time per view of the data loader and of a plain one, on the same shards in the same run.

    python benchmarks/data_loading.py            # prints the table of data_loading.md

The plain loader follows the public description of the ZipSplat training pipeline step by step: read
the whole scene, decode, resize the full frame in floating point, crop, expand depth at full
resolution, unproject every pixel for the scale, stack float32 batches. It decodes with Pillow, ours
with OpenCV if installed; both use one thread and choose the same views. Times are CPU times of this
process. The two alternate, and the ratio is the median over rounds: other load affects both halves
of a round alike, while the smallest times of the two may come from different moments. The first
round, in which code is compiled and caches are filled, is not counted.
"""

from __future__ import annotations

import argparse
import io
import json
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from records import Record, Row
from torch import Tensor
from torch.nn import functional

from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets import depth_codec, samplers
from splatfactory.datasets.multiview import MultiviewDataset, SampleConfig
from splatfactory.datasets.samplers import Choice, Request, Rng, Split
from splatfactory.datasets.samples import Batch
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.shards import StoredScene, split_member
from splatfactory.datasets.store import ShardStore

FloatArray = npt.NDArray[np.float64]

HEIGHT, WIDTH, SIZE, TARGETS = 360, 640, 252, 4
SAMPLER = {"name": "bounded"}
CODECS = {
    "webp": {"format": "WEBP", "lossless": True, "method": 0},
    "jpeg": {"format": "JPEG", "quality": 92},
}

GOALS = {"webp": 1.8, "jpeg": 4.0}
NAMES = {"webp": "lossless WebP", "jpeg": "JPEG"}
LOADER = "opencv-python-headless"


def make_image(rng: np.random.Generator) -> Image.Image:
    """An image that compresses as video frames do: soft shapes, some texture, little noise."""
    layers = np.zeros((HEIGHT, WIDTH, 3))
    for cells, strength in ((4, 90), (12, 45), (60, 9)):
        grid = rng.normal(size=(cells * 9 // 16 + 1, cells, 3)) * 30 + 128
        small = Image.fromarray(grid.clip(0, 255).astype(np.uint8))
        layer = np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC), float)
        layers += (layer - 128) * strength / 30
    layers += rng.normal(0, 1.6, layers.shape)
    return Image.fromarray((layers + 128).clip(0, 255).astype(np.uint8))


def depth_map(rng: np.random.Generator) -> np.ndarray:
    """A room with boxes and a curved object, so that it compresses as real depth maps do."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    below = np.maximum(np.abs(y - HEIGHT / 2), 60)
    depth = np.minimum(500 / below, 6 + rng.uniform(-1, 1) * x / WIDTH)
    for _ in range(6):
        left, top = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT)
        width, height = rng.uniform(40, 200, 2)
        inside = (abs(x - left) < width / 2) & (abs(y - top) < height / 2)
        depth = np.where(inside, np.minimum(depth, rng.uniform(1.5, 5) + 0.3 * y / HEIGHT), depth)
    for _ in range(3):
        left, top, radius = rng.uniform(0, WIDTH), rng.uniform(0, HEIGHT), rng.uniform(60, 110)
        bulge = radius**2 - (x - left) ** 2 - (y - top) ** 2
        ball = 3 - np.sqrt(np.maximum(bulge, 0)) / 100
        depth = np.where(bulge > 0, np.minimum(depth, ball), depth)
    return depth


def make_shards(directory: Path, codec: str, num_scenes: int, num_views: int) -> None:
    """Scenes whose frames repeat five images, to keep set-up down to seconds."""
    rng = np.random.default_rng(0)
    images, depths = [], []
    for _ in range(5):
        buffer = io.BytesIO()
        make_image(rng).save(buffer, **CODECS[codec])
        images.append(buffer.getvalue())
        depths.append(depth_codec.encode(depth_map(rng)))
    camera = [WIDTH, HEIGHT, WIDTH * 0.8, WIDTH * 0.8, WIDTH / 2, HEIGHT / 2]
    cameras = np.tile(np.array(camera, np.float32), (num_views, 1))
    poses = np.tile(np.array([1, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0], np.float32), (num_views, 1))
    poses[:, 9] = np.arange(num_views) * 0.05
    with ShardOutput(directory, "benchmark", shard_size_mb=128) as output:
        for number in range(num_scenes):
            output.add(
                StoredScene(
                    f"scene{number:03d}",
                    cameras,
                    poses,
                    tuple(images[view % 5] for view in range(num_views)),
                    tuple(depths[view % 5] for view in range(num_views)),
                )
            )


class PlainLoader:
    """The described pipeline, step by step."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.sampler = samplers.build(SAMPLER)
        self.bytes_read = 0

    def scenes(self) -> Iterator[tuple[str, dict[tuple[str, int], bytes]]]:
        """Stream whole scenes."""
        for shard in sorted(self.directory.glob("*.tar")):
            with tarfile.open(shard, "r|") as tar:
                key, parts = "", {}
                for member in tar:
                    name, part, view = split_member(member.name)
                    if name != key and parts:
                        yield key, parts
                        parts = {}
                    key = name
                    file = tar.extractfile(member)
                    parts[part, view] = file.read() if file else b""
                    self.bytes_read += member.size
                if parts:
                    yield key, parts

    def samples(self, num_context: int) -> Iterator[dict[str, Tensor]]:
        """Yield samples one by one."""
        for number, (key, parts) in enumerate(self.scenes()):
            T = json.loads(parts["meta.json", -1])["num_views"]
            request = Request(key, T, num_context, TARGETS)
            choice = self.sampler.sample(request, Rng.seeded(number))
            yield self.sample(parts, choice)

    def sample(self, parts: dict[tuple[str, int], bytes], choice: Choice) -> dict[str, Tensor]:
        """Context and target views of one scene, stacked into one tensor per field."""
        poses = np.load(io.BytesIO(parts["poses.npy", -1]))
        cameras = np.load(io.BytesIO(parts["cameras.npy", -1]))
        ranges = json.loads(parts["depth_ranges.json", -1])
        views = choice.context + choice.target
        images, depths, Ks = [], [], []
        for view in views:
            image, transform = self.image(parts["img", view])
            images.append(image)
            depths.append(self.depth(parts["dep", view], ranges[view]))
            _, _, fx, fy, cx, cy = cameras[view]
            K = torch.tensor([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], dtype=torch.float64)
            Ks.append((transform @ K).float())
        Rt = torch.eye(4).repeat(len(views), 1, 1)
        chosen = torch.from_numpy(poses[list(views)])
        Rt[:, :3, :3], Rt[:, :3, 3] = chosen[:, :9].reshape(-1, 3, 3), chosen[:, 9:]
        Rt = torch.linalg.inv(Rt[0]) @ Rt
        depth, K = torch.stack(depths), torch.stack(Ks)
        scale = self.scale(depth, K, Rt, len(choice.context))
        Rt[:, :3, 3] /= scale
        mask = depth > 0
        depth = torch.where(mask, depth / scale, depth)
        return {"image": torch.stack(images), "depth": depth, "mask": mask, "K": K, "pose": Rt}

    def image(self, data: bytes) -> tuple[Tensor, Tensor]:
        """Resize the full frame in floating point, truncate to uint8, crop."""
        pixels = torch.from_numpy(np.array(Image.open(io.BytesIO(data)).convert("RGB")))
        image = pixels.permute(2, 0, 1).float() / 255
        height, width = SIZE, round(WIDTH * SIZE / HEIGHT / 2) * 2
        image = functional.interpolate(
            image[None], (height, width), mode="bilinear", antialias=True, align_corners=False
        )[0]
        image = (image * 255).clamp(0, 255).to(torch.uint8)
        left = (width - SIZE) // 2
        image = image[:, :, left : left + SIZE].contiguous()
        transform = torch.diag(torch.tensor([width / WIDTH, height / HEIGHT, 1.0]).double())
        transform[0, 2] = -left
        return image.float() / 255, transform

    def depth(self, data: bytes, limits: list[float]) -> Tensor:
        """Expand the codes at full resolution, pick the nearest, crop."""
        codes = np.array(Image.open(io.BytesIO(data)).convert("L"), dtype=np.float32)
        near, far = limits
        depth = np.exp(np.log(near) + (codes - 1) / 254 * np.log(far / near)).astype(np.float32)
        depth[codes == 0] = -1
        width = round(WIDTH * SIZE / HEIGHT / 2) * 2
        resized = functional.interpolate(torch.from_numpy(depth)[None, None], (SIZE, width))[0, 0]
        left = (width - SIZE) // 2
        return resized[:, left : left + SIZE].contiguous()

    def scale(self, depth: Tensor, K: Tensor, Rt: Tensor, num_context: int) -> Tensor:
        """Unproject all pixels, take the median distance."""
        v, u = torch.meshgrid(torch.arange(SIZE).float(), torch.arange(SIZE).float(), indexing="ij")
        pixels = torch.stack([u, v, torch.ones_like(u)], dim=-1).reshape(-1, 3)
        values = []
        for view in range(num_context):
            rays = pixels @ torch.linalg.inv(K[view]).T
            points = rays * depth[view].reshape(-1, 1)
            points = points @ Rt[view, :3, :3].T + Rt[view, :3, 3]
            values.append(points.norm(dim=-1)[depth[view].reshape(-1) > 0])
        return torch.cat(values).median().clamp(1e-3, 1e3)


def plain_batches(loader: PlainLoader, num_context: int) -> int:
    """Batches of about 24 context views; returns the number of views."""
    waiting: list[dict[str, Tensor]] = []
    views = 0
    for sample in loader.samples(num_context):
        waiting.append(sample)
        if len(waiting) >= max(1, 24 // num_context):
            batch = {name: torch.stack([s[name] for s in waiting]) for name in sample}
            views += batch["image"].shape[0] * batch["image"].shape[1]
            waiting = []
    return views


def our_batches(dataset: MultiviewDataset, num_context: int) -> int:
    """The same scenes and views through the library."""
    per_batch, views = max(1, 24 // num_context), 0
    for begin in range(0, len(dataset) - per_batch + 1, per_batch):
        batch = Batch.collate(
            [dataset.load(begin + i, num_context, 1.0, begin + i) for i in range(per_batch)]
        )
        views += len(batch) * (batch.context.shape[1] + batch.target.shape[1])
    return views


def open_dataset(directory: Path) -> MultiviewDataset:
    """The library's data set, with the shard index already read."""
    config = SampleConfig(num_target_views=TARGETS, preprocessing=PreprocessingConfig(SIZE, 14))
    return MultiviewDataset(
        "set", ShardStore(directory), samplers.build(SAMPLER), config, Split.TRAIN
    )


def cpu_ms_per_view(run: Callable[[int], int], num_context: int) -> float:
    """CPU milliseconds per view of one pass."""
    begin = time.process_time()
    views = run(num_context)
    return (time.process_time() - begin) * 1000 / views


def measure(directory: Path, num_context: int, rounds: int) -> FloatArray:
    """CPU times per view (rounds, 2) of the plain loader and ours, in alternation."""
    loader, dataset = PlainLoader(directory), open_dataset(directory)
    runs = (partial(plain_batches, loader), partial(our_batches, dataset))
    times = [[cpu_ms_per_view(run, num_context) for run in runs] for _ in range(rounds + 1)]
    return np.array(times[1:])


def cells(times: FloatArray) -> str:
    """Median times, median ratio, and range of the ratio."""
    plain, ours = np.median(times, axis=0)
    ratios = times[:, 0] / times[:, 1]
    spread = f"{ratios.min():.2f} to {ratios.max():.2f}"
    return f"{plain:.2f} | {ours:.2f} | {np.median(ratios):.2f} | {spread}"


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenes", type=int, default=24)
    parser.add_argument("--views", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--codecs", nargs="+", choices=tuple(CODECS), default=list(CODECS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    record = Record("data_loading", "Loading training views", packages=("pillow", LOADER))
    print("| codec | image KB | depth KB | context | plain ms | ours ms | ratio | rounds |")
    print("|---|---|---|---|---|---|---|---|")
    for codec in arguments.codecs:
        with tempfile.TemporaryDirectory() as folder:
            directory = Path(folder)
            make_shards(directory, codec, arguments.scenes, arguments.views)
            scene = ShardStore(directory).read(0)
            sizes = [
                np.mean([len(data) for data in items]) / 1000
                for items in (scene.images, [depth.data for depth in scene.depths or ()])
            ]
            for num_context in (2, 8, 24):
                times = measure(directory, num_context, arguments.rounds)
                size = f"{sizes[0]:.0f} | {sizes[1]:.1f}"
                print(f"| {codec} | {size} | {num_context} | {cells(times)} |", flush=True)
                plain, ours = np.median(times, axis=0)
                what = f"a view of 640 × 360 from {NAMES[codec]}, {num_context} context views"
                row = Row(what, ours, "ms", "plain loader", plain, wanted=GOALS[codec])
                record.add(replace(row, key=f"loading {what}" if num_context == 8 else ""))
    record.save()


if __name__ == "__main__":
    main()
