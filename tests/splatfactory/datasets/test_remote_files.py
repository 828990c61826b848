"""Shards at an address: same batches as on the disk, no byte too much, faults survived."""

from __future__ import annotations

import json
import os
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from benchmarks.range_server import Behaviour, serve
from splatfactory.data_schema import PreprocessingConfig
from splatfactory.datasets.loader import LoaderConfig, SceneLoader
from splatfactory.datasets.mixture import Member
from splatfactory.datasets.multiview import SampleConfig, open_shards
from splatfactory.datasets.remote_files import RemoteFiles, is_remote
from splatfactory.datasets.samples import Batch
from splatfactory.datasets.scripts.describe import describe
from splatfactory.datasets.span_cache import SpanCache
from splatfactory.datasets.store import ShardStore

pytest.importorskip("obstore")

SAMPLE = SampleConfig(num_target_views=1, preprocessing=PreprocessingConfig(resize=24))
TENSORS = ("images", "depths", "near", "far", "indices")


@pytest.fixture
def behaviour() -> Behaviour:
    return Behaviour()


@pytest.fixture
def shards(make_shards) -> Path:
    return make_shards(3, 2, 3, num_views=6)


@pytest.fixture
def address(shards: Path, behaviour: Behaviour) -> Iterator[str]:
    with serve(shards, behaviour) as url:
        yield url


def batches(place: str | Path, num_workers: int = 0, epochs: int = 1) -> list[Batch]:
    dataset = open_shards("set", place, {"name": "random"}, SAMPLE)
    config = LoaderConfig(batch_size=4, image_num_range=(2, 3), num_workers=num_workers, seed=3)
    loader = SceneLoader([Member(dataset)], config)
    return [batch for _ in range(epochs) for batch in loader]


def assert_equal(ours: list[Batch], theirs: list[Batch]) -> None:
    assert len(ours) == len(theirs) > 1
    for a, b in zip(ours, theirs, strict=True):
        assert a.names == b.names
        assert torch.equal(a.scales, b.scales)
        for part in ("context", "target"):
            x, y = getattr(a, part), getattr(b, part)
            assert all(torch.equal(getattr(x, name), getattr(y, name)) for name in TENSORS)
            assert torch.equal(x.cameras.packed(), y.cameras.packed())
            assert torch.equal(x.poses.packed(), y.poses.packed())


@pytest.mark.parametrize("has_etags", [True, False], ids=["etags", "no-etags"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_equal_those_of_a_local_copy_whatever_the_server_does(
    shards: Path, address: str, behaviour: Behaviour, num_workers: int, has_etags: bool
) -> None:
    behaviour.error_rate, behaviour.has_etags, behaviour.latency = 0.15, has_etags, 0.002
    assert_equal(batches(address, num_workers, epochs=2), batches(shards, epochs=2))
    assert {status for _, _, status in behaviour.requests} > {206, 503}


def test_only_the_bytes_in_use_are_fetched_and_neighbours_together(
    make_shards, tmp_path: Path, behaviour: Behaviour
) -> None:
    directory = make_shards(2, num_views=30, height=90, width=160)
    with serve(directory, behaviour) as url:
        store = ShardStore(url)
        before = behaviour.bytes_sent
        assert not behaviour.data_requests()
        store.prefetch({0: [3, 4, 20]})
        frames = store.frames(0, [3, 4, 20])
        rows = store.cameras(0), store.poses(0)
    used = sum(len(frame.data) + len(frame.depth.data) for frame in frames)
    used += sum(array.nbytes + 128 for array in rows) + 30 * 30
    assert behaviour.bytes_sent - before <= 1.1 * used
    # Cameras with poses; 3 with 4, twice; 20, twice; the depth ranges.
    assert len(behaviour.data_requests()) == 6
    local = ShardStore(directory)
    for ours, theirs in zip(frames, local.frames(0, [3, 4, 20]), strict=True):
        assert ours == theirs


def test_a_whole_epoch_fetches_hardly_more_than_it_uses(
    shards: Path, address: str, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPLATFACTORY_REMOTE_CACHE_GB", "0")
    dataset = open_shards("set", address, {"name": "random"}, SAMPLE)
    before = behaviour.bytes_sent
    list(SceneLoader([Member(dataset)], LoaderConfig(batch_size=4, image_num_range=(2, 3))))
    sent = behaviour.bytes_sent - before
    # The images of these shards are no longer than the headers between them, so a gap counts.
    spans = sum(
        int(text.split("-")[1]) + 1 - int(text.removeprefix("bytes=").split("-")[0])
        for _, text, _ in behaviour.data_requests()
    )
    assert sent == spans
    assert dataset.store.bytes_read <= sent < 2 * dataset.store.bytes_read
    asked = [(path, text) for path, text, _ in behaviour.data_requests()]
    assert len(set(asked)) == len(asked)  # nothing twice


def test_the_loader_fetches_ahead(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a batch needs is asked for before it is read, in other threads, all at once."""
    threads = []
    fetch = RemoteFiles._fetch

    def watched(files: RemoteFiles, shard: str, spans: Any) -> Any:
        threads.append(threading.current_thread().name)
        return fetch(files, shard, spans)

    monkeypatch.setattr(RemoteFiles, "_fetch", watched)
    dataset = open_shards("set", address, {"name": "random"}, SAMPLE)
    loader = SceneLoader([Member(dataset)], LoaderConfig(batch_size=4, image_num_range=(2, 2)))
    counts = []
    for _ in loader:
        dataset.store._files._threads().shutdown()  # wait for what was begun
        dataset.store._files._pool = None
        counts.append(len(threads))
    assert all(name.startswith("fetch") for name in threads)
    assert counts[0] > 4  # of four batches of two scenes, and there are no more
    assert counts[-1] == counts[0]


def test_small_files_are_fetched_once_and_again_when_they_change(
    shards: Path, address: str, behaviour: Behaviour
) -> None:
    ShardStore(address)
    names = {path for path, _, _ in behaviour.requests}
    assert names == {
        "/manifest.json",
        "/index.json",
        *(f"/shard-00000{k}.offsets.npz" for k in range(3)),
    }
    first = behaviour.bytes_sent
    behaviour.requests.clear()
    store = ShardStore(address)
    assert {status for _, _, status in behaviour.requests} == {304}
    assert behaviour.bytes_sent == first
    (shards / "index.json").write_text(json.dumps({"gone": "shard-000000.tar"}))
    assert [key for key, _ in ShardStore(address).faults] == ["gone"]
    behaviour.requests.clear()
    copy = pickle.loads(pickle.dumps(store))  # as in a worker
    np.testing.assert_array_equal(copy.poses(4), ShardStore(shards).poses(4))
    assert {path for path, _, _ in behaviour.requests} == {"/shard-000001.tar"}


def test_members_are_kept_on_the_disk(shards: Path, address: str, behaviour: Behaviour) -> None:
    ShardStore(address).frames(0, [1, 2])
    count = len(behaviour.data_requests())
    assert count > 0
    again = ShardStore(address)
    frames = again.frames(0, [1, 2])
    assert len(behaviour.data_requests()) == count
    assert again.bytes_read == 0
    assert frames == ShardStore(shards).frames(0, [1, 2])


def test_a_changed_shard_is_not_read_from_the_cache(
    make_scene, tmp_path: Path, behaviour: Behaviour
) -> None:
    from splatfactory.datasets.shard_output import ShardOutput

    with serve(tmp_path / "set", behaviour) as url:
        for value in (1, 2):
            scene = make_scene("a")
            scene.cameras[:, 2:4] += value
            with ShardOutput(tmp_path / "set", "test", overwrite=True) as output:
                output.add(scene)
            np.testing.assert_array_equal(ShardStore(url).cameras(0), scene.cameras)


def test_the_cache_is_bounded_and_trusts_no_damaged_piece(tmp_path: Path) -> None:
    cache = SpanCache(tmp_path / "spans", 100_000)
    for number in range(300):
        cache.put(f"p{number}", bytes([number % 256]) * 1000)
        assert sum(path.stat().st_size for path in cache.folder.iterdir()) <= 104_000
    assert cache.get("p299") == bytes([299 % 256]) * 1000
    assert cache.get("p0") is None
    content = bytearray((cache.folder / "p299").read_bytes())
    content[10] ^= 1
    (cache.folder / "p299").write_bytes(content)
    assert cache.get("p299") is None
    nothing = SpanCache(tmp_path / "none", 0)
    nothing.put("a", b"1")
    assert nothing.get("a") is None


def test_what_is_missing_is_named(shards: Path, address: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"neither manifest\.json nor index\.json"):
        ShardStore(f"{address}/elsewhere")
    (shards / "shard-000001.offsets.npz").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"shard-000001\.offsets\.npz is missing; .*describe"
    ):
        ShardStore(address)
    (shards / "shard-000001.offsets.npz").write_bytes(b"damaged")
    with pytest.raises(ValueError, match=r"damaged or belongs to another shard-000001\.tar"):
        ShardStore(address)


def test_shards_without_a_manifest_are_found_by_the_index(shards: Path, address: str) -> None:
    (shards / "manifest.json").unlink()
    store = ShardStore(address)
    assert len(store.scenes) == 8
    assert store.shard_sizes == ShardStore(shards).shard_sizes


def test_a_server_that_is_gone_is_one_error(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from splatfactory.datasets import remote_files

    monkeypatch.setattr(remote_files, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(remote_files, "_RETRIES", {"max_retries": 0})
    with serve(shards, Behaviour()) as url:
        store = pickle.loads(pickle.dumps(ShardStore(url)))  # without open connections
    with pytest.raises(OSError, match=r"http://127.*shard-000000\.tar"):
        store.frames(0, [0])


def test_local_tools_say_that_a_directory_is_remote(address: str) -> None:
    store = ShardStore(address)
    with pytest.raises(ValueError, match="is remote; copy it to this machine"):
        _ = store.shards
    assert describe(store).scenes == 8  # which needs no local files


def test_a_damaged_list_of_scenes_leaves_the_shards(shards: Path, address: str) -> None:
    (shards / "index.json").write_text("{")
    assert len(ShardStore(address).scenes) == 8


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("manifest.json", {"shards": {"../../evil.tar": {"bytes": 1}}}),
        ("manifest.json", {"shards": {"/etc/evil.tar": {"bytes": 1}}}),
        ("manifest.json", {"shards": ["a.tar"]}),
        ("manifest.json", {"shards": {"a.tar": {}}}),
        ("manifest.json", ["a.tar"]),
        ("index.json", {"a": "..\\evil.tar"}),
    ],
)
def test_a_list_of_shards_that_cannot_be_meant_is_refused(
    tmp_path: Path, behaviour: Behaviour, file: str, content: Any
) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / file).write_text(json.dumps(content))
    with serve(tmp_path / "set", behaviour) as url, pytest.raises(ValueError, match="http://127"):
        ShardStore(url)


def test_a_sidecar_that_points_outside_its_shard_is_refused(shards: Path, address: str) -> None:
    sidecar = shards / "shard-000002.offsets.npz"
    with np.load(sidecar) as arrays:
        content = dict(arrays)
    content["spans"][3, 1] = 2**50
    np.savez(sidecar, **content)
    with pytest.raises(ValueError, match=r"belongs to another shard-000002\.tar"):
        ShardStore(address)


def test_addresses() -> None:
    for text in ("s3://b/x", "gs://b", "hf://datasets/a/b", "https://host/x", "http://h"):
        assert is_remote(text)
    for text in ("data/x", "/s3/x", "C:/x", "file"):
        assert not is_remote(text)


def test_the_hub_is_read_by_its_files(
    shards: Path, tmp_path: Path, behaviour: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`hf://` stands for the address from which the Hub serves the files of a repository."""
    import huggingface_hub

    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "secret")
    at = tmp_path / "hub" / "datasets" / "me" / "scenes" / "resolve" / "v2" / "train-scenes"
    at.parent.mkdir(parents=True)
    shards.rename(at)
    with serve(tmp_path / "hub", behaviour) as url:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", url)
        store = ShardStore("hf://datasets/me/scenes@v2/train-scenes/")
        folder = "/datasets/me/scenes/resolve/v2/train-scenes"
        assert behaviour.requests[0][0] == f"{folder}/manifest.json"
        assert store.frames(1, [0]) == ShardStore(at).frames(1, [0])
    with pytest.raises(ValueError, match="expected hf://datasets/<owner>"):
        RemoteFiles("hf://me/scenes").names()


def test_a_bucket_is_read_like_a_folder(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against moto's imitation of S3, with keys and endpoint from the environment."""
    moto = pytest.importorskip("moto.server")
    settings = {
        "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1",
        "AWS_ALLOW_HTTP": "true",
    }  # fmt: skip
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        fill_bucket("scenes", shards)
        assert_equal(batches("s3://scenes/train-scenes"), batches(shards))
    finally:
        server.stop()


def fill_bucket(name: str, folder: Path) -> None:
    import urllib.request

    import obstore
    from obstore.store import S3Store

    endpoint = os.environ["AWS_ENDPOINT_URL"]
    urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{name}", method="PUT")).close()
    store = S3Store(name, endpoint=endpoint, virtual_hosted_style_request=False)
    for path in folder.iterdir():
        obstore.put(store, f"train-scenes/{path.name}", path.read_bytes())


def test_training_from_an_address_is_training_from_a_folder(
    rendered_shards: Path, run_training: Any, workplace: Path, behaviour: Behaviour
) -> None:
    with serve(rendered_shards, behaviour) as url:
        assert run_training("far", f"data.dataset_dir={url}", "train.num_steps=2") == 0
    assert behaviour.data_requests()
    assert run_training("near", "train.num_steps=2") == 0
    far, near = (weights_of(workplace / "outputs" / "training" / n) for n in ("far", "near"))
    assert far.keys() == near.keys()
    assert all(torch.equal(far[name], near[name]) for name in far)


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoint_last.safetensors")
