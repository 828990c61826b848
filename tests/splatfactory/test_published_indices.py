"""Published files are pinned, verified, and named where they are missing."""

from __future__ import annotations

import hashlib
import json
import re

import pytest

from splatfactory import published_indices
from splatfactory.datasets.samplers.eval_sampler import load_index
from splatfactory.published_indices import PublishedFile
from zipsplat.downloads import DownloadError


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))


def test_published_files_are_pinned():
    assert len(published_indices.PUBLISHED) == 7
    for file in (*published_indices.PUBLISHED.values(), published_indices.DL3DV_SPLIT):
        assert published_indices.COMMIT in file.source.url
        assert re.fullmatch("[0-9a-f]{64}", file.source.sha256)
        assert file.source.size == file.size > 1000


def test_a_file_put_by_hand_is_verified(monkeypatch):
    content = json.dumps({"a": {"context": [0], "target": [1]}}).encode()
    digest = hashlib.sha256(content).hexdigest()
    file = PublishedFile("indices/x.json", len(content), digest)
    monkeypatch.setattr(published_indices, "PUBLISHED", {("re10k", 6): file})
    file.cached.parent.mkdir(parents=True)
    file.cached.write_bytes(content)
    assert published_indices.published_index("re10k", 6) == file.cached
    assert load_index(file.cached).keys() == {"a"}
    file.cached.write_bytes(content.replace(b"1", b"2"))
    with pytest.raises(DownloadError):
        published_indices.published_index("re10k", 6)


def test_unknown_view_counts_list_the_choices():
    with pytest.raises(ValueError, match=r"dl3dv with 8 views; choose from \[6, 12, 24\]"):
        published_indices.published_index("dl3dv", 8)
    with pytest.raises(ValueError, match="known benchmarks: dl3dv, mipnerf360, re10k"):
        published_indices.published_index("kitti", 6)


def test_split_files_may_not_be_anything(tmp_path):
    (tmp_path / "ids.json").write_text('{"train": []}')
    with pytest.raises(ValueError, match="must hold scene keys"):
        published_indices.dl3dv_test_ids(tmp_path / "ids.json")
