"""What training, models, losses and data agree on. Interfaces and plain records only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from splatfactory.datasets.batch import Batch, Views
from splatfactory.options import Kind
from splatfactory.schema import HeadConfig
from zipsplat.gaussians import Gaussians
from zipsplat.model.matcher import Matches


@dataclass(frozen=True)
class Prediction:
    """What a model makes of the context views.

    Attributes:
        gaussians: (B, N) one set per scene, in the frame of the first context view, float32.
        tokens: (B, M) the patches, counted through all context views, that became the Gaussians.
        token_group: Consecutive Gaussians that belong to one of them.
        patch_size: Side of a patch in pixels.
        metrics: Numbers worth logging, each (B,) or a scalar, without gradient.
        matches: What the context views have in common, if the network says so.
    """

    gaussians: Gaussians
    tokens: Tensor
    token_group: int
    patch_size: int
    metrics: Mapping[str, Tensor]
    matches: Matches | None = None


@dataclass(frozen=True)
class Drawn:
    """Renderings of a batch of scenes, by the views they belong to.

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
    """Where each cell's centre is seen in each reference view.

    Attributes:
        cells: (B, V, R, N, 4) the cells around it, or N four times for "nowhere".
        shares: (B, V, R, N, 4) their shares, summing to 1; all 0 where nothing is known: no
            reference, no depth, or hidden behind something.
    """

    cells: Tensor
    shares: Tensor


@dataclass(frozen=True)
class Supervision:
    """Everything a loss may look at. V counts the supervised views.

    Attributes:
        gaussians: (B, N).
        activated: (B, N) bool, Gaussians that the pictures already constrain.
        drawn: Renderings of the supervised views.
        views: The true pictures, depths, cameras and poses of the same views.
        surface: (B, N, 3) where the part of a context view that a Gaussian came from lies in
            space, NaN where that is unknown; None if not asked for.
        match_logits: (B, V, R, N, N + 1) of the network's matches between the context views.
        matches: What they should say; None if not asked for.
    """

    gaussians: Gaussians
    activated: Tensor
    drawn: Drawn
    views: Views
    surface: Tensor | None = None
    match_logits: Tensor | None = None
    matches: TrueMatches | None = None


class Loss(Protocol):
    """One term of what training minimises."""

    def __call__(self, supervision: Supervision) -> Tensor:
        """One number per scene, (B,)."""


LossKind = Kind[Loss]
"""What a module of `splatfactory.losses`, or of one's own package, has as its `PLUGIN`."""


class SceneLoss(Protocol):
    """All terms of a configuration; see `splatfactory.losses`."""

    config: HeadConfig

    def __call__(self, supervision: Supervision) -> dict[str, Tensor]:
        """Every term and their weighted sum `total`; each (B,)."""

    def describe(self, supervision: Supervision, terms: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Numbers that are logged but not minimised; each (B,)."""


class TrainableModel(Protocol):
    """An nn.Module that predicts Gaussians; the trainer knows nothing more about it.

    Attributes:
        network: The part that is trained, saved and exported.
    """

    network: nn.Module

    def __call__(self, context: Views) -> Prediction:
        """Gaussians from context views (B, V)."""

    def schedule(self, step: int, num_steps: int | None) -> Mapping[str, float]:
        """Set what changes during training for update `step`; returns the values for the log."""


class BatchSource(Protocol):
    """A stream of training batches whose position can be saved."""

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current epoch."""

    def __len__(self) -> int:
        """Batches in a whole epoch."""

    def state_dict(self) -> dict[str, Any]:
        """Position after the last batch handed out."""

    def load_state_dict(self, state: Mapping[str, Any], *, accept_changes: bool = False) -> bool:
        """Continue exactly after a saved position; returns whether its epoch goes on.

        With `accept_changes`, other data than those of the position begin the next epoch.
        """

    def set_max_views(self, max_views: int) -> None:
        """Bound the context views of the next batches."""
