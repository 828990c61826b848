"""Cameras from a network whose geometry is exact, is wrong, or is that of zipsplat-tiny."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from zipsplat import Camera, Gaussians, Pose, ZipSplat
from zipsplat.alignment import rotation_from_vector
from zipsplat.camera_estimation.from_network import (
    CamerasNotFoundError,
    NetworkCameras,
    cameras_from_network,
    fit_cameras,
)
from zipsplat.model.network import Features

SIDE, PATCH, SPREAD = 112, 14, 4
GRID = SIDE // PATCH
FOCAL = 0.8


class ExactNetwork(nn.Module):
    """Gives, for photos it knows, Gaussians on the true surfaces, in the first one's frame.

    The surface is a wavy wall. Each token is a cross of Gaussians around the point that is seen at
    the centre of its patch. `spoil` changes the points (V, T, 3) in the first camera's frame.
    """

    def __init__(self, spoil: Callable[[Tensor], Tensor] = lambda points: points) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.backbone = SimpleNamespace(patch_size=PATCH)
        self.spoil = spoil
        turns = torch.tensor([[0.0, 0, 0], [0.02, 0.25, 0.03], [-0.1, -0.3, 0.0]])
        self.poses = Pose(
            rotation_from_vector(turns),
            torch.tensor([[0.0, 0, 0], [-0.8, 0.1, 0.1], [0.9, -0.2, -0.2]]),
        )
        self.camera = Camera.from_focal(FOCAL * SIDE, w=SIDE, h=SIDE)
        self.order = [0, 1, 2]
        self.photos = self.render()

    def set_precision(self, dtype: torch.dtype) -> nn.Module:
        return self

    def render(self) -> Tensor:
        cameras = self.camera.map(lambda value: value.expand(3, 2))
        photos = torch.zeros(3, 3, 1, 1)
        for _ in range(5):  # until what is behind has the photos' mean colour, as in refinement
            behind = photos.mean(dim=(0, 2, 3))
            photos = self.scene().render(cameras, self.poses, backgrounds=behind)[0].clamp(0, 1)
        return photos

    def encode(self, images: Tensor, priors: object) -> Features:
        distances = (images[0][:, None] - self.photos).abs().mean(dim=(2, 3, 4))
        self.order = distances.argmin(dim=1).tolist()
        tokens = torch.zeros(1, len(self.order) * GRID**2, 1)
        return Features((tokens,), tokens, len(self.order), (GRID, GRID))

    def decode(self, features: Features, compression: float) -> Gaussians:
        assert compression == 1
        return self.scene()[None]

    def scene(self) -> Gaussians:
        poses = self.poses[torch.tensor(self.order)]
        world = _on_wall(self.camera, poses)
        points = self.spoil(poses[0].inv().transform(world.flatten(0, 1)).unflatten(0, (3, -1)))
        offsets = 0.06 * torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]])
        means = (points[..., None, :] + offsets).flatten(0, 2)
        colors = torch.sin(9 * world + 4 * world.roll(1, dims=-1)).unsqueeze(2)
        return Gaussians(
            means,
            torch.full_like(means, 0.1),
            torch.tensor([1.0, 0, 0, 0]).expand(len(means), 4),
            torch.full_like(means[:, 0], 0.8),
            colors.expand(-1, -1, SPREAD, -1).flatten(0, 2)[:, None],
        )


def _on_wall(camera: Camera, poses: Pose) -> Tensor:
    """Where the rays of patch centres meet z = 4 + sin(x)·cos(y) / 2: (V, T, 3)."""
    y, x = torch.meshgrid(torch.arange(GRID), torch.arange(GRID), indexing="ij")
    pixels = (torch.stack((x, y), dim=-1).flatten(0, 1) + 0.5) * PATCH
    rays = camera.unproject(pixels, torch.ones(len(pixels))) @ poses.R.mT
    start = poses.t.unsqueeze(1)
    depth = torch.full_like(rays[..., :1], 4.0)
    for _ in range(60):
        points = start + depth * rays
        wall = 4 + 0.5 * points[..., :1].sin() * points[..., 1:2].cos()
        depth = depth + 0.7 * (wall - points[..., 2:]) / rays[..., 2:]
    return start + depth * rays


def model_of(network: nn.Module) -> ZipSplat:
    return ZipSplat.from_network(network, device="cpu", image_size=SIDE)  # type: ignore[arg-type]


def rotation_error(found: NetworkCameras, poses: Pose) -> float:
    R = found.images.poses.R.double()
    cosines = ((R.mT @ poses.R.double()).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    return float(cosines.clamp(-1, 1).acos().rad2deg().max())


def test_exact_geometry_gives_exact_cameras():
    network = ExactNetwork()
    found = cameras_from_network(model_of(network), list(network.photos))
    assert rotation_error(found, network.poses) < 0.1
    torch.testing.assert_close(
        found.images.cameras.f, torch.full((3, 2), FOCAL * SIDE), rtol=0.01, atol=0
    )
    torch.testing.assert_close(found.images.poses.t, network.poses.t, atol=0.01, rtol=0)
    assert min(found.inlier_shares) == 1
    assert found.rejection is None
    assert len(found.warnings) == 1
    assert found.images.names == ("0", "1", "2")


def test_cameras_are_those_of_the_photos_as_given():
    network = ExactNetwork()
    photos = [torch.zeros(3, SIDE, SIDE + 40) for _ in range(3)]
    for photo, seen in zip(photos, network.photos, strict=True):
        photo[..., 20:-20] = seen
    found = fit_cameras(model_of(network), photos, ["a", "b", "c"])
    cameras = found.images.cameras
    torch.testing.assert_close(cameras.f, torch.full((3, 2), FOCAL * SIDE), rtol=0.01, atol=0)
    assert cameras.size.tolist() == [[SIDE + 40, SIDE]] * 3
    assert found.images.names == ("a", "b", "c")


def flattened_by_view(points: Tensor) -> Tensor:
    """As if the network had not seen that the cameras differ: all views look alike."""
    return points[:1].expand_as(points)


def scattered(points: Tensor) -> Tensor:
    return points + torch.randn(points.shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("spoil", [flattened_by_view, scattered])
def test_wrong_geometry_is_refused_in_one_line(spoil: Callable[[Tensor], Tensor]):
    right = ExactNetwork()
    wrong = ExactNetwork(spoil)
    wrong.photos = right.photos
    with pytest.raises(CamerasNotFoundError, match="own geometry is not reliable: ") as refusal:
        cameras_from_network(model_of(wrong), list(right.photos))
    assert "\n" not in str(refusal.value)


def test_geometry_that_turns_with_the_order_of_the_photos_is_refused():
    network = ExactNetwork()
    photos = list(network.photos)

    def spoil(points: Tensor) -> Tensor:
        if network.order[0] == 0:
            return points
        turned = points.clone()
        turned[1:] = points[1:] @ rotation_from_vector(torch.tensor([0.0, 0.3, 0.0]))
        return turned

    network.spoil = spoil
    with pytest.raises(CamerasNotFoundError, match="reverse order"):
        cameras_from_network(model_of(network), photos)


def test_the_fit_repeats_bit_for_bit():
    network = ExactNetwork(lambda points: points + 0.02 * points.sin())
    fits = [fit_cameras(model_of(network), list(network.photos), seed=1) for _ in range(2)]
    assert torch.equal(fits[0].images.poses.R, fits[1].images.poses.R)
    assert fits[0].gain == fits[1].gain


def test_one_photo_is_refused():
    network = ExactNetwork()
    with pytest.raises(ValueError, match="at least two photos, got 1"):
        fit_cameras(model_of(network), list(network.photos[:1]))
