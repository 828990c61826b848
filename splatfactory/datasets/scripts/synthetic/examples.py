"""Render the example inputs of the repository: images of an office, a flight over a village.

`python -m splatfactory.datasets.scripts.synthetic.examples [FOLDER]`; the scenes are of the split
`example`, which no training or test set contains.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from splatfactory.datasets.scripts.conversion import run_command, say
from splatscenes.builder import SceneBuilder
from splatscenes.exteriors import village
from splatscenes.interiors import office
from splatscenes.materials import Materials
from splatscenes.scene import GeneratedScene, generate_scene
from splatscenes.stage import Stage
from zipsplat.files import atomic_path
from zipsplat.video import write_video

# Chosen by eye among the first dozens: a well-furnished room, a flight in clear light.
OFFICE_INDEX, OFFICE_VIEWS, OFFICE_SIZE = 28, 6, (360, 480)
FLIGHT_INDEX, FLIGHT_FRAMES, FLIGHT_SIZE, FLIGHT_FPS = 11, 96, (272, 480), 24


def flown_over(scene: SceneBuilder, materials: Materials, rng: np.random.Generator) -> Stage:
    """A village with the camera above its roofs."""
    ground = village(scene, materials, rng)
    low, high = (-16.0, -34.0, 9.0), (16.0, 34.0, 15.0)
    return dataclasses.replace(ground, low=low, high=high, reach=(20.0, 30.0), paths=("fly",))


def office_scene(index: int = OFFICE_INDEX, num_views: int = OFFICE_VIEWS) -> GeneratedScene:
    """The office of the example images."""
    return generate_scene("example", 0, index, num_views, OFFICE_SIZE, (office,))


def flight_scene(index: int = FLIGHT_INDEX, num_views: int = FLIGHT_FRAMES) -> GeneratedScene:
    """The village of the example video."""
    return generate_scene("example", 0, index, num_views, FLIGHT_SIZE, (flown_over,))


def _frames(scene: GeneratedScene, title: str) -> Iterator[npt.NDArray[np.uint8]]:
    for view in tqdm(range(len(scene.shot.world_from_camera)), title, disable=None):
        yield scene.render(view)[0]


def render_examples(folder: Path) -> None:
    """Write `office/*.png` and `drone.mp4`; keeps other files."""
    (folder / "office").mkdir(parents=True, exist_ok=True)
    for number, pixels in enumerate(_frames(office_scene(), "office"), 1):
        with atomic_path(folder / "office" / f"{number:02d}.png") as temporary:
            Image.fromarray(pixels).save(temporary, "PNG", optimize=True)
    write_video(folder / "drone.mp4", _frames(flight_scene(), "drone"), FLIGHT_FPS)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    say(f"{folder}: {size / 1e6:.2f} MB")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.synthetic.examples",
        description="Render the example images and the example video from generated scenes.",
    )
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path("assets/examples"),
        help="output folder (default: %(default)s)",
    )
    options = parser.parse_args(argv)

    def run() -> int:
        render_examples(options.folder)
        return 0

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
