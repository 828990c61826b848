"""Download Mip-NeRF 360: one archive of about 3.6 GB.

No checksum is published; size and SHA-256 of the download are recorded beside the file and checked
from then on.
"""

from __future__ import annotations

from collections.abc import Sequence

from splatfactory.datasets.scripts import downloading

URL = "https://storage.googleapis.com/gresearch/refraw360/360_v2.zip"


def main(argv: Sequence[str] | None = None) -> int:
    """Download; returns the exit status."""
    return downloading.archive_command(__doc__, URL, "data/mipnerf360/raw", argv)


if __name__ == "__main__":
    raise SystemExit(main())
