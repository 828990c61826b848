"""Refinement of generated scenes whose cameras are estimated, beside the feed-forward scene.

    python benchmarks/refinement_scenes.py many|few|office [--scenes 0 1 …] [--steps 1500]

many: 16 photos of scene `test-0-i` (504×378), every fourth held out, 480 px, 40 000 Gaussians. few:
4 of them, cameras estimated from these four alone; six more are placed by their true cameras, moved
by the similarity between estimated and true cameras of the four, and pose-refined on the fixed
scene. office: the six example photos and 18 others of the same scene, likewise.

PSNR and SSIM are means over held-out views. Seconds are CPU time of this process on one thread,
without camera estimation.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from splatfactory.datasets.generated import camera_rows
from splatfactory.datasets.scripts.synthetic.examples import office_scene
from splatscenes.scene import GeneratedScene, generate_scene
from zipsplat import Camera, Gaussians, Pose, ZipSplat, estimate_cameras
from zipsplat.alignment import FAST, refine_poses
from zipsplat.camera_estimation import CamerasNotFoundError
from zipsplat.figures import contact_sheet, to_pixels
from zipsplat.images import resize
from zipsplat.photometric import fused_ssim
from zipsplat.posed_images import PosedImages
from zipsplat.refinement import RefinementSettings, refine
from zipsplat.refinement.informed_start import informed_start
from zipsplat.render.cpu import set_num_threads

ROOT = Path(__file__).parents[1]
VIEWS, SIZE = 16, (378, 504)
STEPS = {"many": 1500, "few": 1700, "office": 1500}
SIDES = {"many": 480, "few": 378, "office": 480}
CAPS = {"many": 40_000, "few": 30_000, "office": 40_000}


@dataclass(frozen=True)
class Views:
    """Held-out views."""

    images: Tensor
    cameras: Camera
    poses: Pose


def main() -> None:
    """Run one kind of scene and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=tuple(STEPS))
    parser.add_argument("--scenes", type=int, nargs="+", default=list(range(8)))
    parser.add_argument("--steps", type=int)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sheets", type=Path, help="folder for images")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    set_num_threads(options.threads)
    steps = options.steps or STEPS[options.kind]
    settings = RefinementSettings(
        seconds=None,
        steps=steps,
        max_side=SIDES[options.kind],
        max_gaussians=CAPS[options.kind],
        hold_out=4 if options.kind == "many" else 0,
    )
    print("| scene | feed-forward | start | refined | SSIM | Gaussians | CPU s | said |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for index in options.scenes if options.kind != "office" else [0]:
        if options.kind == "office":
            scene = office_scene(num_views=24)
            photos = [round(23 * n / 5) for n in range(6)]
            others = [view for view in range(24) if view not in photos]
        else:
            scene = generate_scene("test", 0, index, VIEWS, SIZE)
            few = [0, 5, 10, 15]
            photos = list(range(VIEWS)) if options.kind == "many" else few
            others = [] if options.kind == "many" else [1, 3, 6, 8, 11, 13]
        print(row(f"{index}", scene, photos, others, settings, options.sheets), flush=True)


def row(
    name: str,
    scene: GeneratedScene,
    photos: list[int],
    others: list[int],
    settings: RefinementSettings,
    sheets: Path | None,
) -> str:
    """Refine one scene."""
    images = [photo(scene, view) for view in photos]
    try:
        found = estimate_cameras(images)
    except CamerasNotFoundError as error:
        return f"| {name} | – | – | – | – | – | – | {error} |"
    said = "; ".join(found.warnings)
    if found.left_out:
        said += f"; {len(found.left_out)} left out"
        return f"| {name} | – | – | – | – | – | – | {said} |"
    posed = found.images.resized(settings.max_side)
    begin = time.process_time()
    start = informed_start(lambda _: ZipSplat("zipsplat-tiny", device="cpu"), posed, settings)
    result = refine(start, posed.images, posed.cameras, posed.poses, posed.points, settings)
    seconds = time.process_time() - begin
    if settings.hold_out:
        seen = posed.select(result.held_out)
        views = Views(torch.stack(seen.images), seen.cameras, seen.poses)
    else:
        views = placed(scene, photos, others, posed)
    forward = feed_forward(posed)
    before, _, _ = scores(forward, views, aligns=bool(others))
    psnr, ssim, renders = scores(result.gaussians, views, aligns=bool(others))
    if sheets is not None:
        save(sheets / f"scene-{name}-{len(photos)}.png", views, renders)
    return (
        f"| {name} | {before:.2f} | {result.start_psnr:.2f} | {psnr:.2f} | {ssim:.3f} |"
        f" {result.gaussians.num_gaussians} | {seconds:.0f} | {said} |"
    )


def photo(scene: GeneratedScene, view: int) -> Tensor:
    """A view (3, H, W)."""
    pixels = torch.from_numpy(np.ascontiguousarray(scene.render(view)[0]))
    return pixels.permute(2, 0, 1).float() / 255


def placed(
    scene: GeneratedScene, photos: list[int], others: list[int], posed: PosedImages
) -> Views:
    """Place other views of the scene in the frame of the estimated cameras."""
    truth = torch.from_numpy(scene.shot.world_from_camera).double()
    R, t = posed.poses.R.double(), posed.poses.t.double()
    S, s = truth[photos][:, :3, :3], truth[photos][:, :3, 3]
    u, _, v = torch.linalg.svd(torch.einsum("nij,nkj->ik", R, S))
    turn = u @ torch.diag(torch.tensor([1.0, 1.0, float(torch.det(u @ v))]).double()) @ v
    turned = (s - s.mean(0)) @ turn.T
    scale = ((t - t.mean(0)) * turned).sum() / turned.square().sum()
    other_R, other_t = truth[others][:, :3, :3], truth[others][:, :3, 3]
    centres = scale * (other_t - s.mean(0)) @ turn.T + t.mean(0)
    poses = Pose((turn @ other_R).float(), centres.float())
    height, width = posed.images[0].shape[1:]
    images = torch.stack([resize(photo(scene, view), height, width) for view in others])
    rows = torch.from_numpy(camera_rows(scene))[others].float()
    cameras = Camera.from_packed(rows)
    factor = width / float(cameras.size[0, 0])
    focal = posed.cameras.f.mean() / cameras.f.mean() / factor
    # The estimated focal length goes with the estimated poses.
    cameras = cameras.scale(factor)
    return Views(images.clamp(0, 1), Camera(cameras.size, cameras.f * focal, cameras.c), poses)


def feed_forward(posed: PosedImages) -> Gaussians:
    """Reconstruct up to six of the photos with zipsplat-tiny, given their cameras."""
    chosen = np.linspace(0, len(posed) - 1, min(6, len(posed))).round().astype(int).tolist()
    some = posed.select(chosen)
    model = ZipSplat("zipsplat-tiny", device="cpu")
    features = model.encode(list(some.images), some.cameras, some.poses, True)
    return model.decode(features)[0].transform(some.poses[0])


def scores(
    scene: Gaussians, views: Views, *, aligns: bool
) -> tuple[float, float, Sequence[Tensor]]:
    """Mean PSNR and SSIM over the views, and the renders."""
    poses = views.poses
    if aligns:
        poses = refine_poses(scene, views.images, views.cameras, poses, settings=FAST).poses
    with torch.no_grad():
        renders = [
            scene.render(views.cameras[i], poses[i])[0][0].clamp(0, 1) for i in range(len(poses))
        ]
    psnr = [
        -10 * float(torch.log10((a - b).square().mean()))
        for a, b in zip(renders, views.images, strict=True)
    ]
    ssim = [
        float(fused_ssim(truth, image)) for truth, image in zip(views.images, renders, strict=True)
    ]
    return float(np.mean(psnr)), float(np.mean(ssim)), renders


def save(path: Path, views: Views, renders: Sequence[Tensor]) -> None:
    """Save ground truth beside renders."""
    cells = []
    for truth, image in list(zip(views.images, renders, strict=True))[:3]:
        cells += [to_pixels(truth), to_pixels(image)]
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(contact_sheet(cells, columns=2, cell_width=480)).save(path)


if __name__ == "__main__":
    main()
