"""Train on the same few batches over and over, to see whether a model can learn at all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from splatfactory.datasets.samples import Batch
from splatfactory.protocols import BatchSource


class FewBatches:
    """The first batches of a source as a `BatchSource` of their own.

    Args:
        source: Where the batches come from; read once.
        count: How many to keep.
    """

    def __init__(self, source: BatchSource, count: int) -> None:
        self.batches = list(islice(iter(source), count))
        self.position = 0

    def __iter__(self) -> Iterator[Batch]:
        """The rest of the current round."""
        while self.position < len(self.batches):
            self.position += 1
            yield self.batches[self.position - 1]
        self.position = 0

    def __len__(self) -> int:
        return len(self.batches)

    def state_dict(self) -> dict[str, Any]:
        """Batches handed out in this round."""
        return {"position": self.position}

    def load_state_dict(self, state: Mapping[str, Any], *, accept_changes: bool = False) -> bool:
        """Continue after a saved position."""
        del accept_changes  # the batches are whatever the source gave
        self.position = int(state["position"])
        return True

    def set_max_views(self, max_views: int) -> None:
        """Ignored: the batches are there already."""
        del max_views
