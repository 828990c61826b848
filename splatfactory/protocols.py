"""Interfaces between training, models, losses and data: protocols and plain records only."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from splatfactory.datasets.samples import Batch, Views
from splatfactory.options import Kind
from splatfactory.schema import HeadConfig
from zipsplat.gaussians import Gaussians
from zipsplat.model.tiny.matcher import Matches


@dataclass(frozen=True)
class Prediction:
    """A model's prediction from context views.

    Attributes:
        gaussians: (B, N) one set per scene, in the frame of the first context view, float32.
        tokens: (B, M) patch indices, counted over all context views, of the tokens behind the
            Gaussians.
        token_group: number of consecutive Gaussians per token.
        patch_size: side of a patch in pixels.
        metrics: numbers to log, each (B,) or a scalar, detached.
        matches: matches between context views, if the network predicts them.
    """

    gaussians: Gaussians
    tokens: Tensor
    token_group: int
    patch_size: int
    metrics: Mapping[str, Tensor]
    matches: Matches | None = None


@dataclass(frozen=True)
class RenderedViews:
    """Renders of a batch of scenes, one per view.

    Attributes:
        color: (B, V, 3, H, W) not clamped above.
        depth: (B, V, H, W) depth Σ w·z, not divided by alpha.
        alpha: (B, V, H, W) in [0, 1].
    """

    color: Tensor
    depth: Tensor
    alpha: Tensor


@dataclass(frozen=True)
class TrueMatches:
    """Position of each cell's centre in each reference view.

    Attributes:
        cells: (B, V, R, N, 4) the cells around it, or four times N if unmatched.
        shares: (B, V, R, N, 4) bilinear weights, summing to 1; all 0 where unknown: no
            reference, no depth, or occluded.
    """

    cells: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Supervision:
    """Everything a loss may use. V is the number of supervised views.

    Attributes:
        gaussians: (B, N).
        activated: (B, N) bool, Gaussians that the images already constrain.
        rendered: renders of the supervised views.
        views: the true images, depths, cameras and poses of the same views.
        surface: (B, N, 3) point map: the true point of the patch part that each Gaussian came
            from, NaN where unknown; None if not requested.
        match_logits: (B, V, R, N, N + 1) logits of the network's matches between context views.
        matches: ground truth of the matches; None if not requested.
    """

    gaussians: Gaussians
    activated: Tensor
    rendered: RenderedViews
    views: Views
    surface: Tensor | None = None
    match_logits: Tensor | None = None
    matches: TrueMatches | None = None


class Loss(Protocol):
    """One term of the training loss."""

    def __call__(self, supervision: Supervision) -> Tensor:
        """One number per scene, (B,)."""


LossKind = Kind[Loss]
"""The `PLUGIN` of a loss module, in `splatfactory.losses` or in your own package."""


class SceneLoss(Protocol):
    """All loss terms of a configuration; see `splatfactory.losses`."""

    config: HeadConfig

    def __call__(self, supervision: Supervision) -> dict[str, Tensor]:
        """Every term and their weighted sum `total`; each (B,)."""

    def describe(self, supervision: Supervision, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Metrics that are logged but not minimised; each (B,)."""


class TrainableModel(Protocol):
    """An nn.Module that predicts Gaussians; all that the trainer knows of a model.

    Attributes:
        network: the part that is trained, saved and exported.
    """

    network: nn.Module

    def __call__(self, context: Views) -> Prediction:
        """Gaussians from context views (B, V)."""

    def schedule(self, step: int, num_steps: int | None) -> Mapping[str, float]:
        """Apply the model's own schedules for a step; returns the values to log."""


class BatchSource(Protocol):
    """A stream of training batches whose position can be saved."""

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current epoch."""

    def __len__(self) -> int:
        """Number of batches in a full epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Position after the last yielded batch."""

    def load_state_dict(self, state: Mapping[str, Any], *, accept_changes: bool = False) -> bool:
        """Resume exactly after a saved position; returns whether its epoch continues.

        With `accept_changes`, changed data start the next epoch instead of an error.
        """

    def set_max_views(self, max_views: int) -> None:
        """Limit the number of context views of the next batches."""


Benchmark = Callable[[nn.Module, Path, Callable[[], bool]], Mapping[str, float] | None]
"""Maps model, folder and a stop check to scores; None if stopped. Finished scenes are kept."""
