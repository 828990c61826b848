"""SPZ, Niantic's compressed splats: about 16 bytes per Gaussian at SH degree 1.

Layout after the public description of the format (github.com/nianticlabs/spz, MIT licence): whole
arrays one after the other (positions, opacities, colours, log-scales, rotations, harmonics), y up.
Versions 2 and 3 are one gzip stream; version 4 is a plain header and one zstd stream per array.
We write version 3, the newest that all the viewers we tried can open.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from zipsplat.formats import Format, SplatArrays, SplatTolerance
from zipsplat.formats._axes import half_turn_about_x
from zipsplat.formats._morton import in_morton_order
from zipsplat.formats._quaternions import REST_MAX, from_smallest_three, smallest_three, unit

# The format's own reader refuses more.
MAX_GAUSSIANS = 10_000_000

_MAGIC = 0x5053474E  # "NGSP"
_HEADER = struct.Struct("<IIIBBBB")  # magic, version, number, degree, fractional bits, flags, 0
_HEADER_V4 = struct.Struct("<IIIBBBBI12x")  # ..., flags, number of streams, offset of their table
# Scenes shrink two to five times, a bomb a thousand times; small ones may do what they like.
_MAX_EXPANSION, _SMALL = 64, 1 << 25
_MAX_EXTENSION, _PIECE = 1 << 20, 1 << 16
_FRACTIONAL_BITS = 12
_COLOR_SCALE = 0.15 * 255  # byte = dc * 0.15 * 255 + 127.5, so dc reaches +-3.3
_SH_STEP_DEGREE_1, _SH_STEP_REST = 8, 16  # 5 and 4 of 8 bits, for gzip to bite on

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _Header:
    version: int
    num: int
    degree: int  # 0..4; degree 4 exists since version 4 and is dropped here
    fractional_bits: int

    def sizes(self) -> list[int]:
        """Bytes of each array."""
        rotation = 3 if self.version == 2 else 4
        per_gaussian = [9, 1, 3, 3, rotation, 3 * ((self.degree + 1) ** 2 - 1)]
        return [self.num * count for count in per_gaussian]


def write(file: BinaryIO, splats: SplatArrays) -> None:
    """Write version 3, neighbours in space next to each other.

    Values outside the format's ranges are clamped: log-scales to [-10, 5.94], colours to what a
    DC coefficient of +-3.3 shows, harmonics of higher degree to [-1, 1).

    Raises:
        ValueError: if there are more than `MAX_GAUSSIANS`.
    """
    num = len(splats.means)
    if num > MAX_GAUSSIANS:
        raise ValueError(
            f".spz holds at most {MAX_GAUSSIANS} Gaussians, got {num}; prune the scene or use .ply"
        )
    splats = half_turn_about_x(in_morton_order(splats))
    bits = _fractional_bits(splats.means)
    # Repetitions are worth looking for among neighbours' positions and colours only; the other
    # arrays shrink faster, and as far or farther, by the frequencies of their bytes.
    arrays: tuple[tuple[int, NDArray[Any]], ...] = (
        (zlib.Z_DEFAULT_STRATEGY, _pack_positions(splats.means, bits)),
        (zlib.Z_HUFFMAN_ONLY, _to_bytes(splats.opacities * 255)),
        (zlib.Z_DEFAULT_STRATEGY, _to_bytes(splats.sh_coeffs[:, 0] * _COLOR_SCALE + 127.5)),
        (zlib.Z_HUFFMAN_ONLY, _to_bytes((np.log(np.maximum(splats.scales, 1e-30)) + 10) * 16)),
        (zlib.Z_HUFFMAN_ONLY, _pack_rotations(splats.quats)),
        (zlib.Z_HUFFMAN_ONLY, _pack_harmonics(splats.sh_coeffs[:, 1:])),
    )
    header = _HEADER.pack(_MAGIC, 3, num, splats.sh_degree, bits, 0, 0)
    parts = [(zlib.Z_DEFAULT_STRATEGY, header)]
    file.write(_gzip([*parts, *((strategy, array.tobytes()) for strategy, array in arrays)]))


def _gzip(parts: list[tuple[int, bytes]]) -> bytes:
    """One gzip stream (RFC 1952, time zero) of parts that are packed with different strategies."""
    pieces = [b"\x1f\x8b\x08" + bytes(6) + b"\xff"]
    checksum = length = 0
    for strategy, data in parts:
        packer = zlib.compressobj(6, zlib.DEFLATED, -15, zlib.DEF_MEM_LEVEL, strategy)
        # Flushed so that the next part starts at a byte, and is no end of the stream.
        pieces += [packer.compress(data), packer.flush(zlib.Z_SYNC_FLUSH)]
        checksum, length = zlib.crc32(data, checksum), length + len(data)
    end = zlib.compressobj(wbits=-15).flush()
    return b"".join([*pieces, end, struct.pack("<II", checksum, length & 0xFFFFFFFF)])


def read(file: BinaryIO) -> SplatArrays:
    """Read version 2, 3 or 4.

    Raises:
        ValueError: if the file is no SPZ, damaged, of another version, or larger than
            `MAX_GAUSSIANS`.
        ImportError: for version 4, if the package `zstandard` is missing.
    """
    data = file.read()
    if data[:4] == struct.pack("<I", _MAGIC):
        header, arrays = _read_zstd_streams(data)
    else:
        header, arrays = _read_gzip_stream(data)
    return _unpack(header, [np.frombuffer(array, np.uint8) for array in arrays])


def _unpack(header: _Header, arrays: list[Bytes]) -> SplatArrays:
    positions, alphas, colors, scales, rotations, harmonics = arrays
    num = header.num
    unpack_rotations = _unpack_rotations_v2 if header.version == 2 else _unpack_rotations
    dc = (colors.reshape(num, 1, 3).astype(np.float32) - 127.5) / _COLOR_SCALE
    rest = (harmonics.reshape(num, (header.degree + 1) ** 2 - 1, 3).astype(np.float32) - 128) / 128
    return half_turn_about_x(
        SplatArrays(
            means=_unpack_positions(positions.reshape(num, 9), header.fractional_bits),
            scales=np.exp(scales.reshape(num, 3).astype(np.float32) / 16 - 10),
            quats=unpack_rotations(rotations),
            opacities=(alphas / 255).astype(np.float32),
            sh_coeffs=np.concatenate((dc, rest[:, :15]), axis=1),
        )
    )


def _read_gzip_stream(data: bytes) -> tuple[_Header, list[bytes]]:
    unpacker = zlib.decompressobj(wbits=31)
    try:
        header = _parse_header(unpacker.decompress(data, _HEADER.size))
        total = sum(header.sizes())
        _require_plausible(total, len(data))
        # Never asks for more than the header promises, and memory only grows with what comes.
        body = unpacker.decompress(unpacker.unconsumed_tail, total) if total else b""
        _skip_rest(unpacker)
    except zlib.error as error:
        raise ValueError(f"not an SPZ file, or damaged: {error}") from error
    if header.version == 4 or len(body) != total or not unpacker.eof:
        raise ValueError("damaged SPZ file: cut short, or not the version that it claims")
    return header, _split(body, header.sizes())


def _skip_rest(unpacker: zlib._Decompress) -> None:
    """Go to the end of the stream, past extensions, so that its checksum is verified."""
    for _ in range(_MAX_EXTENSION // _PIECE):
        if unpacker.eof or not unpacker.decompress(unpacker.unconsumed_tail, _PIECE):
            return
    raise ValueError(f"damaged SPZ file: more than {_MAX_EXTENSION} bytes follow the Gaussians")


def _require_plausible(unpacked: int, packed: int) -> None:
    if unpacked > max(_MAX_EXPANSION * packed, _SMALL):
        raise ValueError(
            f"damaged SPZ file: {packed} bytes would unpack to {unpacked}; real scenes grow less "
            f"than {_MAX_EXPANSION} times"
        )


def _parse_header(start: bytes) -> _Header:
    if len(start) < _HEADER.size:
        raise ValueError("not an SPZ file, or cut short: no complete header")
    magic, version, num, degree, bits, _flags, _reserved = _HEADER.unpack(start[: _HEADER.size])
    if magic != _MAGIC:
        raise ValueError("not an SPZ file: its first bytes are not 'NGSP'")
    if version not in (2, 3, 4):
        raise ValueError(f"SPZ version {version} is not supported; 2, 3 and 4 are")
    if num > MAX_GAUSSIANS or degree > 4 or bits > 23:
        raise ValueError(f"damaged SPZ header: {num} Gaussians, SH degree {degree}, {bits} bits")
    return _Header(version, num, degree, bits)


def _read_zstd_streams(data: bytes) -> tuple[_Header, list[bytes]]:
    header = _parse_header(data)
    if header.version != 4 or len(data) < _HEADER_V4.size:
        raise ValueError(f"damaged SPZ file: plain header of version {header.version}")
    num_streams, table = _HEADER_V4.unpack_from(data)[-2:]
    wanted = [size for size in header.sizes() if size]  # empty arrays have no stream
    if num_streams != len(wanted) or table + 16 * num_streams > len(data):
        raise ValueError(f"damaged SPZ file: {num_streams} streams, {len(wanted)} expected")
    _require_plausible(sum(wanted), len(data))
    position = table + 16 * num_streams
    streams = []
    for index, size in enumerate(wanted):
        packed, unpacked = struct.unpack_from("<QQ", data, table + 16 * index)
        if unpacked != size or position + packed > len(data):
            raise ValueError(f"damaged SPZ file: stream {index} has the wrong size or is cut short")
        streams.append(_unzstd(data[position : position + packed], size))
        position += packed
    return header, _split(b"".join(streams), header.sizes())


def _unzstd(data: bytes, size: int) -> bytes:
    try:
        import zstandard
    except ImportError as error:
        raise ImportError(
            'SPZ version 4 needs the package zstandard: pip install "zipsplat[spz4]"'
        ) from error
    # Frames may ask for a window of gigabytes; no encoder of this format goes beyond 128 MiB.
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


def _fractional_bits(means: Floats) -> int:
    """12, or fewer if positions would leave the signed 24-bit range of +-2048."""
    largest = float(np.abs(means).max(initial=1.0))
    bits = min(_FRACTIONAL_BITS, 22 - math.floor(math.log2(largest)))
    if bits < 0:
        raise ValueError(
            f".spz holds coordinates up to 8388607, got {largest:g}; rescale the scene"
        )
    return bits


def _pack_positions(means: Floats, bits: int) -> Bytes:
    fixed = np.rint(means.astype(np.float64) * (1 << bits)).clip(-(1 << 23), (1 << 23) - 1)
    return np.ascontiguousarray(fixed.astype("<i4")).view(np.uint8).reshape(-1, 3, 4)[..., :3]


def _unpack_positions(data: Bytes, bits: int) -> Floats:
    wide = np.zeros((len(data), 3, 4), np.uint8)
    wide[..., 1:] = data.reshape(-1, 3, 3)  # into the high bytes: the shift back keeps the sign
    fixed = wide.view("<i4")[..., 0] >> 8
    return (fixed / (1 << bits)).astype(np.float32)


def _to_bytes(values: Floats) -> Bytes:
    return np.rint(values).clip(0, 255).astype(np.uint8)


def _pack_rotations(quats: Floats) -> NDArray[np.uint32]:
    """The three smallest of xyzw: sign and 9 bits each, below 2 bits that name the largest."""
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
    step = np.where(np.arange(rest.shape[1]) < 3, _SH_STEP_DEGREE_1, _SH_STEP_REST)[:, None]
    fine = np.rint(rest * 128) + 128
    return (np.floor(fine / step + 0.5) * step).clip(0, 255).astype(np.uint8)


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
)
