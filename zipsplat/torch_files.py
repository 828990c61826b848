"""Read PyTorch checkpoints without executing anything in them.

`torch.save` writes a zip archive: a pickle (`data.pkl`) that describes the objects, and one
uncompressed record per tensor storage. Before version 1.6 it wrote a sequence of pickles, then the
storages. Pickles are read by `tensor_pickle`; tensors are views of the memory-mapped file, so
reading is fast and needs no memory.

Formats: the notes on serialization in PyTorch's documentation; of the older one, what
`torch.save(…, _use_new_zipfile_serialization=False)` writes.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from zipsplat.files import open_file
from zipsplat.tensor_pickle import MAX_PROGRAM_BYTES, TensorUnpickler, next_program
from zipsplat.untrusted_files import open_zip, zip_member

_LOCAL_HEADER_BYTES = 30
_ALIGNMENT = 16
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_NOTE_BYTES = 64
_COUNT_BYTES = 8


def read_torch_file(path: Path) -> Any:
    """Read a `torch.save` file as plain containers and memory-mapped CPU tensors.

    Objects of unknown classes are `Opaque`.

    Args:
        path: a checkpoint in the zip format, or in the legacy format of PyTorch before 1.6.

    Raises:
        ValueError: if the file is damaged or not a checkpoint. The message names it.
    """
    with open_file(path) as file:
        size = path.stat().st_size
        if not size:
            raise ValueError(f"{path}: not a readable PyTorch checkpoint (the file is empty)")
        mapped: Any = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=size)
        return _read(str(path), file, mapped)


def read_torch_bytes(content: bytes, name: str) -> Any:
    """As `read_torch_file`, from memory.

    Args:
        content: the bytes of the file.
        name: for error messages.
    """
    if not content:
        raise ValueError(f"{name}: not a readable PyTorch checkpoint (the file is empty)")
    storage = torch.frombuffer(bytearray(content), dtype=torch.uint8).untyped_storage()
    return _read(name, io.BytesIO(content), storage)


def _read(name: str, file: IO[bytes], mapped: torch.UntypedStorage) -> Any:
    try:
        if zipfile.is_zipfile(file):
            with open_zip(file) as archive:
                return _Reader(archive, file, mapped).read()
        return _read_legacy(file, mapped)
    except OSError:
        raise
    except Exception as error:  # damaged pickles raise almost anything
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"{name}: not a readable PyTorch checkpoint ({reason})") from error


class _Reader:
    """One open archive."""

    def __init__(
        self, archive: zipfile.ZipFile, file: IO[bytes], mapped: torch.UntypedStorage
    ) -> None:
        self.archive = archive
        self.file = file
        self.mapped = mapped
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"wanted one data.pkl in the archive, got {len(pickles)}")
        self.root = pickles[0].removesuffix("data.pkl")

    def read(self) -> Any:
        self._check_byte_order()
        if self.archive.getinfo(self.root + "data.pkl").compress_type != zipfile.ZIP_STORED:
            raise ValueError("its data.pkl is compressed, which torch.save never does")
        program = zip_member(self.archive, self.root + "data.pkl", MAX_PROGRAM_BYTES)
        return TensorUnpickler(next_program(io.BytesIO(program)), self.storage).load()

    def _check_byte_order(self) -> None:
        name = self.root + "byteorder"
        if name in self.archive.namelist():
            order = zip_member(self.archive, name, _MAX_NOTE_BYTES).decode("ascii", "replace")
            if order != sys.byteorder:
                raise ValueError(f"the numbers are {order}-endian, this machine {sys.byteorder}")

    def storage(self, key: str, num_bytes: int) -> torch.UntypedStorage:
        """The bytes of a record, as part of the mapped file."""
        info = self.archive.getinfo(f"{self.root}data/{key}")
        if info.compress_type != zipfile.ZIP_STORED or info.file_size < num_bytes:
            raise ValueError(f"storage {key} is compressed or too short")
        self.file.seek(info.header_offset)
        header = self.file.read(_LOCAL_HEADER_BYTES)
        name_bytes = int.from_bytes(header[26:28], "little")
        extra_bytes = int.from_bytes(header[28:30], "little")
        if header[:4] != b"PK\x03\x04":
            raise ValueError(f"storage {key} lies outside the file")
        begin = info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        return _part(self.mapped, begin, num_bytes)


def _part(mapped: torch.UntypedStorage, begin: int, num_bytes: int) -> torch.UntypedStorage:
    """A byte range of a file; copied only if it is not aligned."""
    if num_bytes < 0 or begin + num_bytes > mapped.nbytes():
        raise ValueError("a storage lies outside the file")
    part: torch.UntypedStorage = mapped[begin : begin + num_bytes]
    return part.clone() if begin % _ALIGNMENT else part


def _read_legacy(file: IO[bytes], mapped: torch.UntypedStorage) -> Any:
    """Read pickles of magic, protocol, machine, content and storage keys; then the storages."""
    file.seek(0)
    magic, protocol, machine = (_plain_value(file) for _ in range(3))
    if (magic, protocol) != (_LEGACY_MAGIC, _LEGACY_PROTOCOL) or not isinstance(machine, dict):
        raise ValueError("neither a zip archive nor the legacy format")
    if machine.get("little_endian") is not (sys.byteorder == "little"):
        raise ValueError("its numbers have the byte order of another machine")
    program = next_program(file)
    keys = _plain_value(file)
    sizes: dict[str, int] = {}

    def noted(key: str, num_bytes: int) -> torch.UntypedStorage:
        sizes[key] = num_bytes
        return torch.UntypedStorage(num_bytes, device="meta")

    TensorUnpickler(program, noted).load()
    begins, begin = {}, file.tell()
    for key in keys:  # each storage is preceded by its element count
        begins[key] = begin + _COUNT_BYTES
        begin = begins[key] + sizes.get(key, 0)

    def stored(key: str, num_bytes: int) -> torch.UntypedStorage:
        return _part(mapped, begins[key], num_bytes)

    return TensorUnpickler(program, stored).load()


def _plain_value(file: IO[bytes]) -> Any:
    """Read the next pickle, which must not contain tensors."""

    def refuse(key: str, _num_bytes: int) -> torch.UntypedStorage:
        raise ValueError(f"storage {key} where there should be none")

    return TensorUnpickler(next_program(file), refuse).load()
