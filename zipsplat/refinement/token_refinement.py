"""Refine the scene tokens of a network through its head, before individual Gaussians are refined.

A token moves all its Gaussians in ways that the network has learned, so a few steps on few photos
gain a lot. Measured with four photos at 126 px and `zipsplat-tiny` with known cameras, on two
generated scenes, one run each, PSNR of four views between the photos: 50 steps of 0.06 CPU s
improved the network's scene from 18.1 to 18.7 and from 19.4 to 29.2 dB. Stereo geometry plus this
scene, refined for 600 steps, reached 21.4 and 34.7 dB; plus the scene as predicted, 19.8 and
32.6 dB.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from zipsplat.gaussians import Gaussians
from zipsplat.model.compression import num_kept, select_kmeans
from zipsplat.model.network import Features, ZipSplatNetwork
from zipsplat.photometric import PhotometricLoss
from zipsplat.pose import Pose
from zipsplat.preprocess import Inputs

NUM_STEPS = 50
LEARNING_RATE = 0.03


def refined_by_tokens(
    network: ZipSplatNetwork,
    features: Features,
    inputs: Inputs,
    prior_scale: float = 1.0,
    compression: float = 1.0,
    num_steps: int = NUM_STEPS,
    masks: Sequence[Tensor] | None = None,
) -> Gaussians:
    """Refine scene tokens against their images, and decode them.

    Adam on the tokens, with all images in each step and the photometric loss of the refinement.
    The tokens with the smallest loss are returned, including the initial ones.

    Args:
        network: the network that encoded the images.
        features: of the images.
        inputs: (1, V) preprocessed images with cameras and poses.
        prior_scale: factor from translations of the poses to the scale of the network.
        compression: share of the tokens to keep, in (0, 1].
        num_steps: of the optimizer.
        masks: V of (H, W) bool, True where the images count; default everywhere.

    Returns:
        (N,) in the frame of the first camera, in the scale of the network.
    """
    assert inputs.cameras is not None, "tokens are refined against known cameras"
    assert inputs.poses is not None, "tokens are refined against known poses"
    images, cameras = inputs.images[0].to(features.colors.device), inputs.cameras[0]
    first = inputs.poses[0, :1].inv().compose(inputs.poses[0])
    poses = Pose(first.R, first.t * prior_scale)
    masked: Sequence[Tensor | None] = masks or [None] * len(images)
    losses = [PhotometricLoss(image, mask=mask) for image, mask in zip(images, masked, strict=True)]
    with torch.no_grad():
        indices = select_kmeans(features.layers[0], num_kept(features.num_tokens, compression))
        tokens = network.scene_tokens(features, indices).float()
    best, best_loss = tokens.clone(), float("inf")
    tokens.requires_grad_()
    optimizer = torch.optim.Adam([tokens], lr=LEARNING_RATE)
    for _ in range(num_steps + 1):  # the last iteration only evaluates
        rendered, _ = network.gaussian_head(tokens)[0].render(cameras, poses)
        loss, gradient = _compare(losses, rendered.detach())
        if loss < best_loss:
            best, best_loss = tokens.detach().clone(), loss
        tokens.grad = torch.autograd.grad(rendered, tokens, gradient)[0]
        optimizer.step()
    with torch.no_grad():
        scene: Gaussians = network.gaussian_head(best)[0]
    return scene


def _compare(losses: list[PhotometricLoss], rendered: Tensor) -> tuple[float, Tensor]:
    """Mean loss over the images, and its gradient (V, 3, H, W)."""
    pairs = [loss(image) for loss, image in zip(losses, rendered, strict=True)]
    values, gradients = zip(*pairs, strict=True)
    count = len(losses)
    return sum(float(value) for value in values) / count, torch.stack(gradients) / count
