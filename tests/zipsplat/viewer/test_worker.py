from __future__ import annotations

import threading

import pytest

from zipsplat.viewer.worker import Job, StopRequested, Worker


class Notes:
    def __init__(self) -> None:
        self.stages: list[tuple[str, int, int]] = []
        self.ends: list[tuple[str, Exception | None]] = []

    def progress(self, stage: str, done: int, total: int) -> None:
        self.stages.append((stage, done, total))

    def ended(self, job: Job, error: Exception | None) -> None:
        self.ends.append((job.name, error))


def test_of_waiting_jobs_with_one_name_only_the_latest_runs() -> None:
    notes, may_go_on, ran = Notes(), threading.Event(), []
    worker = Worker(notes)
    first = worker.submit(Job("slider", lambda _: (may_go_on.wait(10), ran.append(0))))  # type: ignore[arg-type, return-value, func-returns-value]
    jobs = [worker.submit(Job("slider", lambda _, n=n: ran.append(n))) for n in range(1, 10)]  # type: ignore[misc]
    other = worker.submit(Job("other", lambda _: ran.append("other")))  # type: ignore[arg-type]
    may_go_on.set()
    for job in (first, *jobs, other):
        assert job.is_over.wait(10)
    worker.close()
    assert ran in ([0, 9, "other"], [9, "other"])


def test_errors_end_the_job_only() -> None:
    notes = Notes()
    worker = Worker(notes)

    def fail(job: Job) -> None:
        job.stage("failing")(1, 2)
        raise ValueError("no")

    failed = worker.submit(Job("one", fail))
    after = worker.submit(Job("two", lambda _: None))
    assert after.is_over.wait(10)
    worker.close()
    assert isinstance(failed.error, ValueError)
    assert after.error is None
    assert notes.stages == [("failing", 0, 0), ("failing", 1, 2)]
    assert [name for name, _ in notes.ends] == ["one", "two"]


def test_a_watcher_that_fails_does_not_stop_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Notes):
        def ended(self, job: Job, error: Exception | None) -> None:
            raise KeyError("gone")

    worker = Worker(Broken())
    worker.submit(Job("one", lambda _: None))
    assert worker.submit(Job("two", lambda _: None)).is_over.wait(10)
    worker.close()
    assert "could not show how 'one' ended" in caplog.text


def test_stopping() -> None:
    worker, running = Worker(Notes()), threading.Event()

    def work(job: Job) -> None:
        report = job.stage("counting")
        while True:
            running.set()
            report(1, 2)

    job = worker.submit(Job("endless", work))
    assert running.wait(10)
    worker.stop_running()
    assert job.is_over.wait(10)
    assert isinstance(job.error, StopRequested)
    worker.close()


def test_closing_lets_nobody_wait() -> None:
    worker, running, may_end = Worker(Notes()), threading.Event(), threading.Event()
    worker.submit(Job("long", lambda _: (running.set(), may_end.wait(10))))  # type: ignore[arg-type, return-value, func-returns-value]
    assert running.wait(10)
    waiting = worker.submit(Job("waiting", lambda _: None))
    worker.close()
    assert waiting.is_over.wait(10)
    assert worker.submit(Job("late", lambda _: None)).is_over.wait(10)
    may_end.set()
