"""Turn photos into a refined scene on a CPU: `make demo`.

    python scripts/demo.py [INPUT …] [--output outputs/demo] [--seconds 25]

Estimates the cameras of a rendered flight over a village (or of INPUT: images, a folder, a video),
reconstructs it with the small network that comes with the package, and refines a scene against the
photos. Every fourth photo is held out. Writes the scene in two formats and as a web page, renders a
video, and saves a contact sheet: held-out photos, the network's scene and the refined one from the
same viewpoints, and depth.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from zipsplat import Gaussians, ZipSplat, estimate_cameras, viz
from zipsplat.camera_estimation.write import write_cameras_json
from zipsplat.figures import to_pixels
from zipsplat.framing import video_camera
from zipsplat.posed_images import PosedImages
from zipsplat.progress import progress_bar
from zipsplat.refinement import RefinedScene, RefinementProgress, RefinementSettings, refine
from zipsplat.refinement.warm_up import refinement_kernels
from zipsplat.trajectories import interpolate_poses
from zipsplat.webpage import write_page

ROOT = Path(__file__).parents[1]
COLUMNS = 3
VIDEO_SIZE = 480  # longer side
HOLD_OUT = 4
BLACK = (0.0, 0.0, 0.0)  # the background during refinement
NUM_FRAMES = 24


def main(argv: list[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", nargs="*", help="default: the example flight")
    parser.add_argument("--output", type=Path, default=ROOT / "outputs" / "demo")
    parser.add_argument("--seconds", type=float, default=25.0, help="time limit of the refinement")
    parser.add_argument(
        "--steps", type=int, help="number of refinement steps, instead of --seconds"
    )
    parser.add_argument("--size", type=int, default=480, help="longer side of the photos, pixels")
    parser.add_argument("--frames", type=int, default=120, help="length of the video")
    options = parser.parse_args(argv)

    start = time.perf_counter()
    with refinement_kernels(NUM_FRAMES) as kernels:
        with stage("cameras"):
            inputs = options.inputs or [ROOT / "assets/examples/drone.mp4"]
            found = estimate_cameras(inputs, num_frames=NUM_FRAMES, max_side=options.size)
        for warning in found.warnings:
            print(f"  {warning}")
        photos = found.images
        print(f"  {len(photos)} photos placed, {len(found.left_out)} left out")
        with stage("the network's scene, for comparison"):
            feed_forward = reconstruct(photos)
        if kernels.is_running:
            with stage("compiling, once per machine"):
                kernels.wait()
    settings = RefinementSettings(
        seconds=None if options.steps else options.seconds,
        steps=options.steps,
        max_side=options.size,
        hold_out=HOLD_OUT if len(photos) >= 2 * HOLD_OUT else 0,
    )
    with stage("refinement"):
        refined = run_refinement(photos, settings)
    what = "held-out photos" if refined.held_out else "photos"
    print(f"  {what}: {refined.psnr:.1f} dB, SSIM {refined.ssim:.3f}")
    print(f"photos to refined scene: {time.perf_counter() - start:.0f} s")
    written = write_all(refined, photos, options.output, options.frames)
    sheet = options.output / "contact_sheet.webp"
    viz.save_image(contact_sheet(photos, refined, feed_forward), sheet)
    written[sheet] = f"{what}, the network's scene, the refined one, depth"
    print("\nwritten:")
    for path, content in written.items():
        print(f"  {shown(path)}  {path.stat().st_size / 1e6:.2f} MB  {content}")
    return 0


@contextmanager
def stage(name: str) -> Iterator[None]:
    """Print the duration of a stage."""
    start = time.perf_counter()
    yield
    print(f"{name}: {time.perf_counter() - start:.1f} s", flush=True)


def reconstruct(photos: PosedImages) -> Gaussians:
    """Reconstruct from a few photos with zipsplat-tiny, given their cameras; in their frame."""
    model = ZipSplat("zipsplat-tiny")
    some = photos.select(np.linspace(0, len(photos) - 1, min(6, len(photos))).astype(int).tolist())
    # The median depth of the sparse points is 1: the scale that the network was trained at.
    features = model.encode(list(some.images), some.cameras, some.poses, use_priors=True)
    return model.decode(features)[0].cpu()


def run_refinement(photos: PosedImages, settings: RefinementSettings) -> RefinedScene:
    """Refine with a progress bar."""
    with progress_bar("refining", "%") as report:

        def on_step(progress: RefinementProgress) -> None:
            report(round(100 * progress.share), 100)

        return refine(
            None, photos.images, photos.cameras, photos.poses, photos.points, settings, on_step
        )


def write_all(
    refined: RefinedScene, photos: PosedImages, folder: Path, num_frames: int
) -> dict[Path, str]:
    """Write scene files, cameras, page and video; returns what each file is."""
    scene = refined.gaussians
    plain, small = folder / "scene.ply", folder / "scene.spz"
    scene.save(plain)
    scene.save(small)
    cameras = folder / "scene.cameras.json"
    write_cameras_json(cameras, photos)
    page, video = folder / "scene.html", folder / "flight.mp4"
    write_page(
        page,
        scene,
        title="ZipSplat demo",
        background=BLACK,
        cameras=photos.cameras,
        poses=photos.poses,
        names=photos.names,
    )
    with progress_bar("rendering video", "frame") as report:
        camera = video_camera(photos.cameras[0], VIDEO_SIZE)
        poses = interpolate_poses(photos.poses, num_frames)
        viz.save_video(viz.render_frames(scene, camera, poses, viz.Look(bg=BLACK), report), video)
    return {
        plain: "the scene, for any 3D Gaussian viewer",
        small: "the same, compressed",
        cameras: "where the photos were taken",
        page: "the scene as a page: open it in a browser, step through the photos",
        video: "a video of it along the way of the photos",
    }


def contact_sheet(
    photos: PosedImages, refined: RefinedScene, feed_forward: Gaussians
) -> np.ndarray:
    """Rows of held-out photos, the two scenes from the same places, and depth."""
    # The ends of a flight see what no other photo does, so the sheet begins behind the first.
    views = (refined.held_out or tuple(range(len(photos))))[1 : COLUMNS + 1]
    shown_photos = photos.select(views)
    what = "held-out photo" if refined.held_out else "photo"
    cells = [to_pixels(image) for image in shown_photos.images]
    labels = [f"{what} {name}" for name in shown_photos.names]
    for scene, label in ((feed_forward, "zipsplat-tiny"), (refined.gaussians, "refined")):
        cells += [to_pixels(image) for image in renders(scene, shown_photos)]
        labels += [f"{label}: {scene.num_gaussians} Gaussians"] * len(views)
    for view in range(len(views)):
        camera, pose = shown_photos.cameras[view], shown_photos.poses[view : view + 1]
        cells += viz.render_frames(refined.gaussians, camera, pose, viz.Look(mode="depth"))
    labels += ["depth"] * len(views)
    return viz.contact_sheet(cells, labels, columns=len(views), cell_width=320)


def renders(scene: Gaussians, photos: PosedImages) -> Sequence[Tensor]:
    """Render a scene from the cameras of the photos."""
    with torch.no_grad():
        return [
            scene.render(photos.cameras[view], photos.poses[view])[0][0].clamp(0, 1)
            for view in range(len(photos))
        ]


def shown(path: Path) -> Path:
    """The path relative to the current folder, where possible."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


if __name__ == "__main__":
    sys.exit(main())
