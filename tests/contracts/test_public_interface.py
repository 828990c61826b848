"""The public interface: names, light imports, no loose ends in the repository."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import zipsplat

ROOT = Path(__file__).parents[2]
PUBLIC = {
    "Camera", "DepthAnything", "Gaussians", "Pose", "ZipSplat", "__version__", "estimate_cameras",
    "load_image", "load_video", "refine",
}  # fmt: skip
HEAVY = (
    "PIL",
    "av",
    "numba",
    "huggingface_hub",
    "safetensors",
    "viser",
    "matplotlib",
    "gsplat",
    "torchvision",
)
OPTIONAL = (
    "gsplat", "viser", "xformers", "pillow_heif", "zstandard", "pycolmap", "torchvision",
    "matplotlib", "scipy", "wandb",
)  # fmt: skip


def run(code: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_public_names() -> None:
    assert set(zipsplat.__all__) == PUBLIC
    for name in PUBLIC:
        assert getattr(zipsplat, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'Splats'"):
        _ = zipsplat.Splats


def test_import_is_light_and_silent() -> None:
    code = f"""
import sys, logging
import zipsplat
print([m for m in {HEAVY!r} if m in sys.modules], logging.getLogger('zipsplat').handlers)
"""
    assert run(code).strip() == "[] []"


def test_works_without_optional_packages() -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({OPTIONAL!r}))
import zipsplat, zipsplat.predictor, zipsplat.viz, zipsplat.cli, splatfactory
zipsplat.ZipSplat, zipsplat.load_image, zipsplat.load_video, zipsplat.estimate_cameras
"""
    run(code)


def test_viz_is_a_submodule() -> None:
    assert run("from zipsplat import viz; print(callable(viz.turntable))").strip() == "True"


def tracked_text_files() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout")
    suffixes = {".py", ".md", ".toml", ".txt", ".yaml", ".json", ".sh", ".js", ".css", ".html", ""}
    paths = [ROOT / name for name in listing.stdout.splitlines()]
    return [p for p in paths if p.suffix in suffixes and p.is_file() and p.name != "LICENSE"]


def test_nothing_points_outside_the_repository() -> None:
    pattern = re.compile(
        r"\.\./shared|/wor[k]/|\bspec/\w+\.(md|json)|pypi\.org|files\.pythonhosted|registry\.npmjs"
    )
    for path in tracked_text_files():
        found = pattern.search(path.read_text(encoding="utf-8", errors="replace"))
        assert found is None, f"{path.relative_to(ROOT)}: {found.group()!r}"


def test_markdown_links_lead_somewhere() -> None:
    for path in (p for p in tracked_text_files() if p.suffix == ".md" and "golden" not in p.parts):
        for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text(encoding="utf-8")):
            if not re.match(r"[a-z]+:", target):
                assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"
