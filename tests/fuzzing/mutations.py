"""Seeded damage to a file: its bytes, numbers, JSON, and compressed content."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

NUMBERS = (0, 1, 2, 3, 4, 7, 127, 128, 255, 256, 65535, 2**24, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
WORDS = (
    "0", "-1", "1e308", "NaN", "Infinity", "4294967296", "99999999999", "true", "null", "", "[]",
    "{}", "../../x", "\x1b[2J", "é\0", "9" * 400,
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 1e308, float("nan"), float("inf"), 2**31, 2**70, "", "x", "../x", [],
    {}, [[]], [1] * 70, {"a": {}},
)  # fmt: skip
Change = Callable[[bytes, random.Random], bytes]


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Apply one to four changes."""
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        data = _changed_within(data, rng) if rng.random() < 0.6 else _changed(data, rng)
    return data


def _changed(data: bytes, rng: random.Random) -> bytes:
    return rng.choice(BYTE_CHANGES)(data, rng) if data else bytes([rng.randrange(256)])


def _changed_within(data: bytes, rng: random.Random) -> bytes:
    """Change the content by its structure: archive members, compressed streams, JSON, text."""
    with suppress(Exception):
        if data.startswith(b"PK\x03\x04"):
            return _in_zip(data, rng)
        if data.startswith(b"\x1f\x8b"):
            return gzip.compress(mutate(gzip.decompress(data), rng), mtime=0)
        if data.startswith(b"\x89PNG"):
            return _in_png(data, rng)
        if data[:1] in b"{[":
            return _in_json(data, rng)
        if data[8:9] == b"{" or data[20:21] == b"{":  # safetensors, glTF: a length prefix
            return _in_header(data, 8 if data[8:9] == b"{" else 20, rng)
    return _changed(data, rng)


def _flip(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def _number(data: bytes, rng: random.Random) -> bytes:
    size = rng.choice((1, 2, 4, 4, 8))
    at = rng.randrange(max(1, len(data) - size))
    value = rng.choice(NUMBERS) if rng.random() < 0.8 else rng.getrandbits(64)
    order = rng.choice(("little", "little", "big"))
    return data[:at] + (value % 256**size).to_bytes(size, order) + data[at + size :]  # type: ignore[arg-type]


def _float(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(max(1, len(data) - 4))
    value = rng.choice((0.0, -1.0, 1e38, 1e-45, float("nan"), float("inf")))
    return data[:at] + struct.pack("<f", value) + data[at + 4 :]


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _remove(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    return data[:begin] + data[begin + rng.randint(1, 64) :]


def _repeat(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    piece = data[begin : begin + rng.randint(1, 64)]
    return data[:begin] + piece * rng.choice((2, 2, 3, 50)) + data[begin:]


def _noise(data: bytes, rng: random.Random) -> bytes:
    begin = rng.randrange(len(data))
    piece = rng.randbytes(rng.randint(1, 32))
    return data[:begin] + piece + data[begin + len(piece) :]


def _word(data: bytes, rng: random.Random) -> bytes:
    """Change a number or a line of a text."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?|[A-Za-z_]{2,}", data[:20_000]))
    if not found:
        return _flip(data, rng)
    match = rng.choice(found)
    return data[: match.start()] + rng.choice(WORDS).encode() + data[match.end() :]


BYTE_CHANGES: tuple[Change, ...] = (
    _flip, _flip, _number, _number, _float, _cut, _remove, _repeat, _noise, _word, _word,
)  # fmt: skip


def _in_zip(data: bytes, rng: random.Random) -> bytes:
    """Change, remove, duplicate or compress a member; checksums are valid."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.random()
    if kind < 0.7:
        members[at] = (name, mutate(content, rng))
    elif kind < 0.8:
        del members[at]
    elif kind < 0.9:
        members.append((rng.choice(members)[0], content))
    else:
        members[at] = (name + rng.choice(WORDS), content)
    how = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name.replace("\0", "")), content, how)
    return out.getvalue()


def _in_png(data: bytes, rng: random.Random) -> bytes:
    """Change one chunk, with a valid checksum."""
    chunks, at = [], 8
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + size]))
        at += size + 12
    number = rng.randrange(len(chunks))
    name, content = chunks[number]
    chunks[number] = (name, _changed(content, rng))
    out = data[:8]
    for name, content in chunks:
        out += struct.pack(">I", len(content)) + name + content
        out += struct.pack(">I", zlib.crc32(name + content))
    return out


def _in_header(data: bytes, begin: int, rng: random.Random) -> bytes:
    """Change JSON behind a length prefix, which stays valid."""
    size = int.from_bytes(data[begin - 8 : begin - 8 + (8 if begin == 8 else -4)], "little")
    if begin == 20:
        size = int.from_bytes(data[12:16], "little")
    head = _in_json(data[begin : begin + size], rng)
    length = struct.pack("<Q", len(head)) if begin == 8 else struct.pack("<I", len(head))
    place = 0 if begin == 8 else 12
    return data[:place] + length + data[place + len(length) : begin] + head + data[begin + size :]


def _in_json(data: bytes, rng: random.Random) -> bytes:
    """Change, remove or move a value somewhere in the tree."""
    tree = json.loads(data)
    places = list(_places(tree))
    container, key = rng.choice(places)
    kind = rng.random()
    if kind < 0.6:
        container[key] = rng.choice(VALUES)
    elif kind < 0.75:
        del container[key]
    elif kind < 0.95:
        other, name = rng.choice(places)
        container[key] = other[name]
    else:
        for _ in range(3000):
            container[key] = [container[key]]
    with suppress(RecursionError):
        return json.dumps(tree).encode()
    return b"[" * 3000


def _places(tree: Any) -> list[tuple[Any, Any]]:
    waiting, places = [tree], []
    while waiting and len(places) < 5000:
        value = waiting.pop()
        keys = list(value) if isinstance(value, dict) else range(len(value))
        for key in keys:
            places.append((value, key))
            if isinstance(value[key], (dict, list)):
                waiting.append(value[key])
    return places
