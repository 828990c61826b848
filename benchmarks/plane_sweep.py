"""Plane-sweep depth on generated scenes against true depth: errors and CPU time.

    python benchmarks/plane_sweep.py                  # 4 photos of three scenes
    python benchmarks/plane_sweep.py --views 6 --scenes 0 1
    python benchmarks/plane_sweep.py --save out.png   # photo, depth, consistent depth, true depth

Photos are 504 × 378 with true cameras and poses. The depth range comes from 500 points per view,
sampled from the true surfaces at random. Times are CPU time of one thread, excluding compilation.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from records import Record, Row
from torch import Tensor
from torch.nn import functional

from splatscenes.scene import generate_scene
from zipsplat.camera import Camera
from zipsplat.pose import Pose
from zipsplat.posed_images import PosedImages, SparsePoints
from zipsplat.refinement.plane_sweep import DepthMap, estimate_depth
from zipsplat.render.cpu import set_num_threads

SIZE = (378, 504)
POINTS_PER_VIEW = 500
QUANTILES = (0.5, 0.9)


@dataclass(frozen=True)
class Truth:
    """Photos with their true cameras, and z depth (V, H, W), ≤ 0 in the sky."""

    photos: PosedImages
    depth: Tensor


def render_scene(index: int, num_views: int) -> Truth:
    """Generated scene `index` of the test split."""
    scene = generate_scene("test", 0, index, num_views, SIZE)
    views = [scene.render(view) for view in range(num_views)]
    images = tuple(torch.from_numpy(color).permute(2, 0, 1).float() / 255 for color, _ in views)
    depth = torch.from_numpy(np.stack([z for _, z in views]))
    K = torch.as_tensor(np.asarray(scene.shot.K), dtype=torch.float32)
    cameras = Camera.from_K(K.expand(num_views, 3, 3), w=SIZE[1], h=SIZE[0])
    poses = Pose.from_4x4mat(torch.as_tensor(np.asarray(scene.shot.world_from_camera)).float())
    names = tuple(f"{view:02}" for view in range(num_views))
    points = surface_points(depth, cameras, poses)
    return Truth(PosedImages(images, cameras, poses, names, points), depth)


def surface_points(depth: Tensor, cameras: Camera, poses: Pose) -> SparsePoints:
    """Points on the true surfaces, each observed by one view."""
    generator = torch.Generator().manual_seed(0)
    H, W = SIZE
    positions, pixels = [], []
    for view in range(len(depth)):
        where = torch.rand(POINTS_PER_VIEW, 2, generator=generator) * torch.tensor([W, H])
        column, row = where.long().unbind(-1)
        z = depth[view, row, column]
        where, z = where[z > 0], z[z > 0]
        positions.append(poses[view].transform(cameras[view].unproject(where, z)))
        pixels.append(where)
    num = sum(map(len, pixels))
    views = torch.arange(len(depth)).repeat_interleave(torch.tensor([len(p) for p in pixels]))
    return SparsePoints(
        torch.cat(positions).numpy(),
        np.zeros((num, 3), np.float32),
        np.zeros(num, np.float32),
        np.arange(num + 1),
        views.numpy(),
        torch.cat(pixels).numpy(),
    )


def true_at(truth: Truth, view: int, found: DepthMap) -> Tensor:
    """True depth at the pixels of a map."""
    size = found.depth.shape
    return functional.interpolate(truth.depth[None, view : view + 1], size, mode="nearest-exact")[
        0, 0
    ]


def report(
    name: str, truth: Truth, maps: tuple[DepthMap, ...], seconds: float
) -> tuple[float, float, float, float, float]:
    """Share of consistent pixels, depth errors there, and CPU seconds a view; prints them, too."""
    shares, errors = [], []
    for view, found in enumerate(maps):
        true = true_at(truth, view, found)
        is_surface = true > 0
        shares.append(float(found.is_consistent[is_surface].float().mean()))
        errors.append((found.depth / true - 1).abs()[found.is_consistent & is_surface])
    error = torch.cat(errors)
    median, high = (float(error.quantile(q)) for q in QUANTILES)
    wrong = float((error > 0.05).float().mean())
    print(
        f"{name:12} {np.mean(shares):10.1%} {median:7.2%} {high:7.2%} {wrong:7.1%} {seconds:8.2f}",
        flush=True,
    )
    return float(np.mean(shares)), median, high, wrong, seconds


def add(record: Record, what: str, found: list[tuple[float, float, float, float, float]]) -> None:
    """Rows of means over scenes."""
    consistent, median, high, wrong, seconds = (float(v) for v in np.mean(found, axis=0))
    record.add(Row(f"{what}: pixels whose depth several views agree on", 100 * consistent, "%"))
    record.add(Row(f"{what}: median error of their depth", 100 * median, "%"))
    record.add(Row(f"{what}: 90 % quantile of the error", 100 * high, "%"))
    record.add(Row(f"{what}: pixels more than 5 % off", 100 * wrong, "%"))
    record.add(Row(f"{what}: CPU time per view", seconds, "s"))


def colored(inverse: Tensor, low: float, high: float) -> Tensor:
    """Colour map (3, H, W): red is near, blue is far."""
    place = ((inverse - low) / max(high - low, 1e-9)).clamp(0, 1)
    return torch.stack([(1.5 - (4 * place - center).abs()).clamp(0, 1) for center in (3, 2, 1)])


def save_image(path: Path, truth: Truth, maps: tuple[DepthMap, ...]) -> None:
    """A row per view: photo, depth, consistent depth, true depth."""
    rows = []
    for view, found in enumerate(maps[:4]):
        true = true_at(truth, view, found).clamp_min(1e-3)
        low, high = (float((1 / true).quantile(q)) for q in (0.02, 0.98))
        found_color, expected = (colored(1 / depth, low, high) for depth in (found.depth, true))
        photo = truth.photos.images[view][None]
        small = functional.interpolate(photo, found.depth.shape, mode="area")[0]
        rows.append(
            torch.cat((small, found_color, found_color * found.is_consistent, expected), dim=2)
        )
    levels = (torch.cat(rows, dim=1) * 255).byte().permute(1, 2, 0).contiguous()
    Image.fromarray(levels.numpy()).save(path)


def main() -> None:
    """Measure and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenes", type=int, nargs="+", default=[0, 1, 7])
    parser.add_argument("--views", type=int, nargs="+", default=[4])
    parser.add_argument("--rounds", type=int, default=1, help="how often each is timed")
    parser.add_argument("--save", type=Path, help="write an image of the last scene here")
    arguments = parser.parse_args()
    set_num_threads(1)
    torch.set_num_threads(1)
    record = Record("plane_sweep", "Stereo depth of photos of 504 × 378, beside the true depth")
    print("photos       consistent  median    90 %   > 5 %  s/view")
    for num_views in arguments.views:
        found = []
        for index in arguments.scenes:
            truth = render_scene(index, num_views)
            estimate_depth(truth.photos.select([0, 1]), max_side=32)  # compiles
            spent = []
            for _ in range(arguments.rounds):
                begin = time.process_time()
                maps = estimate_depth(truth.photos)
                spent.append((time.process_time() - begin) / num_views)
            found.append(report(f"{num_views} of gen{index}", truth, maps, min(spent)))
        add(record, f"{num_views} photos, {len(found)} scenes", found)
    record.save()
    if arguments.save:
        save_image(arguments.save, truth, maps)


if __name__ == "__main__":
    main()
