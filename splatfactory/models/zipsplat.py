"""ZipSplat in training: sampling of token ratios and camera priors, and frozen parameters."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import nn

from splatfactory.datasets.samples import Views
from splatfactory.protocols import Prediction
from splatfactory.schema import ModelConfig
from splatfactory.tiny.recorded_matches import recorded_matches
from zipsplat.model.compression import SELECTORS, num_kept
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.priors import Priors


class ZipSplatModel(nn.Module):
    """A `TrainableModel` around the ZipSplat network.

    Args:
        config: options of token and prior sampling.
        network: the network to train and save.

    Raises:
        ValueError: if the token selection is unknown.
    """

    def __init__(self, config: ModelConfig, network: ZipSplatNetwork) -> None:
        super().__init__()
        if config.token_selection_mode not in SELECTORS:
            raise ValueError(
                f"model.token_selection_mode must be one of {', '.join(SELECTORS)}, "
                f"got {config.token_selection_mode!r}"
            )
        self.config = config
        self.network = network
        self.selector = SELECTORS[config.token_selection_mode]
        self.min_ratio = float(config.query_sample_ratio[0])
        network.activation_checkpointing = config.use_checkpoint

    def forward(self, context: Views, compression: float | None = None) -> Prediction:
        """Predict Gaussians.

        Args:
            context: (B, V) views, poses relative to the first.
            compression: fraction of tokens to keep; None samples it in training and uses the
                configured maximum in evaluation.
        """
        with recorded_matches(self.network) as matches:
            features = self.network.encode(context.rgb, self._priors(context))
        ratio = self._ratio(features.num_views) if compression is None else compression
        tokens = self.selector(features.layers[0], num_kept(features.num_tokens, ratio))
        metrics = {
            "query_ratio": torch.tensor(ratio),
            "scene_tokens": torch.tensor(float(tokens.shape[1])),
        }
        gaussians = self.network.decode_selected(features, tokens)
        config = self.network.config
        group, side = config.gaussians_per_token, config.backbone.patch_size
        return Prediction(gaussians, tokens, group, side, metrics, next(iter(matches), None))

    def schedule(self, step: int, num_steps: int | None) -> Mapping[str, float]:
        """Lower the minimum fraction of tokens over the first part of training."""
        lowest = float(self.config.query_sample_ratio[0])
        if num_steps is None:
            self.min_ratio = lowest
        else:
            fraction = self.config.query_ratio_schedule
            self.min_ratio = min_query_ratio(step, num_steps, fraction, lowest)
        return {"query_ratio_min": self.min_ratio}

    def _ratio(self, num_views: int) -> float:
        """Fraction of tokens to keep: one for the whole batch, lower for more views."""
        largest = float(self.config.query_sample_ratio[1])
        if not self.training:
            return largest
        smallest: float = self.min_ratio * min(
            1.0, (2 / num_views) ** self.config.query_scale_with_views
        )
        return smallest + (largest - smallest) * float(torch.rand(()))

    def _priors(self, context: Views) -> Priors | None:
        """True context cameras, in a fraction of training steps, or if enabled in evaluation."""
        if self.training:
            # Sample even if unused, so that the option does not change later random numbers.
            is_shown = float(torch.rand(())) < self.config.prior_probability
        else:
            is_shown = self.config.eval_use_priors
        return Priors.from_cameras(context.cameras, context.poses) if is_shown else None


def min_query_ratio(step: int, num_steps: int, fraction: float, lowest: float) -> float:
    """Minimum fraction of tokens to keep: falls from 1 to `lowest` along half a cosine.

    Args:
        step: step, starting at 0.
        num_steps: total number of steps.
        fraction: fraction of the steps after which `lowest` is reached; 0: from the start.
        lowest: final fraction, in (0, 1].
    """
    span = int(num_steps * fraction)
    phase = 1.0 if span == 0 else min(step, span) / span
    return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * phase))


def freeze_camera_encoder(network: nn.Module) -> None:
    """Freeze the camera encoder and the camera tokens it replaces."""
    for name, parameter in network.named_parameters():
        if ".cam_enc." in f".{name}" or name.endswith("camera_token"):
            parameter.requires_grad_(False)
