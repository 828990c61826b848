"""`zipsplat doctor`: what is installed, what would be used, and why nothing else would be."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from typing import Any

from zipsplat._version import __version__
from zipsplat.cli.console import Console, readable_bytes, table

NAME = "doctor"
SUMMARY = "show what is installed and what would be used"
DESCRIPTION = """\
Show versions, devices, renderers, codecs and weights on this machine, and what the released model
would take here, by a measured speed. For everything that would not be used, the report says why.
Nothing is downloaded.
"""
EXAMPLES = """\
examples:
  zipsplat doctor
  zipsplat doctor --json > report.json       for a bug report
"""
RELEASED, RELEASED_VIEWS = "zipsplat", 6
NEEDED = ("torch", "numpy", "pillow", "av", "safetensors", "huggingface_hub", "numba", "tqdm")
EXTRAS = {
    "viser": "the viewer (zipsplat[viewer])",
    "gsplat": "rendering on CUDA (zipsplat[cuda])",
    "xformers": "the fused SwiGLU kernel (zipsplat[xformers])",
    "pillow_heif": "HEIC images (zipsplat[heic])",
    "zstandard": ".spz version 4 (zipsplat[spz4])",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: none."""
    del parser


def run(options: argparse.Namespace, console: Console) -> None:
    """Collect the report; what needs no PyTorch is printed before it is imported."""
    del options
    data: dict[str, Any] = {
        "machine": _machine(),
        "packages": {name: _version(name) for name in NEEDED},
        "extras": {name: _version(name) for name in EXTRAS},
        "media": _media(),
        "weights": _weights(),
    }
    first = _lines(data)
    if not console.is_json:
        console.result(first, {})
    with console.stage("asking PyTorch"):
        found = _with_torch()
    console.result(_torch_lines(found), data | found)


def _machine() -> dict[str, Any]:
    return {
        "zipsplat": __version__,
        "python": platform.python_version(),
        "where": sys.executable,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "cores": os.cpu_count(),
    }


def _with_torch() -> dict[str, Any]:
    """The part of the report that needs PyTorch, or the reason why it cannot be imported."""
    try:
        import torch
    except (ImportError, OSError) as error:  # OSError: a library that PyTorch loads is missing
        return {"torch_error": f"PyTorch cannot be imported: {error}"}
    return {
        "torch_threads": torch.get_num_threads(),
        "devices": _devices(),
        "renderers": _renderers(),
        "released_model": _released_model(),
    }


def _released_model() -> dict[str, Any]:
    """Expected time and memory of the released network for six images here."""
    from zipsplat.cli.expectation import download_bytes, expected, release_config
    from zipsplat.devices import choose_device
    from zipsplat.releases import RELEASES

    release = RELEASES[RELEASED]
    config = release_config(release)
    assert config is not None
    missing = 0 if release.is_fetched else download_bytes(config)
    if choose_device().type != "cpu":
        return {"download_bytes": missing}
    size = (release.size.side, release.size.side)
    return {"download_bytes": missing, **expected(config, RELEASED_VIEWS, size, "auto")}


def _version(package: str) -> str | None:
    """The installed version, or None."""
    import importlib.metadata  # takes as long as the rest of a short command

    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _devices() -> dict[str, Any]:
    """Which device "auto" selects, and why not the others."""
    import torch

    from zipsplat.predictor import choose_device

    reasons: dict[str, str] = {}
    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        reasons["cuda"] = (
            "PyTorch sees no usable GPU or driver" if built else "this PyTorch was built without it"
        )
    if not torch.backends.mps.is_available():
        reasons["mps"] = "needs macOS on Apple silicon"
    elif torch.cuda.is_available():
        reasons["mps"] = "CUDA is preferred"
    used = choose_device()
    if used.type != "cpu":
        reasons["cpu"] = f"{used.type} is preferred"
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return {"used": str(used), "gpus": names, "not_used": reasons}


def _renderers() -> dict[str, Any]:
    """Which renderer "auto" selects on that device, and why not the others."""
    from zipsplat.predictor import choose_device
    from zipsplat.render import PREFERENCE, RENDERERS, choose

    device = choose_device()
    used = choose("auto", device).name
    reasons = {}
    for name in [n for n in PREFERENCE if n in RENDERERS.names() and n != used]:
        reasons[name] = RENDERERS[name].unavailable(device) or f"{used} is preferred"
    return {"used": used, "not_used": reasons}


def _media() -> dict[str, bool]:
    """Which images and videos can be read and written."""
    import av
    from PIL import features

    encoders = av.codecs_available
    return {
        "jpeg": bool(features.check("jpg")),
        "webp": bool(features.check("webp")),
        "avif": "avif" in features.get_supported_modules(),
        "heic": _version("pillow_heif") is not None,
        "h264 writing": "libx264" in encoders,
        "hevc reading": "hevc" in encoders,
    }


def _weights() -> dict[str, Any]:
    """Weights that need no download."""
    from zipsplat.checkpoints import bundled
    from zipsplat.downloads import cache_dir
    from zipsplat.media_kinds import CHECKPOINT_SUFFIXES

    cache = cache_dir()
    files = [p for p in cache.rglob("*") if p.suffix in CHECKPOINT_SUFFIXES]
    return {
        "bundled": sorted(bundled()),
        "cache": str(cache),
        "fetched": {str(p.relative_to(cache)): p.stat().st_size for p in sorted(files)},
    }


def _lines(data: dict[str, Any]) -> list[str]:
    """The first half of the report, for people."""
    extras = {
        name: version or f"not installed; for {EXTRAS[name]}"
        for name, version in data["extras"].items()
    }
    fetched = {name: readable_bytes(size) for name, size in data["weights"]["fetched"].items()}
    return _sections(
        {
            "machine": data["machine"],
            "packages": {name: version or "missing" for name, version in data["packages"].items()},
            "extras": extras,
            "images and videos": {k: "yes" if v else "no" for k, v in data["media"].items()},
            f"weights bundled: {', '.join(data['weights']['bundled']) or 'none'}": {},
            f"weights in {data['weights']['cache']}": fetched or {"nothing": "downloaded so far"},
        }
    )


def _torch_lines(data: dict[str, Any]) -> list[str]:
    """The second half."""
    if "torch_error" in data:
        return [data["torch_error"]]
    from zipsplat.cli.expectation import expected_line

    model = data["released_model"]
    missing = model["download_bytes"]
    rows = {"download": readable_bytes(missing) if missing else "nothing, it is here"}
    if "seconds" in model:
        rows["takes"] = expected_line(model)
    return _sections(
        {
            "device": _choice(data["devices"]),
            "renderer": _choice(data["renderers"]),
            f"released model ({RELEASED}), {data['torch_threads']} threads": rows,
        }
    )


def _sections(sections: dict[str, dict[str, Any]]) -> list[str]:
    lines: list[str] = []
    for title, rows in sections.items():
        lines += [title, *(f"  {line}" for line in table(rows))]
    return lines


def _choice(data: dict[str, Any]) -> dict[str, str]:
    gpus = ", ".join(data.get("gpus", []))
    used = {data["used"]: "would be used" + (f" ({gpus})" if gpus else "")}
    return used | {name: f"not: {reason}" for name, reason in data["not_used"].items()}
