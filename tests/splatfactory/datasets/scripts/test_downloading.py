"""Downloading and unpacking data sets."""

from __future__ import annotations

import functools
import hashlib
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from splatfactory.datasets.scripts import downloading
from splatfactory.datasets.scripts.dl3dv import download as dl3dv_download
from zipsplat.downloads import Source


def test_unpacking_stays_in_its_folder(tmp_path):
    for name in ("../outside.txt", "/outside.txt", "a/../../outside.txt", "..\\outside.txt"):
        archive = tmp_path / "evil.zip"
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("fine.txt", "fine")
            file.writestr(name, "evil")
        with pytest.raises(ValueError, match="outside the folder"):
            downloading.unpack(archive, tmp_path / "folder")
        assert not (tmp_path / "folder").exists()
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(ValueError, match="link"):
        downloading.unpack(archive, tmp_path / "folder")
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("bomb", b"\0" * (30 << 20))
    with pytest.raises(ValueError, match="not unpacked"):
        downloading.unpack(archive, tmp_path / "folder")
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a/b.txt", "fine")
    downloading.unpack(archive, tmp_path / "folder")
    assert (tmp_path / "folder" / "a" / "b.txt").read_text() == "fine"


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def served(tmp_path):
    """A folder served on loopback, and its address."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_archive_is_fetched_recorded_and_kept(served, tmp_path, capsys):
    folder, address = served
    with zipfile.ZipFile(folder / "set.zip", "w") as file:
        file.writestr("a/b.txt", "content")
    content = (folder / "set.zip").read_bytes()
    target = tmp_path / "raw"
    source = Source(f"{address}/set.zip")
    assert downloading.single_archive(source, target, overwrite=False, extract=True) == 0
    assert (target / "set.zip").read_bytes() == content
    assert (target / "a" / "b.txt").read_text() == "content"
    assert hashlib.sha256(content).hexdigest() in capsys.readouterr().err
    (folder / "set.zip").write_bytes(b"something else")
    assert downloading.single_archive(source, target, overwrite=False, extract=False) == 0
    with pytest.raises(ValueError, match="is not a zip file"):
        downloading.single_archive(source, target, overwrite=True, extract=False)


LIST = "hash,sensibility label,batch,duration\naa,x,1K,3\nbb,x,2K,3\ncc,x,problem,3\ndd,x,1K,3\n"


@pytest.fixture
def scene_list(tmp_path):
    path = tmp_path / "raw" / ".cache" / "DL3DV-valid.csv"
    path.parent.mkdir(parents=True)
    path.write_text(LIST)
    return tmp_path / "raw"


def test_dl3dv_scenes_are_chosen_by_subset_and_id(scene_list):
    rows = dl3dv_download.read_list(scene_list)
    choose = dl3dv_download.choose_scenes
    assert choose(rows, ["1K", "2K"], None) == ["1K/aa", "2K/bb", "1K/dd"]
    assert choose(rows, ["1K"], None, 1) == ["1K/aa"]
    assert choose(rows, dl3dv_download.SUBSETS, ["dd"]) == ["1K/dd"]
    with pytest.raises(ValueError, match="cc"):
        choose(rows, dl3dv_download.SUBSETS, ["cc"])


class Hub:
    """A stand-in for the hub's client."""

    def __init__(self, closed: bool = False) -> None:
        self.closed = closed
        self.asked: list[str] = []

    def HfApi(self):
        return self

    def auth_check(self, repository, repo_type):
        if self.closed:
            raise PermissionError("403")

    def hf_hub_download(self, repository, name, *, repo_type, local_dir, force_download):
        self.asked.append(name)
        if name == "1K/dd.zip":
            raise OSError("connection lost")
        with zipfile.ZipFile(Path(local_dir) / name, "w") as file:
            file.writestr("transforms.json", "{}")


def test_dl3dv_needs_permission_and_says_how_to_get_it(scene_list, monkeypatch, capsys):
    monkeypatch.setattr(dl3dv_download, "_hub", lambda: Hub(closed=True))
    assert dl3dv_download.main(["--output-dir", str(scene_list)]) == 1
    message = capsys.readouterr().err
    assert "https://huggingface.co/datasets/DL3DV/DL3DV-ALL-960P" in message
    assert "hf auth login" in message


def test_dl3dv_logs_failures_and_leaves_whole_zips_alone(scene_list, monkeypatch):
    hub = Hub()
    monkeypatch.setattr(dl3dv_download, "_hub", lambda: hub)
    assert dl3dv_download.main(["--output-dir", str(scene_list)]) == 1
    assert (scene_list / "failed.log").read_text() == "1K/dd\tconnection lost\n"
    assert hub.asked == ["1K/aa.zip", "2K/bb.zip", "1K/dd.zip"]
    (scene_list / "960P" / "2K" / "bb.zip").write_bytes(b"cut off")
    hub.asked.clear()
    assert dl3dv_download.main(["--output-dir", str(scene_list), "--scene-ids", "aa", "bb"]) == 0
    assert hub.asked == ["2K/bb.zip"]
    assert not (scene_list / "failed.log").exists()
