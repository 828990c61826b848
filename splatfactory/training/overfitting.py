"""Train on the same few batches repeatedly, to check that a model can overfit them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from splatfactory.datasets.samples import Batch
from splatfactory.protocols import BatchSource


class FewBatches:
    """A `BatchSource` that repeats the first batches of another.

    Args:
        source: the source; read once.
        count: number of batches to keep.
    """

    def __init__(self, source: BatchSource, count: int) -> None:
        self.batches = list(islice(iter(source), count))
        self.position = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yield the rest of the current round."""
        while self.position < len(self.batches):
            self.position += 1
            yield self.batches[self.position - 1]
        self.position = 0

    def __len__(self) -> int:
        return len(self.batches)

    def state_dict(self) -> dict[str, Any]:
        """Number of batches yielded in this round."""
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any], *, accept_changes: bool = False) -> bool:
        """Resume at a saved position."""
        del accept_changes  # the batches are fixed
        self.position = int(state["position"])
        return True

    def set_max_views(self, max_views: int) -> None:
        """Ignored: the batches are loaded already."""
        del max_views
