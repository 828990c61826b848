"""Feature matches between views as an input of the transformer.

A transformer trained on few scenes does not learn correspondence by itself; given matches, it
learns poses from them. Global matching of all features of two views is from Xu et al., "GMFlow"
(2022), the extra class "unmatched" from Sarlin et al., "SuperGlue" (2020).

Letters: B scenes, V views, R reference views of each view, N cells of a view, T patches, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipsplat.model.layers import without_autocast

DESCRIPTOR_DIM = 48
NUM_REFERENCES = 3  # the first view, the one before and the one after
NUMBERS = 5  # channels of a match: position (2), displacement (2), certainty (1)
POOLED = 16
NUM_MOMENTS = 6


@dataclass(frozen=True)
class Matches:
    """Matching probabilities from the cells of a view to those of its references.

    Args:
        logits: (B, V, R, N, N + 1) unnormalised log-probabilities of the reference's cells, row by
            row; the last one stands for "none of them".
        references: (V, R) index of the reference view, −1 where there is none.
        grid: rows and columns of cells.
    """

    logits: Tensor
    references: Tensor
    grid: tuple[int, int]


class Matcher(nn.Module):
    """Matches features between views, and embeds the matches as tokens.

    Args:
        width: channels of the features.
        dim: width D of the tokens.
        cells: cells per patch and side.
    """

    def __init__(self, width: int, dim: int, cells: int) -> None:
        super().__init__()
        self.cells = cells
        self.describe = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1), nn.GELU(), nn.Conv2d(width, DESCRIPTOR_DIM, 1)
        )
        self.log_sharpness = nn.Parameter(torch.tensor(2.5))
        self.nowhere = nn.Parameter(torch.tensor(6.0))  # logit of "unmatched"; a checkpoint's name
        num_channels = cells**2 * NUM_REFERENCES * NUMBERS
        self.to_patch = nn.Linear(num_channels, dim)
        self.pool = nn.Linear(num_channels, POOLED)
        self.to_camera = nn.Linear(POOLED * NUM_MOMENTS, dim)
        for parameter in (*self.to_patch.parameters(), *self.to_camera.parameters()):
            nn.init.zeros_(parameter)  # a new matcher has no effect

    def forward(self, features: Tensor) -> Matches:
        """Compare each view with its references.

        Args:
            features: (B, V, C, rows, columns) of the cells.
        """
        B, V, _, rows, columns = features.shape
        described = self.describe(features.flatten(0, 1)).float().flatten(2)
        described = functional.normalize(described, dim=1).unflatten(0, (B, V))
        references = reference_views(V, features.device)
        others = described[:, references.clamp(min=0)]  # (B, V, R, channels, N)
        with without_autocast(features.device):
            logits = torch.einsum("bvcn,bvrcm->bvrnm", described, others)
        logits = logits * self.log_sharpness.exp()
        unmatched = self.nowhere.expand(*logits.shape[:-1], 1).to(logits)
        return Matches(torch.cat((logits, unmatched), dim=-1), references, (rows, columns))

    def embed(self, matches: Matches) -> tuple[Tensor, Tensor]:
        """Updates of the patches (B, V, T, D) and of the camera tokens (B, V, D)."""
        with without_autocast(matches.logits.device):
            channels = self._channels(matches).to(self.pool.weight.dtype)
        rows, columns = (side // self.cells for side in matches.grid)
        x, y = cell_centres(rows, columns, channels.device).unbind(-1)
        moments = torch.stack((torch.ones_like(x), x, y, x * x, x * y, y * y), dim=-1)
        pooled = torch.einsum("bvtp,tm->bvpm", self.pool(channels), moments.to(channels))
        pooled = pooled / len(moments)
        return self.to_patch(channels), self.to_camera(pooled.flatten(2))

    def _channels(self, matches: Matches) -> Tensor:
        """Position, displacement, certainty by cell and reference, (B, V, T, cells² · R · 5)."""
        own = cell_centres(*matches.grid, matches.logits.device)
        probability = matches.logits.softmax(dim=-1)
        seen = (1 - probability[..., -1:]) * (matches.references >= 0)[..., None, None]
        place = probability[..., :-1] @ own / (1 - probability[..., -1:]).clamp(min=1e-6)
        numbers = torch.cat((place * seen, (place - own) * seen, seen), dim=-1)
        rows, columns = (side // self.cells for side in matches.grid)
        # (B, V, R, rows, cells, columns, cells, 5): groups the cells of a patch.
        cells = numbers.unflatten(3, (rows, self.cells, columns, self.cells))
        patches: Tensor = cells.permute(0, 1, 3, 5, 4, 6, 2, 7).flatten(4).flatten(2, 3)
        return patches


def reference_views(num_views: int, device: torch.device) -> Tensor:
    """References (V, R) of each view: the first, previous and next one; −1 if none or itself."""
    view = torch.arange(num_views, device=device)
    first = torch.where(view > 0, torch.zeros_like(view), -1)
    after = torch.where(view < num_views - 1, view + 1, -1)
    return torch.stack((first, view - 1, after), dim=-1)


def cell_centres(rows: int, columns: int, device: torch.device) -> Tensor:
    """(rows · columns, 2) x and y in [−1, 1], row by row."""
    x = (torch.arange(columns, device=device) + 0.5) / columns * 2 - 1
    y = (torch.arange(rows, device=device) + 0.5) / rows * 2 - 1
    y, x = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((x, y), dim=-1).flatten(0, 1)
