"""A loss that is NaN."""

from torch import Tensor

from splatfactory.protocols import Supervision


def not_a_number(supervision: Supervision) -> Tensor:
    return supervision.gaussians.opacities.mean(dim=1) * float("nan")


PLUGIN = not_a_number
