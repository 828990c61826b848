"""Headers and elements of binary little-endian `.ply` files.

Source: Greg Turk, "The PLY Polygon File Format", 1994; without list properties, which no splat
file has. A note is a comment of ours: the word, then the text as a JSON string, which keeps the
header ASCII and the note on one line.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import NOTE_MAX

HEADER_MAX_BYTES = 1 << 20
_NOTE = "comment note"
_NUMPY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2",
    "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4",
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip
Records = NDArray[np.void]


@dataclass(frozen=True)
class Header:
    """What a header says.

    Args:
        elements: name, count and dtype of each.
        note: about licences; empty if there is none.
    """

    elements: list[tuple[str, int, np.dtype[np.void]]]
    note: str = ""


def note_lines(note: str) -> list[str]:
    """The lines of a header that hold a note: one, or none if there is no note."""
    return [f"{_NOTE} {json.dumps(note)}"] if note else []


def read_header(file: BinaryIO) -> Header:
    """Read the name, count and dtype of each element, and the note.

    Raises:
        ValueError: if this is no binary little-endian `.ply`, or its header is broken.
    """
    elements: list[tuple[str, int, list[tuple[str, str]]]] = []
    encoding, note = "", ""
    for line in _header_lines(file):
        match line.decode("ascii", "replace").split():
            case ["comment", "note", *_] if not note:
                note = _note(line)
            case [] | ["comment" | "obj_info", *_]:
                continue
            case ["format", encoding, _]:
                pass
            case ["element", name, count] if count.isdecimal() and len(count) < 16:
                elements.append((name, int(count), []))
            case ["property", kind, name] if kind in _NUMPY_TYPES and elements:
                elements[-1][2].append((name, _NUMPY_TYPES[kind]))
            case words:
                raise ValueError(f"this .ply has a header line that cannot be read: {words}")
    if encoding != "binary_little_endian":
        raise ValueError(f"only binary_little_endian .ply files are read, this is {encoding!r}")
    return Header([(name, count, _dtype(name, fields)) for name, count, fields in elements], note)


def _header_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines between the first and the last of a header."""
    if file.readline(8).strip() != b"ply":
        raise ValueError("this is no .ply: the first line is not 'ply'")
    total = 0
    while True:
        line = file.readline(4096)
        total += len(line)
        if not line.endswith(b"\n") or total > HEADER_MAX_BYTES:
            raise ValueError("this .ply has a broken header: it does not end")
        if line.split() == [b"end_header"]:
            return
        yield line


def _note(line: bytes) -> str:
    """The note in a comment; empty if the comment is not one of ours."""
    try:
        note = json.loads(line.decode("ascii").removeprefix(_NOTE))
    except (ValueError, RecursionError):
        return ""
    return note if isinstance(note, str) and len(note) <= NOTE_MAX else ""


def _dtype(element: str, fields: list[tuple[str, str]]) -> np.dtype[np.void]:
    names = [name for name, _ in fields]
    if not names or len(set(names)) != len(names):
        raise ValueError(f"element {element!r} of this .ply has no, or repeated, properties")
    return np.dtype(fields)


def read_elements(file: BinaryIO, header: Header) -> dict[str, Records]:
    """Read the elements that follow a header; counts are checked against what is there.

    Raises:
        ValueError: if the file ends too early.
    """
    start = file.tell()
    available = file.seek(0, 2) - start
    file.seek(start)
    needed = sum(count * dtype.itemsize for _, count, dtype in header.elements)
    if needed > available:
        raise ValueError(
            f"this .ply ends too early: its header promises {needed} bytes, there are {available}"
        )
    return {
        name: np.frombuffer(file.read(count * dtype.itemsize), dtype=dtype)
        for name, count, dtype in header.elements
    }
