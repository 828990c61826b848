"""Signals that make a run save, or save and stop, after the current step."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)


class Interruption:
    """While entered, SIGTERM and SIGINT request a stop, SIGUSR1 requests a save.

    A second SIGINT interrupts immediately. Cluster schedulers send SIGUSR1 or SIGTERM before the
    end of a job.

    Attributes:
        signal: the signal that requested the stop, or None.
        wants_save: whether a save was requested since the last `saved`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.wants_save = False
        self._previous: dict[int, Any] = {}

    @property
    def wants_stop(self) -> bool:
        """Whether a stop was requested."""
        return self.signal is not None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT, getattr(signal, "SIGUSR1", None)):
                if number is not None:
                    self._previous[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def saved(self) -> None:
        """Clear the save request."""
        self.wants_save = False

    def _receive(self, number: int, _frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if number == getattr(signal, "SIGUSR1", None):
            logger.info("%s: saving after this step", name)
            self.wants_save = True
            return
        if number == signal.SIGINT and self.signal == signal.SIGINT:
            raise KeyboardInterrupt
        logger.info("%s: saving and stopping after this step", name)
        self.signal = number
