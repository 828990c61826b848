"""The top of the panel: current stage, progress bar, stop button."""

from __future__ import annotations

import threading
import time
from typing import Any

from zipsplat.viewer.host import Host

_INTERVAL_S = 0.1  # between two updates of the bar


class StatusPanel:
    """A line, a bar and a button, visible only while a job runs."""

    def __init__(self, viewer: Host) -> None:
        gui: Any = viewer.server.gui
        self._text = gui.add_markdown("", visible=False)
        self._bar = gui.add_progress_bar(0.0, visible=False)
        self._stop = gui.add_button("Stop", visible=False, color="gray")
        self._stop.on_click(lambda _: viewer.stop_running())
        self._updated_s = 0.0
        self._stage = ""
        self._lock = threading.Lock()

    def show(self, stage: str, done: int, total: int) -> None:
        """Show a stage of a job.

        Args:
            stage: its name.
            done: units done.
            total: all units; 0 if unknown.
        """
        now = time.monotonic()
        with self._lock:
            if stage == self._stage and done < total and now - self._updated_s < _INTERVAL_S:
                return
            self._updated_s, self._stage = now, stage
            count = f" ({done} of {total})" if total else ""
            self._text.content = f"{stage}{count} …"
            self._bar.animated = not total
            self._bar.value = 100.0 if not total else 100.0 * min(done, total) / total
            self._text.visible = self._bar.visible = self._stop.visible = True

    def hide(self) -> None:
        """Hide the section, because nothing runs."""
        with self._lock:
            self._stage = ""
            self._text.visible = self._bar.visible = self._stop.visible = False
