"""The Gaussian head: each scene token becomes G Gaussians.

Letters: B scenes, M scene tokens, G Gaussians per token, P numbers per Gaussian, S harmonics.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from zipsplat.gaussians import Gaussians
from zipsplat.model.layers import Mlp, without_autocast

MAX_LOG_POSITION = 5.0
SCALE_SHIFT = 4.0
MIN_SCALE, MAX_SCALE = 1e-6, 15.0


class GaussianHead(nn.Module):
    """Decodes scene tokens to Gaussians, in the precision of its weights: float32 unless cast.

    Args:
        dim: width of the tokens.
        gaussians_per_token: G.
        parameters_per_gaussian: P = 11 + 3 S.
    """

    def __init__(self, dim: int, gaussians_per_token: int, parameters_per_gaussian: int) -> None:
        super().__init__()
        self.parameters_per_gaussian = parameters_per_gaussian
        self.gaussian_head = nn.Sequential(
            Mlp(dim, 2 * dim), nn.Linear(dim, gaussians_per_token * parameters_per_gaussian)
        )

    def forward(self, tokens: Tensor) -> Gaussians:
        """Gaussians (B, M·G) of tokens (B, M, dim); those of a token are adjacent."""
        return decode(
            self.raw(tokens).unflatten(-1, (-1, self.parameters_per_gaussian)).flatten(1, 2)
        )

    def raw(self, tokens: Tensor) -> Tensor:
        """Unconstrained outputs (B, M, G·P) for `decode`."""
        with without_autocast(tokens.device):
            dtype = next(self.gaussian_head.parameters()).dtype
            raw: Tensor = self.gaussian_head(tokens.to(dtype))
            return raw.float()


def decode(raw: Tensor) -> Gaussians:
    """Activate unconstrained outputs as parameters of Gaussians.

    Args:
        raw: (..., N, 11 + 3·S): mean (3), scale (3), quaternion wxyz (4), opacity, harmonics with
            the colour channel running fastest.

    Returns:
        (..., N) Gaussians.
    """
    position, scale, quat, opacity, harmonics = raw.split((3, 3, 4, 1, raw.shape[-1] - 11), dim=-1)
    # An inverse log map: linear near the origin, with a range up to e⁵ − 1 ≈ 147.
    position = position.clamp(-MAX_LOG_POSITION, MAX_LOG_POSITION)
    return Gaussians(
        means=position.sign() * position.abs().expm1(),
        scales=functional.softplus(scale - SCALE_SHIFT).clamp(MIN_SCALE, MAX_SCALE),
        quats=functional.normalize(quat, dim=-1, eps=1e-12),
        opacities=opacity.squeeze(-1).sigmoid(),
        sh_coeffs=harmonics.unflatten(-1, (-1, 3)),
    )
