from __future__ import annotations

import dataclasses
import functools
import hashlib
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from splatfactory.datasets import depth_codec, offsets
from splatfactory.datasets.frames import decode_pixels
from splatfactory.datasets.scripts import (
    depth_estimators,
    describe,
    downloading,
    extract_depth,
    repack,
    resize,
)
from splatfactory.datasets.scripts.dl3dv import download as dl3dv_download
from splatfactory.datasets.scripts.extract_depth import Options
from splatfactory.datasets.scripts.sharing import Share
from splatfactory.datasets.shard_output import Manifest, ShardOutput, record_of
from splatfactory.datasets.store import ShardStore
from tests.splatfactory.datasets.stored_scenes import ROOT, make_scene
from zipsplat.downloads import Source
from zipsplat.files import LOCK

GOLDEN = ROOT / "tests" / "golden" / "data"
SHARDS = GOLDEN / "shards" / "synth" / "90x160"


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))


def write(directory: Path, keys: list[str], size_mb: float = 512, **kwargs) -> Path:
    with ShardOutput(directory, "test", shard_size_mb=size_mb) as output:
        for key in keys:
            output.add(make_scene(key, **kwargs))
    return directory


def scenes_of(directory: Path) -> dict[str, object]:
    store = ShardStore(directory)
    assert not store.faults
    return {info.key: store.read(number) for number, info in enumerate(store.scenes)}


def same(a, b) -> bool:
    arrays = np.array_equal(a.cameras, b.cameras) and np.array_equal(a.poses, b.poses)
    return arrays and a.images == b.images and a.depths == b.depths


# repack


def test_repacking_gives_the_golden_shard(tmp_path):
    directory = Path(shutil.copytree(SHARDS / "test-scenes", tmp_path / "a"))
    shutil.copy(GOLDEN / "shards" / "empty-trailing-shard.tar", directory / "shard-000002.tar")
    assert repack.main([str(directory)]) == 0
    expected = GOLDEN / "tools_expected" / "repack"
    made = (directory / "shard-000000.tar").read_bytes()
    assert made == (expected / "shard-000000.tar").read_bytes()
    index = json.loads((directory / "index.json").read_text())
    assert index == json.loads((expected / "index.json").read_text())
    assert sorted(path.name for path in directory.glob("*.tar")) == ["shard-000000.tar"]
    manifest = Manifest.load(directory)
    assert manifest.shards == {"shard-000000.tar": record_of(directory / "shard-000000.tar")}


def test_repacking_splits_and_keeps_everything(tmp_path):
    directory = write(tmp_path / "a", [f"k{i}" for i in range(7)])
    before = scenes_of(directory)
    assert repack.main([str(directory), "--target-size-mb", "0.05"]) == 0
    assert len(list(directory.glob("shard-*.tar"))) == 4
    after = scenes_of(directory)
    assert list(after) == list(before)
    assert all(same(after[key], before[key]) for key in before)


def test_repacking_keeps_members_it_does_not_know(tmp_path):
    import io

    directory = write(tmp_path / "a", ["k0", "k1"], num_views=3)
    shard = directory / "shard-000000.tar"
    with tarfile.open(shard) as source:
        members = [(header.name, source.extractfile(header).read()) for header in source]
    members = [m for m in members if m[0] != "k1.dep1.webp"] + [("k1.notes.txt", b"kept")]
    with tarfile.open(shard, "w") as target:
        for name, data in members:
            header = tarfile.TarInfo(name)
            header.size = len(data)
            target.addfile(header, io.BytesIO(data))
    assert repack.main([str(directory)]) == 0
    with tarfile.open(shard) as tar:
        assert [(header.name, tar.extractfile(header).read()) for header in tar] == members


@pytest.mark.parametrize("num_workers", [1, 3])
def test_repacking_in_threads_gives_the_same_files(tmp_path, num_workers):
    made = []
    for name, options in (("a", []), ("b", ["--num-workers", str(num_workers)])):
        directory = write(tmp_path / name, [f"k{i}" for i in range(7)], size_mb=0.02)
        assert repack.main([str(directory), "--target-size-mb", "0.05", *options]) == 0
        files = [p for p in sorted(directory.iterdir()) if p.suffix != ".npz" and p.name != LOCK]
        made.append({path.name: path.read_bytes() for path in files})
    assert len(made[0]) == 6  # four shards, index, manifest
    assert made[0] == made[1]


@pytest.mark.parametrize("tool", ["repack", "extract_depth"])
def test_a_negative_number_of_workers_is_refused(tmp_path, capsys, tool, monkeypatch):
    monkeypatch.setattr(depth_estimators, "load", lambda *_: Stand())
    directory = write(tmp_path / "a", ["k0", "k1"], has_depth=False)
    before = {path.name: path.read_bytes() for path in directory.glob("*.tar")}
    command = {"repack": repack, "extract_depth": extract_depth}[tool]
    assert command.main([str(directory), "--num-workers", "-1"]) == 1
    assert "--num-workers must not be negative" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in directory.glob("*.tar")} == before


KILLED_REPACK = """
import os, sys
from pathlib import Path
from splatfactory.datasets.scripts import repack
from splatfactory.datasets.shards import ShardWriter
add, count = ShardWriter.add_members, [0]
def add_and_die(self, key, content):
    add(self, key, content)
    count[0] += 1
    if count[0] == {after}:
        os.kill(os.getpid(), 9)
ShardWriter.add_members = add_and_die
repack.main([{directory!r}, "--target-size-mb", "0.05"])
"""


@pytest.mark.parametrize("after", [1, 4, 6])
def test_a_killed_repack_loses_nothing_and_continues(tmp_path, after):
    directory = write(tmp_path / "a", [f"k{i}" for i in range(6)], size_mb=0.02)
    before = scenes_of(directory)
    code = KILLED_REPACK.format(after=after, directory=str(directory))
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert process.returncode == -signal.SIGKILL
    kept = {key for path in directory.glob("*.tar") for key in offsets.scan(path).keys}
    assert kept == before.keys()
    assert repack.main([str(directory), "--target-size-mb", "0.05"]) == 0
    after_all = scenes_of(directory)
    assert all(same(after_all[key], before[key]) for key in before)
    assert len(after_all) == 6
    assert not list(directory.glob("*.partial")) + list(directory.glob("_new*"))


def test_damaged_and_one_scene_directories_are_not_repacked(tmp_path, capsys):
    directory = write(tmp_path / "a", ["k0", "k1"])
    shard = directory / "shard-000000.tar"
    content = shard.read_bytes()
    shard.write_bytes(content[:40_000])
    assert repack.main([str(directory)]) == 1
    assert "is damaged" in capsys.readouterr().err
    assert shard.read_bytes() == content[:40_000]
    with ShardOutput(tmp_path / "b", "test", one_scene_per_shard=True) as output:
        output.add(make_scene("bicycle"))
        output.add(make_scene("bonsai"))
    assert repack.main([str(tmp_path / "b")]) == 1
    assert "one scene per shard" in capsys.readouterr().err


# resize


def test_resizing_gives_the_golden_views(tmp_path):
    source = shutil.copytree(SHARDS / "train-scenes", tmp_path / "source")
    made = tmp_path / "made"
    assert resize.main([str(source), "--output", str(made), "--size", "56"]) == 0
    folder = shutil.copytree(
        GOLDEN / "tools_expected" / "resize56" / "train-scenes", tmp_path / "expected"
    )
    expected, ours = scenes_of(folder), scenes_of(made)
    assert expected.keys() == ours.keys()
    for key, a in expected.items():
        b = ours[key]
        np.testing.assert_allclose(b.cameras, a.cameras, atol=1e-3)
        np.testing.assert_array_equal(b.poses, a.poses)
        for x, y in zip(a.images, b.images, strict=True):
            error = np.abs(decode_pixels(x).astype(int) - decode_pixels(y))
            assert error.max() <= 2
            assert error.mean() <= 0.6
        for x, y in zip(a.depths, b.depths, strict=True):
            np.testing.assert_allclose(depth_codec.decode(y), depth_codec.decode(x), rtol=1e-5)


def test_resizing_records_what_it_could_not_do(tmp_path, capsys):
    source = tmp_path / "source"
    broken = dataclasses.replace(make_scene("bad"), images=(b"\x89PNG nonsense",) * 6)
    with ShardOutput(source, "test") as output:
        output.add(make_scene("good"))
        output.add(broken)
    made = tmp_path / "made"
    assert resize.main([str(source), "--output", str(made), "--size", "16"]) == 1
    assert scenes_of(made).keys() == {"good"}
    assert Manifest.load(made).failures == {"corrupt image": ["bad"]}
    assert resize.main([str(source), "--output", str(source)]) == 1
    assert "must differ from the input folder" in capsys.readouterr().err


# extract_depth


class Stand:
    """A stand-in estimator: depth is the view's place on the x axis plus the column."""

    def __init__(self, fail_on: int | None = None) -> None:
        self.calls: list[int] = []
        self.fail_on = fail_on

    def estimate(self, images, K, camera_from_world):
        self.calls.append(len(images))
        if self.fail_on == len(self.calls):
            raise RuntimeError("out of memory")
        assert K.shape == (len(images), 3, 3)
        x = -camera_from_world[:, 0, 3]
        columns = np.arange(16) * 2 + 0.5
        return (2 + x[:, None, None] + columns * np.ones((12, 1))).astype(np.float32)


def check_depth(scene) -> None:
    for view, stored in enumerate(scene.depths):
        depth = depth_codec.decode(stored)
        known = depth > 0
        assert known.mean() > 0.9
        expected = 2 + view * 0.1 + np.clip(np.arange(32), 0.5, 30.5)
        error = np.abs(depth / expected - 1)[known]
        assert error.max() < 0.02


def test_depth_is_added_in_place(tmp_path):
    directory = write(tmp_path / "a", ["k0", "k1", "k2"], size_mb=0.01, has_depth=False)
    before = scenes_of(directory)
    estimator = Stand()
    outcome = extract_depth.extract(directory, estimator, Options())
    assert (outcome.extracted, outcome.kept, outcome.failures) == (3, 0, {})
    for key, scene in scenes_of(directory).items():
        check_depth(scene)
        assert same(dataclasses.replace(scene, depths=None), before[key])
    manifest = Manifest.load(directory)
    assert manifest.shards.keys() == {path.name for path in directory.glob("*.tar")}
    for name, record in manifest.shards.items():
        assert record == record_of(directory / name)
    again = extract_depth.extract(directory, Stand(fail_on=1), Options())
    assert (again.extracted, again.kept) == (0, 3)
    write_more = ShardOutput(directory, "test", shard_size_mb=0.01)
    assert write_more.done == before.keys()


def test_long_scenes_are_shown_in_parts_that_span_the_path(tmp_path):
    scene = make_scene("a", num_views=7, has_depth=False)
    estimator = Stand()
    images = [decode_pixels(data) for data in scene.images]
    depths = extract_depth.estimate_scene(scene, images, estimator, max_views=3)
    assert estimator.calls == [3, 2, 2]
    encoded = tuple(depth_codec.encode(depth) for depth in depths)
    check_depth(dataclasses.replace(scene, depths=encoded))


class Random:
    """An estimator that uses random numbers, like diffusion models."""

    def estimate(self, images, K, camera_from_world):
        return 1 + torch.rand(len(images), 12, 16).numpy() + np.random.rand()


def test_jobs_share_the_shards_and_write_what_one_would(tmp_path):
    one, two = (
        write(tmp_path / name, [f"k{i}" for i in range(5)], size_mb=0.01, has_depth=False)
        for name in ("one", "two")
    )
    extract_depth.extract(one, Random(), Options())
    for index, count in ((1, 2), (0, 3), (1, 0)):
        options = Options(share=Share(index, 2))
        assert extract_depth.extract(two, Random(), options).extracted == count
    assert all(scene.depths for scene in scenes_of(two).values())
    for name in ("manifest.json", "index.json", *(path.name for path in one.glob("*.tar"))):
        assert (two / name).read_bytes() == (one / name).read_bytes()


def test_a_shard_that_another_process_works_on_is_left_alone(tmp_path, capsys):
    directory = write(tmp_path / "a", ["k0", "k1"], size_mb=0.01, has_depth=False)
    counts = []

    class Twice(Stand):
        """While it works on a shard, the command is started again."""

        def estimate(self, *arguments):
            if not self.calls:
                self.calls.append(0)
                again = extract_depth.extract(directory, Stand(), Options())
                counts.append(again.extracted)
            return super().estimate(*arguments)

    outcome = extract_depth.extract(directory, Twice(), Options())
    assert counts == [1]
    assert (outcome.extracted, outcome.kept, outcome.failures) == (1, 1, {})
    assert "shard-000000.tar skipped: another process" in capsys.readouterr().err
    assert all(scene.depths for scene in scenes_of(directory).values())


def test_failures_keep_what_was_there(tmp_path):
    directory = write(tmp_path / "a", ["k0", "k1"])
    before = scenes_of(directory)
    outcome = extract_depth.extract(directory, Stand(fail_on=2), Options(overwrite=True))
    assert outcome.extracted == 1
    assert outcome.failures == {"k1": "RuntimeError: out of memory"}
    after = scenes_of(directory)
    check_depth(after["k0"])
    assert same(after["k1"], before["k1"])


@pytest.mark.parametrize("num_workers", [0, 1, 3])
def test_workers_change_no_shard(tmp_path, num_workers):
    """Scenes with and without depth, one that fails, a damaged image: all as without workers."""
    made = []
    for name, workers in (("a", 0), ("b", num_workers)):
        directory = tmp_path / name
        with ShardOutput(directory, "test") as output:
            for number in range(6):
                scene = make_scene(f"k{number}", has_depth=number == 1)
                if number == 4:
                    scene = dataclasses.replace(scene, images=(b"no image", *scene.images[1:]))
                output.add(scene)
        estimator = Stand(fail_on=3)
        outcome = extract_depth.extract(directory, estimator, Options(num_workers=workers))
        assert (outcome.extracted, outcome.kept) == (3, 1)
        assert outcome.failures["k3"] == "RuntimeError: out of memory"
        assert "image cannot be decoded" in outcome.failures["k4"]
        made.append((directory / "shard-000000.tar").read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_the_next_scene_is_decoded_while_the_estimator_works(tmp_path, monkeypatch, num_workers):
    directory = write(tmp_path / "a", ["k0", "k1"], has_depth=False)
    decoded, is_ahead = threading.Event(), []
    last = scenes_of(directory)["k1"].images[-1]

    def decode(data):
        pixels = decode_pixels(data)
        if data == last:
            decoded.set()
        return pixels

    class Waiting(Stand):
        def estimate(self, *arguments):
            is_ahead.append(decoded.wait(timeout=20 if num_workers else 0))
            return super().estimate(*arguments)

    monkeypatch.setattr(extract_depth, "decode_pixels", decode)
    extract_depth.extract(directory, Waiting(), Options(num_workers=num_workers))
    assert is_ahead == [num_workers > 0, True]


class Killing(Stand):
    def estimate(self, *arguments):
        if len(self.calls) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().estimate(*arguments)


KILLED_DEPTH = """
from pathlib import Path
from tests.splatfactory.datasets.scripts.test_tools import Killing, Options, extract_depth
extract_depth.extract(Path({directory!r}), Killing(), Options())
"""


def test_a_killed_extraction_continues_after_the_last_scene(tmp_path):
    # Scenes larger than the buffers between a process and its file.
    directory = write(
        tmp_path / "a", [f"k{i}" for i in range(4)], has_depth=False, height=96, width=128
    )
    shard = directory / "shard-000000.tar"
    before = shard.read_bytes()
    code = KILLED_DEPTH.format(directory=str(directory))
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert process.returncode == -signal.SIGKILL
    assert shard.read_bytes() == before
    estimator = Stand()
    outcome = extract_depth.extract(directory, estimator, Options())
    assert outcome.kept >= 1
    assert outcome.extracted == len(estimator.calls) == 4 - outcome.kept
    assert all(scene.depths for scene in scenes_of(directory).values())
    assert sorted(path.name for path in directory.iterdir() if ".resume" in path.name) == []


def test_the_command_runs_any_estimator(tmp_path, capsys, monkeypatch):
    directory = write(tmp_path / "a", ["k0"], has_depth=False)
    assert extract_depth.main([str(directory), "--estimator", "nowhere:nothing"]) == 1
    assert "module:function" in capsys.readouterr().err
    module = type(sys)("stand_in")
    module.create = lambda _: Stand()
    monkeypatch.setitem(sys.modules, "stand_in", module)
    assert extract_depth.main([str(directory), "--estimator", "stand_in:create"]) == 0
    check_depth(scenes_of(directory)["k0"])
    module.create = lambda _: Stand(fail_on=1)
    options = ["--estimator", "stand_in:create", "--overwrite"]
    assert extract_depth.main([str(directory), *options]) == 1
    assert "failed: k0" in capsys.readouterr().err


def test_damaged_shards_are_not_rewritten(tmp_path):
    directory = write(tmp_path / "a", ["k0", "k1"], has_depth=False)
    shard = directory / "shard-000000.tar"
    shard.write_bytes(shard.read_bytes()[:15_000])
    outcome = extract_depth.extract(directory, Stand(), Options())
    assert "shard-000000.tar" in outcome.failures
    assert shard.stat().st_size == 15_000


# describe


def test_describing_the_golden_shards(tmp_path, capsys):
    directory = shutil.copytree(SHARDS / "test-scenes", tmp_path / "a")
    image = tmp_path / "sheet.png"
    assert describe.main([str(directory), "--check", "--json", "--sheet", str(image)]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["scenes"] == 4
    assert content["views"] == 41
    assert content["views_per_scene"] == [5, 12, 12]
    assert content["scenes_with_depth"] == 3
    assert content["sizes"] == {"90x160": 4}
    assert content["formats"] == {"webp": 2, "png": 1, "jpg": 1}
    assert image.stat().st_size > 10_000
    assert describe.main([str(directory)]) == 0
    assert "4 scenes, 41 views in 2 shards" in capsys.readouterr().out


def test_the_sheet_shows_no_view_twice(tmp_path):
    with ShardOutput(tmp_path / "a", "test") as output:
        output.add(make_scene("a", num_views=3, has_depth=False))
    sheet = np.asarray(describe.contact_sheet(ShardStore(tmp_path / "a"), 1))
    assert sheet.shape[1] == 7 * 160
    columns = [sheet[16:, 160 * n : 160 * (n + 1)] for n in range(7)]
    assert [bool((column < 255).any()) for column in columns] == [True] * 3 + [False] * 4


def test_describing_names_what_is_damaged(tmp_path, capsys):
    directory = tmp_path / "a"
    scene = make_scene("bad")
    with ShardOutput(directory, "test") as output:
        output.add(make_scene("good"))
        output.add(dataclasses.replace(scene, images=(*scene.images[:5], b"\x89PNG nonsense")))
    assert describe.main([str(directory)]) == 0
    assert describe.main([str(directory), "--check", "--num-workers", "0"]) == 1
    assert "broken: bad: the image cannot be decoded" in capsys.readouterr().out
    shard = directory / "shard-000000.tar"
    content = bytearray(shard.read_bytes())
    content[-3] ^= 1
    shard.write_bytes(content)
    assert describe.main([str(directory), "--check"]) == 1
    assert "differs from the manifest" in capsys.readouterr().out


# downloads


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
    with pytest.raises(ValueError, match="refused"):
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


@pytest.mark.parametrize(
    "name",
    [
        "re10k.download",
        "re10k.convert",
        "dl3dv.download",
        "dl3dv.convert",
        "mipnerf360.download",
        "mipnerf360.convert",
        "extract_depth",
        "repack",
        "resize",
        "describe",
    ],
)
def test_every_command_explains_itself(name, capsys):
    module = importlib.import_module(f"splatfactory.datasets.scripts.{name}")
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    assert "--num-workers" in capsys.readouterr().out
