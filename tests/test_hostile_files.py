"""Each hostile file meets the command that reads it: one line, an exit status, little memory."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from splatfactory import train
from splatfactory.datasets import offsets
from splatfactory.datasets.scripts import describe
from splatfactory.datasets.scripts.custom import convert as custom
from splatfactory.datasets.scripts.dl3dv import convert as dl3dv
from splatfactory.eval import indices
from tests.contained import GIB, Outcome, contained
from zipsplat.cli import main as zipsplat

FILES = Path(__file__).parent / "hostile_files"
SHARD = Path(__file__).parent / "golden/data/shards/synth/90x160/test-scenes/shard-000001.tar"
STAGE = re.compile(r": [\d.]+ s$")  # progress: the name of a stage, and how long it took


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "hf_SECRET")


def check(ended: Outcome, name: str, fails: bool | None = True) -> None:
    """A failure is one line that names the file; None: it may fail."""
    assert "Traceback" not in ended.output, ended.output[-2000:]
    assert ended.grown < GIB
    if fails is not None:
        assert ended.status in ((1, 2) if fails else (0,)), ended.output
    if ended.status:
        [line] = [line for line in ended.lines if not STAGE.search(line)]
        assert name in line, ended.output
        assert "error: " in line


@pytest.mark.parametrize(
    "name", ["badzip.pt", "hash_bomb.pt", "laugh_conf.pt", "memo_bomb_256M.pt", "self_conf.pt"]
)
def test_checkpoints(name: str) -> None:
    check(contained(lambda: zipsplat(["info", str(FILES / name)])), name)


@pytest.mark.parametrize("name", ["thin_tall.png", "rgb_400MP.png"])
def test_images(name: str, tmp_path: Path) -> None:
    target = tmp_path / "o.ply"
    command = ["reconstruct", str(FILES / name), "-o", str(target), "--weights", "zipsplat-tiny"]
    check(contained(lambda: zipsplat(command)), name)
    assert not target.exists()
    check(contained(lambda: zipsplat(["info", str(FILES / name)])), name, fails=False)


@pytest.mark.parametrize(
    "suffix", ["ply", "sog", "png", "mp4", "pt", "safetensors", "json", "yaml", "tar"]
)
def test_pipes_do_not_block(suffix: str, tmp_path: Path) -> None:
    name = f"pipe.{suffix}"
    (tmp_path / "shards").mkdir()
    pipe = tmp_path / "shards" / name
    os.mkfifo(pipe)
    if suffix == "tar":
        ended = contained(lambda: describe.main([str(pipe.parent)]), 5)
    elif suffix == "yaml":
        ended = contained(lambda: train.main(["x", "--conf", str(pipe), "--dry-run", "1"]), 5)
    else:
        ended = contained(lambda: zipsplat(["info", str(pipe)]), 5)
    check(ended, name)


def test_notes_do_not_reach_the_terminal_as_they_are() -> None:
    ended = contained(lambda: zipsplat(["info", str(FILES / "escape_note.ply")]))
    assert ended.status == 0
    assert "licence: free" in ended.output
    assert "\\x1b" in ended.output
    assert "\x1b" not in ended.output
    assert "\x07" not in ended.output


@pytest.mark.parametrize("name", ["y_tab", "y_dup", "y_pytag", "y_laughs", "leak"])
def test_configurations(name: str) -> None:
    command = ["x", "--conf", str(FILES / f"{name}.yaml"), "--dry-run", "1"]
    ended = contained(lambda: train.main(command))
    check(ended, "" if name == "leak" else f"{name}.yaml")
    assert "hf_SECRET" not in ended.output
    assert len(ended.lines) == 1
    assert list(Path.cwd().iterdir()) == []


def shard_with(folder: Path, change: Callable[[str, bytes], bytes]) -> Path:
    """A shard directory with changed members."""
    folder.mkdir()
    with tarfile.open(SHARD) as source, tarfile.open(folder / "shard-000000.tar", "w") as target:
        for header in source:
            file = source.extractfile(header)
            assert file is not None
            data = change(header.name, file.read())
            header.size = len(data)
            target.addfile(header, io.BytesIO(data))
    return folder


def numbered(count: object) -> Callable[[str, bytes], bytes]:
    meta = json.dumps({"num_views": count, "has_depth": False}).encode()
    return lambda name, data: meta if name.endswith("meta.json") else data


def replaced(suffix: str, content: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, data: content if suffix in name else data


def flipped(suffix: str, old: bytes, new: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, data: data.replace(old, new) if name.endswith(suffix) else data


SHARDS: dict[str, Callable[[str, bytes], bytes]] = {
    "num_views": numbered(10**8),
    "num_views_more": numbered(10**25),
    "num_views_negative": numbered(-1),
    "num_views_text": numbered("9"),
    "meta_deep": replaced("meta.json", b"[" * 100_000),
    "meta_list": replaced("meta.json", b"[]"),
    "meta_infinite": replaced("meta.json", b'{"num_views": Infinity}'),
    "ranges_deep": replaced("depth_ranges.json", b"[" * 100_000),
    "ranges_huge": replaced("depth_ranges.json", b"[[" + b"9" * 400 + b", 1]]"),
    "header": flipped("cameras.npy", b"'descr'", b"'des(r'"),
    "header_shape": flipped("cameras.npy", b"6), }", b"6)**9"),
    "header_nested": flipped("poses.npy", b"12), }", b"((((("),
    "image_400MP": replaced(".img", (FILES / "rgb_400MP.png").read_bytes()),
    "image_thin": replaced(".img", (FILES / "thin_tall.png").read_bytes()),
    "jpeg_65000": replaced(
        ".img",
        b"\xff\xd8\xff\xc0\0\x11\x08\xfd\xe8\xfd\xe8\x03"
        b"\x01\x22\0\x02\x11\x01\x03\x11\x01\xff\xd9",
    ),
    "depth_400MP": replaced(".dep", (FILES / "rgb_400MP.png").read_bytes()),
    "empty": replaced("", b""),
}  # fmt: skip


@pytest.mark.parametrize("kind", SHARDS)
def test_shards(kind: str, tmp_path: Path) -> None:
    folder = shard_with(tmp_path / "shards", SHARDS[kind])
    look_at(folder, tmp_path)


def look_at(folder: Path, tmp_path: Path) -> None:
    """Both commands name the damage, or work without the file."""
    making = ["make", str(folder), "--output", str(tmp_path / "i.json"), "--num-context", "2"]
    for main, command in (
        (describe.main, [str(folder)]),
        (describe.main, [str(folder), "--check"]),
        (indices.main, [*making, "--num-target", "2"]),
    ):
        ended = contained(lambda main=main, command=command: main(command))  # type: ignore[misc]
        check(ended, folder.name, fails=None)


def test_shards_with_damaged_headers(tmp_path: Path) -> None:
    shutil.copytree(FILES / "sparse_ext", tmp_path / "sparse")
    look_at(tmp_path / "sparse", tmp_path)


@pytest.mark.parametrize("part", ["first", "spans", "num_views", "has_depth", "text"])
@pytest.mark.parametrize("number", [-5, 10**15])
def test_sidecars_that_lie(part: str, number: int, tmp_path: Path) -> None:
    folder = shard_with(tmp_path / "shards", lambda _, data: data)
    shard = folder / "shard-000000.tar"
    good = offsets.build(shard)
    sidecar = offsets._sidecar(shard)
    arrays = dict(np.load(sidecar))
    if part == "text":
        text = json.loads(arrays["text"].tobytes()) | {"keys": [number], "broken": [1]}
        arrays["text"] = np.frombuffer(json.dumps(text).encode(), np.uint8)
    else:
        arrays[part] = arrays[part].astype(np.int64)
        arrays[part].flat[-1] = number
    np.savez(sidecar, **arrays)
    assert offsets.load(shard).keys == good.keys
    np.savez_compressed(sidecar, **arrays, bomb=np.zeros(10**8, np.uint8))
    assert offsets.load(shard).keys == good.keys
    look_at(folder, tmp_path)


TRANSFORMS: dict[str, object] = {
    "scale": {"applied_scale": None, "frames": [{}]},
    "matrix": {"frames": [{"file_path": "a.png", "transform_matrix": {}}]},
    "matrix_text": {"frames": [{"file_path": "a.png", "transform_matrix": [["x"] * 4] * 4}]},
    "width": {"w": float("inf"), "h": 4, "fl_x": 1, "frames": [{"file_path": "a.png"}]},
    "path": {"frames": [{"file_path": 7, "transform_matrix": np.eye(4).tolist()}]},
    "frames": {"frames": [7]},
    "moved": {"applied_transform": [[1]], "frames": [{}]},
}


@pytest.mark.parametrize("kind", TRANSFORMS)
def test_transforms(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "capture"
    folder.mkdir()
    shutil.copy(FILES / "rgb_400MP.png", folder / "a.png")
    (folder / "transforms.json").write_text(json.dumps(TRANSFORMS[kind]))
    check(
        contained(lambda: custom.main([str(folder), "--output-dir", "out"])), "capture", fails=None
    )
    check(contained(lambda: zipsplat(["info", str(folder)])), "transforms.json")


@pytest.mark.parametrize("suffix", ["sog", "pt"])
def test_a_zip_of_a_million_members(suffix: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("meta.json", '{"version": 2}')
    content = buffer.getvalue()
    begin, end = content.index(b"PK\1\2"), content.index(b"PK\5\6")
    names = content[begin:end] * 1_000_000
    ending = bytearray(content[end:])
    ending[12:16] = len(names).to_bytes(4, "little")
    path = tmp_path / f"many.{suffix}"
    path.write_bytes(content[:begin] + names + ending)
    ended = contained(lambda: zipsplat(["info", str(path)]), 5)
    check(ended, path.name)
    assert "names exceed the limit" in ended.errors


def test_a_member_of_gigabytes(tmp_path: Path) -> None:
    batch = tmp_path / "raw" / "960P" / "1K"
    batch.mkdir(parents=True)
    frame = {"file_path": "images/frame_00001.png", "transform_matrix": np.eye(4).tolist()}
    content = {"w": 4, "h": 4, "fl_x": 4, "fl_y": 4, "cx": 2, "cy": 2, "frames": [frame]}
    with zipfile.ZipFile(batch / "abc.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("abc/transforms.json", json.dumps(content))
        with archive.open("abc/images_4/frame_00001.png", "w", force_zip64=True) as member:
            for _ in range(300):
                member.write(bytes(1 << 20))
    (tmp_path / "test.json").write_text("[]")
    options = [
        "--output-dir",
        "o",
        "--target-size",
        "56",
        "--test-ids",
        str(tmp_path / "test.json"),
    ]
    ended = contained(lambda: dl3dv.main(["--input-dir", str(tmp_path / "raw"), *options]))
    check(ended, "abc")
    assert "exceeds the limit" in ended.errors
    assert ended.grown < GIB / 4
