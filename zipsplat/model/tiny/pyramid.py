"""A convolutional pyramid beside the patch embedding, for small networks trained from little data.

A patch embedding is one linear map. A transformer on top of it needs many images to learn edges,
corners and textures; convolutions need few (Xiao et al., "Early Convolutions Help Transformers See
Better", 2021).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

NORM_GROUPS = 8
CELLS = 2  # features per patch and side, to resolve parts of a patch


class Pyramid(nn.Module):
    """Three levels of halved resolution and doubled width, resampled to the grid of patches.

    Args:
        width: channels of the first level, a multiple of eight.
        dim: width D of the tokens.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, width: int, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        wide, widest = 2 * width, 4 * width
        self.dim_out = widest
        self.levels = nn.Sequential(
            nn.Sequential(nn.Conv2d(3, width, 5, 2, 2), _Residual(width)),
            nn.Sequential(nn.Conv2d(width, wide, 3, 2, 1), _Residual(wide)),
            nn.Sequential(nn.Conv2d(wide, widest, 3, 2, 1), _Residual(widest), _Residual(widest)),
        )
        self.norm = nn.GroupNorm(NORM_GROUPS, widest)
        self.mix = nn.Linear(CELLS**2 * widest, dim)

    def forward(self, images: Tensor) -> Tensor:
        """Features (..., C, cells · rows, cells · columns) of images (..., 3, H, W) in [0, 1]."""
        rows, columns = (side // self.patch_size for side in images.shape[-2:])
        pixels = images.flatten(0, -4).to(self.mix.weight.dtype) * 2 - 1
        features = functional.interpolate(
            self.norm(self.levels(pixels)),
            (CELLS * rows, CELLS * columns),
            mode="bilinear",
            align_corners=False,
        )
        out: Tensor = features.unflatten(0, images.shape[:-3])
        return out

    def tokens(self, features: Tensor) -> Tensor:
        """Tokens (..., T, D) of features as `forward` gives them, patches row by row."""
        cells = features.unflatten(-1, (-1, CELLS)).unflatten(-3, (-1, CELLS))
        # (..., channels, rows, cells, columns, cells): groups the cells of a patch.
        patches = cells.movedim((-4, -2), (-5, -4)).flatten(-3).flatten(-3, -2)
        out: Tensor = self.mix(patches)
        return out


class _Residual(nn.Module):
    """Two convolutions (n, C, h, w) → (n, C, h, w) around which the input is added."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(NORM_GROUPS, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.norm2 = nn.GroupNorm(NORM_GROUPS, width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        for parameter in self.conv2.parameters():  # a new block is the identity
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        update = self.conv1(functional.gelu(self.norm1(x)))
        update = self.conv2(functional.gelu(self.norm2(update)))
        out: Tensor = x + update
        return out
