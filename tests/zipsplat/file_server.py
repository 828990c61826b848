"""A loopback HTTP server with the habits of real ones: ranges, ETags, redirects, failures."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Shelf:
    """What the server holds and how it misbehaves.

    Attributes:
        files: path to content.
        etags: path to ETag; by default made from the content.
        cut_after: bytes after which answers break off, one per request to come.
        status: statuses to answer the next requests with.
        redirects: path to another path.
        repositories: Hugging Face repositories, "organisation/name" to commit.
        tags: what repositories state, such as "license:apache-2.0".
        requests: what was asked: path and headers.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)
    cut_after: list[int] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    redirects: dict[str, str] = field(default_factory=dict)
    repositories: dict[str, str] = field(default_factory=dict)
    tags: dict[str, list[str]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def ranges(self) -> list[str | None]:
        """The Range headers of all requests so far."""
        return [headers.get("Range") for _, headers in self.requests]


class FileServer:
    """Serves a `Shelf` at `url` while used as a context."""

    def __init__(self) -> None:
        self.shelf = shelf = Shelf()

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None:
                pass

            def do_HEAD(self) -> None:
                _answer(self, shelf, has_body=False)

            def do_GET(self) -> None:
                _answer(self, shelf, has_body=True)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> FileServer:
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


def _answer(handler: BaseHTTPRequestHandler, shelf: Shelf, has_body: bool) -> None:
    path = handler.path.split("?")[0]
    shelf.requests.append((handler.path, dict(handler.headers)))
    if shelf.status:
        handler.send_error(shelf.status.pop(0))
        return
    if path.startswith("/api/models/"):
        repository, _, revision = path.removeprefix("/api/models/").partition("/revision/")
        if repository not in shelf.repositories:
            _refuse(handler, 401, "RepoNotFound")
            return
        _send_json(handler, _repository_info(shelf, repository, revision or "main"))
        return
    if path in shelf.redirects:
        handler.send_response(302)
        handler.send_header("Location", shelf.redirects[path])
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return
    if path not in shelf.files:
        repository = path.partition("/resolve/")[0].removeprefix("/")
        if "/resolve/" not in path:
            handler.send_error(404)
        elif repository in shelf.repositories:
            _refuse(handler, 404, "EntryNotFound")
        else:
            _refuse(handler, 401, "RepoNotFound")
        return
    _send_file(handler, shelf, path, has_body)


def _send_file(handler: BaseHTTPRequestHandler, shelf: Shelf, path: str, has_body: bool) -> None:
    content = shelf.files[path]
    etag = shelf.etags.get(path, f'"{hashlib.sha256(content).hexdigest()}"')
    begin = 0
    wanted = handler.headers.get("Range")
    if wanted and handler.headers.get("If-Range") in (None, etag):
        begin = int(wanted.removeprefix("bytes=").rstrip("-"))
        if begin >= len(content):
            handler.send_error(416)
            return
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    handler.send_header("Content-Length", str(len(content) - begin))
    handler.send_header("ETag", etag)
    for repository, commit in shelf.repositories.items():
        if path.startswith(f"/{repository}/"):
            revision = path.removeprefix(f"/{repository}/resolve/").split("/")[0]
            handler.send_header("X-Repo-Commit", commit if revision == "main" else revision)
    handler.end_headers()
    if has_body:
        end = begin + shelf.cut_after.pop(0) if shelf.cut_after else len(content)
        with contextlib.suppress(ConnectionError):  # a client may go away
            handler.wfile.write(content[begin:end])


def _refuse(handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
    """The hub's way to say what is not there."""
    handler.send_response(status)
    handler.send_header("X-Error-Code", code)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _repository_info(shelf: Shelf, repository: str, revision: str) -> dict[str, object]:
    marker = f"/{repository}/resolve/{revision}/"
    siblings = []
    for path, content in shelf.files.items():
        if path.startswith(marker):
            lfs = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
            name = path.removeprefix(marker)
            siblings.append({"rfilename": name, "lfs": {**lfs, "pointerSize": 1}})
    commit = shelf.repositories[repository]
    return {
        "id": repository,
        "private": False,
        "sha": commit if revision == "main" else revision,
        "siblings": siblings,
        "tags": shelf.tags.get(repository, []),
    }


def _send_json(handler: BaseHTTPRequestHandler, content: dict[str, object]) -> None:
    body = json.dumps(content).encode()
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
