"""Imports go downwards only; the tables are those of docs/architecture.md."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Level of each module or package of `zipsplat`; a module may import what is on a lower level, and
# modules of its own package.
ZIPSPLAT = {
    "sh_constants": -1,
    "_version": 0, "plugins": 0, "structs": 0, "rotations": 0, "harmonics": 0, "files": 0,
    "progress": 0, "ssim": 0, "tensor_pickle": 0, "similarity": 0, "media_kinds": 0, "hdr": 0,
    "orientation": 0, "devices": 0, "command_line": 0, "neighbors": 0, "native_work": 0,
    "bounded": 0, "terminal": 0, "http_responses": 0,
    "animation": 1, "images": 1, "video": 2, "file_records": 1, "torch_files": 1, "formats": 1,
    "kernel_cache": 1,
    "inputs": 3, "masks": 2, "downloads": 2, "camera": 2, "pose": 2, "render": 2, "scene_files": 2,
    "gaussians": 3, "hub": 3, "figures": 3, "photometric": 3, "posed_images": 3,
    "model": 4, "preprocess": 4, "trajectories": 4, "releases": 4, "checkpoints": 4, "pruning": 4,
    "cleaning": 4,
    "weights": 5, "framing": 5, "predictor": 6, "viz": 6, "webpage": 6, "alignment": 6,
    "depth": 6, "refinement": 7, "camera_estimation": 7,
    "viewer": 8, "cli": 9, "__main__": 10,
}  # fmt: skip

# What each part of `splatfactory` may import of it, besides parts of its own package.
_BELOW_MODELS = {
    "protocols",
    "datasets.samples",
    "config",
    "foreign_config",
    "schema",
    "data_schema",
    "options",
    "metrics",
    "perceptual_network",
    "paths",
    "tiny",
    "runtime",
    "_version",
}
_ALL = {"training", "models", "losses", "datasets", "visualization", "eval", *_BELOW_MODELS}
SPLATFACTORY = {
    "_version": set(),
    "paths": {"_version"},
    "perceptual_network": {"paths", "_version"},
    "datasets.samples": {"paths", "perceptual_network"},
    "metrics": {"paths", "perceptual_network"},
    "options": set(),
    "data_schema": {"options"},
    "schema": {"data_schema", "options"},
    "foreign_config": set(),
    "config": {"foreign_config", "options", "paths", "schema"},
    "protocols": {"datasets.samples", "options", "schema", "data_schema"},
    "runtime": {"config", "schema", "paths", "_version"},
    "tiny": {"datasets.samples", "protocols", "schema"},
    "models": _BELOW_MODELS,
    "losses": _BELOW_MODELS,
    "datasets": _BELOW_MODELS,
    "visualization": _BELOW_MODELS,
    "training": {"visualization", *_BELOW_MODELS},
    "eval": _ALL,
    "datasets.scripts": _ALL,
    "dry_run": _ALL,
    "train": {"dry_run", *_ALL},
    "cli": {"_version"},  # imports what it runs by name
    "__main__": {"cli"},
}  # fmt: skip

OPTIONAL = {  # the one place that may import each optional package
    "gsplat": {"zipsplat/render/cuda.py"},
    "viser": {"zipsplat/viewer"},
    "xformers": {"zipsplat/model"},
    "pillow_heif": {"zipsplat/images.py"},
    "zstandard": {"zipsplat/formats/spz.py"},
    "cv2": {"zipsplat/depth/resampling.py", "splatfactory/datasets"},
    "pycolmap": {
        "zipsplat/camera_estimation/colmap.py", "splatfactory/datasets/scripts/mipnerf360",
    },
    "obstore": {"splatfactory/datasets/remote_files.py"},
    "wandb": {"splatfactory/training/writers.py"},
    "tensorboard": {"splatfactory/training/writers.py"},
    "matplotlib": set(),
    "torchvision": set(),
    "lpips": set(),
}  # fmt: skip


def imports_of(path: Path) -> set[str]:
    """Full names of all that a file imports, wherever in the file it does so."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def files_of(package: str) -> list[Path]:
    return sorted(p for p in (ROOT / package).rglob("*.py") if p.name != "setup.py")


def type_checking_only(path: Path) -> set[str]:
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING":
            for child in node.body:
                if isinstance(child, ast.ImportFrom):
                    names |= {f"{child.module}.{alias.name}" for alias in child.names}
    return names


@pytest.mark.parametrize("path", files_of("zipsplat"), ids=lambda p: str(p.relative_to(ROOT)))
def test_zipsplat(path: Path) -> None:
    parts = path.relative_to(ROOT / "zipsplat").with_suffix("").parts
    own = parts[0]
    if own == "__init__":
        return  # the public names come from everywhere
    assert own in ZIPSPLAT, f"give {own} a level here and in docs/architecture.md"
    for name in imports_of(path) - type_checking_only(path):
        top, _, rest = name.partition(".")
        assert top != "splatfactory", f"{path}: zipsplat never imports splatfactory"
        target = rest.split(".")[0]
        if top != "zipsplat" or target == own or target not in ZIPSPLAT:
            continue
        assert ZIPSPLAT[target] < ZIPSPLAT[own], f"{path}: {own} may not import {target}"


def part_of(dotted: str) -> str | None:
    """The longest name of the table that a module of splatfactory belongs to."""
    names = [n for n in SPLATFACTORY if dotted == n or dotted.startswith(n + ".")]
    return max(names, key=len) if names else None


@pytest.mark.parametrize("path", files_of("splatfactory"), ids=lambda p: str(p.relative_to(ROOT)))
def test_splatfactory(path: Path) -> None:
    relative = path.relative_to(ROOT / "splatfactory").with_suffix("")
    if relative.parts == ("__init__",):
        return
    dotted = ".".join(part for part in relative.parts if part != "__init__")
    own = part_of(dotted)
    assert own is not None, f"give {dotted} a row here and in docs/architecture.md"
    for name in imports_of(path):
        top, _, rest = name.partition(".")
        target = part_of(rest)
        if top != "splatfactory" or target is None or target == own:
            continue
        same_package = target.split(".")[0] == own.split(".")[0]
        allowed = target in SPLATFACTORY[own] or target.split(".")[0] in SPLATFACTORY[own]
        assert allowed or same_package, f"{path}: {own} may not import {target}"


@pytest.mark.parametrize("package", sorted(OPTIONAL))
def test_optional_packages_have_one_home(package: str) -> None:
    for path in (*files_of("zipsplat"), *files_of("splatfactory")):
        if any(name.split(".")[0] == package for name in imports_of(path)):
            relative = str(path.relative_to(ROOT))
            assert any(relative.startswith(home) for home in OPTIONAL[package]), relative


def test_no_drawers_for_odds_and_ends() -> None:
    names = {path.stem for path in (*files_of("zipsplat"), *files_of("splatfactory"))}
    assert not names & {"utils", "misc", "helpers", "common", "util"}


@pytest.mark.parametrize("package", ["zipsplat", "splatfactory"])
def test_every_folder_of_code_is_a_package(package: str) -> None:
    """A folder without `__init__.py` works in a checkout and is missing from the wheel."""
    for path in files_of(package):
        assert (path.parent / "__init__.py").exists(), path.parent.relative_to(ROOT)
