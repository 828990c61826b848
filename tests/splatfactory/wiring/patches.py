"""A backbone: one linear layer per output over flat patches."""

from __future__ import annotations

from torch import Tensor, nn

from zipsplat.model.architecture import BackboneConfig
from zipsplat.model.priors import Priors


class Patches(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.dim, self.patch_size = config.dim, config.patch_size
        self.num_outputs = len(config.out_layers)
        inputs = 3 * self.patch_size**2
        self.embed = nn.ModuleList(nn.Linear(inputs, 2 * self.dim) for _ in config.out_layers)

    def forward(self, images: Tensor, priors: Priors | None) -> list[Tensor]:
        side = self.patch_size
        patches = nn.functional.unfold(images.flatten(0, 1), side, stride=side)
        tokens = patches.transpose(1, 2).unflatten(0, images.shape[:2])
        return [layer(tokens) for layer in self.embed]


PLUGIN = Patches
