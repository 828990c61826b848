"""Validated HTTP responses of untrusted servers.

Source: RFC 9110, sections 8.6 (Content-Length), 14.4 (Content-Range), 15.3 and 15.4 (statuses).
"""

from __future__ import annotations

import re
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from email.message import Message
from http.client import HTTPMessage, HTTPResponse
from typing import IO, Any
from urllib.parse import urlsplit

_RANGE = re.compile(r"bytes (\d{1,15})-(\d{1,15})/(\d{1,15}|\*)")


class DownloadError(OSError):
    """A download failed; the message says which file, from where, and what to do."""


@dataclass(frozen=True)
class Response:
    """The validated headers of a response.

    Args:
        begin: offset of the first byte; None for the whole file.
        total: bytes of the whole file; None if unknown.
        etag: the server's name for this version.
        has_end: whether the end of the transfer is marked, so that truncation is detectable.
    """

    begin: int | None
    total: int | None
    etag: str | None
    has_end: bool

    def continues(self, have: int, etag: str, total: str) -> bool:
        """Whether this continues a partial download, by ETag and total length (as text)."""
        known = "" if self.total is None else str(self.total)
        return (self.begin, self.etag) == (have, etag) and (not known or known == total)

    @classmethod
    def of(cls, response: HTTPResponse, address: str) -> Response:
        """Validate the headers.

        Raises:
            DownloadError: if the body cannot be the file, or the headers are inconsistent.
        """
        headers = response.headers
        kind = headers.get_content_type()
        encoding = headers.get("Content-Encoding", "identity").lower()
        if response.status not in (200, 206):
            raise DownloadError(f"{address} answered with HTTP {response.status} instead of a file")
        if kind == "text/html" or kind.startswith("multipart/") or encoding != "identity":
            raise DownloadError(
                f"{address} did not answer with the file ({kind}, {encoding}); open it in a"
                " browser, it may need a login"
            )
        length = _length(headers, address)
        etag = headers.get("ETag")
        has_end = bool(getattr(response, "chunked", False)) or length is not None
        if response.status == 200:
            return cls(None, length, etag, has_end)
        begin, total = _range(headers.get("Content-Range", ""), length, address)
        return cls(begin, total, etag, has_end)


def request_for(url: str, headers: Mapping[str, str]) -> urllib.request.Request:
    """A request for a file; headers are sent to the first host only.

    Raises:
        ValueError: if it is not an http(s) URL without user name.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"a download needs an http or https URL, got {url!r}")
    if parts.username is not None:
        raise ValueError(
            f"a URL with a user name is not supported ({parts.hostname}); download the file"
            " manually and give its path"
        )
    identity = {"User-Agent": "zipsplat", "Accept-Encoding": "identity"}
    request = urllib.request.Request(url, headers=identity)
    for name, value in headers.items():
        request.add_unredirected_header(name, value)
    return request


def open_within(request: urllib.request.Request, timeout_s: float, total_s: float) -> Any:
    """Send a request over http or https; https never redirects to http.

    Args:
        request: from `request_for`.
        timeout_s: for each step, such as connecting.
        total_s: for all headers, which a server may send byte by byte.

    Raises:
        OSError: if there is no valid response; `HTTPError` for statuses from 400.
    """
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    outcome: list[Any] = []
    abandoned = threading.Event()

    def work() -> None:
        try:
            outcome.append(opener.open(request, timeout=timeout_s))
            if abandoned.is_set():
                outcome[0].close()
        except ValueError as error:
            text = f"{request.host} redirects to an invalid URL ({error})"
            outcome.append(DownloadError(text))
        except Exception as error:
            outcome.append(error)

    # A daemon thread, because nothing else can abandon a server that sends a byte every few
    # seconds.
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(total_s)
    if not outcome:
        abandoned.set()
        raise TimeoutError(f"no response within {total_s:g} seconds")
    if isinstance(outcome[0], Exception):
        raise outcome[0]
    return outcome[0]


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http(s) only, and from https to https only."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """The request for a redirect target."""
        allowed = ("https",) if req.type == "https" else ("http", "https")
        scheme = urlsplit(newurl).scheme
        if scheme not in allowed:
            fp.close()
            raise DownloadError(
                f"{req.host} redirects to {scheme or 'an unknown protocol'}, which is not followed;"
                f" wanted {' or '.join(allowed)}"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _length(headers: Message, address: str) -> int | None:
    stated = set(headers.get_all("Content-Length") or [])
    if not stated:
        return None
    if len(stated) > 1 or not re.fullmatch(r"\d{1,15}", next(iter(stated)).strip()):
        raise DownloadError(f"{address} answered with a Content-Length of {', '.join(stated)}")
    return int(stated.pop())


def _range(text: str, length: int | None, address: str) -> tuple[int, int | None]:
    """First byte and length of the whole file of a Content-Range header."""
    match = _RANGE.fullmatch(text.strip())
    begin, end = (int(match[1]), int(match[2])) if match else (0, -1)
    total = int(match[3]) if match and match[3] != "*" else end + 1
    # Requests always ask for the rest up to the end, so a range in the middle is an error.
    if not begin <= end == total - 1 or length not in (None, end - begin + 1):
        raise DownloadError(f"{address} answered with a Content-Range of {text!r}, {length} bytes")
    return begin, total
