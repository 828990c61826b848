"""Fetch RealEstate10K in the packing of pixelSplat: one archive of several hundred gigabytes.

The host offers plain http and publishes no checksum; size and SHA-256 of what came are recorded
beside the file and checked from then on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from splatfactory.datasets.scripts import conversion, download
from zipsplat.downloads import Source

URL = "http://schadenfreude.csail.mit.edu:8000/re10k.zip"


def main(argv: Sequence[str] | None = None) -> int:
    """Download; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    download.add_options(parser, "data/re10k/raw")
    arguments = parser.parse_args(argv)
    return conversion.run_command(
        partial(
            download.single_archive,
            Source(URL),
            arguments.output_dir,
            arguments.overwrite,
            arguments.extract,
        )
    )


if __name__ == "__main__":
    raise SystemExit(main())
