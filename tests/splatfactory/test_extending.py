"""docs/extending.md is true: each thing is added by one file, here or in your own package.

A file is written to a temporary folder. For a module of your own package, that folder is on the
import path, below `my_lab/`; for one of this package, the folder becomes part of the package, which
is what a new file in the repository amounts to.
"""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

import zipsplat
from splatfactory import config as config_module
from splatfactory.config import CONFIG_DIR, read_yaml
from splatfactory.eval import benchmarks, run
from tests.splatfactory.conftest import Train
from tests.zipsplat.test_gaussians import random_scene
from zipsplat.cli import main as zipsplat_command

OUTPUTS = Path("outputs/training")
AddFile = Callable[[str, str], str]

LOSS = """
from dataclasses import dataclass
from splatfactory.protocols import LossKind

@dataclass(frozen=True)
class Config:
    power: float = 1.0

class Sparsity:
    def __init__(self, config):
        self.power = config.power

    def __call__(self, supervision):
        return supervision.gaussians.opacities.pow(self.power).mean(dim=1)

PLUGIN = LossKind(Config, Sparsity)
"""

SAMPLER = """
from dataclasses import dataclass
from splatfactory.datasets.samplers import Choice, SamplerKind

@dataclass(frozen=True)
class Config:
    step: int = 1

class Every:
    min_views, keys, is_fixed = 3, None, False

    def __init__(self, config):
        self.step = config.step

    def sample(self, request, rng):
        frames = [n * self.step % request.num_views for n in range(request.num_views)]
        context = tuple(frames[: request.num_context])
        return Choice(context, tuple(frames[-request.num_target :]), (0.5,) * len(context))

PLUGIN = SamplerKind(Config, Every)
"""

BACKBONE = '''
from torch import nn

class Patches(nn.Module):
    """One linear layer per output over flat patches, twice as wide as the tokens."""

    def __init__(self, config):
        super().__init__()
        self.dim, self.patch_size = config.dim, config.patch_size
        self.num_outputs = len(config.out_layers)
        inputs = 3 * self.patch_size**2
        self.embed = nn.ModuleList(nn.Linear(inputs, 2 * self.dim) for _ in config.out_layers)

    def forward(self, images, priors):
        B, V = images.shape[:2]
        side = self.patch_size
        patches = nn.functional.unfold(images.flatten(0, 1), side, stride=side)
        tokens = patches.transpose(1, 2).unflatten(0, (B, V))
        return [layer(tokens) for layer in self.embed]

PLUGIN = Patches
'''

RENDERER = """
from zipsplat.render.reference import ReferenceRenderer

class Counting(ReferenceRenderer):
    name = "counting"
    calls = 0

    def render(self, splats, viewpoints, settings):
        Counting.calls += 1
        return super().render(splats, viewpoints, settings)

PLUGIN = Counting()
"""

FORMAT = """
import dataclasses
import io
import numpy as np
from zipsplat.formats import Format, SplatArrays, SplatTolerance

NAMES = ("means", "scales", "quats", "opacities", "sh_coeffs")

def write(file, splats):
    file.write(b"ROWS")
    np.savez(file, **{name: getattr(splats, name) for name in NAMES})

def read(file):
    with np.load(io.BytesIO(file.read()[4:])) as arrays:
        return SplatArrays(*(arrays[name] for name in NAMES))

PLUGIN = Format(
    name="rows", suffixes=(".rows",), read=read, write=write,
    tolerance=SplatTolerance(0, 1e-6, 1e-3, 1e-6, 0, 0), recognise=lambda head: head[:4] == b"ROWS",
)
"""


@pytest.fixture(params=["my_lab", "package"])
def add_file(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AddFile]:
    """Write a module beside those of a package, or in a package of its own; returns its name."""
    folder = tmp_path / "added"
    modules: list[str] = []

    def add(package: str, code: str) -> str:
        if request.param == "package":
            place, module, name = folder, f"{package}.added_here", "added_here"
            known = importlib.import_module(package)
            monkeypatch.setattr(known, "__path__", [*known.__path__, str(folder)])
        else:
            place, module, name = folder / "my_lab", "my_lab.added_here", "my_lab.added_here"
            monkeypatch.syspath_prepend(str(folder))
        place.mkdir(parents=True)
        (place / "added_here.py").write_text(code)
        modules.append(module)
        return name

    yield add
    for name in [*modules, "my_lab"]:
        parent, _, child = name.rpartition(".")
        sys.modules.pop(name, None)
        if parent in sys.modules:
            vars(sys.modules[parent]).pop(child, None)


def log_of(name: str) -> list[dict]:
    lines = (OUTPUTS / name / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def error_line(capsys: pytest.CaptureFixture[str]) -> str:
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    return message


def test_loss(run_training: Train, add_file: AddFile, capsys: pytest.CaptureFixture[str]):
    name = add_file("splatfactory.losses", LOSS)
    short = ("train.num_steps=1", "train.log_every_iter=1")
    extra = "model.gaussian_head.extra_losses"
    assert run_training("plain", f"{extra}={{{name}: 0.5}}", *short) == 0
    squared = f"{extra}={{{name}: {{weight: 0.5, power: 2}}}}"
    assert run_training("squared", squared, *short) == 0
    losses = [log_of(run)[0][f"training/loss/{name}"] for run in ("plain", "squared")]
    assert losses[0] > losses[1] > 0
    totals = [log_of(run)[0]["training/loss/total"] for run in ("plain", "squared")]
    assert totals[0] - totals[1] == pytest.approx(0.5 * (losses[0] - losses[1]), rel=1e-3)
    assert run_training("bad", f"{extra}={{{name}: {{powr: 2}}}}") == 1
    assert "did you mean power?" in error_line(capsys)


def test_view_sampler(run_training: Train, add_file: AddFile, capsys: pytest.CaptureFixture[str]):
    name = add_file("splatfactory.datasets.samplers", SAMPLER)
    chosen = f"data.view_sampler={{name: {name}, step: 5}}"
    assert run_training("a", chosen, "train.num_steps=1") == 0
    saved = read_yaml(OUTPUTS / "a" / "config.yaml")["data"]["view_sampler"]
    assert (saved["name"], saved["step"]) == (name, 5)
    assert run_training("bad", f"data.view_sampler={{name: {name}, stp: 5}}") == 1
    assert "did you mean step?" in error_line(capsys)


def test_backbone(
    run_training: Train, add_file: AddFile, capsys: pytest.CaptureFixture[str], workplace: Path
):
    name = add_file("zipsplat.model.backbones", BACKBONE)
    assert run_training("a", f"model.backbone.name={name}", "train.num_steps=1") == 0
    path = OUTPUTS / "a" / "checkpoint_last.safetensors"
    model = zipsplat.ZipSplat(path, device="cpu")
    assert type(model.model.backbone).__name__ == "Patches"
    images = torch.rand(2, 3, 28, 28)
    assert model(images).num_gaussians > 0
    evaluated = ["custom_benchmark", "--checkpoint", str(path), "data.dataset_dir=data/rendered",
              "eval.index=index.json", "data.preprocessing.resize=28", "eval.lpips=none",
              "eval.renderer=reference", "eval.align_poses=false"]  # fmt: skip
    Path("index.json").write_text('{"test0": {"context": [0, 3], "target": [1]}}')
    assert run.main(evaluated) == 0
    assert run.main(["custom_benchmark", "--checkpoint", "a", *evaluated[3:]]) == 0
    if "." in name:  # a file of weights cannot have modules imported
        del sys.modules[name]
        with pytest.raises(ValueError, match=f"`import {name}` first"):
            zipsplat.ZipSplat(path, device="cpu")
        assert run.main([*evaluated, "--overwrite"]) == 1
        assert f"model.backbone.name={name}" in error_line(capsys)
        assert name not in sys.modules
        assert run.main([*evaluated, "--overwrite", f"model.backbone.name={name}"]) == 0


def test_renderer(run_training: Train, add_file: AddFile):
    name = add_file("zipsplat.render", RENDERER)
    assert run_training("a", f"train.renderer={name}", "train.num_steps=1") == 0
    module = sys.modules[name if "." in name else f"zipsplat.render.{name}"]
    calls = module.Counting.calls
    assert calls > 0
    scene = random_scene(5)
    camera = zipsplat.Camera.from_fov(1.0, w=8, h=8)
    rendered = scene.render(camera, zipsplat.Pose.identity(), renderer=name)[0]
    expected = scene.render(camera, zipsplat.Pose.identity(), renderer="reference")[0]
    assert torch.equal(rendered, expected)
    assert module.Counting.calls == calls + 1


def test_scene_format(add_file: AddFile, tmp_path: Path):
    name = add_file("zipsplat.formats", FORMAT)
    scene, path = random_scene(5), tmp_path / "scene.rows"
    scene.save(path, format=name)
    again = zipsplat.Gaussians.load(path, format=name)
    torch.testing.assert_close(again.means, scene.means)
    if "." not in name:  # a format of the package is known by suffix and content, too
        other = tmp_path / "scene.ply"
        assert zipsplat_command(["convert", str(path), str(other)]) == 0
        assert zipsplat_command(["convert", str(other), str(tmp_path / "b.rows")]) == 0
        path.rename(tmp_path / "scene")
        torch.testing.assert_close(zipsplat.Gaussians.load(tmp_path / "scene").means, scene.means)


@pytest.fixture(params=["my_lab", "package"])
def add_yaml(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AddFile:
    """Write a configuration beside the shipped ones, or anywhere; returns what it is called."""

    def add(group: str, text: str) -> str:
        if request.param == "my_lab":
            path = tmp_path / "my lab (é)" / "scans.yaml"
            path.parent.mkdir()
            path.write_text(text)
            return str(path)
        shipped = tmp_path / "configs"
        shutil.copytree(CONFIG_DIR, shipped)
        monkeypatch.setattr(config_module, "CONFIG_DIR", shipped)
        monkeypatch.setattr(benchmarks, "FOLDER", shipped / "eval")
        (shipped / group / "scans.yaml").write_text(text)
        return "scans"

    return add


def test_data_set(run_training: Train, add_yaml: AddFile):
    name = add_yaml("data", "name: scans\ndataset_dir: data/rendered\nfar: 50.0\n")
    assert run_training("a", f"data={name}", "train.num_steps=1", "data.val_scenes=1") == 0
    saved = read_yaml(OUTPUTS / "a" / "config.yaml")["data"]
    assert (saved["name"], saved["dataset_dir"], saved["far"]) == ("scans", "data/rendered", 50.0)


def test_benchmark(run_training: Train, add_yaml: AddFile, capsys: pytest.CaptureFixture[str]):
    name = add_yaml(
        "eval", "data: {dataset_dir: data/rendered}\nindex: index.json\npublished: {}\n"
    )
    folder = benchmarks.FOLDER if name == "scans" else Path(name).parent
    (folder / "index.json").write_text('{"test0": {"context": [0, 3], "target": [1]}}')
    quick = ("eval.align_poses=false", "data.preprocessing.resize=28")
    in_training = (f"train.run_benchmarks=['{name}']", "train.num_steps=1")
    changes = "benchmarks.scans={eval: {align_poses: false}, data: {preprocessing: {resize: 28}}}"
    assert run_training("a", *in_training, changes) == 0
    assert any("scans/target_psnr" in line for line in log_of("a"))
    evaluated = ("--checkpoint", "a", "eval.lpips=none", "eval.renderer=reference", *quick)
    assert run.main([name, *evaluated]) == 0
    assert Path("outputs/results/scans/a/index/report.html").is_file()
    assert run.main([name.replace("scans", "scns"), *evaluated]) == 1
    assert "no benchmark" in error_line(capsys)


WRONG = {
    "loss": ("model.gaussian_head.extra_losses={depht: 1.0}", "no loss named 'depht'", "depth"),
    "dotted loss": (
        "model.gaussian_head.extra_losses={no_lab.losses.depth: 1.0}",
        "no module 'no_lab' can be imported", "depth",
    ),
    "view sampler": ("data.view_sampler.name=ranked", "no view sampler named 'ranked'", "rank"),
    "backbone": ("model.backbone.name=dav4", "no backbone named 'dav4'", "dav3"),
    "renderer": ("train.renderer=refrence", "no renderer named 'refrence'", "reference"),
    "data set": ("data=re10", "data has no 're10'", "re10k"),
    "benchmark": ("train.run_benchmarks=[re10k]", "no benchmark 're10k'", "re10k_benchmark"),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_name_is_one_line_with_the_nearest(
    run_training: Train, capsys: pytest.CaptureFixture[str], kind: str
):
    override, reason, right = WRONG[kind]
    assert run_training("bad", override) == 1
    message = error_line(capsys)
    assert reason in message
    assert f"did you mean {right}?" in message
    assert not (OUTPUTS / "bad").exists()


def test_a_wrong_scene_format_is_one_line_with_the_nearest(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no scene format named 'plyy'; .*did you mean ply\?"):
        random_scene(2).save(tmp_path / "a", format="plyy")


def test_every_built_in_is_of_the_same_table():
    from splatfactory.datasets.samplers import SAMPLERS
    from splatfactory.losses import BUILT_IN, LOSSES
    from splatfactory.options import Kind

    assert sorted(name for name in BUILT_IN if "." not in name) == LOSSES.names()
    for table in (LOSSES, SAMPLERS):
        assert all(isinstance(table[name], Kind) for name in table.names())
    assert all(isinstance(LOSSES[name], Kind) for name in BUILT_IN)


def test_old_weights_name_no_backbone(tmp_path: Path):
    from zipsplat.model.architecture import ZipSplatConfig

    conf = ZipSplatConfig.variant("vits").to_conf()
    del conf["model"]["backbone"]["name"]
    assert ZipSplatConfig.from_conf(conf).backbone.name == "dav3"
    conf["model"]["backbone"]["name"] = "my_lab.mine"
    assert ZipSplatConfig.from_conf(conf).backbone.name == "my_lab.mine"
