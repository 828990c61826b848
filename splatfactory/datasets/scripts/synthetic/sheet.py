"""Write a contact sheet of generated scenes, one image each (`… .scripts.synthetic.sheet FILE`)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

from splatfactory.datasets.scripts.conversion import run_command, say
from splatscenes.scene import SPLITS, generate_scene
from zipsplat.files import atomic_path


def contact_sheet(
    split: str, seed: int, count: int, columns: int, side: int, num_workers: int
) -> npt.NDArray[np.uint8]:
    """Render the middle views of the first `count` scenes, (rows · side, columns · side, 3)."""

    def render(index: int) -> npt.NDArray[np.uint8]:
        return generate_scene(split, seed, index, 3, (side, side)).render(1)[0]

    rows = -(-count // columns)
    sheet = np.full((rows * side, columns * side, 3), 255, dtype=np.uint8)
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        for index, tile in enumerate(tqdm(pool.map(render, range(count)), split, disable=None)):
            top, left = index // columns * side, index % columns * side
            sheet[top : top + side, left : left + side] = tile
    return sheet


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.synthetic.sheet",
        description="Write a contact sheet of the first scenes of a collection, one image each.",
    )
    parser.add_argument("file", type=Path, help="image to write: .webp, .png or .jpg")
    parser.add_argument(
        "--split",
        choices=tuple(SPLITS),
        default="train",
        help="split of the scenes (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the collection (default: %(default)s)"
    )
    parser.add_argument(
        "--count", type=int, default=60, help="number of scenes (default: %(default)s)"
    )
    parser.add_argument(
        "--columns", type=int, default=10, help="scenes per row (default: %(default)s)"
    )
    parser.add_argument("--size", type=int, default=112, help="side of each image in pixels")
    parser.add_argument("--num-workers", type=int, default=1, help="threads")
    options = parser.parse_args(argv)
    if min(options.count, options.columns, options.size) < 1:
        parser.error("--count, --columns and --size must be positive")
    if options.file.suffix.lower() not in (".webp", ".png", ".jpg", ".jpeg"):
        parser.error(f"the image must be .webp, .png or .jpg, got {options.file.name}")

    def run() -> int:
        sheet = contact_sheet(
            options.split,
            options.seed,
            options.count,
            options.columns,
            options.size,
            options.num_workers,
        )
        options.file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(options.file) as temporary:
            Image.fromarray(sheet).save(temporary, quality=82)
        say(f"{options.file}: {options.count} scenes, {options.file.stat().st_size / 1e3:.0f} kB")
        return 0

    return run_command(run)


if __name__ == "__main__":
    raise SystemExit(main())
