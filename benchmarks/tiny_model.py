"""Scores of `zipsplat-tiny` on held-out generated scenes, beside baselines, in one command.

    python benchmarks/tiny_model.py [--weights FILE] [--pixel-aligned FILE] [--plot FILE]

Generates the test scenes and makes the indices (farthest-point contexts among all 16 views, four
targets spread over the rest, none of them a context; seed 42), then runs `splatfactory.eval.run`
for 2, 4 and 8 views and for compressions 1, 0.5, 0.25 and 0.1. Poses are aligned for 4 views at
compression 1 on all scenes, for the rest on the first `--aligned`; unaligned scores are always of
all. Baselines: the nearest input view, an untrained network, a pixel-aligned one, true depth
and poses without learning, the model given its cameras, and the model in bfloat16. Prints
tables in Markdown. A stopped run resumes where it was.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from splatfactory import paths
from splatfactory.config import Request, load, to_dict
from splatfactory.datasets.from_config import evaluation_dataset
from splatfactory.datasets.samples import Views
from splatfactory.datasets.scripts.synthetic import generate
from splatfactory.datasets.store import ShardStore
from splatfactory.eval import indices, run
from splatfactory.metrics import psnr, ssim
from splatfactory.models import build_model
from splatfactory.runtime.checkpoints import export
from splatfactory.tiny.patch_points import surface_of_tokens
from splatfactory.training.rendering import render_views
from zipsplat import ZipSplat
from zipsplat.gaussians import Gaussians
from zipsplat.harmonics import dc_from_rgb
from zipsplat.model.tiny.relief import grid_of_cells
from zipsplat.render import choose
from zipsplat.weights import locate

SIZE, NUM_VIEWS, NUM_SCENES, NUM_TARGETS = 126, 16, 120, 4
PATCH = 14
SKY = 100.0  # distance given to sky pixels, in median scene distances
VIEWS = (2, 4, 8)
COMPRESSIONS = (1.0, 0.5, 0.25, 0.1)
DATA = Path("data") / "synthetic" / f"{SIZE}x{SIZE}"
WORK = Path("outputs") / "tiny_model"


def make_data(num_scenes: int) -> None:
    """Make the test scenes and indices that do not exist yet."""
    size = ["--size", str(SIZE), "--num-views", str(NUM_VIEWS), "--num-workers", "2"]
    _expect(generate.main([*size, "--split", "test", "--num-test-scenes", str(num_scenes)]))
    shards = str(paths.resolve(DATA) / "test-scenes")
    for views in VIEWS:
        given = ["--num-context", str(views), "--num-target", str(NUM_TARGETS)]
        _expect(indices.main(["make", shards, "--output", str(_index(views)), *given]))


def evaluate(
    checkpoint: Path,
    tag: str,
    views: int,
    compression: float,
    num_scenes: int,
    is_aligned: bool,
    has_priors: bool = False,
) -> dict[str, Any]:
    """Run one evaluation with the public command; returns its summary.

    Args:
        checkpoint: weights file.
        tag: prefix of the results folder's name.
        views: context views.
        compression: fraction of tokens kept.
        num_scenes: how many scenes.
        is_aligned: whether the poses of targets are aligned.
        has_priors: whether the network is given cameras and poses of the context views.
    """
    name = f"{tag}-{compression:g}-{'aligned' if is_aligned else 'given'}"
    overrides = [
        f"data.dataset_dir={DATA}", f"data.preprocessing.resize={SIZE}",
        f"eval.index={_index(views)}", f"eval.compression={compression}", "eval.lpips=none",
        f"eval.align_poses={str(is_aligned).lower()}", "eval.save_images=false",
        f"max_samples={num_scenes}", "data.num_workers=0",
        f"model.eval_use_priors={str(has_priors).lower()}",
    ]  # fmt: skip
    arguments = ["custom_benchmark", "--checkpoint", str(checkpoint), "--tag", name]
    _expect(run.main([*arguments, *overrides]))
    folder = paths.outputs_root() / "results" / "custom_benchmark" / name
    folder /= _index(views).stem + ("_priors" if has_priors else "")
    summary: dict[str, Any] = json.loads((folder / "results.json").read_text())
    return summary


def nearest_view(views: int, num_scenes: int) -> list[float]:
    """PSNR and SSIM of using the context view nearest along the path for each target."""
    store = ShardStore(paths.resolve(DATA) / "test-scenes")
    numbers = {info.key: number for number, info in enumerate(store.scenes)}
    scores = []
    index = json.loads(_index(views).read_text())
    for key in sorted(index)[:num_scenes]:
        context, target = np.sort(index[key]["context"]), np.array(index[key]["target"])
        nearest = context[np.abs(context - target[:, None]).argmin(axis=1)]
        true, shown = (_images(store, numbers[key], frames) for frames in (target, nearest))
        scores.append([float(psnr(true, shown).mean()), float(ssim(true, shown).mean())])
    means: list[float] = np.mean(scores, axis=0).tolist()
    return means


def true_surfaces(views: int, num_scenes: int) -> list[float]:
    """Gaussians, PSNR and SSIM of one Gaussian per patch cell, at true depth, in its mean colour.

    As many Gaussians as the model, but with true depth and poses: what geometry alone achieves.
    """
    group = load(Request("zipsplat-tiny", ())).model.gaussians_per_prototype
    found: list[float] = score(views, num_scenes, partial(_cells, group=group)).mean(0).tolist()
    return found


def precisions(weights: Path, num_scenes: int) -> dict[str, np.ndarray]:
    """PSNR of each scene (scenes,) from four views, by the precision of the network."""

    def psnrs(dtype: str) -> np.ndarray:
        model = ZipSplat(weights, device="cpu", dtype=dtype)
        return score(4, num_scenes, lambda context: model(context.rgb))[:, 1]

    return {dtype: psnrs(dtype) for dtype in ("float32", "bfloat16")}


def score(views: int, num_scenes: int, predict: Callable[[Views], Gaussians]) -> np.ndarray:
    """Gaussians, PSNR and SSIM at the given poses, (scenes, 3).

    Args:
        views: context views.
        num_scenes: how many scenes, in the order of their keys.
        predict: makes scenes (1, N) of context views (1, V).
    """
    config = load(Request("zipsplat-tiny", (f"data.dataset_dir={DATA}",)))
    sampler = {"name": "eval_sampler", "indices_file": str(_index(views))}
    dataset, scores = evaluation_dataset(config.data, sampler), []
    renderer = choose("auto", torch.device("cpu"))
    for number in sorted(range(len(dataset)), key=dataset.key)[:num_scenes]:
        scene = dataset.load(number, 1, 1.0, 0)
        gaussians = predict(scene.context[None].as_float())
        targets = scene.target[None].as_float()
        shown = render_views(gaussians, targets, renderer)[0].color
        metrics = [float(metric(targets.rgb[0], shown[0]).mean()) for metric in (psnr, ssim)]
        scores.append([gaussians.num_gaussians, *metrics])
    return np.array(scores)


def _cells(context: Views, group: int) -> Gaussians:
    """One Gaussian per cell of each patch of (1, V) views, as a scene (1, N)."""
    rows, columns = grid_of_cells(group)
    sky = torch.where(context.depths > 0, context.depths, SKY)
    context = dataclasses.replace(context, depths=sky)
    num_patches = len(context[0]) * (SIZE // PATCH) ** 2
    tokens = torch.arange(num_patches)[None]
    means = surface_of_tokens(context, tokens, group, PATCH)
    grid = (SIZE // PATCH * rows, SIZE // PATCH * columns)
    images = functional.interpolate(context.rgb.flatten(0, 1), grid, mode="area")
    cells = images.unflatten(2, (-1, rows)).unflatten(4, (-1, columns))
    colors = cells.permute(0, 2, 4, 3, 5, 1).reshape(1, -1, 3)
    centres = context.poses.t.repeat_interleave(num_patches * group // context.shape[1], dim=1)
    focal = context.cameras.f.mean()
    extent = 0.5 * PATCH / math.sqrt(group) * (means - centres).norm(dim=-1) / focal
    return Gaussians(
        means=means,
        scales=extent[..., None].expand_as(means),
        quats=torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(*extent.shape, 4),
        opacities=torch.full_like(extent, 0.95),
        sh_coeffs=dc_from_rgb(colors)[..., None, :],
    )


def untrained(path: Path) -> Path:
    """Save the network that training starts from."""
    config = load(Request("zipsplat-tiny", ()))
    torch.manual_seed(config.train.seed or 0)
    network = build_model(config.model, with_initial_weights=True).network
    export(network.state_dict(), to_dict(config), path)
    return path


def table(rows: Mapping[tuple[int, float], Mapping[str, Any]], aligned: Mapping[Any, Any]) -> str:
    """All scores of the model in Markdown."""
    lines = [
        "| views | compression | Gaussians | PSNR / SSIM at given poses | aligned (scenes) |",
        "|---|---|---|---|---|",
    ]
    for (views, compression), summary in rows.items():
        cells = [str(views), f"{compression:g}", f"{summary['total_gaussians']:.0f}"]
        cells.append(f"{summary['target_psnr']:.2f} / {summary['target_ssim']:.3f}")
        after = aligned.get((views, compression))
        cells.append(
            f"{after['target_psnr']:.2f} / {after['target_ssim']:.3f} ({after['scenes']})"
            if after
            else "–"
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def plot(rows: Mapping[tuple[int, float], Mapping[str, Any]], path: Path) -> None:
    """PSNR against the number of Gaussians, a line per number of views."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5, 3.2), layout="constrained")
    for views in VIEWS:
        found = [rows[key] for key in rows if key[0] == views]
        counts = [summary["total_gaussians"] for summary in found]
        axes.plot(counts, [s["target_psnr"] for s in found], marker="o", label=f"{views} views")
    axes.set(xscale="log", xlabel="Gaussians", ylabel="PSNR at the given poses, dB")
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)


def main(argv: Sequence[str] | None = None) -> int:
    """Run everything; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="zipsplat-tiny", help="name or file")
    parser.add_argument("--pixel-aligned", type=Path, help="weights of the pixel-aligned baseline")
    parser.add_argument("--scenes", type=int, default=NUM_SCENES)
    parser.add_argument("--aligned", type=int, default=20, help="scenes for the other alignments")
    parser.add_argument(
        "--plot", type=Path, help="where to plot PSNR against the number of Gaussians"
    )
    options = parser.parse_args(argv)
    try:
        weights, count = locate(options.weights), options.scenes
    except OSError as error:
        parser.error(str(error))
    make_data(options.scenes)
    rows, aligned = {}, {}
    for views in VIEWS:
        for compression in COMPRESSIONS:
            key = views, compression
            rows[key] = evaluate(weights, "tiny", *key, count, is_aligned=False)
            number = count if key == (4, 1.0) else min(count, options.aligned)
            if number:
                aligned[key] = evaluate(weights, "tiny", *key, number, is_aligned=True)
    print(table(rows, aligned))
    print("\n| baseline | views | Gaussians | PSNR / SSIM |\n|---|---|---|---|")
    for views in VIEWS:
        shown = nearest_view(views, count)
        print(f"| nearest input view | {views} | – | {shown[0]:.2f} / {shown[1]:.3f} |")
        number, *truth = true_surfaces(views, count)
        print(
            f"| true depth and poses, no learning | {views} | {number:.0f} "
            f"| {truth[0]:.2f} / {truth[1]:.3f} |"
        )
    told = evaluate(weights, "tiny-told", 4, 1.0, count, False, has_priors=True)
    print(
        f"| zipsplat-tiny, given its input cameras | 4 | {told['total_gaussians']:.0f} "
        f"| {told['target_psnr']:.2f} / {told['target_ssim']:.3f} |"
    )
    others = [("untrained", untrained(WORK / "untrained.safetensors"), False)]
    if options.pixel_aligned is not None:
        others += [("pixel-aligned", options.pixel_aligned, flag) for flag in (False, True)]
    for name, path, is_aligned in others:
        found = evaluate(path, name, 4, 1.0, count, is_aligned)
        print(
            f"| {name}, {'aligned' if is_aligned else 'given poses'} "
            f"| 4 | {found['total_gaussians']:.0f} "
            f"| {found['target_psnr']:.2f} / {found['target_ssim']:.3f} |"
        )
    exact, rounded = precisions(weights, count).values()
    print(
        f"\nPSNR in bfloat16 less that in float32, 4 views: {(rounded - exact).mean():+.3f} dB, "
        f"at most {np.abs(rounded - exact).max():.3f} dB in a scene"
    )
    if options.plot:
        plot(rows, options.plot)
    return 0


def _index(views: int) -> Path:
    return WORK / f"context-{views}.json"


def _images(store: ShardStore, scene: int, frames: np.ndarray) -> torch.Tensor:
    pixels = [frame.crop(0, 0, SIZE, SIZE) for frame in store.frames(scene, frames.tolist())]
    return torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).double() / 255


def _expect(status: int) -> None:
    if status:
        sys.exit(status)


if __name__ == "__main__":
    sys.exit(main())
