"""Recording of the matcher's output, for the matching loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from zipsplat.model.tiny.matcher import Matcher, Matches


@contextmanager
def recorded_matches(network: nn.Module) -> Iterator[list[Matches]]:
    """Record the matches of the network's matcher, if any, while the context is open."""
    found: list[Matches] = []
    hooks = [
        part.register_forward_hook(lambda _module, _inputs, matches: found.append(matches))
        for part in network.modules()
        if isinstance(part, Matcher)
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
