"""Scenes: packing, edits, drawing, files."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from zipsplat import Camera, Gaussians, Pose
from zipsplat.rotations import matrix_from_quat

CAMERA = Camera.from_fov(math.radians(60), w=40, h=30)


def random_scene(num: int = 50, degree: int = 1, seed: int = 0) -> Gaussians:
    generator = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    return Gaussians.from_parameters(
        means=randn(num, 3) * 0.7 + torch.tensor([0.0, 0.0, 4.0]),
        scales=(randn(num, 3) * 0.3 - 2).exp(),
        quats=randn(num, 4),
        opacities=randn(num).sigmoid(),
        sh_coeffs=randn(num, (degree + 1) ** 2, 3) * 0.4,
    )


def render(scene: Gaussians, pose: Pose | None = None, **options: object) -> torch.Tensor:
    pose = Pose.identity() if pose is None else pose
    return scene.render(CAMERA, pose, renderer="reference", **options)[0]


@pytest.mark.parametrize("degree", range(4))
def test_packing(degree: int) -> None:
    scene = random_scene(degree=degree)
    packed = scene.packed()
    assert packed.shape == (50, 11 + 3 * (degree + 1) ** 2)
    again = Gaussians.from_packed(packed)
    assert again.max_sh_degree == degree
    for key in Gaussians.event_dims:
        assert torch.equal(getattr(again, key), getattr(scene, key))
    assert packed[7, 11 + 3 + 2 if degree else 13] == scene.sh_coeffs[7, 1 if degree else 0, 2]


def test_images_have_the_documented_shapes() -> None:
    scene = random_scene(8)
    image, info = scene.render(CAMERA, Pose.identity(), renderer="reference")
    assert image.shape == (1, 3, 30, 40)
    assert info["alphas"].shape == (1, 1, 30, 40)
    batch = torch.stack([scene, scene.scale(1.5)])
    cameras, poses = torch.stack([CAMERA] * 6).cpu(), Pose.identity((6,))
    cameras = Camera.from_packed(cameras.packed().reshape(2, 3, 6))
    poses = Pose.from_packed(poses.packed().reshape(2, 3, 12))
    image, info = batch.render(cameras, poses, mode="RGB+ED", masks=True, renderer="reference")
    assert image.shape == (2, 3, 4, 30, 40)
    assert info["alphas"].shape == (2, 3, 1, 30, 40)
    assert info["contributed"].shape == (2, 3, 8)
    alone = scene.scale(1.5).render(CAMERA, Pose.identity(), mode="RGB+ED", renderer="reference")[0]
    torch.testing.assert_close(image[1, 0], alone[0])


def test_one_camera_for_many_poses() -> None:
    image, _ = random_scene(4).render(CAMERA, Pose.identity((3,)), renderer="reference")
    assert image.shape == (3, 3, 30, 40)


def test_rendering_does_not_depend_on_order_or_world_frame() -> None:
    scene = random_scene(degree=3)
    image = render(scene)
    torch.testing.assert_close(render(scene[torch.randperm(50)]), image)
    move = Pose.from_Rt(
        matrix_from_quat(torch.tensor([0.3, -0.5, 0.7, 0.2])), torch.tensor([1.0, 2.0, -3.0])
    )
    torch.testing.assert_close(render(scene.transform(move), move), image, atol=1e-4, rtol=1e-4)
    scaled = scene.transform(move, scale=2.5)
    seen = render(scaled, move, near_plane=0.025)
    torch.testing.assert_close(seen, image, atol=1e-4, rtol=1e-4)


def test_lower_degree_is_a_prefix() -> None:
    scene = random_scene(degree=3)
    torch.testing.assert_close(render(scene, sh_degree=1), render(scene.with_sh_degree(1)))
    torch.testing.assert_close(
        render(scene.with_sh_degree(1)), render(scene.with_sh_degree(1).with_sh_degree(2))
    )
    with pytest.raises(ValueError, match=r"sh_degree must be in 0\.\.1, got 2"):
        render(scene.with_sh_degree(1), sh_degree=2)


def test_backgrounds() -> None:
    empty = random_scene(1)[:0]
    image = render(empty, backgrounds=torch.tensor([0.25, 0.5, 1.0]))
    assert torch.equal(image[0, :, 3, 5], torch.tensor([0.25, 0.5, 1.0]))
    assert render(empty, mode="ED").abs().max() == 0


def test_color_by_group() -> None:
    scene = random_scene(50)
    before = torch.random.get_rng_state()
    colored = scene.color_by_group(8)
    assert torch.equal(before, torch.random.get_rng_state())
    assert colored.max_sh_degree == 0
    rgb = colored.rgb
    assert rgb.min() >= 0
    assert rgb.max() <= 1
    for start in range(0, 50, 8):
        assert (rgb[start : start + 8] == rgb[start]).all()
    assert len(rgb[::8].unique(dim=0)) == 7
    assert torch.equal(scene.color_by_group(8).rgb, rgb)
    with pytest.raises(ValueError, match="at least 1, got 0"):
        scene.color_by_group(0)


def test_save_and_load(tmp_path: Path) -> None:
    scene = random_scene(degree=2).to(torch.float64)
    scene.save(tmp_path / "deep" / "scene.ply")
    again = Gaussians.load(tmp_path / "deep" / "scene.ply")
    torch.testing.assert_close(again.packed(), scene.packed().float(), atol=1e-5, rtol=1e-5)
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["scene.ply"]
    empty = scene[:0]
    empty.save_ply(tmp_path / "none.ply")
    assert Gaussians.load(tmp_path / "none.ply").num_gaussians == 0


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scene.ply"
    scene = random_scene(4)
    scene.save(path)
    before = path.read_bytes()
    broken = replace(scene, means=scene.means * math.nan)
    with pytest.raises(ValueError, match="means must be finite, got 12 values"):
        broken.save(path)
    assert path.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_broken_files_are_named(tmp_path: Path) -> None:
    path = tmp_path / "bad.ply"
    path.write_bytes(b"hello\n")
    with pytest.raises(ValueError, match=r"bad\.ply: this is not a \.ply"):
        Gaussians.load(path)
    with pytest.raises(ValueError, match=r"no scene format has the suffix of .*\.xyz"):
        random_scene(1).save(tmp_path / "scene.xyz")
    with pytest.raises(FileNotFoundError):
        Gaussians.load(tmp_path / "none.ply")


def make(**changes: torch.Tensor) -> Gaussians:
    values = {
        "means": torch.zeros(2, 3), "scales": torch.ones(2, 3), "quats": torch.ones(2, 4),
        "opacities": torch.ones(2), "sh_coeffs": torch.zeros(2, 1, 3),
    }  # fmt: skip
    return Gaussians.from_parameters(**(values | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"means": torch.zeros(2, 2)}, r"means must be \(\.\.\., N, 3\)"),
        ({"sh_coeffs": torch.zeros(2, 2, 3)}, "1, 4, 9 or 16, got 2"),
        ({"sh_coeffs": torch.zeros(2, 1, 4)}, r"sh_coeffs must be"),
        ({"opacities": torch.ones(3)}, "share one batch shape"),
        ({"opacities": torch.tensor([0.0, 1.5])}, "are these logits"),
        ({"scales": -torch.ones(2, 3)}, "are these logarithms"),
        ({"quats": torch.zeros(2, 4)}, "quats must not be zero"),
    ],
)
def test_wrong_values(changes: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_wrong_calls() -> None:
    scene = random_scene(4)
    batch = torch.stack([scene, scene])
    with pytest.raises(ValueError, match="mode must be one of"):
        scene.render(CAMERA, Pose.identity(), mode="XYZ")
    with pytest.raises(ValueError, match=r"must both be \(2, V\), got \(\) and \(\)"):
        batch.render(CAMERA, Pose.identity())
    with pytest.raises(ValueError, match=r"\(\) or \(V,\), got \(\) and \(2, 3\)"):
        scene.render(CAMERA, Pose.identity((2, 3)))
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        scene.render(torch.stack([CAMERA] * 2), Pose.identity((3,)))
    two = torch.stack([CAMERA, CAMERA.crop((2, 0))])
    with pytest.raises(ValueError, match=r"one size, got \[\[40, 30\], \[42, 30\]\]"):
        scene.render(two, Pose.identity((2,)))
    with pytest.raises(ValueError, match="one scene"):
        batch.save_ply("never.ply")
    with pytest.raises(ValueError, match="factor must be positive"):
        scene.scale(-1)
    with pytest.raises(ValueError, match="packed Gaussians"):
        Gaussians.from_packed(torch.zeros(3, 17))
    with pytest.raises(ValueError, match=r"no renderer named 'gl'"):
        scene.render(CAMERA, Pose.identity(), renderer="gl")


def test_scale_of_a_batch() -> None:
    scene = random_scene(4)
    batch = torch.stack([scene, scene]).scale(torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(batch[1].means, scene.means * 3)
    torch.testing.assert_close(batch[0].means, scene.means)
