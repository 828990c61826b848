"""Each option of each configuration class changes something that can be observed.

The options are those of the classes themselves: a new one without a row fails. A row says how the
option is changed, what shows the change (see `probes.py`), and what else has to be set for it to
matter. The exceptions are listed with their reasons.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from splatfactory import train, trainer_parts
from splatfactory.config import ConfigError, known_keys
from splatfactory.data_schema import ChildConfig
from splatfactory.datasets.samplers import SAMPLERS
from splatfactory.eval import benchmarks, pipeline
from splatfactory.schema import BenchmarkConfig
from tests.splatfactory.conftest import CONF
from tests.splatfactory.rendered_scenes import write_shards
from tests.splatfactory.wiring import probes
from tests.splatfactory.wiring.probes import Place, Probe

HERE = "tests.splatfactory.wiring"


@dataclass(frozen=True)
class Row:
    """How an option is seen to matter.

    Attributes:
        value: What it is changed to.
        probe: What shows the change.
        given: What is set besides, in both cases.
        needs: A package that has to be there.
    fails: Whether a refusal is what changes.
    """

    value: str
    probe: Probe
    given: tuple[str, ...] = ()
    needs: str | None = None
    fails: bool = False


def rows(section: str, probe: Probe, given: tuple[str, ...] = (), **values: str) -> dict[str, Row]:
    return {f"{section}.{name}": Row(value, probe, given) for name, value in values.items()}


HEAD, BACKBONE = "model.gaussian_head", "model.backbone"
STEM = (f"{BACKBONE}.stem_dim=8",)
MATCHER = (*STEM, f"{BACKBONE}.has_matcher=true")
RELIEF = ("model.relief_init=true",)
MODEL = {
    **rows(BACKBONE, probes.shapes, name=f"{HERE}.patches", embed_dim="128", depth="5",
           num_heads="4", ffn="swiglu", ffn_hidden="96", patch_size="7", pos_grid="5", stem_dim="8",
           qknorm_start="3", out_layers="[1,3]"),
    f"{BACKBONE}.vit_name": Row("vitg", probes.shapes, (f"{BACKBONE}.embed_dim=1536",)),
    f"{BACKBONE}.has_matcher": Row("true", probes.shapes, STEM),
    f"{BACKBONE}.prior_heads": Row("4", probes.forward, ("model.eval_use_priors=true",)),
    **rows(BACKBONE, probes.forward, alt_start="3", rope_start="3"),
    **rows(BACKBONE, probes.weights, freeze_camera_enc="true", weights="<backbone>",
           init_layer_scale="0.3", use_checkpoint="true"),
    **rows("model", probes.shapes, name="networks.pixel_aligned", gaussians_per_prototype="4",
           num_heads="4", color_heads="4", mlp_ratio="2", color_skip_dim="64"),
    **rows("model", probes.weights, relief_init="true", fuse_layer_scale="0.3",
           use_checkpoint="true"),
    "model.img_size": Row("14", probes.weights, RELIEF),
    "model.weights": Row("<weights>", probes.run, ("train.num_steps=1",)),
    **rows("model", probes.training_forward, query_sample_ratio="[0.1,0.2]",
           query_scale_with_views="4.0", prior_probability="1.0"),
    "model.query_ratio_schedule": Row("0.9", probes.schedule),
    "model.token_selection_mode": Row("stride", probes.training_forward),
    "model.eval_use_priors": Row("true", probes.forward),
    f"{HEAD}.sh_degree": Row("2", probes.shapes),
    **rows(HEAD, probes.weights, coupled_init="false", init_position_z_bias="0.7",
           init_scale_bias="0.7", init_opacity_bias="0.7"),
    **rows(HEAD, probes.loss, max_scale="1e-4", min_scale="0.9", opacity_penalty_threshold="0.9",
           location_penalty_range="0.01", random_background="true", use_l1_loss="false",
           use_chamfer="false", loss_on_context="true", mse_weight="0.5", lpips_weight="0.5",
           ssim_weight="0.5", chamfer_weight="0.5", depth_weight="0.5", surface_weight="0.5",
           detach_activated_gaussians="false",
           extra_losses="{tests.splatfactory.losses.extra_loss: 0.5}"),
    f"{HEAD}.activated": Row("contributed", probes.loss, RELIEF),
    f"{HEAD}.match_weight": Row("0.5", probes.loss, MATCHER),
}  # fmt: skip

TWO = (
    "data.childs={a: {dataset_dir: <rendered>, view_sampler: {name: random}},"
    " b: {dataset_dir: <elsewhere>, view_sampler: {name: random}}}",
)
SINGLE = ("data.childs={a: {dataset_dir: <rendered>, view_sampler: {name: random}}}",)
MADE = ("data.name=synthetic", "data.dataset_dir=''", "data.val_scenes=0",
        "data.synthetic={num_scenes: 2, num_views: 6, size: [28, 28]}")  # fmt: skip
DATA = {
    **rows("data", probes.batches, batch_size="8", image_num_range="[2,2]", seed="5",
           aspect_ratio_range="[2.0,2.0]", max_samples="3", num_target_views="1",
           mirror_probability="1.0", color_shuffle_probability="1.0",
           use_relative_poses="false",
           normalize_baseline="start_end", near="0.2", far="50.0", max_pose_jump_ratio="0.5",
           name="other", dataset_dir="<elsewhere>", train_shard_dir="test-scenes",
           childs="{a: {dataset_dir: <elsewhere>, view_sampler: {name: random}}}",
           view_sampler="{name: random}"),
    "data.random_reference_view": Row("false", probes.batches, ("data.image_num_range=[3,3]",)),
    "data.augmentations": Row("strong", probes.batches, needs="cv2"),
    **rows("data", probes.workers, num_workers="2"),
    "data.prefetch_factor": Row("3", probes.workers, ("data.num_workers=1",)),
    "data.max_drop_rate": Row("1.0", probes.batches, ("data.dataset_dir=<damaged>",)),
    **rows("data.preprocessing", probes.batches, resize="14", edge_divisible_by="8"),
    "data.preprocessing.resize_method": Row(
        "pil_lanczos", probes.batches, ("data.preprocessing.resize=14",)
    ),
    **rows("data.synthetic", probes.batches, MADE, num_scenes="1", num_views="5",
           size="[42,42]", seed="3"),
    "data.test_shard_dir": Row("train-scenes", probes.test_scenes),
    "data.view_schedule": Row("null", probes.run, ("train.num_steps=2", "train.log_every_iter=1")),
    **rows("data", probes.held_out, val_batch_size="6", val_scenes="1"),
    **rows("data.childs.a", probes.batches, TWO, dataset_dir="<elsewhere>", dataset_name="other",
           weight="3.0", train_shard_dir="test-scenes"),
    **rows("data.childs.a", probes.batches, SINGLE, preprocessing="{resize: 14}",
           view_sampler="{name: bounded, min_distance_between_context_views: 2}"),
    "data.childs.a.augmentations": Row("strong", probes.batches, SINGLE, needs="cv2"),
    "data.childs.a.test_shard_dir": Row("train-scenes", probes.test_scenes, SINGLE),
}  # fmt: skip

ONE = ("train.num_steps=1",)
TWO_STEPS = ("train.num_steps=2", "train.log_every_iter=1")
JUDGED = (*TWO_STEPS, "train.eval_every_iter=1")
EPOCH = ("train.num_steps=null", "train.epochs=1", "data.max_samples=2")
BENCH = ("train.run_benchmarks=[<bench>]", "benchmarks={bench: {eval: {align_poses: false}}}")
NAN = (*TWO_STEPS, f"{HEAD}.extra_losses={{{HERE}.not_a_number: 1.0}}")
MUON = ("train.optimizer.name=Muon",)
TRAIN = {
    **rows("train", probes.run, ONE, seed="5", lr="0.1", gradient_accumulation_steps="2",
           mixed_precision="bfloat16", ddp_timeout_minutes="3.0", clip_grad="1e-4",
           export_dtype="bfloat16", load_experiment="before", eval_init="true",
           writer="tensorboard", print_arch="2", fast_dev_run="1",
           max_minutes="0.0", plot_every_iter="1"),
    "train.record_memory": Row("true", probes.run, ONE, fails=True),
    "train.num_steps": Row("2", probes.run, ONE),
    "train.log_every_iter": Row("1", probes.run, ("train.num_steps=2",)),
    "train.epochs": Row("2", probes.run, EPOCH),
    **rows("train", probes.run, TWO_STEPS, lr_schedule="constant", warmup_steps="1",
           eval_every_iter="1", stdout_metrics="[psnr]", overfit="1"),
    **rows("train", probes.run, JUDGED, best_mode="max", median_metrics="[psnr]",
           best_key="psnr", keep_best_checkpoints="2", num_eval_plots="1"),
    **rows("train", probes.run, EPOCH, eval_every_epoch="1"),
    "train.run_benchmarks": Row("[<bench>]", probes.run, ONE),
    "train.benchmark_every_epoch": Row("1", probes.run, (*EPOCH, *BENCH)),
    "train.project_name": Row("mine", probes.run, (*ONE, "train.writer=wandb")),
    "train.save_every_iter": Row("1", probes.run, TWO_STEPS),
    "train.save_every_minutes": Row("0.0", probes.run, (*TWO_STEPS, "train.save_every_iter=null")),
    "train.keep_last_checkpoints": Row("1", probes.run, (*TWO_STEPS, "train.save_every_iter=1")),
    "train.max_nonfinite_steps": Row("1", probes.run, NAN, fails=True),
    "train.profile": Row("1", probes.run, ("train.num_steps=5",)),
    "train.accept_changed_data": Row("true", probes.restored, fails=True),
    "train.reload_model": Row("true", probes.run_with_model, (*ONE,
                              "train.load_experiment=before")),
    **rows("train", probes.optimizer, lr_scaling="{backbone: 0.5}", opt_regexp="gaussian_head",
           ema_decay="0.5"),
    **rows("train.optimizer", probes.optimizer, name="Adam", weight_decay="0.3",
           betas="[0.8,0.95]", eps="1e-6", decay_exclusions="true"),
    "train.optimizer.muon_lr_factor": Row("3.0", probes.optimizer, MUON),
    **rows("train", probes.process, matmul_precision="highest", deterministic="false",
           detect_anomaly="true", num_threads="2"),
    "train.compile": Row("default", probes.weights),
    **rows("train", probes.trainer, renderer=f"{HERE}.renderer"),
    "train.ddp_find_unused_parameters": Row("true", probes.trainer, (
        f"{BACKBONE}.freeze_camera_enc=true",)),
}  # fmt: skip

PERCEPTION = ("eval.lpips=vgg",)
RANDOM_TOKENS = ("model.token_selection_mode=random", "eval.compression=0.5")
EVAL = {
    **rows("eval", probes.scores, align_poses="false", align_context="true", render_resize="14",
           lpips="vgg", clip_metrics="true", compression="0.3", save_gaussians="true",
           save_images="false", num_worst="0", index="<other_index>", refine="1"),
    "eval.num_views": Row("12", probes.published_scores, ("eval.num_views=6",)),
    "eval.seed": Row("5", probes.scores, RANDOM_TOKENS),
    "eval.renderer": Row(f"{HERE}.renderer", probes.judge),
    "eval.pose_estimator.lpips_weight": Row("0.0", probes.scores, PERCEPTION),
    **rows("eval.pose_estimator", probes.alignment, lr="0.1", num_steps="7", batch_size="3",
           threshold="0.1", patience="3", fast="true"),
    "max_samples": Row("2", probes.scores),
    "benchmarks": Row("{bench: {max_samples: 1}}", probes.run, (*ONE, *BENCH)),
    **rows("benchmarks.bench", probes.run, (*ONE, *BENCH), max_samples="1",
           eval="{save_gaussians: true}", data="{normalize_baseline: start_end}"),
}  # fmt: skip

RANK = ("data.view_sampler={name: rank, ranking_file: <ranking>}",)
INDEX = ("data.view_sampler={name: eval_sampler, indices_file: <index>}",)
BOUNDED = ("data.view_sampler={name: bounded, min_distance_between_context_views: 8, "
           "gap_multiplier: 9, max_distance_between_consecutive_views: 12}",)  # fmt: skip
SAMPLER = {
    **rows("bounded", probes.sampler, BOUNDED, min_distance_between_context_views="30",
           gap_multiplier="3", max_distance_between_consecutive_views="4",
           min_distance_to_context_views="3", cameras_are_circular="true", is_overfitting="true"),
    **rows("rank", probes.sampler, RANK, min_distance_between_context_views="20",
           max_distance_between_context_views="12", ranking_file="<other_ranking>"),
    **rows("eval_sampler", probes.sampler, INDEX, indices_file="<other_index>"),
}  # fmt: skip

ROWS = {**MODEL, **DATA, **TRAIN, **EVAL}

FIXED = {
    "model.compile_loss": "true",
    "model.clustering_layer": "1",
    "model.scene_init_layer": "1",
    "model.with_color_skip": "false",
    "model.knn.init_mode": "random",
    "model.knn.n_iters": "7",
    "model.backbone.cat_token": "false",
    "model.backbone.with_camera_enc": "false",
}
"""Released configurations name these, but the network knows one value: another one is refused."""

WITHOUT_EFFECT = {
    "bounded.initial_min_distance_between_context_views",
    "bounded.warm_up_steps",
    "rank.initial_min_distance_between_context_views",
    "rank.initial_max_distance_between_context_views",
    "rank.warm_up_steps",
}
"""Released configurations set these for a warm-up that the released training does not have."""


def options() -> set[str]:
    """Every option of every configuration class, by introspection."""
    keys = known_keys()
    found = {key for key in keys if not any(other.startswith(f"{key}.") for other in keys)}
    found |= {f"data.childs.a.{field.name}" for field in fields(ChildConfig)}
    return found | {f"benchmarks.bench.{field.name}" for field in fields(BenchmarkConfig)}


def sampler_options() -> set[str]:
    return {
        f"{name}.{field.name}"
        for name in SAMPLERS.names()
        for field in fields(SAMPLERS[name].config)
    }


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """Small scenes, a finished run, and other files that options name."""
    root = tmp_path_factory.mktemp("wiring")
    files = {name: str(root / name) for name in ("rendered", "elsewhere", "damaged")}
    write_shards(root / "rendered", num_train=6, num_test=2)
    write_shards(root / "elsewhere", num_train=3, num_test=1, num_views=7)
    write_shards(root / "damaged", num_train=6, num_test=1)
    shard = next((root / "damaged" / "train-scenes").glob("*.tar"))
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) * 3 // 4])
    files |= _written(root, {
        "index": {"test0": {"context": [0, 3], "target": [1, 2]},
                  "test1": {"context": [0, 3], "target": [1, 2]}},
        "other_index": {"test0": {"context": [0, 5], "target": [2, 3]}},
        "ranking": {"test0": _ranking(1)}, "other_ranking": {"test0": _ranking(3)},
    })  # fmt: skip
    conf = root / "conf.yaml"
    conf.write_text(CONF.replace("data/rendered", files["rendered"]))
    bench = root / "bench.yaml"
    bench.write_text(f"data: {{dataset_dir: {files['rendered']}, preprocessing: {{resize: 28}}}}\n"
                     "index: index.json\n")  # fmt: skip
    (root / "runs").mkdir()
    place = Place(root / "runs", conf, {**files, "bench": str(bench)})
    return dataclasses.replace(place, files=place.files | _trained(place, root))


def _written(root: Path, contents: dict[str, Any]) -> dict[str, str]:
    for name, content in contents.items():
        (root / f"{name}.json").write_text(json.dumps(content))
    return {name: str(root / f"{name}.json") for name in contents}


def _ranking(step: int) -> list[list[int]]:
    return [[(view + step * n) % 40 for n in range(40)] for view in range(40)]


def _trained(place: Place, root: Path) -> dict[str, str]:
    """A finished run with a model option of its own, its weights, and those of its backbone."""
    options = ("train.num_steps=1", "train.seed=4", "model.prior_probability=0.9")
    with probes.fresh_folder(place) as folder:
        assert train.main(["before", "--conf", str(place.conf), *options]) == 0
        (folder / "outputs/training/before").rename(root / "before")
    for full in (root / "before").glob("*.tar"):
        full.unlink()
    path = root / "before" / "checkpoint_last.safetensors"
    prefix = "backbone."
    backbone = {
        f"model.backbone.pretrained.{name.removeprefix(prefix + prefix)}": value
        for name, value in load_file(path).items()
        if name.startswith(prefix + prefix)
    } | {
        f"model.cam_enc.{name.removeprefix(prefix + 'cam_enc.')}": value
        for name, value in load_file(path).items()
        if name.startswith(prefix + "cam_enc.")
    }
    save_file(backbone, root / "backbone.safetensors")
    return {"before": str(root / "before"), "weights": str(path),
            "backbone": str(root / "backbone.safetensors")}  # fmt: skip


@pytest.fixture(autouse=True)
def stand_ins(monkeypatch: pytest.MonkeyPatch, place: Place) -> None:
    """What would be downloaded."""
    for module in (trainer_parts, pipeline):
        monkeypatch.setattr(module, "fetch_perceptual_network", probes.StandInPerception)
    monkeypatch.setattr(
        benchmarks, "published_index", lambda _name, _views: Path(place.files["index"])
    )


_SEEN: dict[tuple[str, tuple[str, ...]], Any] = {}


def observed(place: Place, probe: Probe, overrides: tuple[str, ...]) -> Any:
    """What a probe shows; that of a base is looked at once."""
    key = (probe.__name__, overrides)
    if key not in _SEEN:
        _SEEN[key] = probe(place, overrides)
    return _SEEN[key]


WHOLE_RUNS = (
    probes.run,
    probes.run_with_model,
    probes.restored,
    probes.scores,
    probes.published_scores,
)
"""Probes that take seconds for each row."""


def test_every_option_has_a_row():
    assert options() == ROWS.keys() | FIXED.keys()
    assert sampler_options() == SAMPLER.keys() | WITHOUT_EFFECT


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # of torch.compile itself
@pytest.mark.parametrize(
    "option",
    [
        pytest.param(name, marks=[pytest.mark.slow] if row.probe in WHOLE_RUNS else [])
        for name, row in sorted(ROWS.items())
    ],
)
def test_an_option_changes_something(option: str, place: Place):
    row = ROWS[option]
    if row.needs is not None:
        pytest.importorskip(row.needs)
    before = observed(place, row.probe, row.given)
    after = row.probe(place, (*row.given, f"{option}={row.value}"))
    assert before != after
    for seen in (before, after):
        if isinstance(seen, dict) and "status" in seen:
            assert row.fails or not any(seen["status"])


@pytest.mark.parametrize("option", sorted(SAMPLER))
def test_an_option_of_a_view_sampler_changes_something(option: str, place: Place):
    row, name = SAMPLER[option], option.partition(".")[2]
    before = observed(place, row.probe, row.given)
    assert before != row.probe(place, (*row.given, f"data.view_sampler.{name}={row.value}"))


@pytest.mark.parametrize("option", sorted(FIXED))
def test_an_option_with_one_value_refuses_another(option: str, place: Place):
    with pytest.raises(ConfigError, match=f"{option} can only be"):
        place.config((f"{option}={FIXED[option]}",))


BASES = sorted(
    {(row.probe.__name__, row.given) for row in [*ROWS.values(), *SAMPLER.values()]},
    key=lambda base: (base[0], len(base[1])),
)
FIRST = {name: given for name, given in reversed(BASES)}


@pytest.mark.parametrize("name", FIRST)
def test_a_probe_shows_the_same_twice(name: str, place: Place):
    """Or else it would find every option to matter."""
    probe = getattr(probes, name)
    assert observed(place, probe, FIRST[name]) == probe(place, FIRST[name])
