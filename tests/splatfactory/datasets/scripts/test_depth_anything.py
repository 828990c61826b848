"""`extract_depth` with Depth Anything 3: true depth goes in and is stored; the whole command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from splatfactory.datasets import depth_codec
from splatfactory.datasets.frames import decode_pixels
from splatfactory.datasets.generated import stored_scene
from splatfactory.datasets.scripts import extract_depth
from splatfactory.datasets.scripts.depth_estimators import DepthAnything3
from splatfactory.datasets.scripts.extract_depth import Options, extract
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.store import ShardStore
from splatscenes.scene import GeneratedScene, generate_scene
from tests.splatfactory.datasets.stored_scenes import ROOT
from tests.zipsplat.depth.tiny_depth import write_tiny
from zipsplat import Camera, DepthAnything, Pose
from zipsplat.model.depth_network import DepthMaps
from zipsplat.model.priors import Priors

SIZE = (42, 56)
SCALE = 0.37


def generated(num_scenes: int, num_views: int) -> list[GeneratedScene]:
    return [generate_scene("test", 3, index, num_views, SIZE) for index in range(num_scenes)]


def write(directory: Path, scenes: list[GeneratedScene]) -> Path:
    """One shard of generated scenes without depth."""
    with ShardOutput(directory, "test") as output:
        for scene in scenes:
            output.add(replace(stored_scene(scene), depths=None))
    return directory


class TrueDepth(nn.Module):
    """Knows the depth of every image; tells it and the poses in a scale and frame of its own."""

    patch_size, has_cameras = 14, True

    def __init__(self, scenes: list[GeneratedScene], directory: Path) -> None:
        super().__init__()
        self.known: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}
        store = ShardStore(directory)
        for number, scene in enumerate(scenes):
            stored = store.read(number)
            for view, data in enumerate(stored.images):
                depth = scene.render(view)[1]
                self.known[decode_pixels(data).tobytes()] = (depth, stored.poses[view])

    def set_precision(self, dtype: torch.dtype) -> TrueDepth:
        return self

    def forward(
        self, images: Tensor, priors: Priors | None = None, *, with_rays: bool = False
    ) -> DepthMaps:
        assert priors is not None
        levels = (images[0] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
        found = [self.known[image.tobytes()] for image in levels]
        depth = torch.from_numpy(np.stack([depth for depth, _ in found])).double()
        poses = Pose.from_packed(torch.from_numpy(np.stack([pose for _, pose in found]))).to(
            torch.float64
        )
        frame = Pose.orbit(torch.tensor([1.0, 2, 3], dtype=torch.float64), 5.0, [70.0], [20.0])
        moved = frame.compose(poses)
        cameras = Camera.from_focal(torch.full((len(found),), 40.0), w=SIZE[1], h=SIZE[0])
        return DepthMaps(
            SCALE * depth[None], cameras=cameras[None], poses=Pose(moved.R, SCALE * moved.t)[None]
        )


@pytest.mark.parametrize(("num_views", "max_views"), [(5, None), (12, None), (8, 4)])
def test_true_depth_is_stored(tmp_path: Path, num_views: int, max_views: int | None) -> None:
    scenes = generated(2, num_views)
    directory = write(tmp_path / "a", scenes)
    oracle = TrueDepth(scenes, directory)
    model = DepthAnything.from_network(oracle, "cpu", image_size=max(SIZE))
    estimator = DepthAnything3(model)
    seen: list[float] = []

    class Watching:
        def estimate(self, images, K, camera_from_world):
            depth = estimator.estimate(images, K, camera_from_world)
            truth = np.stack([oracle.known[image.tobytes()][0] for image in images])
            seen.append(float(np.median(depth / truth)))
            return depth

    outcome = extract(directory, Watching(), Options(max_views=max_views))
    assert (outcome.extracted, outcome.failures) == (2, {})
    np.testing.assert_allclose(seen, 1, atol=1e-6)
    store = ShardStore(directory)
    for number, scene in enumerate(scenes):
        for view, encoded in enumerate(store.read(number).depths):
            truth = scene.render(view)[1]
            depth = depth_codec.decode(encoded)
            step = (encoded.far / encoded.near) ** (1 / 254)
            known = depth > 0
            assert known.mean() > 0.9
            assert np.abs(np.log(depth[known] / truth[known])).max() <= np.log(step)


def test_images_of_several_shapes_are_refused(tmp_path: Path) -> None:
    estimator = DepthAnything3(DepthAnything(write_tiny(tmp_path / "x.safetensors"), "cpu"))
    images = [np.zeros((20, 40, 3), np.uint8), np.zeros((40, 20, 3), np.uint8)]
    K = np.tile(np.eye(3, dtype=np.float32), (2, 1, 1))
    with pytest.raises(ValueError, match="must have one shape"):
        estimator.estimate(images, K, np.tile(np.eye(4, dtype=np.float32), (2, 1, 1)))


KILLED = """
import os, signal, sys
from pathlib import Path
from splatfactory.datasets.scripts import depth_estimators, extract_depth
calls, estimate = [], depth_estimators.DepthAnything3.estimate
def killing(self, *arguments):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return estimate(self, *arguments)
depth_estimators.DepthAnything3.estimate = killing
extract_depth.main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_command_in_this_environment_and_killed(tmp_path: Path) -> None:
    """Weights of the golden rule, generated shards; a killed run ends with the same bytes."""
    weights = write_tiny(tmp_path / "tiny.safetensors", "nested")
    scenes = generated(4, 4)
    made = []
    for name in ("whole", "killed"):
        directory = write(tmp_path / name, scenes)
        shard = directory / "shard-000000.tar"
        before = shard.read_bytes()
        command = [str(directory), "--weights", str(weights)]
        if name == "killed":
            process = subprocess.run(
                [sys.executable, "-c", KILLED, *command],
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                capture_output=True,
                check=False,
            )
            assert process.returncode == -signal.SIGKILL, process.stderr
            assert shard.read_bytes() == before
        assert extract_depth.main(command) == 0
        made.append(shard.read_bytes())
    assert made[0] == made[1]
    stored = ShardStore(tmp_path / "whole").read(0)
    assert stored.depths is not None
    assert depth_codec.decode(stored.depths[0]).shape == SIZE


def test_missing_weights_are_said_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = write(tmp_path / "a", generated(1, 3))
    assert extract_depth.main([str(directory), "--weights", str(tmp_path / "no.safetensors")]) == 1
    assert "no weights at" in capsys.readouterr().err
