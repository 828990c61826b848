"""LPIPS: distance of two images in the feature space of VGG-16.

The VGG-16 trunk and the linear heads come from their public weight files, so neither torchvision
nor the `lpips` package is needed. There is no dropout: the published network uses it only while
training its own heads.

Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
CVPR 2018, and the key names of its public weights (v0.1).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from splatfactory.paths import cache_root, weights_root
from zipsplat.downloads import Source, fetch
from zipsplat.torch_files import read_torch_file

TRUNK = Source("https://download.pytorch.org/models/vgg16-397923af.pth", sha256="397923af")
HEADS = Source(
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/vgg.pth",
    sha256="a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
)
TRUNK_FILE, HEADS_FILE = "vgg16-397923af.pth", "lpips-vgg-v0.1.pth"

WIDTHS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
CONV_INDICES = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
"""Positions of the convolutions in the public checkpoint, `features.<index>.{weight,bias}`."""
LEVEL_ENDS = (1, 3, 6, 9, 12)
"""Features are taken after the ReLU of these convolutions: relu1_2, 2_2, 3_3, 4_3 and 5_3."""
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)


class PerceptualNetwork(nn.Module):
    """VGG-16 trunk and five linear heads; holds only buffers, so none of it is ever trained.

    Args:
        trunk: `features.<i>.weight` and `.bias` of VGG-16; other keys are ignored.
        heads: `lin<j>.model.1.weight`, shape (1, C, 1, 1), for the five levels.

    Raises:
        ValueError: if a tensor is missing or has the wrong shape.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, trunk: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        width_in = 3
        for conv, (index, width) in enumerate(zip(CONV_INDICES, WIDTHS, strict=True)):
            shapes = {"weight": (width, width_in, 3, 3), "bias": (width,)}
            for part, shape in shapes.items():
                self._take(f"conv{conv}_{part}", trunk, f"features.{index}.{part}", shape)
            width_in = width
        for level, conv in enumerate(LEVEL_ENDS):
            key = f"lin{level}.model.1.weight"
            self._take(f"head{level}", heads, key, (1, WIDTHS[conv], 1, 1))

    def _take(
        self, name: str, source: Mapping[str, Tensor], key: str, shape: tuple[int, ...]
    ) -> None:
        tensor = source.get(key)
        if tensor is None or tuple(tensor.shape) != shape:
            found = "nothing" if tensor is None else f"shape {tuple(tensor.shape)}"
            raise ValueError(
                f"LPIPS weights need {key} of shape {shape}, found {found}; "
                "use the public VGG-16 and LPIPS v0.1 files"
            )
        self.register_buffer(name, tensor.detach().float().contiguous(), persistent=False)

    def features(self, images: Tensor) -> list[Tensor]:
        """Feature maps of unit length over channels, one per level.

        Args:
            images: (B, 3, H, W) in [0, 1]; values outside are not clamped.

        Returns:
            Five tensors (B, C, h, w), finest first.
        """
        with torch.autocast(images.device.type, enabled=False):
            x = (images.float() * 2 - 1 - self.shift) / self.scale
            levels = []
            for conv in range(len(WIDTHS)):
                if conv - 1 in LEVEL_ENDS:
                    x = functional.max_pool2d(x, 2)
                weight = self.get_buffer(f"conv{conv}_weight")
                bias = self.get_buffer(f"conv{conv}_bias")
                x = functional.relu(functional.conv2d(x, weight, bias, padding=1))
                if conv in LEVEL_ENDS:
                    levels.append(x / (torch.linalg.vector_norm(x, dim=1, keepdim=True) + 1e-10))
        return levels

    def distance(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """LPIPS from two results of `features`, so features of a fixed image can be reused.

        Returns:
            (B,) distances, 0 for equal images.
        """
        total = first[0].new_zeros(())
        for level, (a, b) in enumerate(zip(first, second, strict=True)):
            head = self.get_buffer(f"head{level}")
            weighted = (a - b).square() * head  # not a convolution, which autocast would round
            total = total + weighted.sum(dim=1).mean(dim=(1, 2))
        return total

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """LPIPS of two batches of images.

        Args:
            first: (B, 3, H, W) in [0, 1].
            second: (B, 3, H, W) in [0, 1].

        Returns:
            (B,) distances.
        """
        if first.shape != second.shape or first.ndim != 4 or first.shape[1] != 3:
            raise ValueError(
                "LPIPS compares two batches (B, 3, H, W) of equal shape, "
                f"got {tuple(first.shape)} and {tuple(second.shape)}"
            )
        if min(first.shape[-2:]) < 16:
            raise ValueError(
                f"LPIPS needs images of at least 16 × 16 pixels, got {tuple(first.shape[-2:])}"
            )
        return self.distance(self.features(first), self.features(second))


def fetch_perceptual_network() -> PerceptualNetwork:
    """LPIPS-VGG v0.1 from the weights folder, or downloaded once and verified.

    Raises:
        DownloadError: if the files are missing and cannot be downloaded; there is no substitute.
    """
    paths = []
    for source, name in ((TRUNK, TRUNK_FILE), (HEADS, HEADS_FILE)):
        own = weights_root() / name
        paths.append(fetch(source, own if own.is_file() else cache_root() / "lpips" / name))
    return load_perceptual_network(*paths)


def load_perceptual_network(trunk: Path, heads: Path) -> PerceptualNetwork:
    """Read the two public weight files; no code in them is executed.

    Args:
        trunk: VGG-16 state dict, keys `features.<i>.{weight,bias}`.
        heads: LPIPS v0.1 VGG heads, keys `lin<j>.model.1.weight`.

    Raises:
        ValueError: if a file lacks required tensors.
    """
    return PerceptualNetwork(read_torch_file(trunk), read_torch_file(heads))
