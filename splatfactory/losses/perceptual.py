"""LPIPS as a loss."""

from __future__ import annotations

from torch import Tensor

from splatfactory.perceptual_network import PerceptualNetwork, fetch_perceptual_network
from splatfactory.protocols import LossKind, Supervision
from splatfactory.schema import HeadConfig


class PerceptualLoss:
    """LPIPS of the clipped images, averaged over the views.

    Args:
        network: the LPIPS network; moved to the device of the images.
    """

    def __init__(self, network: PerceptualNetwork) -> None:
        self.network = network

    def __call__(self, supervision: Supervision) -> Tensor:
        """One number per scene, (B,)."""
        rendered, true = supervision.rendered.color, supervision.views.rgb
        network = self.network.to(rendered.device)
        B, V = rendered.shape[:2]
        values: Tensor = network(true.flatten(0, 1).clamp(0, 1), rendered.flatten(0, 1).clamp(0, 1))
        return values.view(B, V).mean(dim=1)


PLUGIN = LossKind(HeadConfig, lambda _: PerceptualLoss(fetch_perceptual_network()))
