"""Released names: both file names, renamed and lost files, lost repositories, no connection."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.zipsplat.file_server import FileServer
from tests.zipsplat.tiny_network import tiny_network
from zipsplat import weights
from zipsplat.downloads import DownloadError
from zipsplat.file_records import Record
from zipsplat.hub import HubRelease, fetch_release
from zipsplat.releases import RELEASES

REPOSITORY = "veichta/zipsplat"
FIRST, SECOND = "zipsplat-da3g-252.tar", "zipsplat-da3g-252p.tar"
COMMIT, LATER = "c" * 40, "d" * 40


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with FileServer() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.url)
        yield running


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIPSPLAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "huggingface"


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("made") / "made.tar"
    torch.save({"model": tiny_network().state_dict()}, path)
    return path.read_bytes()


def publish(
    server: FileServer, files: dict[str, bytes], repository: str = REPOSITORY, commit: str = COMMIT
) -> None:
    """Let a repository's `main` hold exactly these files, at a commit."""
    shelf = server.shelf
    for path in [p for p in shelf.files if p.startswith(f"/{repository}/resolve/main/")]:
        del shelf.files[path]
    shelf.repositories[repository] = commit
    for name, data in files.items():
        for revision in ("main", commit):
            shelf.files[f"/{repository}/resolve/{revision}/{name}"] = data


@pytest.mark.parametrize("there", [(FIRST,), (SECOND,), (SECOND, FIRST)])
@pytest.mark.parametrize("name", ["zipsplat", "zipsplat-252"])
def test_both_file_names(
    server: FileServer, content: bytes, cache: Path, there: tuple[str, ...], name: str
) -> None:
    publish(server, {file: content for file in there} | {"zipsplat-da3g-504.tar": b"another"})
    path = weights.locate(name)
    assert path == cache / "veichta--zipsplat" / (FIRST if FIRST in there else SECOND)
    assert path.read_bytes() == content
    record = Record.read(path)
    assert record is not None
    assert (record.revision, record.licence) == (COMMIT, "cc-by-nc-4.0")
    server.shelf.requests.clear()
    assert weights.locate(name) == path
    assert server.shelf.requests == []


def test_the_newer_model_has_a_name_of_its_own(server: FileServer, content: bytes) -> None:
    publish(server, {FIRST: b"another", "zipsplat-da3g-504.tar": content})
    assert weights.locate("zipsplat-504").name == "zipsplat-da3g-504.tar"


def test_a_lost_file_that_was_renamed_is_known_by_its_digest(
    server: FileServer, content: bytes
) -> None:
    publish(server, {FIRST: content})
    path = weights.locate("zipsplat")
    path.unlink()
    for address in [a for a in server.shelf.files if a.endswith(FIRST)]:
        del server.shelf.files[address]
    server.shelf.files[f"/{REPOSITORY}/resolve/{COMMIT}/renamed.tar"] = content
    server.shelf.files[f"/{REPOSITORY}/resolve/{COMMIT}/other.tar"] = b"other"
    assert weights.locate("zipsplat") == path
    assert path.read_bytes() == content


def test_a_file_that_is_gone_names_what_is_there(server: FileServer) -> None:
    publish(server, {"README.md": b"#", "zipsplat-v3.tar": b"new"})
    with pytest.raises(DownloadError) as caught:
        weights.locate("zipsplat")
    message = str(caught.value)
    assert f"contains no file {FIRST} or {SECOND} at revision {COMMIT}" in message
    assert "README.md, zipsplat-v3.tar" in message
    assert f"{server.url}/{REPOSITORY}/resolve/{COMMIT}/NAME" in message


def test_a_repository_that_is_gone(server: FileServer, cache: Path) -> None:
    with pytest.raises(DownloadError, match=r"repository does not exist.*put it at") as caught:
        weights.locate("zipsplat")
    assert str(cache / "veichta--zipsplat" / FIRST) in str(caught.value)


def test_offline_with_and_without_the_file(
    server: FileServer, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(server, {SECOND: content})
    path = weights.locate("zipsplat")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert weights.locate("zipsplat") == path
    path.unlink()
    with pytest.raises(DownloadError, match=f"put it at .*{SECOND}"):
        weights.locate("zipsplat")


def test_the_lost_file_comes_back_at_its_revision(server: FileServer, content: bytes) -> None:
    publish(server, {SECOND: content})
    path = weights.locate("zipsplat")
    path.unlink()
    publish(server, {FIRST: b"something else"}, commit=LATER)
    assert weights.locate("zipsplat") == path
    assert path.read_bytes() == content


def test_known_sizes_and_digests_are_demanded(server: FileServer, content: bytes) -> None:
    publish(server, {"model.tar": content}, "me/mine")
    digest = hashlib.sha256(content).hexdigest()
    wrong = HubRelease("me/mine", ("model.tar",), size=len(content) + 1)
    with pytest.raises(DownloadError, match="another file than announced"):
        fetch_release(wrong)
    right = HubRelease("me/mine", ("old name.tar",), size=len(content), sha256=digest)
    assert fetch_release(right).read_bytes() == content


def test_licences_are_said_recorded_and_travel(
    server: FileServer, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    name, repository = "da3metric-large", "depth-anything/DA3METRIC-LARGE"
    assert weights.licence_note(name).endswith("(licence not known): not for commercial use.")
    publish(server, {"model.safetensors": content}, repository)
    server.shelf.tags[repository] = ["pytorch", "license:apache-2.0"]
    weights.locate(name)
    assert f"fetching model.safetensors of {repository}; licence: apache-2.0" in caplog.text
    assert weights.licence_note(name) == "Made with Depth Anything 3, da3metric-large (Apache-2.0)."
    server.shelf.requests.clear()
    weights.licence_note(name)
    assert server.shelf.requests == []


def test_licences_of_other_repositories_travel_too(server: FileServer, content: bytes) -> None:
    name = "depth-anything/DA3-LARGE-1.1"
    assert weights.licence_note(name) == ""
    publish(server, {"README.md": b"#", "model.safetensors": content}, name)
    server.shelf.tags[name] = ["license:cc-by-nc-4.0"]
    assert weights.locate(name).read_bytes() == content
    assert weights.licence_note(name) == f"Made with {name} (CC BY-NC 4.0): not for commercial use."


def test_what_the_registry_says() -> None:
    assert RELEASES["zipsplat-252"] is RELEASES["zipsplat"]
    assert RELEASES["zipsplat"].file.filenames == (FIRST, SECOND)
    assert not RELEASES["zipsplat"].size.keeps_shape
    newer = RELEASES["zipsplat-504"].size
    assert newer.for_image(1080, 1920, 14) == (280, 504)
    assert newer.for_image(1920, 1080, 14) == (504, 280)
    free = [name for name in RELEASES if "Apache-2.0" in weights.licence_note(name)]
    assert free == ["da3-small", "da3-base"]
    for name in set(RELEASES) - set(free):
        assert "not for commercial use" in weights.licence_note(name)
    assert RELEASES["da3nested-giant-large"].file.repository == (
        "depth-anything/DA3NESTED-GIANT-LARGE"
    )
