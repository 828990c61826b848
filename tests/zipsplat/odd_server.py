"""A loopback server that answers with any bytes: the ways in which servers go wrong."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable
from contextlib import suppress

ETAG, OTHER_ETAG = '"one"', '"two"'
Script = Callable[["Request"], list[bytes]]


class Request:
    """A request.

    Args:
        number: of the request, from 0.
        text: its head.
    """

    def __init__(self, number: int, text: str) -> None:
        self.number = number
        match = re.search(r"^Range: bytes=(\d+)-", text, re.MULTILINE | re.IGNORECASE)
        self.begin = int(match[1]) if match else None
        self.path = text.split(" ")[1]


class OddServer:
    """Answers each request by a script while used as a context; connections close after each."""

    def __init__(self, script: Script) -> None:
        self.script, self.count = script, 0
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __enter__(self) -> OddServer:
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
        self.thread.join(0.2)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                head = b""
                while b"\r\n\r\n" not in head and (data := connection.recv(65536)):
                    head += data
                request = Request(self.count, head.decode("latin1"))
                self.count += 1
                for piece in self.script(request):
                    connection.sendall(piece)


def head(status: str = "200 OK", **headers: object) -> bytes:
    """The head of an answer; underscores in names stand for dashes."""
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([f"HTTP/1.1 {status}", "Connection: close", *lines, "", ""]).encode()
