"""Layers against plain formulas."""

from __future__ import annotations

import math
import sys
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from zipsplat.model import layers
from zipsplat.model.layers import (
    Block,
    CrossBlock,
    LayerScale,
    Mlp,
    PatchEmbed,
    SelfAttention,
    SwiGlu,
)
from zipsplat.model.rope import global_positions, local_positions, rotation


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(0)


def naive_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One head, written out: (N, C) each."""
    weights = torch.exp(q @ k.T / math.sqrt(q.shape[1]))
    return weights / weights.sum(dim=1, keepdim=True) @ v


@pytest.mark.parametrize("qk_norm", [True, False])
def test_self_attention(qk_norm: bool) -> None:
    layer = SelfAttention(12, 3, qk_norm=qk_norm).double()
    x = torch.randn(2, 5, 12).double()
    got = layer(x)
    for b in range(2):
        q, k, v = layer.qkv(x[b]).split(12, dim=-1)
        heads = []
        for h in range(3):
            part = slice(4 * h, 4 * h + 4)
            qh, kh = layer.q_norm(q[:, part]), layer.k_norm(k[:, part])
            heads.append(naive_attention(qh, kh, v[:, part]))
        torch.testing.assert_close(got[b], layer.proj(torch.cat(heads, dim=-1)))


def test_cross_block_gives_the_update_alone() -> None:
    block = CrossBlock(8, 2, 16, eps=1e-5).double()
    query, context = torch.randn(1, 3, 8).double(), torch.randn(1, 7, 8).double()
    q = block.attn.q_proj(block.norm_q(query[0]))
    k, v = block.attn.kv_proj(block.norm_kv(context[0])).split(8, dim=-1)
    heads = [
        naive_attention(block.attn.q_norm(q[:, s]), block.attn.k_norm(k[:, s]), v[:, s])
        for s in (slice(0, 4), slice(4, 8))
    ]
    first = block.ls1.gamma * block.attn.proj(torch.cat(heads, dim=-1))
    hidden = block.mlp.fc1(block.norm2(query[0] + first))
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    wanted = first + block.ls2.gamma * block.mlp.fc2(gelu)
    torch.testing.assert_close(block(query, context)[0], wanted)


def test_block_is_residual() -> None:
    block = Block(8, 2, Mlp(8, 16), qk_norm=True, eps=1e-6).double()
    x = torch.randn(1, 4, 8).double()
    middle = x + block.ls1.gamma * block.attn(block.norm1(x))
    wanted = middle + block.ls2.gamma * block.mlp(block.norm2(middle))
    torch.testing.assert_close(block(x), wanted)


def test_swiglu() -> None:
    layer = SwiGlu(6, 10).double()
    x = torch.randn(4, 6).double()
    gate, value = layer.w12(x)[:, :10], layer.w12(x)[:, 10:]
    torch.testing.assert_close(layer(x), layer.w3(gate / (1 + torch.exp(-gate)) * value))


def test_fused_swiglu_is_given_the_right_halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What xformers computes, by its documentation: w3(silu(x w1 + b1) · (x w2 + b2))."""

    def swiglu(x: Tensor, *parts: Tensor) -> Tensor:
        w1, b1, w2, b2, w3, b3 = parts
        gated = functional.silu(functional.linear(x, w1, b1)) * functional.linear(x, w2, b2)
        return functional.linear(gated, w3, b3)

    module = ModuleType("xformers.ops")
    module.swiglu, module.unbind = swiglu, torch.unbind  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "xformers", ModuleType("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", module)
    layer, x = SwiGlu(6, 10), torch.randn(4, 6)
    fused = layers._fused_swiglu.__wrapped__()
    assert fused is not None
    torch.testing.assert_close(fused(x, layer), layer(x))


def test_without_xformers_there_is_no_fused_swiglu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    assert layers._fused_swiglu.__wrapped__() is None
    without = ModuleType("xformers.ops")  # a version that no longer has it
    monkeypatch.setitem(sys.modules, "xformers", ModuleType("xformers"))
    monkeypatch.setitem(sys.modules, "xformers.ops", without)
    assert layers._fused_swiglu.__wrapped__() is None


def test_layer_scale_added() -> None:
    scale = LayerScale(4)
    with torch.no_grad():
        scale.gamma.copy_(torch.tensor([1.0, 2.0, 0.0, -1.0]))
    base, update = torch.ones(2, 4), torch.full((2, 4), 3.0)
    assert scale.added(base, update)[0].tolist() == [4, 7, 1, -2]


@pytest.mark.parametrize("lead", [(), (2,), (2, 3)])
def test_patch_embedding_is_the_convolution(lead: tuple[int, ...]) -> None:
    layer = PatchEmbed(5, 7).double()
    images = torch.rand(*lead, 3, 14, 21).double()
    wanted = layer.proj(images.reshape(-1, 3, 14, 21)).flatten(2).transpose(1, 2)
    got = layer(images)
    assert got.shape == (*lead, 6, 5)
    torch.testing.assert_close(got.reshape(-1, 6, 5), wanted)


def rotated_by_hand(x: Tensor, row: float, column: float) -> Tensor:
    """One head of 16 channels: two halves of four planes, channels j and j + 4 of a half."""
    out = torch.empty_like(x)
    for half, position in enumerate((row, column)):
        for j in range(4):
            angle = position * 100 ** (-2 * j / 8)
            u, w = x[8 * half + j], x[8 * half + j + 4]
            out[8 * half + j] = u * math.cos(angle) - w * math.sin(angle)
            out[8 * half + j + 4] = w * math.cos(angle) + u * math.sin(angle)
    return out


def test_rotary_positions_by_hand() -> None:
    positions = local_positions(2, 3, torch.device("cpu"))
    assert positions.tolist() == [[0, 0], [1, 1], [1, 2], [1, 3], [2, 1], [2, 2], [2, 3]]
    x = torch.randn(1, 7, 2, 16)
    got = rotation(positions, 16)(x)
    for n in range(7):
        for head in range(2):
            wanted = rotated_by_hand(x[0, n, head], *positions[n].tolist())
            torch.testing.assert_close(got[0, n, head], wanted)


def test_rotary_products_depend_on_differences_only() -> None:
    turn = rotation(torch.tensor([[0.0, 0.0], [2.0, 3.0], [5.0, 1.0], [7.0, 4.0]]), 16)
    q, k = torch.randn(16), torch.randn(16)
    qs, ks = turn(q.expand(4, 1, 16)), turn(k.expand(4, 1, 16))
    torch.testing.assert_close((qs[1] * ks[0]).sum(), (qs[3] * ks[2]).sum())
    assert abs((qs[1] * ks[0]).sum() - (qs[1] * ks[1]).sum()) > 1e-3


def test_positions_repeat_for_every_view() -> None:
    positions = global_positions(3, torch.device("cpu"))
    assert positions.tolist() == [[0, 0], [1, 1], [1, 1], [1, 1]]
    turn = rotation(positions, 8)
    views = torch.randn(2, 3 * 4, 2, 8)
    wanted = torch.cat([turn(view) for view in views.split(4, dim=1)], dim=1)
    torch.testing.assert_close(turn(views), wanted, rtol=0, atol=0)


def test_odd_heads_have_no_rotation() -> None:
    with pytest.raises(ValueError, match="multiple of 4"):
        rotation(torch.zeros(1, 2), 6)


def test_attention_for_training_in_bfloat16_is_that_of_the_fused_kernel() -> None:
    """On a CPU with gradients another, quicker path is taken."""
    layer, x = SelfAttention(32, 4, qk_norm=True).bfloat16(), torch.randn(2, 9, 32).bfloat16()
    trained = layer(x.requires_grad_())
    with torch.no_grad():
        plain = layer(x)
    exact = layer.float()(x.float())
    assert (trained - exact).abs().max() <= 2 * (plain - exact).abs().max()
    assert not torch.equal(trained, plain)  # or else this test compares a path with itself
