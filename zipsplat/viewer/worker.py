"""One background thread for long jobs, so that the panel stays responsive."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

logger = logging.getLogger(__name__)


class StopRequested(Exception):  # noqa: N818  (not an error: the user asked for it)
    """The job was asked to stop."""


class Watcher(Protocol):
    """Receives the progress of jobs, on the worker's thread."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """A job has made progress; `total` is 0 if unknown."""

    def ended(self, job: Job, error: Exception | None) -> None:
        """A job has ended."""


@dataclass
class Job:
    """One piece of work.

    Args:
        name: a waiting job is replaced by a newer one of the same name.
    work: called with the job, for reporting.
    client_id: the browser to show errors in; None for all.
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
    """Runs jobs one after the other; a waiting job is replaced by a newer one of the same name.

    So a slider that moves ten times during one computation causes one more, not ten.

    Args:
        watcher: receives the progress.
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
        """Queue a job."""
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
        """Ask the running job to stop at its next report; waiting jobs stay queued."""
        with self._changed:
            if self._running is not None:
                self._running.is_stopping = True

    def close(self) -> None:
        """Drop waiting jobs and end after the running one, without waiting for it."""
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
