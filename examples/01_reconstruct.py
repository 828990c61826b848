"""From images to a scene file.

    python examples/01_reconstruct.py [PHOTOS …] [--weights zipsplat] [-o scene.ply]

The small weights that came with the package show what the steps are. With `--weights zipsplat` the
released ones are fetched (5.8 GB, non-commercial use only).
"""

import argparse
from pathlib import Path

from zipsplat import ZipSplat, load_image

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Reconstruct."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path)
    parser.add_argument("--weights", default="zipsplat-tiny")
    parser.add_argument("-o", "--output", type=Path, default="outputs/examples/scene.ply")
    options = parser.parse_args()

    model = ZipSplat(options.weights)

    # Images of any size; they are cropped to squares and resized inside.
    paths = options.images or sorted((ROOT / "assets/examples/office").glob("*.png"))
    images = [load_image(path) for path in paths]

    # The heavy part runs once; then any number of scenes, from dense to compact.
    features = model.encode(images)
    for compression in (1.0, 0.25):
        gaussians = model.decode(features, compression)[0]
        print(f"compression {compression}: {gaussians.num_gaussians} Gaussians")

    gaussians.save(options.output)  # the suffix chooses the format
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
