"""Fixtures of the tests against other programs; missing ones skip tests, with the reason.

docs/formats.md, "Checked against", says how to run them.
"""

from __future__ import annotations

import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def peers() -> Path:
    """Folder with the packages of tests/peers/package.json."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    folder = os.environ.get("ZIPSPLAT_PEERS")
    if not folder or not (Path(folder) / "node_modules").is_dir():
        pytest.skip("ZIPSPLAT_PEERS names no folder with npm packages; see docs/formats.md")
    return Path(folder).resolve()


@pytest.fixture(scope="session")
def chromium() -> str:
    found = [path for path in map(shutil.which, CHROMIUMS) if path]
    if not found:
        pytest.skip("no Chromium is installed")
    return found[0]


@dataclass
class Seen:
    """What one page did: script errors, requested URLs, and the value of each step."""

    errors: list[str]
    requests: list[str]
    values: list[Any]


@dataclass
class Browser:
    """Runs browser.mjs."""

    peers: Path
    chromium: str
    folder: Path
    size: tuple[int, int] = (320, 240)
    jobs: int = field(default=0)

    def visit(
        self,
        url: str,
        steps: list[dict[str, Any]],
        init: str = "",
        size: tuple[int, int] | None = None,
    ) -> Seen:
        """Open a page and run the steps described in browser.mjs."""
        self.jobs += 1
        job = self.folder / f"job{self.jobs}.json"
        shots = [{"url": url, "init": init, "steps": steps}]
        job.write_text(
            json.dumps({"chromium": self.chromium, "size": size or self.size, "shots": shots})
        )
        done = subprocess.run(
            ["node", str(HERE / "browser.mjs"), str(job)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "ZIPSPLAT_PEERS": str(self.peers)},
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return Seen(**json.loads(done.stdout.splitlines()[-1]))


@pytest.fixture
def browser(peers: Path, chromium: str, tmp_path: Path) -> Browser:
    return Browser(peers, chromium, tmp_path)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves files without logging requests."""

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(peers: Path, tmp_path: Path) -> Iterator[str]:
    """URL of a local server of the test's folder and the packages."""
    (tmp_path / "node_modules").symlink_to(peers / "node_modules")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}"
        serving.shutdown()
        thread.join()
