"""The backbone of Depth Anything 3: a DINOv2 transformer with attention across views.

Letters: B scenes, V views, H W pixels, T patches per view, D width.

From block `alt_start` on, every odd block attends over all views of a scene at once, the others
within each view. In front of the patches of each view stands one special token; at `alt_start`
it is replaced by a camera token, learned or made from priors. See Lin et al., "Depth Anything 3:
Recovering the Visual Space from Any Views" (2025). Images are not normalised here: ZipSplat was
trained without ImageNet's statistics, and Depth Anything 3 applies them beforehand.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from zipsplat.model.architecture import BackboneConfig
from zipsplat.model.layers import Block, Mlp, PatchEmbed, SwiGlu
from zipsplat.model.priors import CameraEncoder, Priors
from zipsplat.model.reference_view import MIN_VIEWS, reference_first, reordered
from zipsplat.model.rope import Rotation, global_positions, local_positions, rotation
from zipsplat.model.tiny.matcher import Matcher
from zipsplat.model.tiny.pyramid import CELLS, Pyramid

NORM_EPS = 1e-6
# Added to the size of the patch grid when resampling the learned positions: a quirk of DINO that
# trained weights depend on.
GRID_OFFSET = 0.1


class LayerTokens(NamedTuple):
    """Tokens of an output layer: (B, V, T, 2·D) patches and (B, V, 2·D) special tokens.

    The first half of the channels is from the last block that attended within views, the second
    from the layer itself. The second half of the patches is normalised, special tokens are not. A
    plain transformer has only the second half.
    """

    patches: Tensor
    special: Tensor


class MultiViewViT(nn.Module):
    """The transformer: from images to tokens of several layers.

    Args:
        config: sizes and starts.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.activation_checkpointing = False
        dim = config.dim
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        if config.is_multiview:
            self.camera_token = nn.Parameter(torch.zeros(1, 2, dim))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + config.pos_grid**2, dim))
        self.patch_embed = PatchEmbed(dim, config.patch_size)
        stem = config.stem_dim
        self.stem = Pyramid(stem, dim, config.patch_size) if stem else None
        self.matcher = (
            Matcher(self.stem.dim_out, dim, CELLS) if self.stem and config.has_matcher else None
        )
        self.blocks = nn.ModuleList(_block(config, index) for index in range(config.depth))
        self.norm = nn.LayerNorm(dim, eps=config.final_norm_eps)

    def forward(self, images: Tensor, camera_tokens: Tensor | None = None) -> list[Tensor]:
        """Tokens of the output layers.

        Args:
            images: (B, V, 3, H, W) RGB in [0, 1].
            camera_tokens: (B, V, D) to use instead of the learned ones.

        Returns:
            For each output layer, deepest first, (B, V, T, 2·D): the tokens after the last block
            with attention within views, then those of the layer, normalised.
        """
        return [layer.patches for layer in self.layers(images, camera_tokens)]

    def layers(self, images: Tensor, camera_tokens: Tensor | None = None) -> list[LayerTokens]:
        """All tokens of the output layers, deepest first; arguments as for `forward`."""
        config, (B, V) = self.config, images.shape[:2]
        x, camera_update = self.embed(images)
        x = x.flatten(0, 1)
        picks_reference = config.picks_reference and camera_tokens is None and V >= MIN_VIEWS
        order: Tensor | None = None
        if camera_tokens is None and config.is_multiview:
            camera_tokens = self.learned_camera_tokens(B, V)
        if camera_tokens is not None and camera_update is not None:
            camera_tokens = camera_tokens + camera_update
        within, across = self._rotations(images)
        outputs: list[LayerTokens] = []
        local = x
        for index, block in enumerate(self.blocks):
            if picks_reference and index == config.alt_start - 1:
                order = reference_first(x[:, 0].unflatten(0, (B, V)))
                x = reordered(x.unflatten(0, (B, V)), order).flatten(0, 1)
            if camera_tokens is not None and index == config.alt_start:
                x = torch.cat((camera_tokens.flatten(0, 1).unsqueeze(1).to(x.dtype), x[:, 1:]), 1)
            has_rope = index >= config.rope_start
            if self._is_global(index):
                scenes = x.reshape(B, -1, x.shape[-1])
                x = self._run(block, scenes, across if has_rope else None).view_as(x)
            else:
                x = local = self._run(block, x, within if has_rope else None)
            if index in config.out_layers:
                outputs.insert(0, self._output(local, x, (B, V), order))
        return outputs

    def _output(
        self, local: Tensor, x: Tensor, batch: tuple[int, int], order: Tensor | None
    ) -> LayerTokens:
        """The output of a layer, with views in input order."""
        patches, special = self.norm(x[:, 1:]), x[:, 0]
        if self.config.is_multiview:
            patches = torch.cat((local[:, 1:], patches), dim=-1)
            special = torch.cat((local[:, 0], special), dim=-1)
        patches, special = (part.unflatten(0, batch) for part in (patches, special))
        if order is None:
            return LayerTokens(patches, special)
        back = order.argsort(dim=1)
        return LayerTokens(reordered(patches, back), reordered(special, back))

    def embed(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Special token and patches of each view with position embeddings, (B, V, 1 + T, D).

        With a matcher, also the update of the camera tokens from matches, (B, V, D).
        """
        patches, camera_update = self.patch_embed(images), None
        if self.stem is not None:
            features = self.stem(images)
            patches = patches + self.stem.tokens(features)
            if self.matcher is not None:
                patch_update, camera_update = self.matcher.embed(self.matcher(features))
                patches = patches + patch_update
        size = self.config.patch_size
        positions = self.positions(images.shape[-2] // size, images.shape[-1] // size)
        special = self.cls_token.expand(*patches.shape[:2], 1, -1)
        tokens = torch.cat((special.to(patches.dtype), patches), dim=-2)
        return tokens + positions.to(patches.dtype), camera_update

    def positions(self, rows: int, columns: int) -> Tensor:
        """Learned positions (1, 1 + T, D) resampled to a patch grid, in float32."""
        side = self.config.pos_grid
        if rows == columns == side:
            return self.pos_embed
        special, grid = self.pos_embed.float().split((1, side**2), dim=1)
        resampled = functional.interpolate(
            grid.transpose(1, 2).unflatten(-1, (side, side)),
            scale_factor=((rows + GRID_OFFSET) / side, (columns + GRID_OFFSET) / side),
            mode="bicubic",
            align_corners=False,
        )
        return torch.cat((special, resampled.flatten(2).transpose(1, 2)), dim=1)

    def learned_camera_tokens(self, num_scenes: int, num_views: int) -> Tensor:
        """Camera tokens (B, V, D) for unknown cameras: one for the first view, one for the rest."""
        first, other = self.camera_token.split(1, dim=1)
        tokens = torch.cat((first, other.expand(-1, num_views - 1, -1)), dim=1)
        return tokens.expand(num_scenes, -1, -1)

    def _is_global(self, index: int) -> bool:
        return self.config.is_multiview and index >= self.config.alt_start and index % 2 == 1

    def _rotations(self, images: Tensor) -> tuple[Rotation | None, Rotation | None]:
        """Rotary embeddings within and across views, computed once for all blocks."""
        if self.config.rope_start >= self.config.depth:
            return None, None
        rows, columns = (side // self.config.patch_size for side in images.shape[-2:])
        head_dim = self.config.dim // self.config.num_heads
        within = rotation(local_positions(rows, columns, images.device), head_dim)
        across = rotation(global_positions(rows * columns, images.device), head_dim)
        dtype = self.norm.weight.dtype
        return within.to(dtype), across.to(dtype)

    def _run(self, block: nn.Module, x: Tensor, turn: Rotation | None) -> Tensor:
        if self.activation_checkpointing and torch.is_grad_enabled():
            return checkpoint(block, x, turn, use_reentrant=False)  # type: ignore[no-any-return]
        out: Tensor = block(x, turn)
        return out


class DepthAnything3(nn.Module):
    """The transformer together with the encoder of camera priors; a `Backbone`.

    Args:
        config: sizes and starts.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.dim = config.dim
        self.patch_size = config.patch_size
        self.num_outputs = len(config.out_layers)
        self.backbone = MultiViewViT(config)
        self.cam_enc = CameraEncoder(config.dim, config.prior_heads)

    def forward(self, images: Tensor, priors: Priors | None = None) -> list[Tensor]:
        """Tokens (B, V, T, 2·D) of each output layer, deepest first; see `MultiViewViT`."""
        return [layer.patches for layer in self.layers(images, priors)]

    def layers(self, images: Tensor, priors: Priors | None = None) -> list[LayerTokens]:
        """As `forward`, with the special tokens."""
        camera_tokens = None if priors is None else self.cam_enc(priors)
        return self.backbone.layers(images, camera_tokens)


def _block(config: BackboneConfig, index: int) -> Block:
    net = Mlp if config.ffn == "mlp" else SwiGlu
    return Block(
        config.dim,
        config.num_heads,
        net(config.dim, config.ffn_hidden),
        qk_norm=index >= config.qknorm_start,
        eps=NORM_EPS,
    )


PLUGIN = DepthAnything3
