"""From images to a scene file.

    python examples/01_reconstruct.py [PHOTOS …] [--weights zipsplat] [-o scene.ply]

The default weights, zipsplat-tiny, come with the package. `--weights zipsplat` downloads the
released ones (5.8 GB, non-commercial use only).
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

    # Images may have any size: the model crops them to squares and resizes them.
    paths = options.images or sorted((ROOT / "assets/examples/office").glob("*.png"))
    images = [load_image(path) for path in paths]

    # The transformer runs once; decoding at another compression is cheap.
    features = model.encode(images)
    for compression in (1.0, 0.25):
        gaussians = model.decode(features, compression)[0]
        print(f"compression {compression}: {gaussians.num_gaussians} Gaussians")

    gaussians.save(options.output)  # the suffix chooses the format
    print(f"wrote {options.output}")


if __name__ == "__main__":
    main()
