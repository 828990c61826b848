"""Frames given by an evaluation index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from splatfactory import paths
from splatfactory.datasets.samplers import Choice, Request, Rng, SamplerKind
from zipsplat.untrusted_files import read_json


@dataclass(frozen=True)
class Config:
    """Options of `eval_sampler`.

    Attributes:
        indices_file: JSON: scene key → {"context": [...], "target": [...], "overlap": number}, the
            last one optional; null for a scene that is skipped.
    """

    indices_file: str = ""

    def __post_init__(self) -> None:
        """Validate the values."""
        if not self.indices_file:
            raise ValueError("view_sampler.indices_file must name an evaluation index, got none")


class IndexedSampler:
    """Returns the frames in the index; requested counts are ignored."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._entries = load_index(paths.resolve(config.indices_file))

    @property
    def min_views(self) -> int:
        """1: scenes of any length may be in an index."""
        return 0

    @property
    def keys(self) -> frozenset[str]:
        """The scenes in the index."""
        return frozenset(self._entries)

    @property
    def is_fixed(self) -> bool:
        """True: the index alone decides."""
        return True

    def sample(self, request: Request, rng: Rng) -> Choice:  # noqa: ARG002
        """The frames of the scene.

        Raises:
            ValueError: if the index names a frame that the scene does not have.
        """
        choice = self._entries[request.key]
        highest = max(choice.context + choice.target)
        if highest >= request.num_views:
            raise ValueError(
                f"{self.config.indices_file} asks for view {highest} of scene {request.key},"
                f" which has {request.num_views}; was the data converted differently?"
            )
        return choice


def load_index(path: Path) -> dict[str, Choice]:
    """Read an evaluation index, without skipped scenes.

    Raises:
        ValueError: if the file is missing or not an index.
    """
    try:
        content: Any = read_json(path)
        return {key: _choice(entry) for key, entry in content.items() if entry is not None}
    except FileNotFoundError:
        raise ValueError(f"evaluation index {path} does not exist") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} is not an evaluation index ({error})") from error


def _choice(entry: Any) -> Choice:
    context, target = (tuple(int(view) for view in entry[part]) for part in ("context", "target"))
    if not context or not target or min(context + target) < 0:
        raise ValueError(f"a scene needs context and target views, got {entry}")
    return Choice(context, target, (float(entry.get("overlap", -1.0)),) * len(context))


PLUGIN = SamplerKind(Config, IndexedSampler)
