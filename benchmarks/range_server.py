"""A plain HTTP server for one folder that acts as an object store: byte ranges, ETags, faults."""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass
class Behaviour:
    """How the server behaves, and what it has served so far.

    Args:
        latency: seconds before each answer.
        error_rate: fraction of requests that fail: half with status 503, half with a response that
            breaks off in the middle.
        has_etags: whether responses carry an ETag.
        requests: path, range header and status of each request so far.
        bytes_sent: bytes of all response bodies.
    """

    latency: float = 0.0
    error_rate: float = 0.0
    has_etags: bool = True
    requests: list[tuple[str, str, int]] = field(default_factory=list)
    bytes_sent: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(0))

    def data_requests(self) -> list[tuple[str, str, int]]:
        """Range requests only."""
        return [request for request in self.requests if request[1]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # Nagle would delay each body by up to 40 ms (delayed ACK)
    folder: Path
    behaviour: Behaviour

    def do_GET(self) -> None:
        time.sleep(self.behaviour.latency)
        chance = self.behaviour.rng.random() / max(self.behaviour.error_rate, 1e-9)
        file = self.folder / self.path.lstrip("/")
        if chance < 0.5:
            self._answer(503, b"")
        elif not file.is_file():
            self._answer(404, b"")
        else:
            self._send(file, breaks_off=chance < 1)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _send(self, file: Path, breaks_off: bool) -> None:
        status = file.stat()
        version = hashlib.sha256(f"{status.st_size} {status.st_mtime_ns}".encode()).hexdigest()
        headers = {"ETag": f'"{version}"'} if self.behaviour.has_etags else {}
        if headers and self.headers.get("If-None-Match") == headers["ETag"]:
            self._answer(304, b"", **headers)
            return
        wanted = self.headers.get("Range", "")
        with file.open("rb") as content:
            if not wanted:
                self._answer(200, content.read(), breaks_off, **headers)
                return
            first, last = (int(text) for text in wanted.removeprefix("bytes=").split("-"))
            content.seek(first)
            data = content.read(last + 1 - first)
        place = f"bytes {first}-{first + len(data) - 1}/{status.st_size}"
        self._answer(206, data, breaks_off, **headers, **{"Content-Range": place})

    def _answer(self, status: int, body: bytes, breaks_off: bool = False, **headers: str) -> None:
        self.behaviour.requests.append((self.path, self.headers.get("Range", ""), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        sent = body[: len(body) // 2] if breaks_off else body
        self.wfile.write(sent)
        self.behaviour.bytes_sent += len(sent)
        if breaks_off:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that hang up."""


@contextmanager
def serve(folder: Path, behaviour: Behaviour) -> Iterator[str]:
    """Serve a folder; yields its address, valid while the block runs."""
    handler = type("Handler", (_Handler,), {"folder": folder, "behaviour": behaviour})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
