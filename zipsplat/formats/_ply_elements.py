"""Headers and elements of binary little-endian `.ply` files.

Source: Greg Turk, "The PLY Polygon File Format", 1994. Elements with list properties, such as the
faces of meshes, have rows of varying length and are not read, so they must come last. A note is our
own comment: "note", then the text as a JSON string, which keeps the header ASCII and the note on
one line. Brush and Splatfacto mark antialiased scenes with the comment "SplatRenderMode: mip".
"""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import NOTE_MAX, SplatArrays
from zipsplat.formats._blocks import blocks

HEADER_MAX_BYTES = 1 << 20
_NOTE = "comment note"
_ANTIALIASED = "comment SplatRenderMode: mip"
_NUMPY_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "<i2", "int16": "<i2", "ushort": "<u2", "uint16": "<u2",
    "int": "<i4", "int32": "<i4", "uint": "<u4", "uint32": "<u4",
    "float": "<f4", "float32": "<f4", "double": "<f8", "float64": "<f8",
}  # fmt: skip
Records = NDArray[np.void]


@dataclass(frozen=True)
class Element:
    """Rows of one kind; `dtype` is None if they have list properties."""

    name: str
    count: int
    dtype: np.dtype[np.void] | None


@dataclass(frozen=True)
class Header:
    """A parsed header.

    Args:
        elements: in file order.
        note: licence note; empty if there is none.
        antialiased: whether the scene should be rendered antialiased.
    """

    elements: list[Element]
    note: str = ""
    antialiased: bool = False


@dataclass(frozen=True)
class Rows:
    """Offset, count and dtype of the rows of an element."""

    start: int
    count: int
    dtype: np.dtype[np.void]

    def read(self, file: BinaryIO) -> Records:
        """All rows."""
        return self._read(file, slice(0, self.count))

    def read_blocks(self, file: BinaryIO) -> Iterator[tuple[slice, Records]]:
        """The rows in cache-sized blocks."""
        for rows in blocks(self.count):
            yield rows, self._read(file, slice(rows.start, min(rows.stop, self.count)))

    def _read(self, file: BinaryIO, rows: slice) -> Records:
        num, size = rows.stop - rows.start, self.dtype.itemsize
        if not size:  # an element without properties, which takes no bytes
            return np.empty(num, self.dtype)
        file.seek(self.start + rows.start * size)
        return np.frombuffer(file.read(num * size), dtype=self.dtype)


def comment_lines(splats: SplatArrays) -> list[str]:
    """Header comments for the note and the render mode, if set."""
    return note_lines(splats.note) + [_ANTIALIASED] * splats.antialiased


def note_lines(note: str) -> list[str]:
    """The header line of a note; empty if there is no note."""
    return [f"{_NOTE} {json.dumps(note)}"] if note else []


def read_header(file: BinaryIO) -> Header:
    """Read the name, count and dtype of each element, and our comments.

    Raises:
        ValueError: if this is not a binary little-endian `.ply`, or its header is damaged.
    """
    elements: list[tuple[str, int, list[tuple[str, str | None]]]] = []
    encoding, note, antialiased = "", "", False
    for line in _header_lines(file):
        match line.decode("ascii", "replace").split():
            case ["comment", "note", *_] if not note:
                note = _note(line)
            case ["comment", "SplatRenderMode:", mode]:
                antialiased = mode == "mip"
            case [] | ["comment" | "obj_info", *_]:
                continue
            case ["format", encoding, _]:
                pass
            case ["element", name, count] if count.isdecimal() and len(count) < 16:
                elements.append((name, int(count), []))
            case ["property", kind, name] if kind in _NUMPY_TYPES and elements:
                elements[-1][2].append((name, _NUMPY_TYPES[kind]))
            case ["property", "list", _, _, name] if elements:
                elements[-1][2].append((name, None))
            case words:
                raise ValueError(
                    f"this .ply has a header line that cannot be read: {reprlib.repr(words)}"
                )
    if encoding != "binary_little_endian":
        raise ValueError(
            f"only binary_little_endian .ply files are supported, got {reprlib.repr(encoding)}"
        )
    return Header([Element(n, c, _dtype(n, f)) for n, c, f in elements], note, antialiased)


def by_channel(num: int) -> NDArray[np.int64]:
    """Order of harmonics in these files, channel after channel, as places in (num, 3)."""
    places: NDArray[np.int64] = np.arange(3 * num).reshape(num, 3)
    return np.ravel(places.T)


def has_property(head: bytes, name: str) -> bool | None:
    """Whether the header at the start of a file names a property; None if it is not a `.ply`."""
    if not head.startswith((b"ply\n", b"ply\r\n")):
        return None
    lines = head.partition(b"end_header")[0].split(b"\n")
    return any(line.split()[:1] == [b"property"] and name.encode() in line for line in lines)


def _header_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a header between the first and the last."""
    if file.readline(8).strip() != b"ply":
        raise ValueError("this is not a .ply: the first line is not 'ply'")
    total = 0
    while True:
        line = file.readline(HEADER_MAX_BYTES)
        total += len(line)
        if not line.endswith(b"\n") or total > HEADER_MAX_BYTES:
            raise ValueError("this .ply has a broken header: it does not end")
        if line.split() == [b"end_header"]:
            return
        yield line


def _note(line: bytes) -> str:
    """The note in a comment; empty if it is not our comment."""
    try:
        note = json.loads(line.decode("ascii").removeprefix(_NOTE))
    except (ValueError, RecursionError):
        return ""
    return note if isinstance(note, str) and len(note) <= NOTE_MAX else ""


def _dtype(element: str, fields: list[tuple[str, str | None]]) -> np.dtype[np.void] | None:
    names = [name for name, _ in fields]
    if len(set(names)) != len(names):
        raise ValueError(f"element {element!r} of this .ply has repeated properties")
    plain = [(name, kind) for name, kind in fields if kind is not None]
    return np.dtype(plain) if len(plain) == len(fields) else None


def read_elements(file: BinaryIO, header: Header) -> dict[str, Records]:
    """Read the elements up to the first with lists; see `find_rows`."""
    return {name: rows.read(file) for name, rows in find_rows(file, header).items()}


def find_rows(file: BinaryIO, header: Header) -> dict[str, Rows]:
    """Locate the elements up to the first with lists; checks counts against the file size.

    Raises:
        ValueError: if the file ends too early, or vertices follow an element with lists.
    """
    lists = [element.dtype is None for element in header.elements]
    num = lists.index(True) if any(lists) else len(lists)
    if any(element.name == "vertex" for element in header.elements[num:]):
        raise ValueError(
            f"this .ply has list properties in element {header.elements[num].name!r}, at or before"
            " its vertices, which is not supported"
        )
    start = end = file.tell()
    found = {}
    for element in header.elements[:num]:
        if element.dtype is not None:
            found[element.name] = Rows(end, element.count, element.dtype)
            end += element.count * element.dtype.itemsize
    available = file.seek(0, 2) - start
    if end - start > available:
        raise ValueError(
            f"this .ply ends too early: its header announces {end - start} bytes, there are"
            f" {available}"
        )
    return found
