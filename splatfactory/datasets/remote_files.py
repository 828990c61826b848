"""Shard directories in object stores and on web servers, read by byte ranges.

It reads `manifest.json` or `index.json`, which list the shards, and the sidecars that the
converters write beside them, so the store need not support listing. These small files are fetched
once, and again only when their ETag changes. Of a shard, only the members in use are fetched.

The package `obstore` is optional (`splatfactory[remote]`), and imported here at first use.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from splatfactory import paths
from splatfactory.datasets import offsets
from splatfactory.datasets.offsets import ShardOffsets, Span
from splatfactory.datasets.shard_files import LocalFiles, ShardFiles
from splatfactory.datasets.span_cache import SpanCache
from zipsplat.files import write_bytes, write_text

SCHEMES = ("s3", "gs", "hf", "https", "http")

_GAP = 2048
"""Members this close are fetched in one request: between neighbours are a tar header and padding,
512 to 1023 bytes."""
# Per process: number of prefetch threads, and members per request. A single thread would
# wait for the latency of each image and for every retry.
_THREADS, _GROUP = 8, 8
_TRIES = 5
_FIRST_WAIT = 0.2
# Retries of failed or unanswered requests; delays double up to 15 s.
_RETRIES: Any = {"max_retries": 8}

R = TypeVar("R")


def is_remote(directory: str | os.PathLike[str]) -> bool:
    """Whether a directory is a URL such as `s3://bucket/folder`."""
    return str(directory).partition("://")[0] in SCHEMES and "://" in str(directory)


def open_files(directory: str, only: Path | None = None) -> ShardFiles:
    """Open the files of a folder or URL.

    Args:
        directory: a folder or URL.
        only: restrict to a single file of a folder.
    """
    return RemoteFiles(directory) if is_remote(directory) else LocalFiles(Path(directory), only)


class RemoteFiles:
    """A shard directory at a URL.

    `s3://` and `gs://` take keys, region and endpoint from the environment, like the vendors'
    own tools (AWS_…, GOOGLE_…); `hf://datasets/<owner>/<name>[@<revision>]/<folder>` takes
    the token of `hf auth login`.

    Args:
        address: `s3://`, `gs://`, `hf://`, `https://` or `http://`.

    Attributes:
        bytes_read: bytes of members this process has fetched, not counting the cache.
    """

    reads_ahead = True

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self.bytes_read = 0
        digest = hashlib.sha256(self.address.encode()).hexdigest()[:24]
        self._folder = paths.cache_root() / "remote" / digest
        self._cache = SpanCache(paths.cache_root() / "remote" / "spans", paths.remote_cache_bytes())
        self._small: dict[str, str | None] = {}
        self._sizes: dict[str, int] = {}
        self._store: Any = None
        self._pool: ThreadPoolExecutor | None = None
        self._ahead: dict[tuple[str, Span], Future[dict[Span, bytes]]] = {}

    def names(self) -> Sequence[str]:
        """Names of the shards, sorted, from `manifest.json` or `index.json`.

        Raises:
            FileNotFoundError: if neither exists.
            ValueError: if it is damaged.
            OSError: if the URL cannot be reached.
        """
        shards = self._json("manifest.json").get("shards", {})
        if shards:
            try:
                self._sizes = {name: int(record["bytes"]) for name, record in shards.items()}
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{self.address}/manifest.json is damaged: {error!r}") from error
            return self._checked(shards)
        listing = self._json("index.json")
        if not listing:
            raise FileNotFoundError(
                f"{self.address} has neither manifest.json nor index.json, which list its shards;"
                " copy them there with the shards"
            )
        return self._checked(map(str, listing.values()))

    def _checked(self, shards: Iterable[str]) -> list[str]:
        """Validated shard names, sorted; they become parts of URLs and of cache files."""
        names = sorted(set(shards))
        for name in names:
            if not re.fullmatch(r"[^/\\\0.][^/\\\0]*\.tar", name):
                raise ValueError(
                    f"{self.address} lists a shard {name!r}; expected a file name such as a.tar"
                )
        return names

    def listing(self) -> bytes | None:
        """The content of `index.json`, if it exists."""
        return self._fetch_small("index.json")

    def offsets(self, shards: Sequence[str]) -> Iterable[ShardOffsets]:
        """The indices of some shards, from the sidecars beside them.

        Raises:
            FileNotFoundError: if a sidecar is missing.
            ValueError: if one is damaged, or belongs to another version of its shard.
        """
        names = [offsets.sidecar_name(shard) for shard in shards]
        fetched = self._threads().map(self._fetch_small, names)
        for shard, name, content in zip(shards, names, fetched, strict=True):
            if content is None:
                raise FileNotFoundError(f"{self.address}/{name} is missing; {_SIDECAR_ADVICE}")
            index = offsets.from_bytes(content, self._sizes.get(shard))
            if index is None:
                raise ValueError(
                    f"{self.address}/{name} is damaged or belongs to another {shard}; "
                    f"{_SIDECAR_ADVICE}"
                )
            yield index

    def size(self, shard: str) -> int:
        """Bytes of a shard."""
        if shard not in self._sizes:
            meta = self._ask(shard, lambda store, name: _obstore().head(store, name))
            self._sizes[shard] = int(meta["size"])
        return self._sizes[shard]

    def read(self, shard: str, spans: Sequence[Span]) -> list[bytes]:
        """The bytes of some members.

        Raises:
            OSError: if they cannot be fetched, after several retries.
        """
        found: dict[Span, bytes] = {}
        for span in spans:
            future = self._ahead.get((shard, span))
            if future is not None:
                found[span] = future.result()[span]
        missing = [span for span in dict.fromkeys(spans) if span not in found]
        if missing:
            found |= self._fetch(shard, missing)
        return [found[span] for span in spans]

    def prefetch(self, wanted: Mapping[str, Sequence[Span]]) -> None:
        """Start prefetching what will be read next, by shard; drop everything else prefetched."""
        ahead: dict[tuple[str, Span], Future[dict[Span, bytes]]] = {}
        for shard, spans in wanted.items():
            keys = [(shard, span) for span in sorted(set(spans))]
            ahead |= {key: self._ahead[key] for key in keys if key in self._ahead}
            new = [span for _, span in keys if (shard, span) not in ahead]
            for first in range(0, len(new), _GROUP):
                group = new[first : first + _GROUP]
                future = self._threads().submit(self._fetch, shard, group)
                ahead |= {(shard, span): future for span in group}
        self._ahead = ahead

    def close(self) -> None:
        """Stop the threads; they restart on demand."""
        self._ahead = {}
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __getstate__(self) -> dict[str, Any]:
        nothing: dict[str, Any] = {"_store": None, "_pool": None, "_ahead": {}, "bytes_read": 0}
        return {**self.__dict__, **nothing}

    def _fetch(self, shard: str, spans: Sequence[Span]) -> dict[Span, bytes]:
        """Fetch members from the cache or the store; neighbours share one request."""
        version = self._small.get(offsets.sidecar_name(shard)) or ""
        names = {span: f"{version[:24]}-{shard}-{span[0]}-{span[1]}" for span in spans}
        found = {span: b"" if span[1] == 0 else self._cache.get(names[span]) for span in spans}
        missing = [span for span in spans if found[span] is None]
        if missing:
            starts, ends = zip(*((start, start + size) for start, size in missing), strict=True)
            data = self._ask(
                shard,
                lambda store, name: _obstore().get_ranges(
                    store, name, starts=starts, ends=ends, coalesce=_GAP
                ),
            )
            for span, buffer in zip(missing, data, strict=True):
                content = found[span] = bytes(buffer)
                self.bytes_read += len(content)
                self._cache.put(names[span], content)
        return {span: content for span, content in found.items() if content is not None}

    def _fetch_small(self, name: str) -> bytes | None:
        """Fetch a small file: at most once per process, and only if it has changed."""
        if name not in self._small:
            self._small[name] = self._renew(name)
        digest = self._small[name]
        if digest is None:
            return None
        path = self._folder / digest
        if not path.exists():  # the cache was emptied
            self._renew(name)
        return path.read_bytes()

    def _renew(self, name: str) -> str | None:
        """Update the cached copy of a small file; returns the digest of its content."""
        note = self._folder / f"{name}.etag"
        known: dict[str, str] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(note.read_text())
        is_kept = bool(known.get("etag")) and (self._folder / known["sha256"]).exists()
        options = {"if_none_match": known["etag"]} if is_kept else {}
        try:
            answer = self._ask(name, lambda store, path: _whole(store, path, options))
        except FileNotFoundError:
            return None
        if answer is None:
            return known["sha256"]
        content, etag = answer
        digest = hashlib.sha256(content).hexdigest()
        write_bytes(self._folder / digest, content)
        write_text(note, json.dumps({"etag": etag, "sha256": digest}))
        return digest

    def _json(self, name: str) -> dict[str, Any]:
        """The content of a JSON file; {} if it is missing.

        Raises:
            ValueError: if it is damaged.
        """
        content = self._fetch_small(name)
        try:
            found = {} if content is None else json.loads(content)
        except ValueError as error:
            raise ValueError(f"{self.address}/{name} is not valid JSON: {error}") from error
        if not isinstance(found, dict):
            raise ValueError(f"{self.address}/{name} is not a JSON object")
        return found

    def _ask(self, name: str, request: Callable[[Any, str], R]) -> R:
        """Send a request. The library retries refused requests, this retries broken-off ones."""
        if self._store is None:
            self._store = _open_store(self.address)
        for attempt in range(_TRIES):
            try:
                return request(self._store, name)
            except FileNotFoundError:
                raise FileNotFoundError(f"{self.address}/{name} does not exist") from None
            except _obstore().exceptions.GenericError as error:
                if attempt == _TRIES - 1:
                    raise OSError(f"{self.address}/{name}: {_first_line(error)}") from error
                time.sleep(_FIRST_WAIT * 2**attempt)
            except _obstore().exceptions.BaseError as error:
                raise OSError(f"{self.address}/{name}: {_first_line(error)}") from error
        raise AssertionError("unreachable")

    def _threads(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_THREADS, "fetch")
        return self._pool


_SIDECAR_ADVICE = (
    "remote shards need their sidecars: run `python -m splatfactory.datasets.scripts.describe` on"
    " a copy of the folder, and upload the *.offsets.npz with the shards"
)


def _whole(store: Any, name: str, options: dict[str, str]) -> tuple[bytes, str | None] | None:
    """Content and ETag of a file; None if its ETag matches the options."""
    try:
        answer = _obstore().get(store, name, options=options)
    except _obstore().exceptions.NotModifiedError:
        return None
    return bytes(answer.bytes()), answer.meta["e_tag"]


def _open_store(address: str) -> Any:
    scheme = address.partition("://")[0]
    options: dict[str, Any] = {"allow_http": True} if scheme == "http" else {}
    if scheme == "hf":
        address, options = _hub_address(address)
    stores = _obstore().store
    # Choose the class explicitly: the library takes some web URLs for buckets that need keys.
    kind = stores.HTTPStore.from_url if address.startswith("http") else stores.from_url
    try:
        return kind(
            # Not an empty dictionary, which would override the environment.
            address,
            client_options=options or None,
            retry_config=_RETRIES,
        )
    except (ValueError, _obstore().exceptions.BaseError) as error:
        raise OSError(f"{address} cannot be opened: {_first_line(error)}") from error


def _hub_address(address: str) -> tuple[str, dict[str, Any]]:
    """URL of a repository's files on the Hugging Face Hub, and the request options."""
    from huggingface_hub import constants, get_token

    match = re.fullmatch(r"hf://datasets/([^/]+/[^/@]+)(?:@([^/]+))?(/.*)?", address)
    if match is None:
        raise ValueError(
            f"{address}: expected hf://datasets/<owner>/<name>[@<revision>]/<folder of the shards>"
        )
    token, endpoint = get_token(), constants.ENDPOINT
    options: dict[str, Any] = {"allow_http": endpoint.startswith("http://")}
    if token:
        options["default_headers"] = {"Authorization": f"Bearer {token}"}
    folder = f"datasets/{match[1]}/resolve/{match[2] or 'main'}{match[3] or ''}"
    return f"{endpoint}/{folder}", options


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _obstore() -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise ImportError(
            "remote shards need Python 3.11 and obstore: pip install 'obstore>=0.12'"
        ) from error
    return obstore
