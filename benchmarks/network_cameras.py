"""Cameras recovered from a reconstruction's geometry: errors, and which ones the checks accept.

    python benchmarks/network_cameras.py [--first 40] [--scenes 40] [--weights zipsplat-tiny]

Generated test scenes of four views with known cameras. The thresholds of
`zipsplat.camera_estimation.from_network` were tuned on scenes 0 to 39. Times are CPU seconds of
this process.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from splatscenes.scene import generate_scene
from zipsplat import Pose, ZipSplat
from zipsplat.camera_estimation.from_network import NetworkCameras, fit_cameras, refined

SIZE = (126, 168)
FAR_OFF = 5.0  # degrees


@dataclass(frozen=True)
class Errors:
    """Worst view's rotation (degrees) and position (share of the extent), and focal error."""

    rotation: float
    position: float
    focal: float


def photos_of(index: int) -> tuple[list[Tensor], Pose, float]:
    """Photos, true poses relative to the first, and focal length in units of the longer side."""
    scene = generate_scene("test", 0, index, 4, SIZE)
    photos = [torch.from_numpy(scene.render(view)[0]).permute(2, 0, 1) / 255 for view in range(4)]
    matrices = torch.from_numpy(scene.shot.world_from_camera)
    poses = Pose(matrices[:, :3, :3], matrices[:, :3, 3])
    return photos, poses[:1].inv().compose(poses), float(scene.shot.K[0, 0]) / max(SIZE)


def errors_of(found: NetworkCameras, true: Pose, focal: float) -> Errors:
    """Compare with ground truth; positions after the best scaling."""
    poses = found.images.poses.to(torch.float64)
    scale = (poses.t * true.t).sum() / poses.t.square().sum()
    offsets = (scale * poses.t - true.t).norm(dim=-1).max() / true.t.norm(dim=-1).max()
    f = float(found.images.cameras.f[0, 0]) / max(SIZE)
    return Errors(_angle(poses.R, true.R), float(offsets), f / focal - 1)


def _angle(R: Tensor, true: Tensor) -> float:
    cosines = ((R.mT @ true).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return float(cosines.clamp(-1, 1).acos().rad2deg().max())


def _median(values: list[float]) -> float:
    return float(torch.tensor(values).median()) if values else float("nan")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--first", type=int, default=40)
    parser.add_argument("--scenes", type=int, default=40)
    parser.add_argument("--weights", default="zipsplat-tiny")
    options = parser.parse_args()
    model = ZipSplat(options.weights, device="cpu")
    everything: list[Errors] = []
    accepted: list[tuple[Errors, Errors]] = []
    times: list[float] = []
    turns: list[float] = []
    for index in range(options.first, options.first + options.scenes):
        photos, true, focal = photos_of(index)
        start = time.process_time()
        found = fit_cameras(model, photos)
        times.append(time.process_time() - start)
        everything.append(errors_of(found, true, focal))
        if found.rejection is None:
            after = errors_of(refined(model, found), true, focal)
            accepted.append((everything[-1], after))
            turns.append(_angle(torch.eye(3, dtype=torch.float64).expand_as(true.R), true.R))
        print(f"{index}: {everything[-1]} {found.rejection or 'accepted'}", flush=True)
    far_off = sum(errors.rotation > FAR_OFF for errors in everything)
    wrong = sum(errors.rotation > FAR_OFF for errors, _ in accepted)
    print(
        f"{options.scenes} scenes, {options.weights}, {torch.get_num_threads()} threads\n"
        f"  rotation above {FAR_OFF:g}°: {far_off} of all, {wrong} of {len(accepted)} accepted\n"
        f"  CPU seconds a scene, median: {_median(times):.2f}"
    )
    rows = {
        "all": everything,
        "accepted": [before for before, _ in accepted],
        "accepted, refined": [after for _, after in accepted],
    }
    for name, errors in rows.items():
        print(
            f"  {name}, medians: rotation {_median([e.rotation for e in errors]):.1f}°,"
            f" position {_median([e.position for e in errors]):.2f} of the extent,"
            f" focal {_median([abs(e.focal) for e in errors]):.2f};"
            f" largest rotation {max((e.rotation for e in errors), default=0):.1f}°"
        )
    print(f"  true rotation of the accepted, median: {_median(turns):.1f}°")


if __name__ == "__main__":
    main()
