"""Camera, Pose and Gaussians against the golden values (tests/golden/model/README.md)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from zipsplat import Camera, Gaussians, Pose
from zipsplat.formats.ply import OPACITY_MARGIN, SCALE_MIN

GOLDEN = Path(__file__).parents[1] / "golden" / "model" / "geometry.npz"


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN) as file:
        return {key: torch.from_numpy(np.asarray(file[key])) for key in file.files}


def close(got: Tensor, wanted: Tensor, atol: float = 1e-5, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(got, wanted.to(got), atol=atol, rtol=rtol)


def test_camera_constructors(golden: dict[str, Tensor]) -> None:
    w, h = golden["fov_wh"].tolist()
    fov = golden["fov"]
    cameras = Camera.from_fov(fov[:, 0], fov[:, 1], w=w, h=h)
    close(cameras.packed(), golden["from_fov_xy"])
    close(cameras.hfov, golden["fov"][:, 0])
    close(cameras.vfov, golden["fov"][:, 1])
    fx, fy = golden["focal"].unbind(-1)
    cx, cy = golden["cxcy"].unbind(-1)
    full = Camera.from_focal(fx, fy, w=641, h=479, cx=cx, cy=cy)
    close(full.packed(), golden["from_focal_full"])
    close(Camera.from_focal(fx, w=641, h=479).packed(), golden["from_focal_min"])
    close(Camera.from_K(golden["K_in"], 641, 479).packed(), golden["from_K"])
    close(Camera.from_K(golden["K_in"], 641, 479).K, golden["K_out"])


def test_camera_changes(golden: dict[str, Tensor]) -> None:
    camera = Camera.from_packed(golden["from_focal_full"])
    close(camera.scale(252 / 479).packed(), golden["scale_scalar"])
    close(camera.scale((0.25, 1.75)).packed(), golden["scale_xy"])
    close(camera.crop((-162, 0)).packed(), golden["crop_m162_0"])
    close(camera.crop((5, -7)).packed(), golden["crop_5_m7"])
    close(camera.crop((479 - 641, 0)).scale(252 / 479).packed(), golden["prior_adjust"])


def test_fields_of_view(golden: dict[str, Tensor]) -> None:
    camera = Camera.from_packed(golden["from_focal_full"])
    close(camera.hfov, golden["hfov"])
    close(camera.vfov, golden["vfov"])


def test_poses(golden: dict[str, Tensor]) -> None:
    pose = Pose.from_Rt(golden["R"], golden["t"])
    other = Pose.from_packed(golden["pose2_data"])
    close(pose.packed(), golden["pose_data"])
    close(pose.Rt, golden["Rt"])
    close(pose.Rt_inv, golden["Rt_inv"])
    close(pose.inv().packed(), golden["inv_data"])
    close(pose.quat, golden["quat_wxyz"])
    close(pose.compose(other).packed(), golden["compose_data"])
    close(pose.transform(golden["points"]), golden["points_out"])
    close(Pose.matrix_to_quaternion(golden["R64"]), golden["quat64"])


def test_orbit(golden: dict[str, Tensor]) -> None:
    radius = float(golden["orbit_radius"])
    poses = Pose.orbit(golden["orbit_center"], radius, golden["orbit_az"], golden["orbit_el"])
    close(poses.packed(), golden["orbit_data"])


def test_gaussians(golden: dict[str, Tensor]) -> None:
    scene = Gaussians.from_packed(golden["cloud"])
    close(scene.scale(2.5).packed(), golden["scaled_2p5"])
    close(scene.rgb, golden["rgb"])
    close(scene.sh_coeffs, golden["sh_coeffs"])
    close(scene.sh0, golden["sh0"])
    close(scene.shN, golden["shN"])
    assert torch.equal(scene.packed(), golden["cloud"])


@pytest.mark.parametrize("degree", range(4))
def test_ply_bytes(degree: int, tmp_path: Path) -> None:
    """Every byte, with the logarithms of this processor's PyTorch, which may differ in one bit."""
    with np.load(GOLDEN.with_name("ply.npz")) as file:
        packed, wanted = file[f"data_deg{degree}"], file[f"ply_deg{degree}"].tobytes()
    scene = Gaussians.from_packed(torch.from_numpy(packed))
    scene.save_ply(tmp_path / "sub" / "scene.ply")
    start = wanted.index(b"end_header\n") + len(b"end_header\n")
    table = np.frombuffer(wanted, "<f4", offset=start).reshape(len(packed), -1).copy()
    opacities = scene.opacities.clamp(OPACITY_MARGIN, 1 - OPACITY_MARGIN)
    logits = torch.log(opacities / (1 - opacities))[:, None]
    logarithms = torch.cat((logits, torch.log(scene.scales.clamp(min=SCALE_MIN))), dim=1).numpy()
    np.testing.assert_array_max_ulp(table[:, -8:-4], logarithms, maxulp=1)
    table[:, -8:-4] = logarithms
    written = (tmp_path / "sub" / "scene.ply").read_bytes()
    assert written == wanted[:start] + table.tobytes()
