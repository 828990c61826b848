"""Vector quantization: two-level k-means palettes, and scalar codebooks.

Plain k-means with K entries computes N·K distances per step, which takes minutes for the tens of
thousands of entries that scenes need. Here mini-batches (Sculley, "Web-scale k-means clustering",
2010) find a few hundred coarse cells, and Lloyd's algorithm finds the entries of each cell: N·√K
distances, with errors only a few per cent larger.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

_BATCH, _BATCHES = 8192, 30
_STEPS = 8  # of Lloyd's algorithm in each cell
_ROWS = 1 << 14  # per block of distances, to bound memory
_CODES = 256
_CODE_STEPS = 20


def palette(rows: Floats, size: int, seed: int = 0) -> tuple[Floats, Labels]:
    """At most `size` entries (K, D) for rows (N, D), and the entry of each row (N,)."""
    rng = np.random.default_rng(seed)
    if len(rows) <= size:
        return rows, np.arange(len(rows))
    coarse = _coarse_cells(rows, max(1, round(size**0.5)), rng)
    cells = nearest(rows, coarse)
    order = np.argsort(cells, kind="stable")
    members = np.split(order, np.cumsum(np.bincount(cells, minlength=len(coarse)))[:-1])
    entries, labels, start = [], np.empty(len(rows), np.int64), 0
    for member in (m for m in members if len(m)):
        share = max(1, size * len(member) // len(rows))  # rounded down, they add up to `size`,
        share = min(share, size - start) or 1  # but even small cells get one entry
        found, own = _lloyd(rows[member], share, rng)
        labels[member] = start + own
        entries.append(found)
        start += len(found)
    return np.concatenate(entries), labels


def nearest(rows: Floats, entries: Floats) -> Labels:
    """Index of the nearest entry (K, D) of each row (N, D), (N,)."""
    squares = np.einsum("kd,kd->k", entries, entries)
    found = np.empty(len(rows), np.int64)
    for first in range(0, len(rows), _ROWS):
        part = rows[first : first + _ROWS]
        found[first : first + _ROWS] = (squares - 2 * (part @ entries.T)).argmin(axis=1)
    return found


def codebook(values: Floats) -> Floats:
    """A codebook of 256 ascending values for values (N,): Lloyd's algorithm from quantiles."""
    if not len(values):
        return np.zeros(_CODES, np.float32)
    ordered = np.sort(values).astype(np.float64)
    sums = np.concatenate(([0], np.cumsum(ordered)))
    codes = ordered[np.linspace(0, len(ordered) - 1, _CODES).astype(np.int64)]
    codes = 0.5 * codes + 0.5 * np.linspace(ordered[0], ordered[-1], _CODES)
    for _ in range(_CODE_STEPS):
        bounds = np.searchsorted(ordered, (codes[1:] + codes[:-1]) / 2)
        bounds = np.concatenate(([0], bounds, [len(ordered)]))
        counts = np.diff(bounds)
        means = np.diff(sums[bounds]) / np.maximum(counts, 1)
        codes = np.sort(np.where(counts > 0, means, codes))
    return np.asarray(codes, np.float32)


def codes_of(values: NDArray[np.floating], codes: Floats) -> NDArray[np.uint8]:
    """Index of the nearest of 256 ascending codes."""
    return np.searchsorted(codes[1:] / 2 + codes[:-1] / 2, values).astype(np.uint8)


def _coarse_cells(rows: Floats, size: int, rng: np.random.Generator) -> Floats:
    entries = rows[rng.choice(len(rows), size, replace=False)].copy()
    counts = np.zeros(size)
    for _ in range(_BATCHES):
        batch = rows[rng.integers(0, len(rows), min(_BATCH, len(rows)))]
        found = nearest(batch, entries)
        new = np.bincount(found, minlength=size)
        counts += new
        sums = np.zeros_like(entries)
        np.add.at(sums, found, batch)
        rate = np.maximum(counts, 1)[:, None]
        entries += ((sums - new[:, None] * entries) / rate).astype(np.float32)
    return np.asarray(entries, np.float32)


def _lloyd(rows: Floats, size: int, rng: np.random.Generator) -> tuple[Floats, Labels]:
    """Entries and labels of one cell."""
    if size >= len(rows):
        return rows, np.arange(len(rows))
    entries = rows[np.sort(rng.choice(len(rows), size, replace=False))].copy()
    labels = nearest(rows, entries)
    for _ in range(_STEPS):
        counts = np.bincount(labels, minlength=size)
        sums = np.zeros_like(entries)
        np.add.at(sums, labels, rows)
        entries = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], entries)
        entries = entries.astype(np.float32)
        labels = nearest(rows, entries)
    return entries, labels
