"""How worker processes are started, and how they end with the process that started them."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from typing import Any


def start_context(preload: Sequence[str] = ()) -> Any:
    """The multiprocessing context of all workers.

    They inherit neither threads nor an open GPU, which forks do not survive.

    Args:
        preload: modules that the fork server imports once, instead of each worker for seconds.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    if preload:
        context.set_forkserver_preload(list(preload))
    return context


def end_with_parent(*_: object) -> None:
    """End this worker as soon as the process that started it is gone; arguments are ignored.

    A killed process cannot end its workers, and under a fork server `getppid`, which PyTorch
    watches, is the server's number: the server waits for the workers, and they for it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
