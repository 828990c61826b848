"""Run long calls into compiled libraries such that Ctrl-C abandons them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_THREAD_NAME = "zipsplat-native-work"


def interruptible(work: Callable[[], Any]) -> Any:
    """Run long work in a separate thread, so that Ctrl-C takes effect at once.

    After an interruption the thread continues until the work or the process ends.

    Returns:
        The result of `work`; its exceptions are raised here.
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
    """Exit the process, even if abandoned work is still running.

    A normal exit destroys objects that compiled threads still use, which can crash them; in that
    case the process is ended at once.
    """
    if any(thread.name == _THREAD_NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
