"""Long work of compiled libraries that Ctrl-C abandons instead of waiting for."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_THREAD_NAME = "zipsplat-native-work"


def interruptible(work: Callable[[], Any]) -> Any:
    """Do long work in a thread of its own, so that Ctrl-C need not wait for its end.

    After an interruption the thread lives on until the work or the process ends.

    Returns:
        What `work` returns; its errors are raised here.
    """
    outcome: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name=_THREAD_NAME, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(timeout=0.2)
    if errors:
        raise errors[0]
    return outcome[0]


def exit_process(status: int) -> NoReturn:
    """End the process, also where abandoned work goes on.

    A normal exit destroys what compiled threads still use, which can crash them; then the process
    ends at once.
    """
    if any(thread.name == _THREAD_NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
