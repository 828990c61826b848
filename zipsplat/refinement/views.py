"""Training views: one photo and its camera, at full and at half size."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn import functional

from zipsplat.masks import resized
from zipsplat.photometric import PhotometricLoss
from zipsplat.posed_images import PosedImages
from zipsplat.refinement.plane_sweep import DepthMap
from zipsplat.render import Rendered, Renderer, RenderMode, RenderSettings, Splats, Viewpoints


@dataclass(frozen=True)
class View:
    """One photo and its camera.

    Args:
        index: among all photos.
        image: (3, H, W) RGB in [0, 1].
        K: (3, 3) intrinsics in pixels of the image.
        inverse_depth: (H, W) from stereo, per world unit, 0 where unknown.
        mask: (H, W) bool, True where the photo counts; None is everywhere.
    """

    index: int
    image: Tensor
    K: Tensor
    inverse_depth: Tensor | None = None
    mask: Tensor | None = None

    @cached_property
    def photometric(self) -> PhotometricLoss:
        """The photometric loss of this view: 0.8 · L1 + 0.2 · (1 − SSIM), as in 3DGS."""
        return PhotometricLoss(self.image, mask=self.mask)

    @property
    def focal(self) -> float:
        """Horizontal focal length in pixels."""
        return float(self.K[0, 0])

    def with_depth(self, found: DepthMap) -> View:
        """The view with stereo depth as a target."""
        height, width = self.image.shape[1:]
        return replace(self, inverse_depth=found.inverse_target(height, width).to(self.image))

    def halved(self) -> View:
        """The view at half size, by 2 × 2 averages; an odd last row or column is dropped."""
        height, width = self.image.shape[1:]
        if min(height, width) < 2 * _LEAST_SIDE:
            return self
        smaller = functional.avg_pool2d(self.image[None], 2)[0].contiguous()
        halves = self.K.new_tensor([[0.5], [0.5], [1.0]])
        depth = self.inverse_depth
        if depth is not None:
            depth = depth[: height // 2 * 2 : 2, : width // 2 * 2 : 2].contiguous()
        mask = self.mask
        if mask is not None:
            mask = resized(mask[: height // 2 * 2, : width // 2 * 2], height // 2, width // 2)
        return View(self.index, smaller, self.K * halves, depth, mask)

    def render(
        self,
        renderer: Renderer,
        splats: Splats,
        pose: Tensor,
        focal_factor: Tensor | float = 1.0,
        mode: RenderMode = RenderMode.RGB,
    ) -> Rendered:
        """Render a scene from this camera, over black.

        Args:
            renderer: the renderer.
            splats: the scene.
            pose: (4, 4) camera-to-world.
            focal_factor: multiplies the focal lengths.
            mode: what to render.
        """
        height, width = self.image.shape[1:]
        factors = torch.ones_like(self.K)
        factors[(0, 1), (0, 1)] = focal_factor
        viewpoints = Viewpoints(pose[None], (self.K * factors)[None], width, height)
        return renderer.render(splats, viewpoints, RenderSettings(mode=mode))


_LEAST_SIDE = 16  # pixels; smaller images are not halved


def views_of(photos: PosedImages, indices: list[int], device: torch.device) -> list[View]:
    """Views of some photos, float32 on a device; masked pixels are black.

    SSIM windows include masked pixels, so their colour must not depend on what was masked.
    """
    K = photos.cameras.K.to(device, torch.float32)
    images = [photos.images[i].to(device, torch.float32).contiguous() for i in indices]
    masks = [None if photos.masks is None else photos.masks[i].to(device) for i in indices]
    return [
        View(i, image if mask is None else image * mask, K[i], mask=mask)
        for i, image, mask in zip(indices, images, masks, strict=True)
    ]


def hold_out(count: int, every: int | None) -> tuple[list[int], list[int]]:
    """Split photos into training and held-out ones.

    Args:
        count: number of photos.
        every: hold out every n-th photo, in the middle of each n, so that it has training photos on
            both sides and the ends of a flight are trained on; 0 holds out none, None every eighth
            if there are at least eight.

    Returns:
        two lists of indices, ascending.

    Raises:
        ValueError: if no photo would be left to train with.
    """
    step = (8 if count >= 8 else 0) if every is None else every
    held_out = list(range(min(step, count) // 2, count, step)) if step else []
    training = [index for index in range(count) if index not in held_out]
    if not training:
        raise ValueError(
            f"holding out one photo in {step} leaves none of {count} to train with;"
            " give more photos, or hold_out=0"
        )
    return training, held_out
