"""Start of worker processes, and their end with the parent process."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Sequence
from typing import Any


def start_context(preload: Sequence[str] = ()) -> Any:
    """The multiprocessing context of all workers.

    Workers inherit no threads and no CUDA context, neither of which survives a fork.

    Args:
        preload: modules that the fork server imports once, saving seconds per worker.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    if preload:
        context.set_forkserver_preload(list(preload))
    return context


def end_with_parent(*_: object) -> None:
    """Exit this worker as soon as its parent process is gone; arguments are ignored.

    A killed process cannot stop its workers, and under a fork server `getppid`, which PyTorch
    watches, is the server's pid: the server waits for the workers, and they for it.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
