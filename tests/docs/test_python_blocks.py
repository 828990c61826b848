"""Every Python block of the README and of docs/ runs, page by page, as a reader would type it.

Stand-ins replace what a reader has and a test has not: small random weights answer to the released
names, photos of a rendered scene to `estimate_cameras`, rendered shards to RE10K, and videos and
refinements are short. Statements that name CUDA run where there is a CUDA device.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import shutil
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import zipsplat.camera_estimation
import zipsplat.refinement
import zipsplat.weights
from tests.splatfactory.rendered_scenes import write_shards
from tests.zipsplat.depth.tiny_depth import write_tiny
from tests.zipsplat.refinement.small_scene import around, photos_of, small_scene
from tests.zipsplat.tiny_network import tiny_network
from zipsplat import Pose, load_image, viz
from zipsplat.camera_estimation import CameraEstimate
from zipsplat.camera_estimation.write import pinholes, write_dataset

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "assets" / "examples"
PAGES = (
    ROOT / "README.md",
    ROOT / "splatfactory" / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "zipsplat" / "checkpoints").glob("*.md")),
)
BLOCK = re.compile(r"^```python\n(.*?)^```", flags=re.DOTALL | re.MULTILINE)
NUM_PHOTOS = 8


def statements_of(page: Path) -> list[ast.stmt]:
    """The statements of all blocks of a page, with its line numbers."""
    text = page.read_text(encoding="utf-8")
    statements = []
    for block in BLOCK.finditer(text):
        parsed = ast.parse(block.group(1), filename=str(page))
        ast.increment_lineno(parsed, text.count("\n", 0, block.start(1)))
        statements += parsed.body
    return statements


def needs_cuda(statement: ast.stmt) -> bool:
    return "cuda" in ast.unparse(statement).lower()


def run(page: Path, statements: list[ast.stmt], given: dict[str, Any]) -> None:
    module = types.ModuleType("page")  # dataclasses look theirs up
    vars(module).update(given)
    sys.modules[module.__name__] = module
    try:
        for statement in statements:
            code = compile(ast.Module([statement], []), str(page), "exec")
            exec(code, vars(module))
    finally:
        del sys.modules[module.__name__]


def pages_with(condition: Callable[[list[ast.stmt]], bool]) -> list[Any]:
    found = ((page, statements_of(page)) for page in PAGES)
    return [
        pytest.param(page, id=str(page.relative_to(ROOT)))
        for page, statements in found
        if condition(statements)
    ]


@pytest.fixture(scope="module")
def weights_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    network = tiny_network()
    path = folder / "zipsplat.safetensors"
    zipsplat.weights.save(path, network.state_dict(), network.config.to_conf())
    write_tiny(folder / "da3-small.safetensors")
    return folder


def found_cameras(*_args: object, **_kwargs: object) -> CameraEstimate:
    """The cameras from which photos of a small scene were rendered."""
    posed = photos_of(small_scene(), NUM_PHOTOS, poses=around(NUM_PHOTOS))
    return CameraEstimate(posed, tuple(pinholes(posed)), (None,) * NUM_PHOTOS, (), (), "sfm")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Scenes long enough for the view sampler of RE10K, which skips frames."""
    return write_shards(tmp_path_factory.mktemp("shards"), num_test=1, num_views=40)


@pytest.fixture
def place(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The reader's folder: photos, cameras, shards, the bundled examples."""
    monkeypatch.chdir(tmp_path)
    photos = sorted((EXAMPLES / "office").glob("*.png"))
    shutil.copytree(EXAMPLES / "office", "photos")
    for name, photo in zip(("a.jpg", "b.jpg", "photo.jpg"), photos, strict=False):
        shutil.copy(photo, name)
    Path("assets").symlink_to(ROOT / "assets")
    Path("masks").mkdir()
    write_dataset(Path("house"), found_cameras().images)
    Path("data/re10k").mkdir(parents=True)
    Path("data/re10k/360x640").symlink_to(shards)
    return tmp_path


@pytest.fixture
def given(place: Path, weights_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Names that pages use without defining them, and all stand-ins."""
    locate = zipsplat.weights.locate
    stand_ins = {path.stem: path for path in weights_folder.iterdir()}
    monkeypatch.setattr(zipsplat.weights, "locate", lambda w: stand_ins.get(w) or locate(w))
    monkeypatch.setattr(zipsplat.camera_estimation, "estimate_cameras", found_cameras)
    monkeypatch.setattr(zipsplat.refinement, "refine", short(zipsplat.refinement.refine))
    monkeypatch.setitem(viz.turntable.__kwdefaults__, "render_size", 32)
    monkeypatch.setitem(viz.turntable.__kwdefaults__, "num_frames", 4)
    paths = sorted(Path("photos").glob("*.png"))[:2]
    return {
        "paths": paths,
        "images": [load_image(path) for path in paths],
        "gaussians": small_scene(),
        "pose": Pose.identity(),
    }


def short(refine: Callable[..., Any]) -> Callable[..., Any]:
    def few_steps(*args: Any, **options: Any) -> Any:
        *rest, settings = (
            args if len(args) > 5 else (*args, zipsplat.refinement.RefinementSettings())
        )
        return refine(*rest, dataclasses.replace(settings, seconds=None, steps=3), **options)

    return few_steps


@pytest.mark.parametrize("page", pages_with(bool))
def test_blocks_run(page: Path, given: dict[str, Any]) -> None:
    statements = statements_of(page)
    if not torch.cuda.is_available():
        statements = [s for s in statements if not needs_cuda(s)]
    run(page, statements, given)


@pytest.mark.cuda
@pytest.mark.parametrize("page", pages_with(lambda found: any(map(needs_cuda, found))))
def test_blocks_run_with_cuda(page: Path, given: dict[str, Any]) -> None:
    run(page, statements_of(page), given)
