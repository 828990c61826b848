"""Jobs that share a conversion leave the files that one job makes."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import pytest

from splatfactory.datasets.scripts import sharing
from splatfactory.datasets.scripts.custom import convert as custom
from splatfactory.datasets.scripts.re10k import convert as re10k
from splatfactory.datasets.scripts.sharing import Share
from splatfactory.datasets.scripts.synthetic import generate
from splatfactory.datasets.shard_output import ShardOutput
from splatfactory.datasets.store import ShardStore
from tests.splatfactory.datasets.custom.conftest import scene, write_capture  # noqa: F401
from tests.splatfactory.datasets.scripts.test_converters import chunks, clip
from tests.splatfactory.datasets.stored_scenes import make_scene


@pytest.fixture(autouse=True)
def private_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))


def files_of(folder: Path) -> dict[str, bytes]:
    """Contents by name; sidecars hold the time at which a shard was written."""
    found = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(".offsets.npz")
    }
    assert found
    return found


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Seven chunks of two clips; one clip is damaged, and one has the key of another."""
    content = {f"{k:06d}": [clip(f"a{k}"), clip(f"b{k}")] for k in range(7)}
    content["000002"][0]["cameras"] = clip("x", 2)["cameras"]
    content["000005"][1]["key"] = "a1"
    return chunks(tmp_path, content)


def run_re10k(output: Path, archive: Path, *options: str) -> int:
    common = ["--input-zip", str(archive), "--output-dir", str(output), "--shard-size-mb", "0.02"]
    return re10k.main([*common, *options])


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_the_files_are_those_of_a_single_job(tmp_path, archive, order):
    assert run_re10k(tmp_path / "one", archive) == 1  # for what failed
    expected = files_of(tmp_path / "one")
    assert len(expected) > 5  # several shards
    for index in order:
        assert list((tmp_path / "shared").rglob("shard-*.tar")) == list(
            (tmp_path / "shared").rglob(".parts-of-3/*/shard-*.tar")
        )
        run_re10k(tmp_path / "shared", archive, "--shard", f"{index}/3")
    assert files_of(tmp_path / "shared") == expected


def test_shares_may_run_twice_and_more_of_them_than_inputs(tmp_path, archive):
    run_re10k(tmp_path / "one", archive)
    for _ in range(2):
        for index in (8, *range(8), 8):
            run_re10k(tmp_path / "shared", archive, "--shard", f"{index}/9")
    ours, expected = files_of(tmp_path / "shared"), files_of(tmp_path / "one")
    tars = [name for name in expected if name.endswith(".tar")]
    assert {name: ours[name] for name in tars} == {name: expected[name] for name in tars}


SIZE = ["--split", "train", "--num-scenes", "6", "--num-views", "2", "--size", "24"]


def run_generate(output: Path, *options: str) -> int:
    common = ["--output-dir", str(output), "--num-workers", "1", "--shard-size-mb", "0.002"]
    return generate.main([*common, *SIZE, *options])


def test_a_killed_share_goes_on(tmp_path, monkeypatch):
    assert run_generate(tmp_path / "one") == 0
    original = generate.generate_scene

    def interrupted(split, seed, index, *rest):
        if index == 4:
            raise KeyboardInterrupt
        return original(split, seed, index, *rest)

    monkeypatch.setattr(generate, "generate_scene", interrupted)
    assert run_generate(tmp_path / "shared", "--shard", "1/2") == 130
    assert run_generate(tmp_path / "shared", "--shard", "0/2") == 0
    made: list[int] = []

    def counted(split, seed, index, *rest):
        made.append(index)
        return original(split, seed, index, *rest)

    monkeypatch.setattr(generate, "generate_scene", counted)
    assert run_generate(tmp_path / "shared", "--shard", "1/2") == 0
    assert made == [4, 5]  # not 3 again, which was finished
    assert files_of(tmp_path / "shared") == files_of(tmp_path / "one")


def test_a_killed_assembly_goes_on(tmp_path, monkeypatch):
    assert run_generate(tmp_path / "one") == 0
    assert run_generate(tmp_path / "shared", "--shard", "0/2") == 0
    append = sharing._append

    def killed(whole, part, manifest):
        if part.name == "00001":
            raise KeyboardInterrupt
        append(whole, part, manifest)

    monkeypatch.setattr(sharing, "_append", killed)
    assert run_generate(tmp_path / "shared", "--shard", "1/2") == 130
    monkeypatch.setattr(sharing, "_append", append)
    assert run_generate(tmp_path / "shared", "--shard", "0/2") == 0
    assert files_of(tmp_path / "shared") == files_of(tmp_path / "one")


def test_a_finished_collection_grows_by_shares(tmp_path):
    more = ["--num-scenes", "9"]
    assert run_generate(tmp_path / "one") == 0
    assert run_generate(tmp_path / "one", *more) == 0
    assert run_generate(tmp_path / "shared") == 0
    for index in (0, 1):
        assert run_generate(tmp_path / "shared", *more, "--shard", f"{index}/2") == 0
    assert files_of(tmp_path / "shared") == files_of(tmp_path / "one")


def test_own_captures_are_shared(write_capture, tmp_path):  # noqa: F811
    inputs = [str(write_capture(name)) for name in ("c", "a", "b", "other/a")]
    assert custom.main([*inputs, "--output-dir", str(tmp_path / "one")]) == 1
    for index in (1, 0):
        shard = ["--shard", f"{index}/2", "--output-dir", str(tmp_path / "two")]
        custom.main([*inputs, *shard])
    one, two = tmp_path / "one" / "test-scenes", tmp_path / "two" / "test-scenes"
    assert [info.key for info in ShardStore(two).scenes] == ["c", "a", "b"]
    assert (two / "shard-000000.tar").read_bytes() == (one / "shard-000000.tar").read_bytes()
    assert json.loads((two / "manifest.json").read_text())["sources"]["b"] == "../../b"
    assert custom.main([inputs[0], "--output-dir", str(tmp_path / "two")]) == 0


def test_shares_of_different_inputs_are_refused(tmp_path, archive, capsys):
    run_re10k(tmp_path / "out", archive, "--shard", "0/2")
    fewer = chunks(tmp_path, {"000000": [clip("a0")]})
    run_re10k(tmp_path / "out", fewer, "--shard", "1/2")
    assert "give all jobs the same inputs and options" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/360x640/train-scenes/*.tar"))


def test_two_processes_do_not_write_one_directory(tmp_path):
    with ShardOutput(tmp_path, "tool") as output:
        output.add(make_scene("a"))
        output._finish_shard()
        with (
            pytest.raises(ValueError, match="another process is working"),
            ShardOutput(tmp_path, "tool"),
        ):
            pass
        with pytest.raises(ValueError, match="another process is working"):
            ShardOutput(tmp_path, "tool", overwrite=True)
        assert (tmp_path / "shard-000000.tar").exists()
    with ShardOutput(tmp_path, "tool"):
        pass


def test_shares_by_option_and_by_ranks(monkeypatch, tmp_path, archive, capsys):
    jobs = list(range(10))
    parts = [Share(index, 4).of(jobs) for index in range(4)]
    assert [job for part in parts for job in part] == jobs
    assert {len(part) for part in parts} == {2, 3}
    assert Share.parse("3/4") == Share(3, 4)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert sharing.by_rank(Share(2, 3)) == Share(5, 6)
    assert sharing.by_rank(Share()) == Share(1, 2)
    assert run_re10k(tmp_path / "out", archive, "--overwrite") == 1
    assert "--overwrite cannot be combined" in capsys.readouterr().err
    for text in ("4/4", "1", "-1/2", "a/b", "1/0"):
        with pytest.raises(SystemExit):
            run_re10k(tmp_path / "out", archive, "--shard", text)
