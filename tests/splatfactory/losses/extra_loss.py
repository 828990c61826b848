"""A loss as somebody else would add it: mean opacity."""

from torch import Tensor

from splatfactory.protocols import Supervision


def mean_opacity(supervision: Supervision) -> Tensor:
    return supervision.gaussians.opacities.mean(dim=1)


PLUGIN = mean_opacity
