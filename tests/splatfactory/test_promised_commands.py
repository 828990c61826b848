"""The published commands of training and evaluation, end to end in their smallest form.

Words are those that users were promised; what follows SMALL keeps the network, the images and
the number of steps small. Scenes are rendered, weights and indices are stand-ins.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from splatfactory import train
from splatfactory.config import Request, load, to_dict
from splatfactory.eval import benchmarks, run
from splatfactory.models import build_model
from splatfactory.models.encoders import dav3_encoder
from splatfactory.runtime import checkpoints
from tests.splatfactory.conftest import start
from zipsplat import weights

SMALL_MODEL = (
    "model.backbone.embed_dim=384", "model.backbone.num_heads=6",
    "model.gaussians_per_prototype=2", "model.color_skip_dim=32", "model.color_heads=1",
    "model.mlp_ratio=1",
)  # fmt: skip
SMALL_BACKBONE = (
    "model.backbone.vit_name=custom", "model.backbone.depth=2", "model.backbone.out_layers=[0,1]",
    "model.backbone.pos_grid=4", "model.backbone.alt_start=1", "model.backbone.qknorm_start=1",
    "model.backbone.rope_start=1",
)  # fmt: skip
SAMPLER = "{name: bounded, min_distance_between_context_views: 1, gap_multiplier: 2}"
SMALL_TRAINING = (
    "model.gaussian_head.lpips_weight=0", "data.image_num_range=[2,2]", "data.val_scenes=1",
    "data.num_target_views=1", "data.num_workers=0", "data.preprocessing.resize=28",
    f"data.childs.re10k.view_sampler={SAMPLER}", f"data.childs.dl3dv.view_sampler={SAMPLER}",
    "data.batch_size=8", "train.num_steps=1", "train.mixed_precision=float32",
    "train.run_benchmarks=[]", "train.num_threads=1", "train.plot_every_iter=null",
    "train.num_eval_plots=0", "train.eval_every_epoch=0",
)  # fmt: skip
SMALL_EVALUATION = (
    "data.preprocessing.resize=28", "data.num_workers=0", "eval.lpips=none",
    "eval.pose_estimator.num_steps=2", "max_samples=2",
)  # fmt: skip
DATA_SETS = ("re10k/360x640", "dl3dv/540x960", "mipnerf360/822x1236")

EVALUATIONS = [
    *(f"dl3dv_benchmark --conf zipsplat_eval eval.num_views={n}" for n in (6, 12, 24)),
    "dl3dv_benchmark --conf zipsplat_eval eval.num_views=6 model.eval_use_priors=true",
    "re10k_benchmark --conf zipsplat_eval eval.num_views=6",
    "re10k_benchmark --conf zipsplat_eval eval.num_views=6 model.eval_use_priors=true",
    *(f"mipnerf360_benchmark --conf zipsplat_eval eval.num_views={n}" for n in (32, 64, 128)),
    "mipnerf360_benchmark --conf zipsplat_eval eval.num_views=32 model.eval_use_priors=true",
]
OF_A_RUN = [
    "dl3dv_benchmark --checkpoint zipsplat eval.num_views=6",
    "re10k_benchmark --checkpoint zipsplat eval.num_views=6",
    "mipnerf360_benchmark --checkpoint zipsplat eval.num_views=32",
    "dl3dv_benchmark --checkpoint zipsplat --tag zipsplat-retrained eval.num_views=6",
]


@pytest.fixture
def place(tmp_path: Path, rendered_shards: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all data sets where the converters put them, and stand-ins for downloads."""
    for name in DATA_SETS:
        folder = tmp_path / "data" / name
        folder.parent.mkdir(parents=True)
        folder.symlink_to(rendered_shards)
    monkeypatch.chdir(tmp_path)
    for variable in ("DATA", "WEIGHTS", "OUTPUTS"):
        monkeypatch.delenv(f"SPLATFACTORY_{variable}", raising=False)
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(benchmarks, "published_index", stand_in_index)
    return tmp_path


def stand_in_index(name: str, num_views: int) -> Path:
    path = Path(f"{name}_{num_views}.json")
    context = [frame % 4 for frame in range(num_views)][:4]
    entries = {f"test{i}": {"context": context, "target": [4, 5]} for i in range(3)}
    path.write_text(json.dumps(entries))
    return path


def published_backbone(path: Path, *overrides: str) -> None:
    """Random weights of a backbone under the names of Depth Anything 3's files."""
    config = load(Request("zipsplat", (*overrides, *SMALL_MODEL, "model.backbone.weights=null")))
    backbone = build_model(config.model, with_initial_weights=True).network.backbone
    names = {"backbone.": "model.backbone.pretrained.", "cam_enc.": "model.cam_enc."}
    published = {
        names[part + "."] + rest: value.clone()
        for part, _, rest in (name.partition(".") for name in backbone.state_dict())
        for value in [backbone.state_dict()[f"{part}.{rest}"]]
    }
    path.parent.mkdir(exist_ok=True)
    save_file(published, path)


def test_weights_of_depth_anything_train_and_the_run_is_evaluated(place: Path):
    published_backbone(place / "weights" / "da3-giant.safetensor", *SMALL_BACKBONE)
    assert dav3_encoder.main(["--size", "giant"]) == 0
    small = (*SMALL_BACKBONE, *SMALL_MODEL, *SMALL_TRAINING)
    assert train.main([*shlex.split("zipsplat --conf zipsplat"), *small]) == 0
    for command in OF_A_RUN:
        assert run.main([*shlex.split(command), *SMALL_EVALUATION]) == 0, command
    results = place / "outputs" / "results"
    found = {str(path.parent.relative_to(results)) for path in results.glob("*/*/*/results.json")}
    assert found == {
        "dl3dv_benchmark/zipsplat/6v", "re10k_benchmark/zipsplat/6v",
        "mipnerf360_benchmark/zipsplat/32v", "dl3dv_benchmark/zipsplat-retrained/6v",
    }  # fmt: skip


def test_the_small_backbone_is_chosen_by_its_group(place: Path):
    group = "model/backbone=da3s"
    published_backbone(place / "weights" / "da3-small.safetensors", group)
    assert dav3_encoder.main(["--size", "small"]) == 0
    command = f"zipsplat-da3s --conf zipsplat {group} data.batch_size=96"
    small = [value for value in SMALL_TRAINING if not value.startswith("data.batch_size")]
    assert train.main([*shlex.split(command), *SMALL_MODEL, *small]) == 0
    assert (place / "outputs/training/zipsplat-da3s/checkpoint_last.safetensors").is_file()


@pytest.mark.slow
def test_training_by_torchrun_writes_for_tensorboard(place: Path):
    pytest.importorskip("tensorboard")
    command = (
        "torch.distributed.run --standalone --nproc_per_node=2 -m splatfactory.train zipsplat "
        "--conf zipsplat --distributed train.writer=tensorboard"
    )
    small = (*SMALL_BACKBONE, *SMALL_MODEL, *SMALL_TRAINING, "model.backbone.weights=null")
    process = start([*shlex.split(command), *small], place)
    try:
        output, _ = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, output
    assert list((place / "outputs/training/zipsplat").rglob("events.out.tfevents.*"))


def test_every_published_evaluation_runs_and_none_overwrites_another(
    place: Path, monkeypatch: pytest.MonkeyPatch
):
    torch.manual_seed(0)
    small = (*SMALL_BACKBONE, *SMALL_MODEL)
    config = load(Request("zipsplat_eval", small))
    network = build_model(config.model, with_initial_weights=True).network
    checkpoints.export(network.state_dict(), to_dict(config), place / "released.safetensors")
    monkeypatch.setattr(weights, "fetch_release", lambda _file: place / "released.safetensors")
    for command in EVALUATIONS:
        assert run.main([*shlex.split(command), *small, *SMALL_EVALUATION]) == 0, command
    results = place / "outputs" / "results"
    found = sorted(str(path.parent.relative_to(results)) for path in results.rglob("results.json"))
    assert found == sorted(
        f"{data}_benchmark/zipsplat_eval/{label}"
        for data, labels in {
            "dl3dv": ("6v", "12v", "24v", "6v_priors"), "re10k": ("6v", "6v_priors"),
            "mipnerf360": ("32v", "64v", "128v", "32v_priors"),
        }.items()
        for label in labels
    )  # fmt: skip
