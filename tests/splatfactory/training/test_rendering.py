"""Which Gaussians count as activated, against recorded masks."""

import pytest
import torch

from splatfactory.datasets.samples import Views
from splatfactory.schema import ActivatedRule
from splatfactory.training.rendering import WITH_MASKS, activated
from tests.splatfactory.golden import load
from zipsplat import Camera, Gaussians, Pose
from zipsplat.render import Rendered, Splats, Viewpoints
from zipsplat.render.reference import ReferenceRenderer

SCENES = [f"activated_{number}" for number in range(3)]


def rendered(data: dict[str, torch.Tensor]) -> Rendered:
    """The recorded scene, with the cut at three standard deviations that it was recorded with."""
    splats = Splats(data["means"], data["quats"], data["scales"], data["opacities"], data["sh"])
    size = int(data["width"]), int(data["height"])
    viewpoints = Viewpoints(torch.linalg.inv(data["viewmats"]), data["Ks"], *size, None)
    return ReferenceRenderer(square_cut=True).render(splats, viewpoints, WITH_MASKS)


@pytest.mark.parametrize("name", SCENES)
def test_recorded_images(name: str):
    """Near enough to tell the recorded cut from none, which changes a scene by 1.5e-5."""
    data = load(name)
    result = rendered(data)
    image = torch.cat((result.color, result.depth), dim=1).permute(0, 2, 3, 1)
    torch.testing.assert_close(image, data["rgbd"], atol=3e-6, rtol=0)
    torch.testing.assert_close(result.alpha.permute(0, 2, 3, 1), data["alphas"], atol=3e-6, rtol=0)


@pytest.mark.parametrize("name", SCENES)
def test_recorded_masks_are_met_exactly(name: str):
    """No weight of these scenes is so near a threshold that the mask could differ."""
    data = load(name)
    result = rendered(data)
    centred, blended = data["activated_per_view"] > 0, data["weight_sum_per_view"] > 0
    assert torch.equal(result.centred, centred)
    assert torch.equal(result.contributed, blended)
    assert torch.equal(result.contributed.any(dim=0), data["zero_channel_grad"] > 0)
    assert 0 < centred.sum() < blended.sum() < blended.numel()


@pytest.mark.parametrize("name", SCENES)
@pytest.mark.parametrize("rule", list(ActivatedRule))
def test_one_view_is_enough_to_activate(name: str, rule: ActivatedRule):
    data = load(name)
    scene = Gaussians(data["means"], data["scales"], data["quats"], data["opacities"], data["sh"])
    mask = activated(torch.stack([scene]), views_of(data), ReferenceRenderer(square_cut=True), rule)
    key = "activated_per_view" if rule is ActivatedRule.centred else "weight_sum_per_view"
    per_view = data[key] > 0
    assert torch.equal(mask, per_view.any(dim=0)[None])
    assert not torch.equal(per_view[0], per_view[1])


def views_of(data: dict[str, torch.Tensor]) -> Views:
    """The recorded cameras as (1, V) views; their images are of no importance."""
    num_views, width, height = len(data["Ks"]), int(data["width"]), int(data["height"])
    cameras = Camera.from_K(data["Ks"], width, height)
    poses = Pose.from_4x4mat(torch.linalg.inv(data["viewmats"]))
    ones = torch.ones(1, num_views)
    return Views(
        images=torch.zeros(1, num_views, 3, height, width),
        cameras=torch.stack([cameras]),
        poses=torch.stack([poses]),
        depths=-torch.ones(1, num_views, height, width),
        near=ones,
        far=100 * ones,
        indices=torch.arange(num_views)[None],
    )
