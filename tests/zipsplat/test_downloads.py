"""Fetching: resumed, verified, recorded, and clear about what went wrong."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.zipsplat.file_server import FileServer
from tests.zipsplat.tiny_network import tiny_network
from zipsplat import downloads, weights
from zipsplat.downloads import DownloadError, Source, cache_dir, fetch
from zipsplat.file_records import Record, verify

CONTENT = bytes(range(256)) * 20000  # 5 MB


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as running:
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIPSPLAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(downloads.time, "sleep", lambda _: None)
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache"


def offered(server: FileServer, content: bytes = CONTENT) -> Source:
    server.shelf.files["/file.bin"] = content
    return Source(f"{server.url}/file.bin")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_fetch_records_what_came(server: FileServer, tmp_path: Path) -> None:
    source = offered(server)
    file = fetch(source, tmp_path / "sub" / "file.bin")
    assert file.read_bytes() == CONTENT
    record = Record.read(file)
    assert record is not None
    assert record.size == len(CONTENT)
    assert record.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert record.url == source.url
    assert record.etag
    assert names(file.parent) == {"file.bin", "file.bin.json", "file.bin.lock"}


def test_existing_files_are_not_downloaded_again(server: FileServer, tmp_path: Path) -> None:
    file = fetch(offered(server), tmp_path / "file.bin")
    server.shelf.requests.clear()
    assert fetch(Source("http://127.0.0.1:9/file.bin"), file) == file
    assert server.shelf.requests == []


def test_broken_connections_are_continued(server: FileServer, tmp_path: Path) -> None:
    source = offered(server)
    server.shelf.cut_after = [2_000_000, 1_000_000]
    file = fetch(source, tmp_path / "file.bin")
    assert file.read_bytes() == CONTENT
    assert server.shelf.ranges() == [None, "bytes=2000000-", "bytes=3000000-"]


def test_a_later_run_continues(server: FileServer, tmp_path: Path) -> None:
    source = offered(server)
    server.shelf.cut_after = [1_000_000] + 30 * [0]
    with pytest.raises(DownloadError, match="the connection ended after 1000000 of 5120000 bytes"):
        fetch(source, tmp_path / "file.bin")
    assert not (tmp_path / "file.bin").exists()
    server.shelf.requests.clear()
    server.shelf.cut_after.clear()
    assert fetch(source, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.shelf.ranges() == ["bytes=1000000-"]


def test_a_part_of_another_version_is_not_continued(server: FileServer, tmp_path: Path) -> None:
    source = offered(server)
    server.shelf.cut_after = [1_000_000] + 30 * [0]
    with pytest.raises(DownloadError):
        fetch(source, tmp_path / "file.bin")
    offered(server, CONTENT[::-1])
    server.shelf.cut_after.clear()
    assert fetch(source, tmp_path / "file.bin").read_bytes() == CONTENT[::-1]


def test_a_part_that_is_already_complete(server: FileServer, tmp_path: Path) -> None:
    source = offered(server)
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    etag = f'"{hashlib.sha256(CONTENT).hexdigest()}"'
    (tmp_path / "file.bin.part.etag").write_text(etag)
    assert fetch(source, tmp_path / "file.bin").read_bytes() == CONTENT


def test_announced_size_and_digest_are_checked(server: FileServer, tmp_path: Path) -> None:
    url = offered(server).url
    digest = hashlib.sha256(CONTENT).hexdigest()
    for wrong in (Source(url, sha256="0" * 64), Source(url, size=7), Source(url, digest, size=7)):
        with pytest.raises(DownloadError, match="another file than announced"):
            fetch(wrong, tmp_path / "file.bin")
        assert names(tmp_path) == {"file.bin.lock"}
    for right in (Source(url, digest), Source(url, digest[:8]), Source(url, size=len(CONTENT))):
        fetch(right, tmp_path / "file.bin").unlink()
        Record.path_for(tmp_path / "file.bin").unlink()


def test_changed_files_are_noticed(server: FileServer, tmp_path: Path) -> None:
    source = offered(server)
    file = fetch(source, tmp_path / "file.bin")
    changed = bytearray(CONTENT)
    changed[1234] ^= 1
    file.write_bytes(bytes(changed))
    os.utime(file, ns=(1, 1))
    with pytest.raises(DownloadError, match=r"wanted SHA-256 .* delete it \(and file\.bin\.json\)"):
        fetch(source, file)
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(DownloadError, match="wanted 5120000 bytes, got 5119999"):
        fetch(source, file)
    file.write_bytes(CONTENT)
    assert fetch(source, file) == file


def test_a_changed_source_is_noticed(server: FileServer, tmp_path: Path) -> None:
    file = fetch(offered(server), tmp_path / "file.bin")
    file.unlink()
    source = offered(server, CONTENT[::-1])
    with pytest.raises(DownloadError, match="another file than announced"):
        fetch(source, file)
    Record.path_for(file).unlink()
    assert fetch(source, file).read_bytes() == CONTENT[::-1]


def test_a_file_put_there_by_hand_is_recorded(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"by hand")
    record = verify(file, "http://example.org/file.bin")
    assert record.sha256 == hashlib.sha256(b"by hand").hexdigest()
    assert Record.read(file) == record
    Record.path_for(file).unlink()
    with pytest.raises(DownloadError, match="announced"):
        verify(file, size=3)


def test_damaged_record(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    file.write_bytes(b"x")
    for text in ("{", "[]", '{"url": "x"}'):
        Record.path_for(file).write_text(text)
        with pytest.raises(DownloadError, match=r"file\.bin\.json is damaged"):
            verify(file)


def test_errors_name_file_source_and_remedy(server: FileServer, tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    with pytest.raises(DownloadError, match=r"HTTP 404.*put it at .*file\.bin"):
        fetch(Source(f"{server.url}/nothing"), file)
    assert len(server.shelf.requests) == 1  # what is not there will not come by asking again
    with pytest.raises(DownloadError, match=r"cannot download file\.bin from http://127.0.0.1:9/x"):
        fetch(Source("http://127.0.0.1:9/x?token=secret"), file)
    with pytest.raises(ValueError, match="http or https"):
        fetch(Source("file:///etc/passwd"), file)
    server.shelf.status = [500, 503]
    assert fetch(offered(server), file).read_bytes() == CONTENT


def test_secrets_are_not_written_down(server: FileServer, tmp_path: Path) -> None:
    address = offered(server).url + "?token=secret"
    file = fetch(Source(address, headers={"Authorization": "Bearer secret"}), tmp_path / "file.bin")
    assert "secret" not in Record.path_for(file).read_text()


def test_authorization_stays_with_the_first_host(server: FileServer, tmp_path: Path) -> None:
    offered(server)
    server.shelf.redirects["/gated"] = "/file.bin"
    source = Source(f"{server.url}/gated", headers={"Authorization": "Bearer secret"})
    fetch(source, tmp_path / "file.bin")
    (_, first), (_, second) = server.shelf.requests
    assert first["Authorization"] == "Bearer secret"
    assert "Authorization" not in second


def test_full_disk(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(downloads.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(DownloadError, match=r"needs 0\.01 GB .* \$ZIPSPLAT_CACHE"):
        fetch(offered(server), tmp_path / "file.bin")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ZIPSPLAT_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("ZIPSPLAT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "zipsplat"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_dir() == Path.home() / ".cache" / "zipsplat"


def checkpoint_bytes(tmp_path: Path, seed: int = 0) -> bytes:
    path = tmp_path / "made.tar"
    torch.save({"model": tiny_network(seed).state_dict()}, path)
    return path.read_bytes()


def test_weights_by_address(server: FileServer, tmp_path: Path, cache: Path) -> None:
    server.shelf.files["/models/my.tar"] = checkpoint_bytes(tmp_path)
    loaded = weights.load(f"{server.url}/models/my.tar")
    assert loaded.path.name == "my.tar"
    assert cache in loaded.path.parents
    server.shelf.files.clear()
    assert weights.load(f"{server.url}/models/my.tar").path == loaded.path


def hub(
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    repository: str,
    commit: str = "c" * 40,
    **files: bytes,
) -> None:
    """Let the server be a model hub with a repository whose `main` is at a commit."""
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.shelf.repositories[repository] = commit
    for name, content in files.items():
        for revision in ("main", commit):
            server.shelf.files[f"/{repository}/resolve/{revision}/{name}"] = content


def test_released_weights(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    content = checkpoint_bytes(tmp_path)
    hub(server, monkeypatch, "veichta/zipsplat", **{"zipsplat-da3g-252p.tar": content})
    server.shelf.cut_after = [100_000]
    path = weights.load("zipsplat").path
    assert path == cache / "huggingface" / "veichta--zipsplat" / "zipsplat-da3g-252p.tar"
    record = Record.read(path)
    assert record is not None
    assert record.revision == "c" * 40
    assert record.sha256 == hashlib.sha256(content).hexdigest()
    requested = [path for path, _ in server.shelf.requests]
    assert sum("/resolve/main/" in path for path in requested) == 1  # the revision is resolved once
    assert sum("/api/models/" in path for path in requested) == 1  # the preferred name is not there
    server.shelf.requests.clear()
    weights.load("zipsplat")
    assert server.shelf.requests == []


def test_lost_released_weights_come_back_at_the_same_revision(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = checkpoint_bytes(tmp_path)
    hub(server, monkeypatch, "veichta/zipsplat", **{"zipsplat-da3g-252p.tar": content})
    path = weights.load("zipsplat").path
    path.unlink()
    newer = checkpoint_bytes(tmp_path, seed=1)
    hub(server, monkeypatch, "veichta/zipsplat", "d" * 40, **{path.name: newer})
    assert weights.load("zipsplat").path.read_bytes() == content


def test_digest_that_the_hub_announces(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = checkpoint_bytes(tmp_path)
    hub(server, monkeypatch, "me/mine", **{"model.safetensors": content})
    for path in list(server.shelf.files):
        server.shelf.etags[path] = f'"{"0" * 64}"'
    with pytest.raises(DownloadError, match="another file than announced"):
        weights.load("me/mine")


def test_repository_of_others(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    weights.save(tmp_path / "made.safetensors", tiny_network().state_dict(), {})
    content = (tmp_path / "made.safetensors").read_bytes()
    files = {"README.md": b"#", "model.safetensors": content, "model.tar": b"older"}
    hub(server, monkeypatch, "me/mine", **files)
    assert weights.load("me/mine").path.read_bytes() == content
    server.shelf.requests.clear()
    weights.load("me/mine")
    assert server.shelf.requests == []
    hub(server, monkeypatch, "me/many", **{"a.tar": b"1", "b.tar": b"2"})
    with pytest.raises(FileNotFoundError, match=r"2 weights files \(a\.tar, b\.tar\)"):
        weights.load("me/many")
    hub(server, monkeypatch, "me/none", **{"README.md": b"#"})
    with pytest.raises(FileNotFoundError, match="0 weights files"):
        weights.load("me/none")


def test_records_are_readable_json(server: FileServer, tmp_path: Path) -> None:
    file = fetch(offered(server), tmp_path / "file.bin")
    content = json.loads(Record.path_for(file).read_text())
    assert set(content) == {
        "url", "size", "sha256", "revision", "etag", "verified_mtime_ns", "licence",
    }  # fmt: skip
