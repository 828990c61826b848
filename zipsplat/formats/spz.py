"""SPZ, Niantic's compressed splats: about 16 bytes per Gaussian at SH degree 1.

The layout follows the public description of the format (github.com/nianticlabs/spz, MIT licence):
whole arrays in sequence (positions, opacities, colours, log-scales, rotations, harmonics), y up.
Versions 2 and 3 are one gzip stream; version 4 is a plain header and one zstd stream per array.
We write version 3, which all viewers we tried can open, and version 4 on request. The header
(version 4) or the arrays (version 3) may be followed by extensions: number, length, bytes. The one
for the axes of the file is applied; others give a remark.
"""

from __future__ import annotations

import logging
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from zipsplat.formats import Format, SplatArrays, SplatTolerance, higher_degree_remarks
from zipsplat.formats._blocks import on_threads
from zipsplat.formats._expansion import require_plausible
from zipsplat.formats._spz_arrays import COLOR_SCALE, Bytes, Layout, pack, unpack

logger = logging.getLogger(__name__)

# Older readers refuse more, so we read more but do not write more.
MAX_GAUSSIANS = 10_000_000

_MAGIC = 0x5053474E  # "NGSP"
_HEADER = struct.Struct("<IIIBBBB")  # magic, version, number, degree, fractional bits, flags, 0
_HEADER_V4 = struct.Struct("<IIIBBBBI12x")  # ..., flags, number of streams, offset of their table
_MAX_EXTENSION, _PIECE = 1 << 20, 1 << 16
_DEFLATE_PIECE, _SAMPLE = 4 << 20, 1 << 18
_ZSTD_LEVEL = 12
_ANTIALIASED, _HAS_EXTENSIONS = 1, 2  # flags
_AXES_EXTENSION = 0xADBE0003
# Where x, y and z point: left or right, down or up, back or forward; ours are RDF.
_AXES = ("", "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF")
_FRACTIONAL_BITS = 12
_STRAYS = 0.05  # share of the Gaussians that may be pulled in for the precision of the others


class _Packing(NamedTuple):
    """Arguments of `zlib.compressobj` for an array."""

    strategy: int
    level: int = 6
    mem_level: int = 8


# Only positions and colours of neighbours have repetitions worth searching for, and short searches
# find as much as long ones; Huffman coding alone compresses the other arrays faster and at least as
# well. For harmonics, the first bytes tell whether run lengths help.
_SEARCH, _RUNS = _Packing(zlib.Z_DEFAULT_STRATEGY), _Packing(zlib.Z_RLE, mem_level=9)
_SHORT_SEARCH = _Packing(zlib.Z_DEFAULT_STRATEGY, level=4)
_FREQUENCIES, _LOCAL = _Packing(zlib.Z_HUFFMAN_ONLY, mem_level=9), _Packing(zlib.Z_HUFFMAN_ONLY)
_PACKING = (
    (_SHORT_SEARCH,),
    (_FREQUENCIES,),
    (_SEARCH,),
    (_LOCAL,),
    (_FREQUENCIES,),
    (_RUNS, _FREQUENCIES),
)


class _Contents(NamedTuple):
    """Header, arrays and extensions of a file."""

    header: _Header
    arrays: list[Bytes]
    extensions: bytes


@dataclass(frozen=True)
class _Header(Layout):
    """The header; degree 4 exists since version 4 and is truncated."""

    flags: int

    def sizes(self) -> list[int]:
        """Bytes of each array."""
        return [self.num * width for width in self.widths()]


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write version 3, in Morton order.

    Values outside the format's ranges are clamped: log-scales to [-10, 5.94], DC coefficients to
    +-3.3, harmonics of higher degree to [-1, 1). A few distant Gaussians are pulled in; see
    `_within_range`.

    Raises:
        ValueError: if there are more than `MAX_GAUSSIANS`.
    """
    arrays, bits = _packed(splats)
    flags = _ANTIALIASED * splats.antialiased
    header = _HEADER.pack(_MAGIC, 3, len(splats.means), splats.sh_degree, bits, flags, 0)
    bodies = [array.data.cast("B") if array.size else memoryview(b"") for array in arrays]
    bodies[0] = memoryview(header + bodies[0])
    parts = zip(_PACKING, bodies, strict=True)
    file.write(_gzip([(_smallest(ways, data), data) for ways, data in parts]))


def write_version_4(file: BinaryIO, splats: SplatArrays) -> None:
    """Write version 4; see `write`.

    Raises:
        ValueError: if there are more than `MAX_GAUSSIANS`.
        ImportError: if the package `zstandard` is missing.
    """
    arrays, bits = _packed(splats)
    parts = [array.data.cast("B") for array in arrays if array.size]
    streams = [_zstd(part) for part in parts]
    flags = _ANTIALIASED * splats.antialiased
    numbers = (len(splats.means), splats.sh_degree, bits, flags, len(streams), _HEADER_V4.size)
    file.write(_HEADER_V4.pack(_MAGIC, 4, *numbers))
    for part, stream in zip(parts, streams, strict=True):
        file.write(struct.pack("<QQ", len(stream), len(part)))
    file.write(b"".join(streams))


def _packed(splats: SplatArrays) -> tuple[list[Bytes], int]:
    """The arrays of a file, and the fractional bits of its positions."""
    num = len(splats.means)
    if num > MAX_GAUSSIANS:
        raise ValueError(
            f".spz holds at most {MAX_GAUSSIANS} Gaussians, got {num}; prune the scene or use .ply"
        )
    splats, bits = _within_range(splats)
    return pack(splats, Layout(3, num, splats.sh_degree, bits)), bits


def _smallest(ways: tuple[_Packing, ...], data: memoryview) -> _Packing:
    """The packing that compresses the first bytes best."""
    if len(ways) == 1:
        return ways[0]
    return min(ways, key=lambda how: len(_deflated((how, data[:_SAMPLE]))))


def _gzip(parts: list[tuple[_Packing, memoryview]]) -> bytes:
    """One gzip stream (RFC 1952, time zero) of parts with different packings."""
    checksum = length = 0
    for _, data in parts:
        checksum, length = zlib.crc32(data, checksum), length + len(data)
    start = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    end = zlib.compressobj(wbits=-15).flush()
    pieces = on_threads(_deflated, (piece for part in parts for piece in _pieces(*part)))
    return b"".join([start, *pieces, end, struct.pack("<II", checksum, length & 0xFFFFFFFF)])


def _pieces(how: _Packing, data: memoryview) -> Iterator[tuple[_Packing, memoryview]]:
    """Split a part into pieces for several threads, unless repetitions are searched for."""
    size = len(data) if how.strategy == zlib.Z_DEFAULT_STRATEGY else _DEFLATE_PIECE
    for first in range(0, len(data), size or 1):
        yield how, data[first : first + size]


def _deflated(piece: tuple[_Packing, memoryview]) -> bytes:
    """Deflate a piece, flushed to a byte boundary without ending the stream."""
    how, data = piece
    packer = zlib.compressobj(how.level, zlib.DEFLATED, -15, how.mem_level, how.strategy)
    return packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH)


def read(file: BinaryIO) -> SplatArrays:
    """Read version 2, 3 or 4.

    Raises:
        ValueError: if the file is not an SPZ, is damaged, or has another version.
        ImportError: for version 4, if the package `zstandard` is missing.
    """
    data = file.read()
    is_plain = data[:4] == struct.pack("<I", _MAGIC)
    return _unpack(_read_zstd_streams(data) if is_plain else _read_gzip_stream(data))


def _unpack(contents: _Contents) -> SplatArrays:
    axes, unknown = _axes_of(contents)
    splats = unpack(contents.arrays, contents.header, axes)
    antialiased = bool(contents.header.flags & _ANTIALIASED)
    return replace(splats, antialiased=antialiased).remarked(
        *higher_degree_remarks(contents.header.degree), *unknown
    )


def _axes_of(contents: _Contents) -> tuple[str, tuple[str, ...]]:
    """The axes of a file as in `_AXES`, and remarks on unknown extensions."""
    axes, remarks, position = "RUB", [], 0
    data = contents.extensions if contents.header.flags & _HAS_EXTENSIONS else b""
    while position + 8 <= len(data):
        number, size = struct.unpack_from("<II", data, position)
        body = data[position + 8 : position + 8 + size]
        which = int.from_bytes(body[:4], "little")
        if number == _AXES_EXTENSION and size >= 4 and which < len(_AXES):
            axes = _AXES[which] or axes
        else:
            remarks.append(f"ignored the unknown extension {number:#010x}")
        position += 8 + size
    return axes, tuple(remarks)


def _read_gzip_stream(data: bytes) -> _Contents:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        header = _parse_header(unpacker.decompress(data, _HEADER.size))
        total = sum(header.sizes())
        require_plausible(total, len(data), "SPZ")
        # Never requests more than the header promises; memory grows only with the actual data.
        body = unpacker.decompress(unpacker.unconsumed_tail, total) if total else b""
        extensions = _rest(unpacker)
    except zlib.error as error:
        raise ValueError(f"not an SPZ file, or damaged: {error}") from error
    if header.version == 4 or len(body) != total or not unpacker.eof:
        raise ValueError("damaged SPZ file: cut short, or not the version that it claims")
    return _Contents(header, _split(body, header.sizes()), extensions)


def _rest(unpacker: zlib._Decompress) -> bytes:
    """Extensions up to the end of the stream, which verifies its checksum."""
    pieces = [b""]
    for _ in range(_MAX_EXTENSION // _PIECE):
        piece = b"" if unpacker.eof else unpacker.decompress(unpacker.unconsumed_tail, _PIECE)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)
    raise ValueError(f"damaged SPZ file: more than {_MAX_EXTENSION} bytes follow the Gaussians")


def _parse_header(start: bytes) -> _Header:
    if len(start) < _HEADER.size:
        raise ValueError("not an SPZ file, or cut short: no complete header")
    magic, version, num, degree, bits, flags, _reserved = _HEADER.unpack(start[: _HEADER.size])
    if magic != _MAGIC:
        raise ValueError("not an SPZ file: its first bytes are not 'NGSP'")
    if version not in (2, 3, 4):
        raise ValueError(f"SPZ version {version} is not supported; 2, 3 and 4 are")
    if degree > 4 or bits > 23:
        raise ValueError(f"damaged SPZ header: {num} Gaussians, SH degree {degree}, {bits} bits")
    return _Header(version, num, degree, bits, flags)


def _read_zstd_streams(data: bytes) -> _Contents:
    header = _parse_header(data)
    if header.version != 4 or len(data) < _HEADER_V4.size:
        raise ValueError(f"damaged SPZ file: plain header of version {header.version}")
    num_streams, table = _HEADER_V4.unpack_from(data)[-2:]
    wanted = [size for size in header.sizes() if size]  # empty arrays have no stream
    if num_streams != len(wanted) or table + 16 * num_streams > len(data):
        raise ValueError(f"damaged SPZ file: {num_streams} streams, {len(wanted)} expected")
    require_plausible(sum(wanted), len(data), "SPZ")
    position = table + 16 * num_streams
    streams = []
    for index, size in enumerate(wanted):
        packed, unpacked = struct.unpack_from("<QQ", data, table + 16 * index)
        if unpacked != size or position + packed > len(data):
            raise ValueError(f"damaged SPZ file: stream {index} has the wrong size or is cut short")
        streams.append(_unzstd(data[position : position + packed], size))
        position += packed
    extensions = data[_HEADER_V4.size : table]
    return _Contents(header, _split(b"".join(streams), header.sizes()), extensions)


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError(
            'SPZ version 4 needs the package zstandard: pip install "zipsplat[spz4]"'
        ) from error
    return zstandard


def _zstd(data: memoryview) -> bytes:
    return bytes(_zstandard().ZstdCompressor(level=_ZSTD_LEVEL).compress(data))


def _unzstd(data: bytes, size: int) -> bytes:
    zstandard = _zstandard()
    # Frames may request a window of gigabytes; no encoder of this format uses more than 128 MiB.
    unpacker = zstandard.ZstdDecompressor(max_window_size=1 << 27)
    try:
        with unpacker.stream_reader(data) as stream:
            result = bytes(stream.read(size))
    except zstandard.ZstdError as error:
        raise ValueError(f"damaged SPZ file: {error}") from error
    if len(result) != size:
        raise ValueError(f"SPZ file cut short: {size} bytes expected, {len(result)} found")
    return result


def _split(data: bytes, sizes: list[int]) -> list[Bytes]:
    ends = np.cumsum(sizes).tolist()
    return [
        np.frombuffer(data, np.uint8, size, end - size) if size else np.empty(0, np.uint8)
        for end, size in zip(ends, sizes, strict=True)
    ]


def _within_range(splats: SplatArrays) -> tuple[SplatArrays, int]:
    """Fit the Gaussians into the range of positions; returns the number of fractional bits.

    Twelve bits allow ±2048. If at most `_STRAYS` of the Gaussians lie farther out, as skies do,
    they are pulled in towards the origin and shrunk by the same factor, so that they look the same
    from there. Larger scenes get fewer bits, up to ±8388607.
    """
    limit = 2.0 ** (23 - _FRACTIONAL_BITS)
    if np.abs(splats.means).max(initial=0) < limit:
        return splats, _FRACTIONAL_BITS
    distances = np.abs(splats.means).max(axis=1).astype(np.float64)
    num_far = int((distances >= limit).sum())
    if num_far > _STRAYS * len(distances):
        usual = float(np.quantile(distances, 1 - _STRAYS))
        bits = min(max(0, 22 - math.floor(math.log2(usual))), _FRACTIONAL_BITS)
        limit = 2.0 ** (23 - bits)
        logger.warning(
            ".spz: positions keep %d of 12 fractional bits, because the scene is large", bits
        )
    else:
        bits = _FRACTIONAL_BITS
    factors = np.minimum(1, (limit - 1) / np.maximum(distances, 1))[:, None].astype(np.float32)
    num_shrunk = int((factors < 1).sum())
    if num_shrunk:
        logger.warning(
            ".spz: %d of %d Gaussians lie farther out than ±%g and were pulled in to it",
            num_shrunk,
            len(distances),
            limit,
        )
    return replace(splats, means=splats.means * factors, scales=splats.scales * factors), bits


PLUGIN = Format(
    name="spz",
    suffixes=(".spz",),
    read=read,
    write=write,
    tolerance=SplatTolerance(
        position=2**-13,
        log_scale=1 / 32,
        rotation_deg=0.28,
        opacity=0.5 / 255,
        dc=0.5 / COLOR_SCALE,
        sh=8.5 / 128,
    ),
    recognise=lambda head: head.startswith((b"NGSP", b"\x1f\x8b")),
)
