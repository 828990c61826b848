"""The network as a whole: shapes, laws, gradients, and what it must not do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.zipsplat.tiny_network import TINY, tiny_network
from zipsplat.camera import Camera
from zipsplat.model.architecture import ZipSplatConfig
from zipsplat.model.backbones import BACKBONES
from zipsplat.model.compression import select_random, select_stride
from zipsplat.model.network import ZipSplatNetwork
from zipsplat.model.priors import Priors
from zipsplat.pose import Pose


def images(B: int = 1, V: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(B, V, 3, 28, 42, generator=torch.Generator().manual_seed(seed))


def some_priors(B: int, V: int) -> Priors:
    poses = Pose.orbit(torch.zeros(3), 2.0, [30.0 * i for i in range(B * V)], 10.0)
    cameras = Camera.from_fov(torch.linspace(0.8, 1.2, B * V), w=42, h=28)
    shape = (B, V, -1)
    return Priors.from_cameras(
        Camera.from_packed(cameras.packed().reshape(shape)),
        Pose.from_packed(poses.packed().reshape(shape)),
    )


@torch.no_grad()
def packed(network: ZipSplatNetwork, *args: object) -> Tensor:
    return network(*args).packed()


def test_scenes_of_a_batch_are_independent() -> None:
    network, views, priors = tiny_network(), images(B=3), some_priors(3, 3)
    together = packed(network, views, priors)
    for b in range(3):
        alone = packed(network, views[b : b + 1], priors[b : b + 1])
        torch.testing.assert_close(together[b : b + 1], alone, atol=1e-4, rtol=1e-4)


def test_views_but_the_first_may_change_places() -> None:
    """Without priors only the first view is special; each token keeps its Gaussians."""
    network, views = tiny_network(), images(V=4)
    order = [0, 3, 1, 2]
    plain = packed(network, views).unflatten(1, (4, -1))
    changed = packed(network, views[:, order]).unflatten(1, (4, -1))
    torch.testing.assert_close(changed, plain[:, order], atol=1e-4, rtol=1e-4)
    swapped = packed(network, views[:, [1, 0, 2, 3]]).unflatten(1, (4, -1))
    assert (swapped[:, [1, 0, 2, 3]] - plain).abs().max() > 1e-2


def test_prior_views_may_change_places_with_their_priors() -> None:
    network, views, priors = tiny_network(), images(V=3), some_priors(1, 3)
    order = [2, 0, 1]
    plain = packed(network, views, priors).unflatten(1, (3, -1))
    moved = Priors(priors.encoding[:, order])
    changed = packed(network, views[:, order], moved).unflatten(1, (3, -1))
    torch.testing.assert_close(changed, plain[:, order], atol=1e-4, rtol=1e-4)


def test_one_view_and_any_grid() -> None:
    network = tiny_network()
    assert packed(network, torch.rand(1, 1, 3, 14, 70)).shape == (1, 5 * 4, 23)
    assert packed(network, torch.rand(1, 2, 3, 70, 70)).shape == (1, 2 * 25 * 4, 23)


def test_learned_positions_are_used_as_they_are_on_their_own_grid() -> None:
    vit = tiny_network().backbone.backbone
    assert vit.positions(5, 5) is vit.pos_embed
    resampled = vit.positions(4, 5)
    assert resampled.shape == (1, 21, 32)
    torch.testing.assert_close(resampled[:, 0], vit.pos_embed[:, 0])


@pytest.mark.parametrize(
    "shape",
    [(1, 3, 28, 28), (1, 0, 3, 28, 28), (0, 1, 3, 28, 28), (1, 1, 4, 28, 28), (1, 1, 3, 0, 28)],
)
def test_shapes_are_checked(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(B, V, 3, H, W\)"):
        tiny_network()(torch.zeros(shape))


def test_sides_are_multiples_of_the_patch() -> None:
    with pytest.raises(ValueError, match="multiples of 14 pixels, got 28×30"):
        tiny_network()(torch.zeros(1, 1, 3, 28, 30))


def test_every_parameter_learns() -> None:
    network = tiny_network().train()
    network(images(), some_priors(1, 3), 0.5).packed().square().mean().backward()
    silent = {n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()}
    # With priors, the learned camera tokens are unused; softmax does not feel a common shift of
    # the keys; the special token's embedding is overwritten but was attended to before.
    assert silent == {"backbone.backbone.camera_token"}
    network.zero_grad()
    network(images(), None, 0.5).packed().square().mean().backward()
    assert network.backbone.backbone.camera_token.grad.any()


def test_recomputing_activations_changes_nothing() -> None:
    gradients = []
    for recompute in (False, True):
        network = tiny_network().train()
        network.activation_checkpointing = recompute
        network.backbone.backbone.activation_checkpointing = recompute
        network(images(), None, 0.5).packed().square().mean().backward()
        gradients.append(
            torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])
        )
    torch.testing.assert_close(gradients[1], gradients[0])


def test_other_selectors() -> None:
    network = tiny_network()
    features = network.encode(images())
    for selector in (select_stride, select_random):
        assert network.decode(features, 0.5, selector).shape == (1, 9 * 4)


def test_autocast_keeps_the_head_in_float32() -> None:
    network, views = tiny_network(), images()
    exact = packed(network, views, None, 0.5)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = packed(network, views, None, 0.5)
    assert mixed.dtype == torch.float32
    assert mixed.shape == exact.shape
    everything = packed(network, views)
    with torch.autocast("cpu", torch.bfloat16):
        error = (packed(network, views) - everything).norm() / everything.norm()
    assert 1e-5 < error < 0.05


def test_autocast_sums_in_the_precision_of_the_parameters() -> None:
    network = tiny_network()
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        tokens = network.backbone(images(), None)
    assert {layer.dtype for layer in tokens} == {torch.float32}


def test_features_move() -> None:
    features = tiny_network().encode(images())
    assert features.num_tokens == 18
    assert features.grid == (2, 3)
    assert features.to(torch.float64).layers[0].dtype == torch.float64


@pytest.mark.parametrize("name", ["vits", "vitg"])
def test_no_value_is_looked_at(name: str) -> None:
    """On the meta device there are no values: a synchronisation with the host would fail."""
    with torch.device("meta"):
        network = ZipSplatNetwork(ZipSplatConfig.variant(name))
        views = torch.empty(1, 6, 3, 252, 252)
        priors = Priors(torch.empty(1, 6, 9))
    with torch.no_grad():
        assert network(views, priors, 0.25).means.shape == (1, 6 * 81 * 32, 3)


def test_compiles_as_one_graph() -> None:
    network, views = tiny_network(), images()
    compiled = torch.compile(network.encode, backend="eager", fullgraph=True)
    with torch.no_grad():
        wanted, got = network.encode(views), compiled(views)
    torch.testing.assert_close(got.layers[0], wanted.layers[0])


@pytest.mark.parametrize("name", BACKBONES.names())
def test_every_backbone(name: str) -> None:
    backbone = BACKBONES[name](TINY.backbone)
    views, priors = images(B=2), some_priors(2, 3)
    for given in (None, priors):
        outputs = backbone(views, given)
        assert len(outputs) == backbone.num_outputs == 3
        assert {tuple(o.shape) for o in outputs} == {(2, 3, 6, 2 * backbone.dim)}
    assert 28 % backbone.patch_size == 0


def test_another_backbone_can_be_given() -> None:
    class Plain(torch.nn.Module):
        dim, patch_size, num_outputs = 32, 14, 2

        def forward(self, views: Tensor, priors: Priors | None) -> list[Tensor]:
            B, V, _, H, W = views.shape
            return [torch.ones(B, V, H * W // 196, 64)] * 2

    network = ZipSplatNetwork(TINY, Plain())
    assert network(images()).shape == (1, 18 * 4)
    assert len(network.cross_attention) == 2


def test_priors_of_the_first_view_at_rest() -> None:
    camera = Camera.from_fov(1.0, 0.7, w=40, h=30)
    encoding = Priors.from_cameras(camera[None], Pose.identity((1,))).encoding[0]
    torch.testing.assert_close(encoding, torch.tensor([0, 0, 0, 0, 0, 0, 1, 0.7, 1.0]))


def test_priors_go_from_world_to_camera() -> None:
    pose = Pose.from_Rt(torch.eye(3), torch.tensor([1.0, 2.0, 3.0]))
    camera = Camera.from_fov(1.0, w=40, h=40)
    encoding = Priors.from_cameras(camera[None], pose[None]).encoding[0]
    assert encoding[:3].tolist() == [-1, -2, -3]
