"""Checkpoints that ask for years or gigabytes are refused at once."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.contained import contained
from tests.zipsplat.tiny_network import tiny_network
from zipsplat import ZipSplat, weights
from zipsplat.torch_files import read_torch_bytes, read_torch_file

MB = 1_000_000


def archive(program: bytes, compression: int = zipfile.ZIP_STORED) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", compression) as file:
            file.writestr("archive/data.pkl", program)

    return write


def raw(program: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(program)


def saved(content: Callable[[], Any], **options: Any) -> Callable[[Path], None]:
    return lambda path: torch.save(content(), path, **options)


def nested_pairs(levels: int = 60) -> bytes:
    """A pickle's tuple of tuples that each hold the one below twice, by the memo."""
    program = b"K\x01q\x00"
    for level in range(levels):
        program += b"0h%c" % level + b"h%c" % level + b"\x86q%c" % (level + 1)
    return program


def nested_lists(levels: int = 60) -> bytes:
    program = b"]q\x00"
    for level in range(levels):
        program += b"0(h%c" % level + b"h%c" % level + b"lq%c" % (level + 1)
    return program


def model_of(program: bytes) -> bytes:
    """A pickle of {"model": what the program leaves}."""
    return b"\x80\x04}\x8c\x05model" + program + b"s."


SHARED = torch.zeros(1_000_000)
HOSTILE: dict[str, Callable[[Path], object]] = {
    "hash": archive(b"\x80\x04}" + nested_pairs() + b"K\x01s."),
    "hash_items": archive(b"\x80\x04}(" + nested_pairs() + b"K\x01u."),
    "hash_dict": archive(b"\x80\x04(" + nested_pairs() + b"K\x01d."),
    "hash_set": archive(b"\x80\x04\x8f(" + nested_pairs() + b"\x90."),
    "hash_frozenset": archive(b"\x80\x04(" + nested_pairs() + b"\x91."),
    "hash_call": archive(b"\x80\x04cbuiltins\nset\n](" + nested_pairs() + b"e\x85R."),
    "hash_pairs": archive(
        b"\x80\x04ccollections\nOrderedDict\n](" + nested_pairs() + b"N\x86e\x85R."
    ),
    "hash_storage": archive(
        b"\x80\x04(\x8c\x07storagectorch\nFloatStorage\n" + nested_pairs() + b"\x8c\x03cpuK\x01tQ."
    ),
    "text": archive(b"\x80\x04cbuiltins\nstr\n" + nested_lists() + b"\x85R."),
    "entry": archive(model_of(b"}\x8c\x01a" + nested_lists() + b"s")),
    "content": archive(b"\x80\x04" + nested_lists() + b"."),
    "dtype": archive(b"\x80\x04cnumpy\ndtype\n" + nested_lists() + b"\x85R."),
    "memo": archive(b"\x80\x02}r\x00\x00\x00\x10."),
    "long_bytes": archive(b"\x80\x05\x96\x00\x00\x00\x00\x02\x00\x00\x00."),
    "deflated": archive(b"\x80\x02" + b"]0" * 20_000_000 + b"}.", zipfile.ZIP_DEFLATED),
    "many_sets": archive(b"\x80\x04(" + b"\x8f" * 5_000_000 + b"l."),
    "many_classes": archive(
        b"\x80\x02(" + b"".join(b"cm\nx%d\n" % i for i in range(300_000)) + b"l."
    ),
    "copies": archive(
        b"\x80\x02cbuiltins\nlist\nq\x00(" + b"K\x01" * 400_000 + b"lq\x01("
        + b"h\x00h\x01\x85R" * 1000 + b"l."
    ),
    "encoded": archive(
        b"\x80\x02c_codecs\nencode\nq\x00X" + (4 * MB).to_bytes(4, "little") + b"x" * 4 * MB
        + b"q\x01(" + b"h\x00h\x01\x85R" * 1000 + b"l."
    ),
    "expanded": saved(lambda: {"model": {"a": torch.zeros(1, dtype=torch.half).expand(MB, MB)}}),
    "shared": saved(lambda: {"model": {f"t{i}": SHARED for i in range(3000)}}),
    "directory": raw(b"PK\x05\x06" + bytes(8) + b"\x00\x00\x00\x7f" + bytes(6)),
    "legacy_hash": raw(b"\x80\x04}" + nested_pairs() + b"K\x01s."),
    "legacy_sizes": raw(
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}X\r\x00\x00\x00"
        b"little_endian\x88s.\x80\x02(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00"
        b"\x000X\x03\x00\x00\x00cpu\x8a\x06" + (1 << 40).to_bytes(6, "little") + b"NtQ.\x80\x02](X"
        b"\x01\x00\x00\x000e." + bytes(8)
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_bombs_cost_little(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"{kind}.pt"
    HOSTILE[kind](path)

    def read() -> int:
        with pytest.raises(ValueError, match=f"{kind}.pt") as caught:
            weights.read(path)
        assert len(str(caught.value)) < 500
        return 0

    ended = contained(read)
    assert ended.status == 0, ended.output[-2000:]
    assert ended.grown < 100 * MB


def test_blocks_with_gaps(tmp_path: Path) -> None:
    state = tiny_network().state_dict()
    block = "backbone.backbone.blocks.{}.norm1.weight"
    for number in (10**8, 250):
        extra = {block.format(number): state[block.format(0)].clone()}
        save_file({**state, **extra}, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=r"wanted blocks 0, 1, 2, …"):
            ZipSplat(weights=tmp_path / "x.safetensors")


@pytest.mark.parametrize("conf", ["[" * 100_000, '{"a":' * 100_000])
def test_nested_metadata(tmp_path: Path, conf: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(1)}, path, metadata={"conf": conf})
    with pytest.raises(ValueError, match=r"x\.safetensors: its metadata are not JSON"):
        weights.read(path)


@pytest.mark.parametrize(
    "conf",
    [
        {"model": [1]},
        {"model": {"backbone": "x"}},
        {"model": {"backbone": {"out_layers": 7}}},
        {"model": {"gaussian_head": [1]}},
        {"model": {"backbone": {"num_heads": 0}}},
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, conf: Any) -> None:
    path = tmp_path / "x.safetensors"
    weights.save(path, tiny_network().state_dict(), {})
    metadata = {"conf": json.dumps(conf)}
    save_file(tiny_network().state_dict(), path, metadata=metadata)
    with pytest.raises(ValueError):  # noqa: PT011  (each says something else)
        ZipSplat(weights=path)


def test_files_of_older_versions_are_read_by_the_same_reader(tmp_path: Path) -> None:
    shared = torch.arange(24.0).reshape(4, 6)
    content = {
        "model": {"a": shared, "b": shared[1:, ::2], "c": torch.nn.Parameter(shared.half())},
        "epoch": 3,
        "empty": torch.empty(0, 3),
        "bytes": torch.tensor([1, 2, 3], dtype=torch.uint8),
    }
    path = tmp_path / "old.pt"
    torch.save(content, path, _use_new_zipfile_serialization=False)
    for read in (read_torch_file(path), read_torch_bytes(path.read_bytes(), "old")):
        assert read["epoch"] == 3
        for name in ("a", "b", "c"):
            torch.testing.assert_close(read["model"][name], content["model"][name].detach())
        assert read["empty"].shape == (0, 3)
        assert read["bytes"].tolist() == [1, 2, 3]
    for end in range(0, path.stat().st_size, 7):
        (tmp_path / "cut.pt").write_bytes(path.read_bytes()[:end])
        with pytest.raises(ValueError, match=r"cut\.pt"):
            read_torch_file(tmp_path / "cut.pt")


def test_the_bombs_are_bombs() -> None:
    """A naive reader would go on for ever; a few levels show the growth."""

    class Counted:
        hashed = 0

        def __hash__(self) -> int:
            Counted.hashed += 1
            return 1

    nested: Any = Counted()
    for _ in range(12):
        nested = (nested, nested)
    hash(nested)
    assert Counted.hashed == 2**12
    assert pickle.loads(b"\x80\x04" + nested_pairs(3) + b".") == (((1, 1),) * 2,) * 2
