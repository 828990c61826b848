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
from numpy.typing import NDArray

from zipsplat.formats import Format, SplatArrays, SplatTolerance, up_to_degree_3
from zipsplat.formats._axes import half_turn_about_x, with_flipped
from zipsplat.formats._blocks import blocks, on_threads
from zipsplat.formats._expansion import require_plausible
from zipsplat.formats._morton import morton_order
from zipsplat.formats._quaternions import REST_MAX, from_smallest_three, smallest_three, unit

logger = logging.getLogger(__name__)

# Older readers refuse more, so we read more but do not write more.
MAX_GAUSSIANS = 10_000_000

_MAGIC = 0x5053474E  # "NGSP"
_HEADER = struct.Struct("<IIIBBBB")  # magic, version, number, degree, fractional bits, flags, 0
_HEADER_V4 = struct.Struct("<IIIBBBBI12x")  # ..., flags, number of streams, offset of their table
_MAX_EXTENSION, _PIECE = 1 << 20, 1 << 16
_DEFLATE_PIECE = 4 << 20
_ZSTD_LEVEL = 12
_ANTIALIASED, _HAS_EXTENSIONS = 1, 2  # flags
_AXES_EXTENSION = 0xADBE0003
# Where x, y and z point: left or right, down or up, back or forward; ours are RDF.
_AXES = ("", "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF")
_FRACTIONAL_BITS = 12
_STRAYS = 0.05  # largest share of Gaussians to pull in for the precision of the others
_COLOR_SCALE = 0.15 * 255  # byte = dc * 0.15 * 255 + 127.5, so dc reaches +-3.3
_SH_STEP_DEGREE_1, _SH_STEP_REST = 8, 16  # keep 5 and 4 of 8 bits, so that gzip compresses well

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


class _Array(NamedTuple):
    """One array of a file, and its zlib strategy."""

    strategy: int
    values: NDArray[Any]


class _Contents(NamedTuple):
    """Header, arrays and extensions of a file."""

    header: _Header
    arrays: list[bytes]
    extensions: bytes


@dataclass(frozen=True)
class _Header:
    version: int
    num: int
    degree: int  # 0..4; degree 4 exists since version 4 and is dropped here
    fractional_bits: int
    flags: int

    def sizes(self) -> list[int]:
        """Bytes of each array."""
        rotation = 3 if self.version == 2 else 4
        per_gaussian = [9, 1, 3, 3, rotation, 3 * ((self.degree + 1) ** 2 - 1)]
        return [self.num * count for count in per_gaussian]


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
    parts = [(zlib.Z_DEFAULT_STRATEGY, header)]
    file.write(_gzip([*parts, *((array.strategy, array.values.tobytes()) for array in arrays)]))


def write_version_4(file: BinaryIO, splats: SplatArrays) -> None:
    """Write version 4; see `write`.

    Raises:
        ValueError: if there are more than `MAX_GAUSSIANS`.
        ImportError: if the package `zstandard` is missing.
    """
    arrays, bits = _packed(splats)
    parts = [array.values.tobytes() for array in arrays if array.values.size]
    streams = [_zstd(part) for part in parts]
    flags = _ANTIALIASED * splats.antialiased
    numbers = (len(splats.means), splats.sh_degree, bits, flags, len(streams), _HEADER_V4.size)
    file.write(_HEADER_V4.pack(_MAGIC, 4, *numbers))
    for part, stream in zip(parts, streams, strict=True):
        file.write(struct.pack("<QQ", len(stream), len(part)))
    file.write(b"".join(streams))


def _packed(splats: SplatArrays) -> tuple[list[_Array], int]:
    """The arrays of a file, and the fractional bits of its positions."""
    num = len(splats.means)
    if num > MAX_GAUSSIANS:
        raise ValueError(
            f".spz holds at most {MAX_GAUSSIANS} Gaussians, got {num}; prune the scene or use .ply"
        )
    splats, bits = _within_range(splats)

    def pack(rows: slice) -> list[_Array]:
        return _packed_rows(half_turn_about_x(splats.select(rows)), bits)

    packed = on_threads(pack, blocks(num))
    order = morton_order(splats.means)  # applied to the packed arrays, which are smaller
    arrays = []
    for parts in zip(*packed, strict=True):
        values = np.concatenate([part.values for part in parts])
        arrays.append(_Array(parts[0].strategy, np.take(values, order, axis=0)))
    return arrays, bits


def _packed_rows(splats: SplatArrays, bits: int) -> list[_Array]:
    """The arrays of a file for some of its rows."""
    # Only positions and colours of neighbours have repetitions worth searching for; Huffman coding
    # alone compresses the other arrays faster and at least as well.
    plain, frequencies = zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY
    return [
        _Array(plain, _pack_positions(splats.means, bits)),
        _Array(frequencies, _to_bytes(splats.opacities * 255)),
        _Array(plain, _to_bytes(splats.sh_coeffs[:, 0] * _COLOR_SCALE + 127.5)),
        _Array(frequencies, _to_bytes((np.log(np.maximum(splats.scales, 1e-30)) + 10) * 16)),
        _Array(frequencies, _pack_rotations(splats.quats)),
        _Array(frequencies, _pack_harmonics(splats.sh_coeffs[:, 1:])),
    ]


def _gzip(parts: list[tuple[int, bytes]]) -> bytes:
    """One gzip stream (RFC 1952, time zero) of parts with different strategies."""
    checksum = length = 0
    for _, data in parts:
        checksum, length = zlib.crc32(data, checksum), length + len(data)
    start = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
    end = zlib.compressobj(wbits=-15).flush()
    pieces = on_threads(_deflated, (piece for part in parts for piece in _pieces(*part)))
    return b"".join([start, *pieces, end, struct.pack("<II", checksum, length & 0xFFFFFFFF)])


def _pieces(strategy: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split a part into pieces for several threads, unless repetitions are searched for."""
    size = _DEFLATE_PIECE if strategy == zlib.Z_HUFFMAN_ONLY else len(data)
    for first in range(0, len(data), size or 1):
        yield strategy, data[first : first + size]


def _deflated(piece: tuple[int, bytes]) -> bytes:
    """Deflate a piece, flushed to a byte boundary without ending the stream."""
    strategy, data = piece
    packer = zlib.compressobj(6, zlib.DEFLATED, -15, zlib.DEF_MEM_LEVEL, strategy)
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
    header = contents.header
    arrays = [np.frombuffer(array, np.uint8) for array in contents.arrays]
    positions, alphas, colors, scales, rotations, harmonics = arrays
    num = header.num
    unpack_rotations = _unpack_rotations_v2 if header.version == 2 else _unpack_rotations
    dc = (colors.reshape(num, 1, 3).astype(np.float32) - 127.5) / _COLOR_SCALE
    rest = (harmonics.reshape(num, (header.degree + 1) ** 2 - 1, 3).astype(np.float32) - 128) / 128
    sh_coeffs, remarks = up_to_degree_3(np.concatenate((dc, rest), axis=1))
    axes, unknown = _axes_of(contents)
    splats = SplatArrays(
        means=_unpack_positions(positions.reshape(num, 9), header.fractional_bits),
        scales=np.exp(scales.reshape(num, 3).astype(np.float32) / 16 - 10),
        quats=unpack_rotations(rotations),
        opacities=(alphas / 255).astype(np.float32),
        sh_coeffs=sh_coeffs,
        antialiased=bool(header.flags & _ANTIALIASED),
        remarks=(*remarks, *unknown),
    )
    flipped = (
        axis for axis, ours, theirs in zip("xyz", "RDF", axes, strict=True) if ours != theirs
    )
    return with_flipped(splats, "".join(flipped))


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


def _zstd(data: bytes) -> bytes:
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


def _split(data: bytes, sizes: list[int]) -> list[bytes]:
    ends = np.cumsum(sizes).tolist()
    return [data[end - size : end] for end, size in zip(ends, sizes, strict=True)]


def _within_range(splats: SplatArrays) -> tuple[SplatArrays, int]:
    """Fit the Gaussians into the range of positions; returns the number of fractional bits.

    Twelve bits allow ±2048. If at most `_STRAYS` of the Gaussians lie farther out, as skies do,
    they are pulled in towards the origin and shrunk by the same factor, so that they look the same
    from there. Larger scenes get fewer bits, up to ±8388607.
    """
    distances = np.abs(splats.means).max(axis=1, initial=0).astype(np.float64)
    limit = 2.0 ** (23 - _FRACTIONAL_BITS)
    num_far = int((distances >= limit).sum())
    if not num_far:
        return splats, _FRACTIONAL_BITS
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


def _pack_positions(means: Floats, bits: int) -> Bytes:
    fixed = np.rint(means.astype(np.float64) * (1 << bits)).clip(-(1 << 23), (1 << 23) - 1)
    return np.ascontiguousarray(fixed.astype("<i4")).view(np.uint8).reshape(-1, 3, 4)[..., :3]


def _unpack_positions(data: Bytes, bits: int) -> Floats:
    wide = np.zeros((len(data), 3, 4), np.uint8)
    wide[..., 1:] = data.reshape(
        -1, 3, 3
    )  # into the high bytes, so that the shift back extends the sign
    fixed = wide.view("<i4")[..., 0] >> 8
    return (fixed / (1 << bits)).astype(np.float32)


def _to_bytes(values: Floats) -> Bytes:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _pack_rotations(quats: Floats) -> NDArray[np.uint32]:
    """The three smallest of xyzw: sign and 9 bits each, below 2 bits that index the largest."""
    largest, rest = smallest_three(unit(quats)[:, [1, 2, 3, 0]])
    magnitude = np.rint(np.abs(rest) * (511 / REST_MAX)).clip(0, 511).astype(np.uint32)
    fields = magnitude | (rest < 0).astype(np.uint32) << np.uint32(9)
    packed = largest.astype("<u4")
    for column in fields.T:
        packed = packed << np.uint32(10) | column
    return packed


def _unpack_rotations(data: Bytes) -> Floats:
    packed = data.view("<u4")
    fields = np.stack((packed >> 20, packed >> 10, packed), axis=1) & 1023
    sign = np.where(fields & 512, -1.0, 1.0)
    rest = (fields & 511).astype(np.float64) * sign * (REST_MAX / 511)
    xyzw = from_smallest_three((packed >> 30).astype(np.int64), rest)
    return xyzw[:, [3, 0, 1, 2]].astype(np.float32)


def _unpack_rotations_v2(data: Bytes) -> Floats:
    xyz = data.reshape(-1, 3) / 127.5 - 1
    w = np.sqrt(np.maximum(1 - (xyz * xyz).sum(axis=1, keepdims=True), 0))
    return np.concatenate((w, xyz), axis=1).astype(np.float32)


def _pack_harmonics(rest: Floats) -> Bytes:
    """Bytes around 128, rounded to multiples of a step so that they compress."""
    num, width = len(rest), 3 * rest.shape[1]  # long rows, because NumPy loops over rows
    half = np.where(np.arange(width) < 9, _SH_STEP_DEGREE_1, _SH_STEP_REST) // 2
    scaled = rest.reshape(num, width) * np.float32(128)
    np.rint(scaled, out=scaled)
    fine = scaled.clip(-256, 256, out=scaled).astype(np.int16)  # bounded for int16
    fine += (128 + half).astype(np.int16)
    fine &= (-2 * half).astype(np.int16)  # down to a multiple of the step, a power of two
    packed: Bytes = fine.clip(0, 255, out=fine).astype(np.uint8)
    return packed


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
        dc=0.5 / _COLOR_SCALE,
        sh=8.5 / 128,
    ),
    recognise=lambda head: head.startswith((b"NGSP", b"\x1f\x8b")),
)
