from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zipsplat.gaussians import Gaussians
from zipsplat.harmonics import dc_from_rgb
from zipsplat.pose import Pose
from zipsplat.trajectories import CameraPath
from zipsplat.video import load_video
from zipsplat.viewer.video_export import (
    FPS,
    MOVES,
    VideoSettings,
    export_video,
    video_camera,
    video_poses,
)
from zipsplat.viewer.viewpoints import UP_AXES

CENTER = torch.tensor([1.0, 2.0, 3.0])


def scene() -> Gaussians:
    """A red ball above a green one and nearly nothing between them; up is +z."""
    offsets = torch.tensor([[0.0, 0.0, 0.5], [0.0, 0.0, -0.5], [0.0, 0.0, 0.0]])
    counts = torch.tensor([20, 20, 1])
    return Gaussians(
        means=(CENTER + offsets).repeat_interleave(counts, 0),
        scales=torch.full((41, 3), 0.1),
        quats=torch.tensor([1.0, 0, 0, 0]).repeat(41, 1),
        opacities=torch.full((41,), 0.9) * torch.tensor([1.0, 1.0, 0.01]).repeat_interleave(counts),
        sh_coeffs=dc_from_rgb(torch.eye(3)).repeat_interleave(counts, 0).unsqueeze(1),
    )


def frames(
    tmp_path: Path, settings: VideoSettings
) -> tuple[list[torch.Tensor], list[tuple[int, int]]]:
    reports: list[tuple[int, int]] = []
    content = export_video(scene(), settings, lambda done, total: reports.append((done, total)))
    (tmp_path / "clip.mp4").write_bytes(content)
    return load_video(tmp_path / "clip.mp4", num_frames=1000), reports


def test_orbit_around_a_scene_with_another_axis_up(tmp_path: Path) -> None:
    settings = VideoSettings("Orbit", (48, 32), seconds=0.2, up_axis="+z", background=(0, 0, 255))
    views, reports = frames(tmp_path, settings)
    assert len(views) == 6 == FPS * 0.2
    assert reports[-1] == (6, 6)
    for view in views:
        assert view.shape == (3, 32, 48)
        rows = torch.arange(32.0)
        red, green = (view[c] - view.mean(0) for c in (0, 1))
        assert float((red.clamp_min(0).sum(1) * rows).sum() / red.clamp_min(0).sum()) < 16
        assert float((green.clamp_min(0).sum(1) * rows).sum() / green.clamp_min(0).sum()) > 16
        assert float(view[2, 0, 0]) > 0.9
        edges = torch.cat((view[:2, 0], view[:2, -1], view[:2, :, 0], view[:2, :, -1]), 1)
        assert float(edges.max()) < 0.2  # nothing is cut off


@pytest.mark.parametrize("axis", UP_AXES)
@pytest.mark.parametrize("move", ["Orbit", "Wiggle"])
def test_moves_look_at_the_scene_upright_and_end_before_their_start(move: str, axis: str) -> None:
    poses = video_poses(scene(), VideoSettings(move, (80, 60), seconds=1, up_axis=axis))
    assert len(poses) == FPS
    poses.check()
    forward = torch.nn.functional.normalize(CENTER - poses.t, dim=-1)
    torch.testing.assert_close(poses.R[..., 2], forward, atol=2e-3, rtol=0)
    assert float((-poses.R[..., 1] @ torch.tensor(UP_AXES[axis])).min()) > 0.9
    steps = (poses.t - poses.t.roll(1, 0)).norm(dim=-1)
    assert float(steps.max()) < 3 * float(steps.median()) + 1e-3
    assert float((poses.t[0] - poses.t[-1]).norm()) > 1e-3


def test_recorded_path() -> None:
    keys = Pose.orbit(CENTER, 3.0, [0, 40, 80])
    settings = VideoSettings("Recorded path", (100, 50), 1.0, path=CameraPath(keys, 90.0))
    poses = video_poses(scene(), settings)
    torch.testing.assert_close(poses.Rt[0], keys.Rt[0])
    torch.testing.assert_close(poses.Rt[-1], keys.Rt[-1])
    closed = video_poses(scene(), replace(settings, is_loop=True))
    assert float((closed.t[-1] - keys.t[0]).norm()) < float((keys.t[-1] - keys.t[0]).norm()) / 2
    camera = video_camera(settings)
    np.testing.assert_allclose(camera.f, [50, 50], rtol=1e-5)
    assert float(video_camera(replace(settings, path=CameraPath(keys))).hfov) == pytest.approx(
        np.pi / 3
    )
    assert "Recorded path" in MOVES


def test_stopping_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def stop(done: int, total: int) -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        export_video(scene(), VideoSettings("Orbit", (32, 32), seconds=1), stop)
    assert list(tmp_path.iterdir()) == []
