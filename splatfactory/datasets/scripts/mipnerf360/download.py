"""Fetch Mip-NeRF 360: one archive of about 3.6 GB.

No checksum is published; size and SHA-256 of what came are recorded
beside the file and checked from then on.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial

from splatfactory.datasets.scripts import conversion, download
from zipsplat.downloads import Source

URL = "https://storage.googleapis.com/gresearch/refraw360/360_v2.zip"


def main(argv: Sequence[str] | None = None) -> int:
    """Download; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    download.add_options(parser, "data/mipnerf360/raw")
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
