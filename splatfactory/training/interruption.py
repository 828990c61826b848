"""Signals that ask a run to save, or to save and stop, at the end of the step."""

from __future__ import annotations

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)


class Interruption:
    """While entered, SIGTERM and SIGINT ask to stop, SIGUSR1 asks to save and go on.

    A second SIGINT interrupts at once. Cluster schedulers send SIGUSR1 or SIGTERM ahead of the
    end of a job.

    Attributes:
        signal: Number of the signal that asked to stop; None if none did.
        wants_save: Whether a save was asked for since the last `saved`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.wants_save = False
        self._previous: dict[int, Any] = {}

    @property
    def wants_stop(self) -> bool:
        """Whether the run was asked to stop."""
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
        """Forget the wish to save."""
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
