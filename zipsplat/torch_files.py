"""Reading PyTorch's checkpoint files without running anything they contain.

`torch.save` writes a zip archive: a pickle (`data.pkl`) that describes the objects, and one
uncompressed record per tensor storage. The pickle is read by `tensor_pickle`; tensors are views of
the memory-mapped file, so that reading costs neither time nor memory.
"""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from zipsplat.tensor_pickle import TensorUnpickler

_LOCAL_HEADER_BYTES = 30


def read_torch_file(path: Path) -> Any:
    """What `torch.save` wrote, as plain containers and memory-mapped CPU tensors.

    Objects of unknown classes are `Opaque`.

    Args:
        path: a checkpoint in the zip format, or in the older one of PyTorch before 1.6.

    Raises:
        ValueError: if the file is damaged or is no checkpoint. It names the file.
    """
    if not zipfile.is_zipfile(path):
        return _read_legacy(path)
    try:
        with zipfile.ZipFile(path) as archive, path.open("rb") as file:
            return _Reader(path, archive, file).read()
    except (OSError, MemoryError):
        raise
    except Exception as error:  # damaged pickles raise almost anything
        raise ValueError(f"{path}: not a readable PyTorch checkpoint ({error})") from error


def _read_legacy(path: Path) -> Any:
    """The format before zip archives, by PyTorch's own restricted reader."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path}: not a readable PyTorch checkpoint ({reason})") from error


class _Reader:
    """One open archive."""

    def __init__(self, path: Path, archive: zipfile.ZipFile, file: IO[bytes]) -> None:
        self.archive = archive
        self.file = file
        self.size = path.stat().st_size
        self.mapped = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=self.size)
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError(f"wanted one data.pkl in the archive, got {len(pickles)}")
        self.root = pickles[0].removesuffix("data.pkl")

    def read(self) -> Any:
        self._check_byte_order()
        with self.archive.open(self.root + "data.pkl") as stream:
            return TensorUnpickler(stream, self.storage).load()

    def _check_byte_order(self) -> None:
        name = self.root + "byteorder"
        if name in self.archive.namelist():
            order = self.archive.read(name).decode("ascii", "replace")
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
        begin = info.header_offset + _LOCAL_HEADER_BYTES + name_bytes + extra_bytes
        if header[:4] != b"PK\x03\x04" or begin + num_bytes > self.size:
            raise ValueError(f"storage {key} lies outside the file")
        part: torch.UntypedStorage = self.mapped[begin : begin + num_bytes]
        return part
