"""The layers the network is made of: attention, feed-forward nets, blocks, patch embedding.

Letters: B scenes (or sequences), N tokens of a sequence, M queries, D width, F hidden width.

The blocks are those of DINOv2 (Oquab et al., "DINOv2: Learning Robust Visual Features without
Supervision", 2023), with the normalised queries and keys of Dehghani et al., "Scaling Vision
Transformers to 22 Billion Parameters" (2023). Parameter names are those of the released checkpoint.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from zipsplat import float32_products
from zipsplat.model.rope import Rotation

QK_NORM_EPS = 1e-5
SHORT_SEQUENCE = 1024  # tokens; up to here, the full attention matrix may be stored


class Mlp(nn.Module):
    """Two linear layers with an exact GELU between them, (..., D) → (..., `dim_out`)."""

    def __init__(self, dim: int, hidden: int, dim_out: int | None = None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.fc2 = nn.Linear(hidden, dim if dim_out is None else dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to the last dimension."""
        out: Tensor = self.fc2(functional.gelu(self.fc1(x)))
        return out


class SwiGlu(nn.Module):
    """Gated feed-forward net: `w3(silu(x1) · x2)` with `x1, x2 = w12(x)`.

    See Shazeer, "GLU Variants Improve Transformer" (2020). On CUDA the fused kernel of xformers is
    used where that package is installed; the released checkpoint was trained with it. The numbers
    agree up to rounding.
    """

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(dim, 2 * hidden)
        self.w3 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Apply to the last dimension, (..., D) → (..., D)."""
        fused = _fused_swiglu() if x.is_cuda and not torch.compiler.is_compiling() else None
        if fused is not None:
            return fused(x, self)
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(functional.silu(gate) * value)
        return out


class SelfAttention(nn.Module):
    """Multi-head attention of a sequence to itself.

    Args:
        dim: width D of the tokens.
        num_heads: heads of width D / `num_heads`.
        qk_norm: normalise queries and keys over the channels of each head.
    """

    def __init__(self, dim: int, num_heads: int, *, qk_norm: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        head_dim = dim // num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(head_dim, eps=QK_NORM_EPS) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(head_dim, eps=QK_NORM_EPS) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Attend within each sequence.

        Args:
            x: (B, N, D).
            rotation: turns queries and keys by their tokens' positions.

        Returns:
            (B, N, D).
        """
        q, k, v = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).unbind(-3)
        q, k = self.q_norm(q), self.k_norm(k)
        if rotation is not None:
            q, k = rotation(q), rotation(k)
        return _attend(q, k, v, self.proj)


class CrossAttention(nn.Module):
    """Multi-head attention of queries to another sequence, with normalised queries and keys."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim)
        self.kv_proj = nn.Linear(dim, 2 * dim)
        self.q_norm = nn.LayerNorm(dim // num_heads, eps=QK_NORM_EPS)
        self.k_norm = nn.LayerNorm(dim // num_heads, eps=QK_NORM_EPS)
        self.proj = nn.Linear(dim, dim)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """Attend from `query` (B, M, D) to `context` (B, N, D); returns (B, M, D)."""
        q = self.q_norm(self.q_proj(query).unflatten(-1, (self.num_heads, -1)))
        k, v = self.kv_proj(context).unflatten(-1, (2, self.num_heads, -1)).unbind(-3)
        return _attend(q, self.k_norm(k), v, self.proj)


class LayerScale(nn.Module):
    """A learned factor per channel (Touvron et al., "Going Deeper with Image Transformers")."""

    def __init__(self, dim: int, value: float = 1e-2) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), value))

    def forward(self, x: Tensor) -> Tensor:
        """Multiply each channel of (..., D)."""
        return x * self.gamma

    def added(self, base: Tensor, update: Tensor) -> Tensor:
        """`base` plus the scaled update, fused.

        Under autocast the residual stream keeps the precision of the parameters.
        """
        dtype = torch.promote_types(base.dtype, self.gamma.dtype)
        return torch.addcmul(base.to(dtype), self.gamma.to(dtype), update.to(dtype))


class Block(nn.Module):
    """Transformer block: self-attention, then a feed-forward net, both residual and scaled.

    Args:
        dim: width D.
        num_heads: number of attention heads.
        mlp: the feed-forward net (..., D) → (..., D).
        qk_norm: normalise queries and keys.
        eps: of the two LayerNorms.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp: nn.Module, *, qk_norm: bool, eps: float
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=eps)
        self.attn = SelfAttention(dim, num_heads, qk_norm=qk_norm)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = mlp
        self.ls2 = LayerScale(dim)

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """Update the tokens (B, N, D) of each sequence."""
        x = self.ls1.added(x, self.attn(self.norm1(x), rotation))
        return self.ls2.added(x, self.mlp(self.norm2(x)))


class CrossBlock(nn.Module):
    """Transformer block with cross-attention; returns only the update.

    Args:
        dim: width D.
        num_heads: number of attention heads.
        hidden: hidden width of the feed-forward net.
        eps: of the three LayerNorms.
    """

    def __init__(self, dim: int, num_heads: int, hidden: int, eps: float) -> None:
        super().__init__()
        self.norm_q = nn.LayerNorm(dim, eps=eps)
        self.norm_kv = nn.LayerNorm(dim, eps=eps)
        self.attn = CrossAttention(dim, num_heads)
        self.ls1 = LayerScale(dim)
        self.norm2 = nn.LayerNorm(dim, eps=eps)
        self.mlp = Mlp(dim, hidden)
        self.ls2 = LayerScale(dim)

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        """The update of the queries.

        Args:
            query: (B, M, D).
            context: (B, N, D).

        Returns:
            (B, M, D), without `query` itself.
        """
        update: Tensor = self.ls1(self.attn(self.norm_q(query), self.norm_kv(context)))
        return self.ls2.added(update, self.mlp(self.norm2(query + update)))


class PatchEmbed(nn.Module):
    """One token per square patch of an image: a linear map of its pixels.

    Args:
        dim: width D of the tokens.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, dim: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(3, dim, kernel_size=patch_size, stride=patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """Embed images (..., 3, H, W) as tokens (..., T, D), patches row by row."""
        size = self.patch_size
        rows, columns = images.shape[-2] // size, images.shape[-1] // size
        # Patches do not overlap, so the convolution is a matrix product, which is faster on CPUs.
        pixels = images.to(self.proj.weight.dtype).reshape(
            *images.shape[:-2], rows, size, columns, size
        )
        patches = pixels.movedim((-5, -3, -1), (-3, -2, -1)).reshape(
            *images.shape[:-3], rows * columns, -1
        )
        return functional.linear(patches, self.proj.weight.flatten(1), self.proj.bias)


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """A context that disables autocast."""
    if device.type in ("meta", "mps"):  # no autocast in some or all versions of PyTorch
        return nullcontext()
    return torch.autocast(device.type, enabled=False)


def _attend(q: Tensor, k: Tensor, v: Tensor, proj: nn.Module) -> Tensor:
    """Softmax attention over (B, N, heads, channels), heads joined and projected: (B, M, D)."""
    q, k, v = (part.transpose(-3, -2) for part in (q, k, v))
    is_short = k.shape[-2] <= SHORT_SEQUENCE
    if is_short and v.dtype == torch.bfloat16 and v.device.type == "cpu" and v.requires_grad:
        # PyTorch's fused kernel is two to four times slower here, mostly in its backward pass.
        q, k = q.to(v.dtype) * q.shape[-1] ** -0.5, k.to(v.dtype)
        joined = (q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
    elif not is_short and v.dtype == torch.bfloat16 and float32_products.is_active():
        # PyTorch's fused kernel is slower in bfloat16 than in float32 through oneDNN.
        q, k = q.float(), k.float()
        joined = functional.scaled_dot_product_attention(q, k, v.float()).to(v.dtype)
    else:
        joined = functional.scaled_dot_product_attention(q, k, v)
    out: Tensor = proj(joined.transpose(-3, -2).flatten(-2))
    return out


class _Fused(Protocol):
    def __call__(self, x: Tensor, layer: SwiGlu) -> Tensor: ...


@cache
def _fused_swiglu() -> _Fused | None:
    """The SwiGLU of xformers, or None where xformers is missing or no longer has one."""
    try:
        from xformers.ops import swiglu, unbind
    except ImportError:
        return None

    def fused(x: Tensor, layer: SwiGlu) -> Tensor:
        # xformers' own unbind lets it recognise that both halves are one matrix.
        w1, w2 = unbind(layer.w12.weight.unflatten(0, (2, -1)), 0)
        b1, b2 = unbind(layer.w12.bias.unflatten(0, (2, -1)), 0)
        out: Tensor = swiglu(x, w1, b1, w2, b2, layer.w3.weight, layer.w3.bias)
        return out

    return fused
