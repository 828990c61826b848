"""Download RealEstate10K, as packed by pixelSplat: one archive of several hundred gigabytes.

The host offers only http and no checksum; size and SHA-256 of the download are recorded
beside the file and checked from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

from splatfactory.datasets.scripts import downloading

URL = "http://schadenfreude.csail.mit.edu:8000/re10k.zip"


def main(argv: Sequence[str] | None = None) -> int:
    """Download; returns the exit status."""
    return downloading.archive_command(__doc__, URL, "data/re10k/raw", argv)


if __name__ == "__main__":
    raise SystemExit(main())
