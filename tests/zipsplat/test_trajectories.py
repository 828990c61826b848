"""Camera paths equal the golden ones, loop without a stutter and pass their keys."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from zipsplat.pose import Pose
from zipsplat.rotations import matrix_from_quat
from zipsplat.trajectories import (
    CameraPath,
    dolly_poses,
    interpolate_poses,
    load_camera_path,
    orbit_poses,
    save_camera_path,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "geometry.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as arrays:
        return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays}


def random_poses(count: int, seed: int = 0) -> Pose:
    generator = torch.Generator().manual_seed(seed)
    quats = torch.randn(count, 4, generator=generator)
    return Pose(matrix_from_quat(quats), torch.randn(count, 3, generator=generator))


def angles_deg(a: Pose, b: Pose) -> torch.Tensor:
    """Angle between the rotations of poses; exact near zero, unlike the arc cosine."""
    chord = (a.R - b.R).flatten(-2).norm(dim=-1) / (2 * math.sqrt(2))
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


def test_the_golden_turntable(golden):
    poses = orbit_poses(
        golden["center"],
        float(golden["radius"]),
        7,
        elevation_deg=10.0,
        base_azimuth_deg=5.0,
        endpoint=True,
    )
    torch.testing.assert_close(poses.packed(), golden["orbit_poses_360_n7"], atol=2e-6, rtol=0)


def test_the_golden_wiggle(golden):
    poses = orbit_poses(golden["center"], float(golden["radius"]), 9, sweep_deg=None, endpoint=True)
    torch.testing.assert_close(poses.packed(), golden["orbit_poses_wiggle_n9"], atol=2e-6, rtol=0)


@pytest.mark.parametrize("sweep_deg", [360.0, -360.0, None])
def test_orbits_loop(sweep_deg):
    center = torch.tensor([1.0, 2.0, 3.0])
    poses = orbit_poses(center, 2.0, 24, sweep_deg=sweep_deg, elevation_deg=20)
    ended = orbit_poses(center, 2.0, 25, sweep_deg=sweep_deg, elevation_deg=20, endpoint=True)
    torch.testing.assert_close(poses.packed(), ended[:-1].packed())
    torch.testing.assert_close(ended[0].packed(), ended[-1].packed(), atol=1e-5, rtol=0)
    steps = torch.cat((poses.t, poses.t[:1])).diff(dim=0).norm(dim=-1)
    assert steps.min() > 0, "a repeated pose would stutter"


def test_orbits_look_at_the_centre_from_the_asked_height():
    center = torch.tensor([1.0, 2.0, 3.0])
    poses = orbit_poses(center, 2.0, 10, elevation_deg=30)
    seen = poses.inv().transform(center.expand(10, 1, 3)).squeeze(1)
    torch.testing.assert_close(seen, torch.tensor([0.0, 0, 2]).expand(10, 3), atol=1e-6, rtol=0)
    torch.testing.assert_close(poses.t[:, 1], torch.full((10,), 2.0 - 1.0))  # up is −y
    torch.testing.assert_close(poses[0].t, center + torch.tensor([0, -1, -math.sqrt(3)]))


def test_a_wiggle_stays_near_its_start():
    poses = orbit_poses(torch.zeros(3), 1.0, 60, sweep_deg=None)
    start = Pose.orbit(torch.zeros(3), 1.0, [0.0])[0]
    assert 15 < angles_deg(poses, start[None]).max() < 17
    assert poses.t[:, 1].abs().max() == pytest.approx(math.sin(math.radians(2)), rel=1e-2)


def test_a_dolly_goes_forward_and_back():
    start = random_poses(1)[0]
    poses = dolly_poses(start, 0.5, 8)
    local = start.inv().transform(poses.t)
    torch.testing.assert_close(local[:, :2], torch.zeros(8, 2), atol=1e-6, rtol=0)
    assert local[0, 2] == pytest.approx(0, abs=1e-6)
    assert local[4, 2] == pytest.approx(0.5, abs=1e-6)
    torch.testing.assert_close(local[1:4, 2], local[5:, 2].flip(0), atol=1e-6, rtol=0)
    assert torch.equal(poses.R, start.R.expand(8, 3, 3))
    with pytest.raises(ValueError, match="one pose"):
        dolly_poses(poses, 0.5, 8)


@pytest.mark.parametrize("closed", [False, True])
def test_interpolation_passes_its_keys(closed):
    keys = random_poses(5, seed=3)
    count = 5 * 6 if closed else 4 * 6 + 1
    path = interpolate_poses(keys, count, closed=closed)
    at_keys = path[::6]
    torch.testing.assert_close(at_keys.t, keys.t, atol=1e-5, rtol=0)
    assert angles_deg(at_keys, keys).max() < 1e-2
    path.check()


def test_interpolation_between_two_poses_turns_evenly_and_the_short_way():
    keys = Pose.orbit(torch.zeros(3), 1.0, [0.0, 60.0])
    path = interpolate_poses(keys, 3)
    middle = Pose.orbit(torch.zeros(3), 1.0, [30.0])
    assert angles_deg(path[1:2], middle).max() < 1e-3
    flipped = Pose(matrix_from_quat(-keys.quat), keys.t)
    torch.testing.assert_close(interpolate_poses(flipped, 3).R, path.R)


def test_a_closed_path_has_no_jump_at_its_seam():
    keys = Pose.orbit(torch.zeros(3), 1.0, [0.0, 80.0, 160.0, 240.0, 320.0])
    path = interpolate_poses(keys, 50, closed=True)
    after = torch.cat((path[1:].packed(), path[:1].packed()))
    steps = angles_deg(path, Pose.from_packed(after))
    assert steps.max() < 3 * steps.median()


def test_turning_past_half_a_turn_has_no_jump():
    keys = Pose.orbit(torch.zeros(3), 1.0, [0.0, 80.0, 160.0, 240.0, 320.0])
    steps = angles_deg(*(lambda path: (path[1:], path[:-1]))(interpolate_poses(keys, 50)))
    assert steps.max() < 3 * steps.median()


def test_one_key_stays():
    key = random_poses(1)
    for closed in (False, True):
        path = interpolate_poses(key, 4, closed=closed)
        torch.testing.assert_close(path.t, key.t.expand(4, 3))
    assert len(interpolate_poses(random_poses(3), 1)) == 1


@pytest.mark.parametrize("num_frames", [0, -3])
def test_paths_need_a_frame(num_frames):
    with pytest.raises(ValueError, match="at least one frame"):
        orbit_poses(torch.zeros(3), 1.0, num_frames)
    with pytest.raises(ValueError, match="at least one frame"):
        interpolate_poses(random_poses(2), num_frames)


def test_paths_need_a_distance_and_keys():
    with pytest.raises(ValueError, match="radius"):
        orbit_poses(torch.zeros(3), 0.0, 4)
    with pytest.raises(ValueError, match="keys"):
        interpolate_poses(random_poses(2)[:0], 3)


def test_camera_paths_are_read_from_json(tmp_path):
    poses = random_poses(3)
    file = tmp_path / "cams.json"
    file.write_text(json.dumps({"world_from_camera": poses.Rt.tolist(), "fov_deg": 60}))
    path = load_camera_path(file)
    torch.testing.assert_close(path.poses.packed(), poses.packed())
    assert path.fov_deg == 60
    file.write_text(json.dumps({"world_from_camera": poses.Rt.tolist()}))
    assert load_camera_path(str(file)).fov_deg is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{}",
        '{"world_from_camera": []}',
        '{"world_from_camera": [[1, 2], [3, 4]]}',
        '{"world_from_camera": "no"}',
        '{"world_from_camera": [[[2,0,0,0],[0,2,0,0],[0,0,2,0],[0,0,0,1]]]}',
        '{"world_from_camera": [[[1,0,0,0],[0,1,0,0],[0,0,1,0],[0,0,0,1]]], "fov_deg": 190}',
    ],
)
def test_other_files_are_no_camera_paths(tmp_path, content):
    file = tmp_path / "cams.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"cams\.json: not a camera path"):
        load_camera_path(file)


def test_saved_camera_paths_come_back(tmp_path):
    poses = Pose.orbit(torch.tensor([1.0, 2.0, 3.0]), 2.0, [0, 30, 60], 20)
    for fov_deg in (None, 71.5):
        save_camera_path(CameraPath(poses, fov_deg), tmp_path / "new folder/path.json")
        again = load_camera_path(tmp_path / "new folder/path.json")
        assert again.fov_deg == fov_deg
        torch.testing.assert_close(again.poses.Rt, poses.Rt, rtol=0, atol=0)
