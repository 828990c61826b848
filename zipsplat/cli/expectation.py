"""Expected time and memory of a reconstruction on this machine, for `reconstruct` and `doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from zipsplat.cli.console import readable_bytes

if TYPE_CHECKING:
    from zipsplat.model.architecture import ZipSplatConfig
    from zipsplat.releases import Release

ANNOUNCED_FROM_S = 10.0
_MEMORY_FILE = Path("/proc/meminfo")


def expected(
    config: ZipSplatConfig,
    num_views: int,
    size: tuple[int, int],
    dtype: str,
    compression: float = 1.0,
) -> dict[str, Any]:
    """Expected time and memory of one pass on this CPU, from a measured rate.

    Args:
        config: the network.
        num_views: number of images.
        size: (height, width) of the network's input.
        dtype: as `--dtype`.
        compression: share of the tokens to keep, in (0, 1].
    """
    import torch

    from zipsplat.devices import choose_dtype
    from zipsplat.model.cost import expect

    chosen = choose_dtype(dtype, torch.device("cpu"), config.backbone.dim)
    found = expect(config, num_views, size, chosen, compression)
    return {
        "views": num_views,
        "size": list(size),
        "dtype": str(chosen).removeprefix("torch."),
        "seconds": float(f"{found.seconds:.2g}"),
        "memory_bytes": round(found.memory_bytes),
        "free_memory_bytes": free_memory(),
        "product_gflop_per_s": round(found.rate / 1e9),
    }


def expected_line(data: dict[str, Any]) -> str:
    """The result of `expected` as text."""
    free = data["free_memory_bytes"]
    has = "" if free is None else f" ({readable_bytes(free)} free)"
    return (
        f"{data['views']} views of {data['size'][1]}x{data['size'][0]}: about"
        f" {readable_seconds(data['seconds'])} and {readable_bytes(data['memory_bytes'])} of"
        f" memory{has} in {data['dtype']}; a matrix product reaches"
        f" {data['product_gflop_per_s']} GFLOP/s here"
    )


def release_config(release: Release) -> ZipSplatConfig | None:
    """The architecture of a release; None if it is not a ZipSplat model."""
    from zipsplat.model.architecture import ZipSplatConfig

    return None if release.variant is None else ZipSplatConfig.variant(release.variant)


def download_bytes(config: ZipSplatConfig) -> int:
    """Size of a checkpoint in float32."""
    from zipsplat.model.cost import num_parameters

    return 4 * num_parameters(config)


def free_memory() -> int | None:
    """Memory that processes can still take, in bytes; None if the system does not tell."""
    if not _MEMORY_FILE.is_file():
        return None
    for line in _MEMORY_FILE.read_text(encoding="ascii").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def readable_seconds(seconds: float) -> str:
    """Seconds as "40 s" or "12 minutes"."""
    if seconds < 120:
        return f"{seconds:g} s"
    minutes = round(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
