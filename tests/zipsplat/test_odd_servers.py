"""Whatever a server does: what is kept is the file, byte for byte, or nothing is."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.zipsplat.odd_server import ETAG, OTHER_ETAG, OddServer, Request, Script, head
from zipsplat import downloads, http_responses, hub
from zipsplat.downloads import DownloadError, Source, fetch
from zipsplat.file_records import Record
from zipsplat.hub import HubFile
from zipsplat.weights import _fetch_url

FILE = bytes(range(256)) * 40
OLD = FILE[::-1]
N, HALF = len(FILE), len(FILE) // 2


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIPSPLAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads, "TIMEOUT_S", 0.3)
    monkeypatch.setattr(downloads, "PATIENCE_S", 0.6)
    monkeypatch.setattr(downloads, "FIRST_PAUSE_S", 0.1)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def whole(**headers: object) -> bytes:
    return head(Content_Length=N, ETag=ETAG, **headers)


def part_head(begin: int, end: int = N, total: object = N, **headers: object) -> bytes:
    stated = {"ETag": ETAG, "Content_Length": end - begin, **headers}
    stated = {name: value for name, value in stated.items() if value is not None}
    return head("206 Partial Content", Content_Range=f"bytes {begin}-{end - 1}/{total}", **stated)


def good(request: Request) -> list[bytes]:
    if request.begin is None:
        return [whole(), FILE]
    return [part_head(request.begin), FILE[request.begin :]]


def cut_then(*resumed: bytes) -> Script:
    """The first answer breaks off half-way; the next request for the rest gets something else."""

    def script(request: Request) -> list[bytes]:
        if request.number == 0:
            return [whole(), FILE[:HALF]]
        return list(resumed) if request.begin is not None else good(request)

    return script


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks) + end


def always(*pieces: bytes) -> Script:
    return lambda _asked: list(pieces)


def redirect(place: str, status: str = "302 Found") -> Script:
    def script(request: Request) -> list[bytes]:
        if request.path == "/to":
            return good(request)
        return [head(status, Location=place, Content_Length=0)]

    return script


def changed(request: Request) -> list[bytes]:
    """Another file since the first half; If-Range is ignored."""
    if request.number == 0:
        return [head(Content_Length=N, ETag=ETAG), OLD[:HALF]]
    if request.begin is None:
        return [head(Content_Length=N, ETag=OTHER_ETAG), FILE]
    return [part_head(request.begin, ETag=OTHER_ETAG), FILE[request.begin :]]


def drip(data: bytes) -> Script:
    def pieces() -> Iterator[bytes]:
        for letter in data:
            time.sleep(0.1)
            yield bytes([letter])

    return lambda _asked: pieces()  # type: ignore[return-value]


SCRIPTS: dict[str, Script] = {
    "good": good,
    "cut_and_resumed": cut_then(part_head(HALF), FILE[HALF:]),
    "cut_and_sent_anew": cut_then(whole(), FILE),
    "cut_twice": lambda a: [whole(), FILE[:HALF]] if a.number == 0 else (
        [part_head(HALF), FILE[HALF : HALF + 9]] if a.number == 1 else good(a)
    ),
    "changed_in_between": changed,
    "resumed_without_etag": cut_then(part_head(HALF, ETag=None), OLD[HALF:]),
    "resumed_with_weak_etag": cut_then(part_head(HALF, ETag="W/" + ETAG), OLD[HALF:]),
    "resumed_elsewhere": cut_then(part_head(HALF - 7), FILE[HALF - 7 :]),
    "resumed_from_the_start": cut_then(part_head(0), FILE),
    "resumed_in_part": cut_then(part_head(HALF, HALF + 100), FILE[HALF : HALF + 100]),
    "resumed_with_other_total": cut_then(part_head(HALF, total=N + 5), FILE[HALF:]),
    "resumed_with_shorter_total": cut_then(part_head(HALF, N - 5, N - 5), FILE[HALF:-5]),
    "resumed_with_unknown_total": cut_then(part_head(HALF, total="*"), FILE[HALF:]),
    "resumed_with_too_much": cut_then(part_head(HALF, Content_Length=None), FILE[HALF:] + b"x"),
    "resumed_in_too_many_chunks": cut_then(
        part_head(HALF, Content_Length=None, Transfer_Encoding="chunked"), chunked(FILE[HALF:] * 2)
    ),
    "resumed_byte_by_byte": lambda a: (
        [whole(), FILE[:1]] if a.begin is None else [part_head(a.begin), FILE[a.begin :][:1]]
    ),
    "resumed_without_range": cut_then(head("206 OK", ETag=ETAG, Content_Length=HALF), OLD[HALF:]),
    "resumed_with_wrong_length": cut_then(part_head(HALF, Content_Length=HALF - 3), FILE[HALF:-3]),
    "resumed_as_multipart": cut_then(
        head("206 OK", ETag=ETAG, Content_Type="multipart/byteranges; boundary=x"), b"--x\r\n\r\n"
    ),
    "resumed_in_other_units": cut_then(
        head("206 OK", ETag=ETAG, Content_Range=f"lines {HALF}-{N - 1}/{N}"), FILE[HALF:]
    ),
    "not_satisfiable": cut_then(head("416 No", Content_Range=f"bytes */{N}", Content_Length=0)),
    "nothing_to_resume": cut_then(head("204 No Content", ETag=ETAG)),
    "unasked_part": always(part_head(0, 100, N), FILE[:100]),
    "unasked_whole_part": always(part_head(0), FILE),
    "no_length": always(head(ETag=ETAG), FILE),
    "no_length_cut": always(head(ETag=ETAG), FILE[:HALF]),
    "no_length_empty": always(head()),
    "no_content": always(head("204 No Content")),
    "reset_content": always(head("205 Reset Content", Content_Length=0)),
    "accepted": always(head("202 Accepted", Content_Length=N), OLD),
    "other_information": always(head("203 Other", Content_Length=N), OLD),
    "teapot": always(head("418 No", Content_Length=0)),
    "server_error": always(head("503 Later", Content_Length=0)),
    "always_cut": always(whole(), FILE[:HALF]),
    "cut_in_the_head": always(whole()[:40]),
    "nothing": always(),
    "no_http": always(b"SSH-2.0-OpenSSH_9.9\r\n\r\n"),
    "odd_status": always(b"HTTP/1.1 abc\r\n\r\n"),
    "endless_line": always(b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n"),
    "many_headers": always(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000 + b"\r\n"),
    "length_in_words": always(head(Content_Length="abc"), FILE),
    "length_negative": always(head(Content_Length=-1), FILE),
    "length_absurd": always(head(Content_Length="9" * 30), FILE),
    "length_beyond_the_disk": always(head(Content_Length=10**15 - 1), FILE),
    "two_lengths": always(
        f"HTTP/1.1 200 OK\r\nContent-Length: {N - 9}\r\nContent-Length: {N}\r\n\r\n".encode(), FILE
    ),
    "length_too_small": always(head(Content_Length=HALF), FILE),
    "chunked": always(head(Transfer_Encoding="chunked"), chunked(FILE[:99], FILE[99:])),
    "chunked_beyond_its_length": always(whole(Transfer_Encoding="chunked"), chunked(FILE, b"x")),
    "chunked_without_end": lambda _a: itertools.chain(  # type: ignore[return-value]
        [whole(Transfer_Encoding="chunked")], itertools.repeat(b"400\r\n" + FILE[:1024] + b"\r\n")
    ),
    "chunked_cut": always(head(Transfer_Encoding="chunked"), chunked(FILE[:99], end=b"")),
    "chunked_cut_within": always(head(Transfer_Encoding="chunked"), chunked(FILE)[:-500]),
    "chunked_nonsense": always(head(Transfer_Encoding="chunked"), b"zz\r\nabc"),
    "compressed": always(head(Content_Length=N, Content_Encoding="gzip"), OLD),
    "login_page": always(head(Content_Length=N, Content_Type="text/html; charset=utf-8"), OLD),
    "silent": lambda _a: [time.sleep(2) or b""],
    "silent_after_head": lambda _a: [whole(), FILE[:5], time.sleep(2) or b""],
    "dripping_head": drip(whole() + FILE),
    "dripping_body": lambda _a: iter([whole(), *drip(FILE)(_a)]),  # type: ignore[return-value]
    "to_a_good_place": redirect("/to"),
    "to_a_good_place_for_ever": redirect("/to", "308 Permanent Redirect"),
    "to_itself": redirect("/file.bin"),
    "to_ftp": redirect("ftp://127.0.0.1:9/file.bin"),
    "to_a_file": redirect("file:///etc/hostname"),
    "to_data": redirect("data:,hello"),
    "to_nowhere": redirect(""),
    "to_nonsense": redirect("http://[::1"),
}  # fmt: skip
GOOD = {
    *("good", "cut_and_resumed", "cut_and_sent_anew", "cut_twice", "changed_in_between"),
    *("resumed_without_etag", "resumed_with_weak_etag", "resumed_elsewhere", "chunked"),
    *("resumed_from_the_start", "not_satisfiable"),
    *("to_a_good_place", "to_a_good_place_for_ever", "resumed_with_unknown_total"),
    "resumed_with_shorter_total",  # which is then fetched again
    "length_too_small",  # by its own word
}
"""Where the file can be had after all."""


def test_there_are_enough_behaviours() -> None:
    assert len(SCRIPTS) >= 40


@pytest.mark.parametrize("kind", SCRIPTS)
def test_nothing_is_kept_that_is_not_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "x" / "file.bin"
    with OddServer(SCRIPTS[kind]) as server:
        if kind in GOOD:
            fetch(Source(f"{server.url}/file.bin"), path)
            assert path.read_bytes() == (FILE[:HALF] if kind == "length_too_small" else FILE)
            return
        with pytest.raises(DownloadError, match=r"file\.bin|127\.0\.0\.1"):
            fetch(Source(f"{server.url}/file.bin"), path)
    assert not path.exists()
    assert Record.read(path) is None


@pytest.mark.parametrize("kind", SCRIPTS)
def test_with_a_known_digest_nothing_else_is_accepted(kind: str, tmp_path: Path) -> None:
    digest = hashlib.sha256(FILE).hexdigest()
    path = tmp_path / "x" / "file.bin"
    with OddServer(SCRIPTS[kind]) as server:
        try:
            fetch(Source(f"{server.url}/file.bin", sha256=digest), path)
        except DownloadError:
            assert not path.exists()
        else:
            assert path.read_bytes() == FILE


def test_https_does_not_lead_back_to_http() -> None:
    request = http_responses.request_for("https://example.org/x", {})
    for place in ("http://example.org/x", "ftp://example.org/x"):
        with pytest.raises(DownloadError, match="wanted https"):
            http_responses._Redirects().redirect_request(request, io.BytesIO(), 302, "", {}, place)  # type: ignore[arg-type]
    followed = http_responses._Redirects().redirect_request(
        request,
        None,
        302,
        "",
        {},
        "https://other.org/x",  # type: ignore[arg-type]
    )
    assert followed is not None
    assert followed.full_url == "https://other.org/x"


def test_addresses_with_user_names() -> None:
    with pytest.raises(ValueError, match="user name") as caught:
        fetch(Source("https://me:secret@example.org/x"), Path("nowhere/x"))
    assert "secret" not in str(caught.value)
    shutil.rmtree("nowhere", ignore_errors=True)


@pytest.mark.parametrize(
    "name",
    ["/etc/x.safetensors", "../x.pt", "a/../../x.pt", "c:\\x.pt", "\\\\host\\x.pt", "", "a\0b"],
)
def test_listed_names_cannot_leave_the_cache(name: str) -> None:
    with pytest.raises(DownloadError, match="not a valid name"):
        _ = HubFile("me/mine", name).cached
    assert hub.cache_dir() in HubFile("me/mine", "sub/model.safetensors").cached.parents


@pytest.mark.parametrize(
    "changes",
    [{"sha256": None}, {"size": "7"}, {"size": None}, {"url": 3}, {"verified_mtime_ns": "x"},
     {"etag": [1]}, {"licence": {}}, {"sha256": 12}],
)  # fmt: skip
def test_records_that_make_no_sense(changes: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "file.bin"
    with OddServer(good) as server:
        fetch(Source(f"{server.url}/file.bin"), path)
    record = Record.path_for(path)
    record.write_text(json.dumps({**json.loads(record.read_text()), **changes}))
    with pytest.raises(DownloadError, match=r"file\.bin\.json is damaged .*; delete it"):
        Record.read(path)
    record.write_text("[" * 100_000)
    with pytest.raises(DownloadError, match="damaged"):
        Record.read(path)


def test_the_record_names_the_address(cache: Path) -> None:
    with OddServer(good) as server:
        path = _fetch_url(f"{server.url}/file.bin")
        record = json.loads(Record.path_for(path).read_text())
        record["url"] = "http://other.org/file.bin"
        Record.path_for(path).write_text(json.dumps(record))
        with pytest.raises(DownloadError, match="came from http://other"):
            _fetch_url(f"{server.url}/file.bin")


def test_a_kill_between_two_versions_leaves_no_mixture(tmp_path: Path) -> None:
    """The ETag of a new version is written when the bytes of the old are gone."""
    path = tmp_path / "file.bin"
    part = path.with_name("file.bin.part")
    part.write_bytes(OLD[:HALF])
    part.with_name("file.bin.part.etag").write_text(OTHER_ETAG)
    seen = []

    def script(request: Request) -> list[bytes]:
        seen.append((part.exists(), request.begin))
        return [whole(), FILE]

    with OddServer(script) as server:
        fetch(Source(f"{server.url}/file.bin"), path)
    assert path.read_bytes() == FILE
    assert seen == [(True, HALF)]
