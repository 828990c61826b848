"""Published evaluation indices and the DL3DV split, downloaded once, pinned and verified.

They come from the reference repository; `splatfactory.eval.indices` defines the format.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatfactory import paths
from zipsplat.downloads import Source, fetch

REPOSITORY = "cvg/ZipSplat"
COMMIT = "e1b592da0105e5c8c93ff47750c909cbe4634a1d"


@dataclass(frozen=True)
class PublishedFile:
    """A file in the reference repository.

    Attributes:
        path: path in the repository.
        size: size in bytes.
        sha256: digest of its contents.
    """

    path: str
    size: int
    sha256: str

    @property
    def source(self) -> Source:
        """Its download source."""
        url = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/{self.path}"
        return Source(url, self.sha256, self.size, COMMIT)

    @property
    def cached(self) -> Path:
        """Its place in the cache; without a connection, put it there by hand."""
        return paths.cache_root() / "reference" / COMMIT[:12] / self.path


def _index(path: str, size: int, sha256: str) -> PublishedFile:
    return PublishedFile(f"splatfactory/eval/indices/{path}", size, sha256)


PUBLISHED: Mapping[tuple[str, int], PublishedFile] = {
    ("re10k", 6): _index(
        "re10k/ctx_6v_tgt_8v.json",
        352459,
        "1cc0e14c8040c64040256adb008cc99821f52f0eb7e7a8fc50bb43381e06d221",
    ),
    ("dl3dv", 6): _index(
        "dl3dv/ctx_6v_tgt_8v.json",
        20696,
        "602d0b38e7f003ccfac8b634fb48d5f853004dd0481c307fd61af2ff90b770b9",
    ),
    ("dl3dv", 12): _index(
        "dl3dv/ctx_12v_tgt_8v.json",
        44677,
        "4e191e1feb32a340ec4ec8fa77e7859bf8f44591fda0c1c3ea250619acd562fa",
    ),
    ("dl3dv", 24): _index(
        "dl3dv/ctx_24v_tgt_8v.json",
        32254,
        "56fffdf63eff167d264a1683e2b17c0ef79ec83e9c1e5a4f681209b9bd3ec219",
    ),
    ("mipnerf360", 32): _index(
        "mipnerf360/ctx_32v.json",
        2905,
        "72ae7ed2246a79abd3206f5a8ce3d4e28ebeb9f51bcd83644ab1f77c95f418f6",
    ),
    ("mipnerf360", 64): _index(
        "mipnerf360/ctx_64v.json",
        4934,
        "99d92f43bf1a0078e9b77b5cd910317bbc818061153e7984082d25a709ff4708",
    ),
    ("mipnerf360", 128): _index(
        "mipnerf360/ctx_128v.json",
        8977,
        "4eae7b6f6caad82f2c4fc4fae0e1aa658d6efe9e21ca62780005a16d6d050415",
    ),
}
"""The seven published indices, by data set and number of context views."""

DL3DV_SPLIT = PublishedFile(
    "splatfactory/datasets/scripts/dl3dv/split.json",
    10170,
    "fc1e914170eee125d2d424ad2fdb8a7f854d67df606070bfc221bc2d4741ab55",
)


def published_index(benchmark: str, num_views: int) -> Path:
    """The published index of a benchmark, downloaded if missing.

    Raises:
        ValueError: if there is none for this number of context views.
        DownloadError: if the download fails or its digest differs from the pinned one.
    """
    if (benchmark, num_views) not in PUBLISHED:
        known = [views for name, views in PUBLISHED if name == benchmark]
        names = sorted({name for name, _ in PUBLISHED})
        choices = f"choose from {known}" if known else f"known benchmarks: {', '.join(names)}"
        raise ValueError(f"no published index {benchmark} with {num_views} views; {choices}")
    file = PUBLISHED[benchmark, num_views]
    return fetch(file.source, file.cached)


def dl3dv_test_ids(path: Path | None = None) -> frozenset[str]:
    """Keys of the DL3DV test scenes.

    Args:
        path: JSON list, JSON {"test": [...]}, or one key per line; None takes the published split.

    Raises:
        ValueError: if the file lists no scenes.
    """
    path = fetch(DL3DV_SPLIT.source, DL3DV_SPLIT.cached) if path is None else path
    text = path.read_text()
    try:
        content: Any = json.loads(text)
    except ValueError:
        content = text.split()
    if isinstance(content, dict):
        content = content.get("test")
    if not isinstance(content, list) or not all(isinstance(key, str) for key in content):
        raise ValueError(f'{path} must hold scene keys: a JSON list, {{"test": [...]}}, or lines')
    return frozenset(content)
