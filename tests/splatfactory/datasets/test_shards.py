from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from splatfactory.datasets import depth_codec, offsets
from splatfactory.datasets.shard_output import Manifest, ShardOutput
from splatfactory.datasets.shards import ShardWriter, StoredScene, image_extension, split_member
from splatfactory.datasets.store import SceneError, ShardStore
from tests.splatfactory.datasets.stored_scenes import ROOT


def test_golden_members_are_found(golden):
    listing = json.loads((golden / "members.json").read_text())
    assert len(listing) == 18
    for name, expected in listing.items():
        with tarfile.open(golden / name) as tar:
            assert [[m.name, m.size] for m in tar] == [entry[:2] for entry in expected]
        index = offsets.scan(golden / name)
        assert index.damage == ""
        assert index.broken == {}
        content = (golden / name).read_bytes()
        digests = {digest for _, _, digest in expected}
        for offset, size in index.spans:
            if size:
                digest = hashlib.sha256(content[offset : offset + size]).hexdigest()[:16]
                assert digest in digests


def test_rewritten_shards_are_equal_byte_for_byte(golden_shards, tmp_path):
    for split in ("train-scenes", "test-scenes"):
        store = ShardStore(golden_shards / split)
        for shard in store.shards:
            with ShardWriter(tmp_path / "again.tar") as writer:
                for number in range(len(store.scenes)):
                    if store.shard_of(number) == shard:
                        writer.add(store.read(number))
            assert (tmp_path / "again.tar").read_bytes() == shard.read_bytes()
            assert writer.sha256 == hashlib.sha256(shard.read_bytes()).hexdigest()


def test_golden_images_and_depths_decode(golden, golden_shards):
    with np.load(golden / "expected" / "decoded.npz") as arrays:
        expected = dict(arrays)
    seen = set()
    for split in ("train-scenes", "test-scenes"):
        store = ShardStore(golden_shards / split)
        for number, info in enumerate(store.scenes):
            views = [v for v in range(info.num_views) if f"{info.key}/{v}/image" in expected]
            for view, frame in zip(views, store.frames(number, views), strict=True):
                name = f"{info.key}/{view}"
                height, width = frame.size
                image = expected[f"{name}/image"].astype(int)
                assert np.abs(frame.crop(0, 0, height, width) - image).max() <= 2
                depth = frame.sample_depth(np.arange(height), np.arange(width))
                if f"{name}/depth" in expected:
                    np.testing.assert_allclose(depth, expected[f"{name}/depth"], rtol=1e-5)
                seen.add(name)
    assert seen == {key.rsplit("/", 1)[0] for key in expected}


def test_an_empty_shard_is_legal(golden, tmp_path):
    index = offsets.scan(golden / "shards" / "empty-trailing-shard.tar")
    assert index.keys == ()
    assert index.damage == ""


def test_member_names():
    assert split_member("ab.img12.webp") == ("ab", "img", 12)
    assert split_member("ab.depth_ranges.json") == ("ab", "depth_ranges.json", -1)
    assert split_member("ab.notes.txt") == ("ab", "", -1)
    assert image_extension(b"\xff\xd8\xff") == "jpg"
    assert image_extension(b"RIFF\0\0\0\0WEBPVP8L") == "webp"
    assert image_extension(b"RIFF\0\0\0\0WAVEfmt ") == "bin"


@pytest.mark.parametrize("key", ["", "a.b", "a/b", "..", "a\\b"])
def test_keys_that_would_break_the_format_are_refused(make_scene, key):
    scene = make_scene("fine")
    with pytest.raises(ValueError, match="scene key"):
        StoredScene(key, scene.cameras, scene.poses, scene.images)


def test_scenes_whose_parts_differ_in_number_are_refused(make_scene):
    scene = make_scene("a")
    with pytest.raises(ValueError, match=r"poses must be float32 \(6, 12\)"):
        StoredScene("a", scene.cameras, scene.poses[:5], scene.images)
    with pytest.raises(ValueError, match="finite"):
        StoredScene("a", scene.cameras * np.float32("nan"), scene.poses, scene.images)
    with pytest.raises(ValueError, match="6 images need 6 depths"):
        StoredScene("a", scene.cameras, scene.poses, scene.images, scene.depths[:2])


def test_only_the_members_in_use_are_read(make_shards):
    store = ShardStore(make_shards(2, num_views=60, height=90, width=160))
    views = [3, 11, 24, 38, 47, 59]
    frames = store.frames(0, views)
    store.cameras(0)
    store.poses(0)
    scene = store.read(0)
    members = sum(len(frame.data) + len(frame.depth.data) for frame in frames)
    members += 60 * (6 + 12) * 4
    fresh = ShardStore(store.directory)
    fresh.frames(0, views)
    fresh.cameras(0)
    fresh.poses(0)
    assert fresh.bytes_read <= 1.1 * members
    assert sum(map(len, scene.images)) > 5 * fresh.bytes_read


def test_indices_are_rebuilt_when_a_shard_changes(make_scene, tmp_path):
    shard = tmp_path / "shard-000000.tar"
    with ShardWriter(shard) as writer:
        writer.add(make_scene("a"))
    assert offsets.load(shard).keys == ("a",)
    with ShardWriter(shard) as writer:
        writer.add(make_scene("b"))
    os.utime(shard, ns=(1, 1))
    assert offsets.load(shard).keys == ("b",)
    sidecar = tmp_path / "shard-000000.offsets.npz"
    sidecar.write_bytes(b"damaged")
    assert offsets.load(shard).keys == ("b",)


def test_indices_of_read_only_directories_go_to_the_cache(make_scene, tmp_path, monkeypatch):
    shard = tmp_path / "shard-000000.tar"
    with ShardWriter(shard) as writer:
        writer.add(make_scene("a"))
    beside = tmp_path / "shard-000000.offsets.npz"
    write = offsets._write

    def refuse(sidecar: Path, *args: object) -> None:
        if sidecar == beside:
            raise PermissionError(13, "read-only", str(sidecar))
        write(sidecar, *args)

    monkeypatch.setattr(offsets, "_write", refuse)
    assert offsets.load(shard).keys == ("a",)
    assert not beside.exists()
    monkeypatch.setattr(offsets, "scan", None)  # not needed again
    assert offsets.load(shard).keys == ("a",)


def test_shards_are_read_where_nothing_can_be_written(make_shards, monkeypatch):
    directory = make_shards(2)
    for sidecar in directory.glob("*.npz"):
        sidecar.unlink()

    def refuse(sidecar: Path, *_: object) -> None:
        raise PermissionError(13, "read-only", str(sidecar))

    monkeypatch.setattr(offsets, "_write", refuse)
    store = ShardStore(directory)
    assert [len(store.read(scene).images) > 0 for scene in range(2)] == [True, True]
    assert not list(directory.glob("*.npz"))


@pytest.mark.parametrize("keep", [0.3, 0.55, 0.9])
def test_a_truncated_shard_loses_only_what_is_cut_off(make_shards, keep):
    directory = make_shards(4)
    shard = directory / "shard-000000.tar"
    whole = offsets.scan(shard)
    end = int(whole.spans.sum(axis=1).max())
    content = shard.read_bytes()
    shard.write_bytes(content[: int(end * keep)])
    store = ShardStore(directory)
    survivors = {info.key for info in store.scenes}
    assert survivors == {f"s{i}" for i in range(4)} - {key for key, _ in store.faults}
    assert len(survivors) == int(4 * keep)
    assert store.damage
    for number in range(len(store.scenes)):
        store.read(number)


def test_a_scene_cut_off_in_its_depth_keeps_its_images(make_shards):
    directory = make_shards(2)
    shard = directory / "shard-000000.tar"
    end = int(offsets.scan(shard).spans.sum(axis=1).max())
    shard.write_bytes(shard.read_bytes()[: end - 10])
    store = ShardStore(directory)
    assert [info.has_depth for info in store.scenes] == [True, False]
    assert "depth_ranges.json" in store.damage["shard-000000.tar"]


def test_a_shard_with_garbage_in_a_header_reports_damage(make_shards):
    directory = make_shards(3)
    shard = directory / "shard-000000.tar"
    spans = offsets.scan(shard).spans
    content = bytearray(shard.read_bytes())
    header = int(spans[np.abs(spans[:, 0] - len(content) / 2).argmin(), 0]) - 512
    content[header : header + 512] = b"\x55" * 512
    shard.write_bytes(content)
    store = ShardStore(directory)
    assert "shard-000000.tar" in store.damage
    assert 0 < len(store.scenes) < 3
    assert len(store.faults) == 3 - len(store.scenes)


def write_members(path: Path, members: dict[str, bytes]) -> None:
    import io

    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            tar.addfile(header, io.BytesIO(data))


def test_wrong_json_and_missing_members_are_faults_with_reasons(make_scene, tmp_path):
    from splatfactory.datasets import shards

    good = dict(shards.members(make_scene("good")))
    bad_meta = dict(shards.members(make_scene("meta"))) | {"meta.meta.json": b"{not json"}
    gap = dict(shards.members(make_scene("gap")))
    del gap["gap.img2.png"]
    write_members(tmp_path / "shard-000000.tar", {**good, **bad_meta, **gap})
    store = ShardStore(tmp_path)
    assert [info.key for info in store.scenes] == ["good"]
    faults = {key: str(error) for key, error in store.faults}
    assert "meta.json is not valid" in faults["meta"]
    assert "5 of 6 images" in faults["gap"]


def test_corrupt_arrays_and_ranges_name_the_member(make_scene, tmp_path):
    from splatfactory.datasets import shards

    scene = dict(shards.members(make_scene("a")))
    pickled = b"\x93NUMPY\x01\x00v\x00" + scene["a.poses.npy"][10:].replace(b"<f4", b"|O ", 1)
    scene |= {"a.poses.npy": pickled, "a.depth_ranges.json": b"[[1, 2]]"}
    write_members(tmp_path / "shard-000000.tar", scene)
    store = ShardStore(tmp_path)
    with pytest.raises(SceneError, match=r"corrupt member: poses.npy"):
        store.poses(0)
    with pytest.raises(SceneError, match=r"depth_ranges.json has shape"):
        store.frames(0, [0])


def test_depth_counts_only_when_it_is_complete(make_scene, tmp_path):
    from splatfactory.datasets import shards

    scene = dict(shards.members(make_scene("a")))
    del scene["a.dep3.webp"]
    write_members(tmp_path / "shard-000000.tar", scene)
    store = ShardStore(tmp_path)
    assert not store.scenes[0].has_depth
    assert store.frames(0, [1])[0].sample_depth(np.arange(2), np.arange(2)) is None


def test_scenes_promised_by_the_list_are_missed(make_shards):
    directory = make_shards(1, 1)
    (directory / "shard-000001.tar").unlink()
    store = ShardStore(directory)
    assert [(key, error.reason) for key, error in store.faults] == [("s1", "missing from shard")]


def test_a_store_travels_to_another_process(make_shards):
    store = ShardStore(make_shards(2))
    copy = pickle.loads(pickle.dumps(store))
    np.testing.assert_array_equal(copy.poses(1), store.poses(1))


def test_missing_and_empty_directories_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="convert or generate"):
        ShardStore(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no \*.tar shards"):
        ShardStore(tmp_path)


def test_output_rotates_and_records(make_scene, tmp_path):
    scenes = [make_scene(f"k{i}") for i in range(5)]
    with ShardOutput(tmp_path, "tool", shard_size_mb=0.05) as output:
        for scene in scenes:
            output.add(scene)
        output.fail("k9", "no images")
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["is_complete"]
    assert manifest["failures"] == {"no images": ["k9"]}
    assert len(manifest["shards"]) > 1
    for name, record in manifest["shards"].items():
        content = (tmp_path / name).read_bytes()
        assert record["sha256"] == hashlib.sha256(content).hexdigest()
        assert record["bytes"] == len(content)
    index = json.loads((tmp_path / "index.json").read_text())
    assert list(index) == [scene.key for scene in scenes]
    store = ShardStore(tmp_path)
    assert {i.key: store.shard_of(n).name for n, i in enumerate(store.scenes)} == index


KILLED = """
import os
from pathlib import Path
from tests.splatfactory.datasets.stored_scenes import make_scene
from splatfactory.datasets.shard_output import ShardOutput
with ShardOutput(Path({directory!r}), "tool", shard_size_mb=0.05) as output:
    for i in range(7):
        if f"k{{i}}" not in output.done:
            output.add(make_scene(f"k{{i}}"))
        if i == {stop}:
            os.kill(os.getpid(), 9)
"""


def test_a_killed_run_leaves_no_half_file_and_continues(make_scene, tmp_path):
    whole = tmp_path / "whole"
    with ShardOutput(whole, "tool", shard_size_mb=0.05) as output:
        for i in range(7):
            output.add(make_scene(f"k{i}"))
    broken = tmp_path / "broken"
    code = KILLED.format(directory=str(broken), stop=4)
    process = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    assert process.returncode == -signal.SIGKILL
    finished = sorted(path.name for path in broken.glob("*.tar"))
    assert finished
    assert all((broken / name).read_bytes() == (whole / name).read_bytes() for name in finished)
    assert list(broken.glob("*.partial"))
    with ShardOutput(broken, "tool", shard_size_mb=0.05) as output:
        assert 0 < len(output.done) < 5
        for i in range(7):
            if f"k{i}" not in output.done:
                output.add(make_scene(f"k{i}"))
    for path in whole.glob("*.tar"):
        assert (broken / path.name).read_bytes() == path.read_bytes()
    assert (broken / "index.json").read_bytes() == (whole / "index.json").read_bytes()
    assert not list(broken.glob("*.partial"))


def test_a_full_disk_leaves_no_half_file(make_scene, tmp_path):
    scene = make_scene("a", height=96, width=128)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, old[1]))
    try:
        with pytest.raises(OSError, match="too large"), ShardOutput(tmp_path, "tool") as output:
            output.add(scene)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert not list(tmp_path.glob("*.tar*"))
    manifest = Manifest.load(tmp_path)
    assert manifest is not None
    assert not manifest.is_complete


def test_outputs_of_another_making_are_not_mixed(make_scene, make_shards, tmp_path):
    directory = make_shards(1)
    with pytest.raises(ValueError, match="was made by test"):
        ShardOutput(directory, "test", {"size": 56})
    (directory / "manifest.json").unlink()
    with pytest.raises(ValueError, match="--overwrite"):
        ShardOutput(directory, "test")
    with ShardOutput(directory, "test", overwrite=True) as output:
        output.add(make_scene("new"))
    assert json.loads((directory / "index.json").read_text()) == {"new": "shard-000000.tar"}
    (directory / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="damaged"):
        ShardOutput(directory, "test")


def test_depths_survive_a_shard(make_scene, tmp_path):
    with ShardWriter(tmp_path / "shard-000000.tar") as writer:
        writer.add(make_scene("a"))
    scene = ShardStore(tmp_path).read(0)
    again = [depth_codec.decode(depth) for depth in scene.depths]
    expected = [depth_codec.decode(depth) for depth in make_scene("a").depths]
    np.testing.assert_array_equal(again, expected)
