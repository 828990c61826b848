"""One background thread for what takes long, so that the panel keeps answering."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

logger = logging.getLogger(__name__)


class StopRequested(Exception):  # noqa: N818  (no error: somebody wanted it)
    """The job was asked to stop."""


class Watcher(Protocol):
    """Is told how jobs go; called from the worker's thread."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """A job is in a stage; the total is 0 if it is not known."""

    def ended(self, job: Job, error: Exception | None) -> None:
        """A job is over."""


@dataclass
class Job:
    """One piece of work.

    Args:
        name: jobs of one name replace each other while they wait.
        work: is called with the job, to report to.
        client_id: whom errors concern; None for everybody.
    """

    name: str
    work: Callable[[Job], None]
    client_id: int | None = None
    error: Exception | None = None
    is_stopping: bool = False
    is_over: threading.Event = field(default_factory=threading.Event)
    _watcher: Watcher | None = None

    def stage(self, name: str) -> Callable[[int, int], None]:
        """A function to call with (done, total) during a stage of the job.

        Raises:
            StopRequested: when called after the job was asked to stop; also from the function.
        """

        def report(done: int, total: int) -> None:
            if self.is_stopping:
                raise StopRequested(self.name)
            if self._watcher is not None:
                self._watcher.progress(name, done, total)

        report(0, 0)
        return report


class Worker:
    """Runs jobs one after the other; of waiting jobs with one name only the latest.

    So a slider that moves ten times during one computation causes one more, not ten.

    Args:
        watcher: is told how jobs go.
    """

    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher
        self._waiting: dict[str, Job] = {}
        self._running: Job | None = None
        self._is_closed = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="viewer-worker", daemon=True)
        self._thread.start()

    def submit(self, job: Job) -> Job:
        """Let a job run when its turn comes."""
        job._watcher = self._watcher
        with self._changed:
            replaced = self._waiting.pop(job.name, None)
            if replaced is not None:
                replaced.is_over.set()
            if self._is_closed:
                job.is_over.set()
                return job
            self._waiting[job.name] = job
            self._changed.notify_all()
        return job

    def stop_running(self) -> None:
        """Ask the running job to stop at its next report; waiting ones stay."""
        with self._changed:
            if self._running is not None:
                self._running.is_stopping = True

    def close(self) -> None:
        """Drop what waits, and end after the running job; does not wait for it."""
        with self._changed:
            self._is_closed = True
            for job in self._waiting.values():
                job.is_over.set()
            self._waiting.clear()
            if self._running is not None:
                self._running.is_stopping = True
            self._changed.notify_all()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._is_closed)
                if self._is_closed:
                    return
                job = self._waiting.pop(next(iter(self._waiting)))
                self._running = job
            try:
                job.work(job)
            except Exception as error:  # a job's failure must not end the viewer
                job.error = error
            with self._changed:
                self._running = None
            self._tell(job)
            job.is_over.set()

    def _tell(self, job: Job) -> None:
        try:
            self._watcher.ended(job, job.error)
        except Exception:
            logger.exception("the viewer could not show how %r ended", job.name)
