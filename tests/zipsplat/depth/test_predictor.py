"""`DepthAnything`: files in, depth and cameras out, given cameras and their scale."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.zipsplat.depth.tiny_depth import CONF, tiny_tensors, write_tiny
from tests.zipsplat.model.depth_cases import DepthCase, formula_network
from zipsplat import Camera, DepthAnything, Pose, ZipSplat
from zipsplat.depth.predictor import seen_from_first
from zipsplat.model.depth_layout import depth_network_from_tensors
from zipsplat.model.depth_network import DepthMaps
from zipsplat.model.priors import Priors

H, W = 28, 42


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DepthAnything:
    path = write_tiny(tmp_path_factory.mktemp("weights") / "tiny.safetensors")
    return DepthAnything(path, device="cpu", image_size=W)


def views(num: int = 3) -> Tensor:
    return torch.rand(num, 3, H, W, generator=torch.Generator().manual_seed(0))


def some_cameras(num: int = 3) -> tuple[Camera, Pose]:
    cameras = torch.stack([Camera.from_focal(40.0 + i, w=W, h=H) for i in range(num)])
    poses = Pose.orbit(
        torch.zeros(3), 2.0, [20.0 * i for i in range(num)], [7.0 * i for i in range(num)]
    )
    return cameras, poses


def test_kinds_of_input(model: DepthAnything) -> None:
    stacked = views()
    found = model(stacked)
    assert found.depth.shape == (3, H, W)
    assert found.confidence is not None
    assert found.confidence.shape == (3, H, W)
    assert bool((found.confidence > 1).all())
    assert found.cameras is not None
    assert found.poses is not None
    assert found.cameras.shape == found.poses.shape == (3,)
    torch.testing.assert_close(found.poses[0].Rt, torch.eye(4), atol=1e-6, rtol=0)
    assert found.sky is None
    for other in (list(stacked), stacked[None]):
        assert torch.equal(model(other).depth, found.depth)
    assert model([torch.rand(3, 100, 60)]).depth.shape == (1, 42, 28)
    wide = model([torch.rand(3, 100, 150)])
    assert wide.input_cameras is not None
    assert wide.input_cameras.size.tolist() == [[150, 100]]


def test_it_moves_like_a_module(tmp_path: Path) -> None:
    moved = DepthAnything(write_tiny(tmp_path / "x.safetensors"), "cpu", image_size=W).to("meta")
    assert moved.device == torch.device("meta")
    assert isinstance(moved.model, nn.Module)


def test_it_is_the_published_network() -> None:
    case = DepthCase("da3-small_v2_56x42")
    wrapped = DepthAnything.from_network(formula_network("da3-small"), "cpu", "float32", (56, 42))
    case.check("out_depth", wrapped(case.images()).depth[None])


@pytest.mark.parametrize("name", ["da3-small_v3_42x56_poses", "nested_v3_56x70_poses"])
def test_given_poses_are_encoded_as_published(name: str) -> None:
    case = DepthCase(name)
    known = case.given()
    assert known is not None
    case.check("normalized_w2c", seen_from_first(known[1][0]).inv().Rt[None])


def test_given_poses_of_few_and_many_views() -> None:
    def extent(distances: list[float]) -> float:
        t = torch.tensor([[d, 0.0, 0.0] for d in distances])
        normalized = seen_from_first(Pose(torch.eye(3).expand(len(t), 3, 3), t))
        return float(t[-1, 0] / normalized.t[-1, 0])

    assert extent([0, 2]) == pytest.approx(0.1)  # the lower of two is the first view itself
    assert extent([0, 2, 4, 6]) == pytest.approx(2)
    assert extent([0, 2, 4]) == pytest.approx(2)
    assert extent([0, 0.01, 0.02]) == pytest.approx(0.1)


class Oracle(nn.Module):
    """Gives depth of another scale and poses of another frame than the true ones."""

    patch_size, has_cameras = 14, True

    def __init__(self, depth: Tensor, poses: Pose, scale: float) -> None:
        super().__init__()
        self.depth, self.scale = depth, scale
        frame = Pose.orbit(torch.tensor([1.0, 2.0, 3.0]), 5.0, [70.0], [20.0])
        moved = frame.compose(poses)
        self.poses = Pose(moved.R, moved.t * scale)

    def set_precision(self, dtype: torch.dtype) -> Oracle:
        return self

    def forward(
        self, images: Tensor, priors: Priors | None = None, *, with_rays: bool = False
    ) -> DepthMaps:
        assert priors is not None
        cameras = Camera.from_focal(torch.full((len(self.depth),), 40.0), w=W, h=H)
        return DepthMaps(
            self.depth[None] * self.scale, cameras=cameras[None], poses=self.poses[None]
        )


@pytest.mark.parametrize("num_views", [3, 12])
def test_depth_comes_in_the_units_of_given_poses(num_views: int) -> None:
    cameras, poses = some_cameras(num_views)
    depth = torch.rand(num_views, H, W) + 1
    oracle = DepthAnything.from_network(Oracle(depth, poses, 7.5), "cpu", image_size=W)
    found = oracle(views(num_views), cameras, poses)
    torch.testing.assert_close(found.depth, depth, rtol=2e-6, atol=0)
    assert found.poses is not None
    assert torch.equal(found.poses.t, poses.t)
    assert found.cameras is not None
    assert torch.equal(found.cameras.f, cameras.f)


def test_given_cameras_change_the_result(model: DepthAnything) -> None:
    cameras, poses = some_cameras()
    assert not torch.allclose(model(views(), cameras, poses).depth, model(views()).depth)
    scaled = Pose(poses.R, poses.t * 3)
    first, second = model(views(), cameras, poses), model(views(), cameras, scaled)
    torch.testing.assert_close(second.depth, 3 * first.depth, rtol=1e-4, atol=1e-4)


def test_mistakes(model: DepthAnything, tmp_path: Path) -> None:
    cameras, poses = some_cameras()
    with pytest.raises(ValueError, match="cameras must be given together with poses"):
        model(views(), cameras)
    with pytest.raises(ValueError, match="the 2 camera centres lie on a line"):
        model(views(2), cameras[:2], poses[:2])
    with pytest.raises(ValueError, match="its camera says"):
        model(views(), cameras.scale(2), poses)
    with pytest.raises(ValueError, match="not weights of Depth Anything 3"):
        DepthAnything("zipsplat-tiny")
    with pytest.raises(ValueError, match=r"use `zipsplat\.DepthAnything`"):
        ZipSplat(write_tiny(tmp_path / "x.safetensors"))
    mono = DepthAnything(write_tiny(tmp_path / "mono.safetensors", "mono"), "cpu", image_size=W)
    with pytest.raises(ValueError, match="takes no cameras"):
        mono(views(), cameras, poses)


def test_other_kinds(tmp_path: Path) -> None:
    mono = DepthAnything(write_tiny(tmp_path / "mono.safetensors", "mono"), "cpu", image_size=W)
    found = mono(views())
    assert found.depth.shape == (3, H, W)
    assert found.sky is not None
    assert (found.confidence, found.cameras, found.poses) == (None, None, None)
    nested = DepthAnything(write_tiny(tmp_path / "n.safetensors", "nested"), "cpu", image_size=W)
    both = nested(views())
    assert both.sky is not None
    assert both.cameras is not None
    assert both.confidence is not None


def test_bfloat16_is_near(model: DepthAnything, tmp_path: Path) -> None:
    path = write_tiny(tmp_path / "x.safetensors")
    half = DepthAnything(path, device="cpu", dtype="bfloat16", image_size=W)
    assert half.model.backbone.norm.weight.dtype == torch.bfloat16
    assert half.model.head.norm.weight.dtype == torch.float32
    ratio = half(views()).depth / model(views()).depth
    assert 0.8 < float(ratio.median()) < 1.25


def test_layout_reads_what_the_tensors_tell() -> None:
    tensors = tiny_tensors()
    network = depth_network_from_tensors(tensors, CONF)
    assert network.config.backbone.picks_reference
    assert network.config.head.channels == (8, 8, 16, 16)
    key = "model.backbone.pretrained.norm.bias"
    assert network.backbone.norm.bias.data_ptr() == tensors[key].data_ptr()
    unused = {
        "model.gs_head.x": torch.ones(1),
        "model.head.scratch.output_conv1_aux.0.0.bias": torch.ones(1),
    }
    depth_network_from_tensors(tensors | unused, CONF)
    with pytest.raises(ValueError, match=r"1 unexpected: head\.strange"):
        depth_network_from_tensors(tensors | {"model.head.strange": torch.ones(1)}, CONF)
    with pytest.raises(ValueError, match="4 blocks, which is not a released size"):
        depth_network_from_tensors(tensors, {})
    del tensors[key]
    with pytest.raises(ValueError, match=r"1 missing: backbone\.norm\.bias"):
        depth_network_from_tensors(tensors, CONF)


def test_only_sky() -> None:
    from zipsplat.model.metric_depth import metric_scale, without_sky

    depth = torch.rand(1, 1, 4, 5) + 1
    sky = torch.ones(1, 1, 4, 5)
    assert torch.equal(without_sky(depth, sky), depth)
    camera = Camera.from_focal(300.0, w=5, h=4)[None, None]
    with pytest.raises(ValueError, match="almost all sky"):
        metric_scale(depth, depth, depth, sky, camera)
    sky[..., :3] = 0
    filled = without_sky(depth.expand(1, 2, 4, 5), sky.expand(1, 2, 4, 5))
    wanted = np.quantile(depth[..., :3].numpy(), 0.99)  # the same numbers twice
    assert float(filled[0, 0, 0, 4]) == pytest.approx(wanted, rel=0.02)
    metric = metric_scale(depth, depth, 5 * depth, sky, camera)
    assert float(metric) == pytest.approx(5, rel=1e-6)
