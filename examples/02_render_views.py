"""Render images and depth of a scene from chosen cameras.

    python examples/02_render_views.py [SCENE] [-o outputs/examples/views.png]

Without a scene file, three coloured balls are rendered.
"""

import argparse
import math
from pathlib import Path

import torch

from zipsplat import Camera, Gaussians, viz
from zipsplat.figures import to_pixels
from zipsplat.harmonics import dc_from_rgb


def three_balls() -> Gaussians:
    """A red, a green and a blue ball."""
    return Gaussians.from_parameters(
        means=torch.tensor([[-1.0, 0, 3], [0, 0, 4], [1, 0, 5]]),
        scales=torch.full((3, 3), 0.25),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(3, 1),
        opacities=torch.full((3,), 0.95),
        sh_coeffs=dc_from_rgb(torch.eye(3) * 0.7 + 0.1).unsqueeze(1),
    )


def main() -> None:
    """Render."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scene", nargs="?", type=Path)
    parser.add_argument("-o", "--output", type=Path, default="outputs/examples/views.png")
    options = parser.parse_args()
    gaussians = three_balls() if options.scene is None else Gaussians.load(options.scene)

    # One camera, four poses around the scene: all views are rendered in one call.
    camera = Camera.from_fov(math.radians(55), w=256, h=192)
    poses = viz.camera_orbit(gaussians, 4, fov_deg=float(camera.vfov.rad2deg()), elevation_deg=15)
    rgbd, info = gaussians.render(camera, poses, mode="RGB+ED", backgrounds=torch.ones(3))
    rgb, depth, alpha = rgbd[:, :3], rgbd[:, 3], info["alphas"][:, 0]

    near, far = viz.depth_range(gaussians, poses)
    colored = viz.color_depth(depth, near, far, alpha)
    images = [*to_pixels(rgb), *to_pixels(colored)]
    labels = [f"{what} {view}" for what in ("colour", "depth") for view in range(4)]
    viz.save_image(viz.contact_sheet(images, labels, columns=4), options.output)
    print(f"wrote {options.output}; depth from {near:.2f} (bright) to {far:.2f} (dark)")


if __name__ == "__main__":
    main()
