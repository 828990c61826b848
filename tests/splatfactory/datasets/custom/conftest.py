"""A generated scene, and captures of it in nerfstudio's format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from splatscenes.interiors import playroom
from splatscenes.scene import GeneratedScene, generate_scene
from tests.splatfactory.datasets.custom.captures import FLIP, SIZE, WriteCapture


@pytest.fixture(scope="module")
def scene() -> GeneratedScene:
    return generate_scene("example", 0, 0, 4, SIZE, (playroom,))


@pytest.fixture
def write_capture(tmp_path: Path, scene: GeneratedScene) -> WriteCapture:
    """Writes a nerfstudio folder of the generated scene; keywords change transforms.json."""

    def write(name: str = "my capture.1", **changes: Any) -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        K, frames = scene.shot.K, []
        for view, pose in enumerate(scene.shot.world_from_camera):
            Image.fromarray(scene.render(view)[0]).save(folder / "images" / f"{view}.png")
            matrix = (pose @ FLIP).tolist()
            frames.append({"file_path": f"images/{view}.png", "transform_matrix": matrix})
        content: dict[str, Any] = {"w": SIZE[1], "h": SIZE[0], "fl_x": K[0, 0], "fl_y": K[1, 1]}
        content |= {"cx": K[0, 2], "cy": K[1, 2], "frames": frames} | changes
        removed = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_model")
        content = {k: v for k, v in content.items() if v is not None or k not in removed}
        (folder / "transforms.json").write_text(json.dumps(content))
        return folder

    return write
