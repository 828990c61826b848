"""Crash-safe checkpoints: atomic saves, digests, and recovery of the newest intact one.

A full checkpoint is written under a temporary name, read back and compared with the intended bytes,
and only then renamed; its SHA-256 is stored beside it. Files hold only tensors and plain
containers and are read by `zipsplat.torch_files`, so loading a checkpoint executes no code.
"""

from __future__ import annotations

import json
import logging
import random
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor

from splatfactory.schema import Direction
from zipsplat.digests import HashedFile, sha256_of
from zipsplat.files import atomic_path, write_text
from zipsplat.torch_files import read_torch_file

logger = logging.getLogger(__name__)

FULL = re.compile(r"checkpoint_(\d+)\.tar")
LAST = "checkpoint_last.safetensors"
RECORD = "best.json"


class CheckpointError(RuntimeError):
    """A checkpoint that cannot be written or read; the message is one line for the user."""


def save(state: Mapping[str, Any], path: Path) -> None:
    """Write a full checkpoint atomically.

    Raises:
        CheckpointError: if there is no room, the folder is not writable, or the bytes on disk
            differ from those written. Earlier checkpoints stay untouched.
    """
    try:
        _check_room(state, path.parent)
        with atomic_path(path) as temporary:
            with temporary.open("wb") as file:
                hashed = HashedFile(file)
                torch.save(dict(state), cast(BinaryIO, hashed))
            expected = hashed.sha256
            if sha256_of(temporary) != expected:
                raise CheckpointError(
                    f"{path} reads back differently from what was written; is the disk failing?"
                )
            # Keep both digests: a kill before or after the rename leaves a file that matches one.
            write_text(_digest_path(path), "\n".join((expected, *_digests(path))))
        write_text(_digest_path(path), expected)
    except CheckpointError:
        raise
    except (OSError, RuntimeError) as error:  # PyTorch raises RuntimeError when a quota is exceeded
        raise CheckpointError(f"cannot write checkpoint {path}: {_line(error)}") from error


def load(path: Path) -> dict[str, Any]:
    """Read a full checkpoint, verifying its digest if one exists.

    Raises:
        CheckpointError: if the file is missing, damaged, or holds anything but plain data.
    """
    try:
        known = _digests(path)
        if known and sha256_of(path) not in known:
            name = _digest_path(path).name
            raise CheckpointError(f"{path} is damaged: its contents do not match {name}")
        state = read_torch_file(path)
    except CheckpointError:
        raise
    except Exception as error:
        # Broken archives raise many exception types, none more helpful than this message.
        raise CheckpointError(f"cannot read checkpoint {path}: {error}") from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise CheckpointError(f"{path} is not a checkpoint of a training run")
    return state


def load_newest(folder: Path) -> tuple[dict[str, Any], Path] | None:
    """Load the newest intact checkpoint of a run; skip damaged ones with a warning."""
    for path in reversed(full_checkpoints(folder)):
        try:
            return load(path), path
        except CheckpointError as error:
            logger.warning("%s; trying the one before", error)
    return None


def full_checkpoints(folder: Path) -> list[Path]:
    """Full checkpoints of a run, oldest first."""
    found = [(int(m[1]), p) for p in folder.glob("*.tar") if (m := FULL.fullmatch(p.name))]
    return [path for _, path in sorted(found)]


def full_path(folder: Path, step: int) -> Path:
    """Path of the full checkpoint after `step` updates."""
    return folder / f"checkpoint_{step:08d}.tar"


def keep_newest(folder: Path, count: int) -> None:
    """Delete all but the newest full checkpoints; always keep at least one."""
    for path in full_checkpoints(folder)[: -max(1, count)]:
        path.unlink(missing_ok=True)
        _digest_path(path).unlink(missing_ok=True)


def export(weights: Mapping[str, Tensor], conf: Mapping[str, Any], path: Path) -> None:
    """Export the weights as safetensors, with the configuration in the header.

    The file is what `zipsplat.ZipSplat(weights=…)` loads.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        with atomic_path(path) as temporary:
            tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
            save_file(tensors, temporary, metadata={"conf": json.dumps(dict(conf))})
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write weights {path}: {_line(error)}") from error


@dataclass(frozen=True)
class Best:
    """One of the best models."""

    value: float
    step: int


class BestModels:
    """The k best exports of a run by one metric, tracked across restarts.

    Args:
        folder: the run's folder.
        count: how many to keep.
        direction: whether smaller or larger values are better.
    """

    def __init__(self, folder: Path, count: int, direction: Direction) -> None:
        self.folder, self.count = folder, count
        self.sign = 1.0 if direction is Direction.min else -1.0
        self.entries: list[Best] = []

    def state(self) -> list[dict[str, float]]:
        """Plain data for the checkpoint."""
        return [{"value": entry.value, "step": entry.step} for entry in self.entries]

    def restore(self, state: Iterable[Mapping[str, Any]], step: int) -> None:
        """Restore the entries of a checkpoint, and those evaluated right after it was saved.

        Args:
            state: as returned by `state`.
            step: step of the checkpoint. Later entries are dropped, as training repeats them.
        """
        found = [Best(float(item["value"]), int(item["step"])) for item in state]
        found += [entry for entry in self._recorded() if entry.step <= step]
        known = {entry.step: entry for entry in found if self.path(entry.step).is_file()}
        self.entries = sorted(known.values(), key=self._rank)[: self.count]

    def _recorded(self) -> list[Best]:
        record = self.folder / RECORD
        entries = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else []
        return [Best(float(item["value"]), int(item["step"])) for item in entries]

    def _rank(self, entry: Best) -> tuple[float, int]:
        return self.sign * entry.value, entry.step

    def path(self, step: int) -> Path:
        """Path of the export of a step."""
        return self.folder / f"checkpoint_best_{step:08d}.safetensors"

    def offer(
        self, value: float, step: int, weights: Mapping[str, Tensor], conf: Mapping[str, Any]
    ) -> bool:
        """Export these weights if they are among the best; returns whether they are."""
        if self.count < 1 or not np.isfinite(value):
            return False
        kept = [entry for entry in self.entries if entry.step != step] + [Best(value, step)]
        kept = sorted(kept, key=self._rank)
        dropped, kept = kept[self.count :], kept[: self.count]
        if all(entry.step != step for entry in kept):
            return False
        export(weights, {**conf, "eval": {"value": value, "step": step}}, self.path(step))
        self.entries = kept
        write_text(self.folder / RECORD, json.dumps(self.state(), indent=1))
        for entry in dropped:
            self.path(entry.step).unlink(missing_ok=True)
        return True


def best_weights(folder: Path) -> Path | None:
    """The best export of a run, or the final one if none was evaluated, or None."""
    record = folder / RECORD
    if record.is_file():
        for entry in json.loads(record.read_text(encoding="utf-8")):
            path = folder / f"checkpoint_best_{int(entry['step']):08d}.safetensors"
            if path.is_file():
                return path
    last = folder / LAST
    return last if last.is_file() else None


def random_state(device: torch.device) -> dict[str, Any]:
    """State of every random generator a training step uses, as plain data."""
    kind, keys, *rest = np.random.get_state()
    state: dict[str, Any] = {
        "python": random.getstate(),
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore every random generator."""
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)


def _check_room(state: Mapping[str, Any], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    needed = sum(tensor.numel() * tensor.element_size() for tensor in _tensors(state))
    free = shutil.disk_usage(folder).free
    if free < 1.05 * needed:
        raise CheckpointError(
            f"no room for a checkpoint in {folder}: {needed / 2**30:.2f} GiB needed, "
            f"{free / 2**30:.2f} GiB free"
        )


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _digests(path: Path) -> list[str]:
    """Valid digests of a checkpoint: two while it is being replaced, none if unknown."""
    digest = _digest_path(path)
    return digest.read_text(encoding="ascii").split() if digest.is_file() else []


def _digest_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")
