"""The palette of .sog files, and damage that the common tests do not reach."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

import numpy as np
import pytest

from tests.zipsplat.formats.scenes import scene
from zipsplat.formats import FORMATS, SplatArrays
from zipsplat.formats._palette import codebook, codes_of, nearest, palette
from zipsplat.formats.sog import _unpack_rotations

SOG = FORMATS["sog"]


def plain_kmeans(rows: np.ndarray, size: int, steps: int = 20) -> float:
    """Mean squared distance after Lloyd's algorithm over all rows."""
    entries = rows[np.random.default_rng(1).choice(len(rows), size, replace=False)]
    for _ in range(steps):
        labels = nearest(rows, entries)
        entries = np.stack(
            [
                rows[labels == k].mean(axis=0) if (labels == k).any() else entries[k]
                for k in range(size)
            ]
        )
    return float(((rows - entries[nearest(rows, entries)]) ** 2).sum(axis=1).mean())


def test_the_palette_is_nearly_as_good_as_plain_kmeans():
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(6000, 9)) @ np.diag(0.7 ** np.arange(9))).astype(np.float32)
    entries, labels = palette(rows, 600)
    assert len(entries) <= 600
    ours = float(((rows - entries[labels]) ** 2).sum(axis=1).mean())
    assert ours < 1.15 * plain_kmeans(rows, 600)
    random = rows[:600]
    assert ours < 0.75 * float(((rows - random[nearest(rows, random)]) ** 2).sum(axis=1).mean())


def test_few_rows_are_their_own_palette():
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    entries, labels = palette(rows, 9)
    np.testing.assert_array_equal(entries[labels], rows)


def test_a_codebook_is_finer_where_the_numbers_are():
    values = np.random.default_rng(0).normal(size=20000).astype(np.float32)
    codes = codebook(values)
    assert (np.diff(codes) >= 0).all()
    errors = np.abs(codes[codes_of(values, codes)] - values)
    uniform = (values.max() - values.min()) / 255 / 4  # the mean error of equal steps
    assert errors.mean() < 0.75 * uniform
    flat = codebook(np.full(10, 3.0, np.float32))
    assert (flat[codes_of(np.float32([3.0]), flat)] == 3).all()


def data_of(arrays: SplatArrays) -> bytes:
    file = io.BytesIO()
    SOG.write(file, arrays)
    return file.getvalue()


def test_equal_scenes_give_equal_files():
    assert data_of(scene(300, 1)) == data_of(scene(300, 1))


def changed(data: bytes, **changes: Any) -> io.BytesIO:
    """The same file with another description."""
    out = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(out, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            if name == "meta.json":
                content = json.dumps(json.loads(content) | changes).encode()
            new.writestr(name, content)
    out.seek(0)
    return out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 1}, "SOG version 1 is not supported"),
        ({"count": 400}, "fewer pixels"),
        ({"count": 10**12}, "would unpack"),
        ({"count": -1}, "-1 Gaussians"),
        ({"count": "x"}, "'x' Gaussians"),
        ({"means": {}}, "damaged"),
        ({"scales": {"codebook": [0], "files": ["scales.webp"]}}, "codebook"),
        ({"sh0": {"codebook": [0] * 256, "files": ["../x.webp"]}}, "damaged"),
        ({"shN": {"bands": 2, "codebook": [0] * 256, "files": ["sh0.webp"] * 2}}, "palette"),
    ],
)
def test_a_wrong_description_is_one_error(changes: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        SOG.read(changed(data_of(scene(300, 1)), **changes))


def test_rotations_without_a_code_are_no_rotations():
    """Such pixels come from lossy images; `Gaussians.load` leaves them out."""
    rows = np.array([[128, 128, 128, 200], [128, 128, 128, 252]], np.uint8)
    assert (_unpack_rotations(rows)[0] == 0).all()
    np.testing.assert_allclose(_unpack_rotations(rows)[1], [1, 0, 0, 0], atol=0.01)
