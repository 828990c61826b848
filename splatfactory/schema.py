"""Every option of training and evaluation: its name, type, default and meaning.

Those of the section `data` are in `splatfactory.data_schema`.

YAML files hold only what differs from these defaults. Names follow the released configurations.
Cross-field checks are in `__post_init__`; loading is `splatfactory.config`.
"""

from __future__ import annotations

# ruff: noqa: RUF009 -- `option` and `section` make fresh dataclass fields, no shared defaults
from dataclasses import dataclass
from enum import Enum
from typing import Any

from splatfactory.data_schema import DataConfig
from splatfactory.options import one_of, option, pair, section
from zipsplat.model import architecture


class Precision(str, Enum):
    """Arithmetic of the network's forward pass; geometry and losses are always float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class ActivatedRule(str, Enum):
    """Which Gaussians count as constrained by the images."""

    centred = "centred"
    contributed = "contributed"


class Direction(str, Enum):
    """Whether a smaller or a larger value of a metric is better."""

    min = "min"
    max = "max"


_RELEASED = architecture.VARIANTS["vitg"]
_SIZES, _NETWORK = architecture.BackboneConfig, architecture.ZipSplatConfig
"""They define the sizes and their defaults; this module adds the names of the options."""
LR_SCHEDULES = ("warmup_cosine", "constant")
MATMUL_PRECISIONS = ("highest", "high", "medium")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Modes of `torch.compile`."""


@dataclass
class KnnConfig:
    """Token selection by k-means."""

    init_mode: str = option("uniform", "first centroids: evenly spaced tokens")
    n_iters: int = option(5, "k-means iterations")


@dataclass
class BackboneConfig:
    """Image encoder: the vision transformer of Depth Anything 3, or one of your own."""

    name: str = option(
        _SIZES.name, "module of zipsplat.model.backbones, or of your own: my_lab.mine"
    )
    vit_name: str = option(
        "vitg", f"{', '.join(architecture.VARIANTS)}, or custom with the sizes below"
    )
    embed_dim: int = option(_RELEASED.dim, "token width")
    depth: int | None = option(None, "number of blocks; null: that of vit_name")
    num_heads: int | None = option(
        None, f"attention heads; null: embed_dim / {architecture.HEAD_DIM}"
    )
    ffn: str | None = option(None, "mlp or swiglu; null: that of vit_name, or mlp")
    ffn_hidden: int | None = option(
        None, "hidden width of the blocks; null: the usual ratio to embed_dim"
    )
    patch_size: int | None = option(None, f"patch side in pixels; null: {_SIZES.patch_size}")
    pos_grid: int | None = option(
        None, f"side of the learned position-embedding grid; null: {_SIZES.pos_grid}"
    )
    prior_heads: int | None = option(
        None, f"heads of the camera encoder; null: {_SIZES.prior_heads}"
    )
    stem_dim: int = option(
        _SIZES.stem_dim, "width of a convolutional feature pyramid added to the patches; 0: none"
    )
    has_matcher: bool = option(
        _SIZES.has_matcher, "feed tokens the matches of their pyramid features in other views"
    )
    out_layers: list[int] = option(
        list(_RELEASED.out_layers), "blocks whose tokens are used, ascending"
    )
    alt_start: int = option(_RELEASED.alt_start, "first block that may attend across views")
    qknorm_start: int = option(
        _RELEASED.qknorm_start, "first block with normalised queries and keys"
    )
    rope_start: int = option(_RELEASED.rope_start, "first block with rotary positions")
    cat_token: bool = option(True, "emit local and global tokens side by side")
    with_camera_enc: bool = option(True, "include an encoder for camera priors")
    freeze_camera_enc: bool = option(True, "do not train the camera encoder and camera tokens")
    weights: str | None = option("weights/da3-giant.pth", "initial weights; null: random")
    init_layer_scale: float = option(1.0, "initial layer scale of randomly initialised blocks")
    use_checkpoint: bool = option(False, "recompute activations of the blocks in the backward pass")


@dataclass
class HeadConfig:
    """Gaussian head and losses."""

    sh_degree: int = option(_NETWORK.sh_degree, "degree of the spherical harmonics")
    max_scale: float = option(0.1, "scales above are penalised")
    min_scale: float = option(1e-6, "scales below are penalised")
    opacity_penalty_threshold: float = option(0.01, "opacities below are penalised")
    location_penalty_range: float = option(10.0, "coordinates beyond ± this are penalised")
    random_background: bool = option(
        False, "render over random background colours, so that holes cost"
    )
    coupled_init: bool = option(True, "start all Gaussians of a token from equal weights")
    init_position_z_bias: float = option(0.5, "initial raw depth")
    init_scale_bias: float = option(0.5, "initial raw scale")
    init_opacity_bias: float = option(-1.5, "initial raw opacity")
    detach_activated_gaussians: bool = option(
        True, "exempt visible Gaussians from the chamfer term"
    )
    activated: ActivatedRule = option(
        ActivatedRule.centred,
        "centred: blended at its own centre pixel; contributed: blended anywhere",
    )
    use_l1_loss: bool = option(True, "mse_loss uses the absolute error; false: squared error")
    use_chamfer: bool = option(True, "chamfer term; false: pull towards (0, 0, 1)")
    loss_on_context: bool = option(False, "supervise the context views as well")
    mse_weight: float = option(1.0, "weight of the pixel error")
    lpips_weight: float = option(0.05, "weight of LPIPS-VGG; 0 needs no weight files")
    ssim_weight: float = option(0.0, "weight of 1 − SSIM")
    chamfer_weight: float = option(0.1, "weight of the chamfer term")
    depth_weight: float = option(0.01, "weight of the depth error")
    surface_weight: float = option(
        0.0, "weight of the distance of Gaussians to the true points of their patch"
    )
    match_weight: float = option(0.0, "weight of the matching loss; needs backbone.has_matcher")
    extra_losses: dict[str, Any] = option(
        {},
        "extra losses by module: a weight, or {weight: 0.1, <its options>}",
    )


@dataclass
class ModelConfig:
    """The network and how it is trained."""

    name: str = option("networks.zipsplat", "networks.zipsplat or networks.pixel_aligned")
    weights: str | None = option(None, "weights of the whole network: name, path or URL")
    backbone: BackboneConfig = section(BackboneConfig, "image encoder")
    gaussian_head: HeadConfig = section(HeadConfig, "Gaussian head and losses")
    knn: KnnConfig = section(KnnConfig, "token selection")
    img_size: int = option(252, "image side in pixels")
    gaussians_per_prototype: int = option(_NETWORK.gaussians_per_token, "Gaussians per scene token")
    clustering_layer: int = option(0, "feature layer used to select tokens; 0 is the deepest")
    scene_init_layer: int = option(0, "feature layer that initialises scene tokens")
    num_heads: int | None = option(None, "heads of the fusion blocks; null: embed_dim / 64")
    color_heads: int | None = option(None, "heads of the colour branch; null: width / 64")
    mlp_ratio: float = option(_NETWORK.mlp_ratio, "hidden width of the fusion MLPs over embed_dim")
    relief_init: bool = option(
        False,
        "initialise as a relief before the first camera; for small models from scratch",
    )
    fuse_layer_scale: float = option(0.01, "initial layer scale of the fusion blocks")
    query_sample_ratio: list[float] = option(
        [0.5, 1.0], "range of the fraction of tokens kept in training"
    )
    query_ratio_schedule: float = option(
        0.5, "fraction of training over which the minimum ratio falls"
    )
    query_scale_with_views: float = option(
        0.5, "exponent: the minimum ratio falls as (2 / views) ** this"
    )
    token_selection_mode: str = option("kmeans", "kmeans, stride or random")
    with_color_skip: bool = option(True, "feed image colours to the head")
    color_skip_dim: int = option(_NETWORK.color_dim, "width of the colour branch")
    prior_probability: float = option(0.2, "probability that a step sees camera priors")
    eval_use_priors: bool = option(False, "feed true context cameras in evaluation")
    use_checkpoint: bool = option(False, "recompute activations of the fusion blocks")
    compile_loss: bool = option(False, "must be false: a k-d tree cannot be compiled")

    def __post_init__(self) -> None:
        """Validate fields against each other."""
        low, high = pair(self.query_sample_ratio, "model.query_sample_ratio")
        if not 0 < low <= high <= 1:
            raise ValueError(
                f"model.query_sample_ratio must be [min, max] in (0, 1], got [{low}, {high}]"
            )
        if not 0 <= self.prior_probability <= 1:
            raise ValueError(
                f"model.prior_probability must be in [0, 1], got {self.prior_probability}"
            )
        self._check_fixed()

    def _check_fixed(self) -> None:
        """Reject unsupported values of options that exist only for released configurations."""
        wanted = {
            "compile_loss": (self.compile_loss, False),
            "clustering_layer": (self.clustering_layer, 0),
            "scene_init_layer": (self.scene_init_layer, 0),
            "with_color_skip": (self.with_color_skip, True),
            "knn.init_mode": (self.knn.init_mode, "uniform"),
            "knn.n_iters": (self.knn.n_iters, 5),
            "backbone.cat_token": (self.backbone.cat_token, True),
            "backbone.with_camera_enc": (self.backbone.with_camera_enc, True),
        }
        for name, (given, supported) in wanted.items():
            if given != supported:
                raise ValueError(f"model.{name} can only be {supported}, got {given}")


@dataclass
class OptimizerConfig:
    """Update rule."""

    name: str = option("AdamW", "AdamW, Adam or Muon (Muon only for hidden matrices)")
    weight_decay: float = option(0.05, "decoupled weight decay")
    betas: list[float] = option([0.9, 0.95], "decay rates of the moments")
    eps: float = option(1e-8, "denominator floor")
    decay_exclusions: bool = option(
        False, "no weight decay on norms, biases, layer scales and position embeddings"
    )
    muon_lr_factor: float = option(1.0, "learning-rate factor of Muon's matrices")


@dataclass
class TrainConfig:
    """The training loop."""

    seed: int | None = option(0, "seed of everything random; null: from the system")
    num_steps: int | None = option(None, "optimizer steps")
    epochs: int | None = option(None, "passes over the data")
    max_minutes: float | None = option(None, "save and stop after this time")
    lr: float = option(1e-3, "peak learning rate")
    lr_scaling: dict[str, float] = option(
        {}, "learning-rate factors by part of the parameter name; first match wins; a+b: either"
    )
    lr_schedule: str = option("warmup_cosine", "warmup_cosine or constant")
    warmup_steps: int | None = option(None, "null: 5 % of num_steps")
    optimizer: OptimizerConfig = section(OptimizerConfig, "update rule")
    opt_regexp: str | None = option(
        None, "train only parameters whose name matches this regular expression"
    )
    clip_grad: float | None = option(None, "maximum gradient norm")
    gradient_accumulation_steps: int = option(1, "batches per optimizer step")
    ema_decay: float | None = option(None, "decay of averaged weights, e.g. 0.9999; null: off")
    max_nonfinite_steps: int = option(20, "stop after this many non-finite gradients in a row")
    mixed_precision: Precision = option(Precision.float32, "float32 or bfloat16")
    matmul_precision: str = option("high", "highest, high or medium, of float32 matrix products")
    compile: str | None = option(None, f"torch.compile mode; {', '.join(COMPILE_MODES)}")
    deterministic: bool = option(True, "bit-identical repetition on a CPU")
    detect_anomaly: bool = option(False, "report the operation behind a NaN; slow")
    num_threads: int | None = option(None, "CPU threads per process; null: torch's default")
    renderer: str = option("auto", "auto, cpu, cuda or reference")
    ddp_find_unused_parameters: bool = option(False, "for models with unused parameters")
    ddp_timeout_minutes: float = option(30.0, "time-out for unresponsive processes")
    save_every_iter: int | None = option(None, "steps between checkpoints")
    save_every_minutes: float | None = option(30.0, "minutes between checkpoints")
    keep_last_checkpoints: int = option(2, "full checkpoints to keep")
    keep_best_checkpoints: int = option(1, "best models to keep")
    best_key: str = option("loss/total", "validation metric that decides which is best")
    best_mode: Direction = option(Direction.min, "min or max is better")
    export_dtype: Precision = option(Precision.float32, "precision of exported safetensors")
    load_experiment: str | None = option(None, "start from the weights of another run")
    reload_model: bool = option(False, "also take the model options of load_experiment")
    eval_every_iter: int | None = option(None, "steps between validations")
    eval_every_epoch: int = option(
        1, "epochs between validations, if eval_every_iter is null; 0: never"
    )
    eval_init: bool = option(False, "validate before the first step")
    run_benchmarks: list[str] = option([], "evaluations to run during training")
    benchmark_every_epoch: int = option(1, "epochs between benchmarks; 0: only at the end")
    writer: str | None = option(None, "tensorboard, wandb, or both; JSON lines are always written")
    project_name: str = option("splatfactory", "Weights & Biases project")
    log_every_iter: int = option(200, "steps between log lines")
    plot_every_iter: int | None = option(None, "steps between figures")
    num_eval_plots: int = option(4, "validation batches with figures")
    stdout_metrics: list[str] | None = option(["loss/total"], "shown on the console; null: all")
    accept_changed_data: bool = option(
        False, "--restore with changed data or seed: continue with the next epoch"
    )
    median_metrics: list[str] = option([], "validation metrics also logged as <name>_median")
    print_arch: int = option(1, "depth of the printed module tree; 0: none")
    fast_dev_run: int = option(0, "run this many steps, validate once and stop")
    overfit: int = option(0, "train repeatedly on this many batches; 0: off")
    record_memory: bool = option(False, "write a CUDA memory snapshot at the end or on failure")
    profile: int = option(0, "trace this many steps, after the first three")

    def __post_init__(self) -> None:
        """Validate fields against each other."""
        if self.num_steps is not None and self.num_steps < 1:
            raise ValueError(f"train.num_steps must be at least 1, got {self.num_steps}")
        if self.gradient_accumulation_steps < 1:
            raise ValueError("train.gradient_accumulation_steps must be at least 1")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"train.ema_decay must be in (0, 1), got {self.ema_decay}")
        pair(self.optimizer.betas, "train.optimizer.betas")
        for name, choices in (
            ("lr_schedule", LR_SCHEDULES), ("matmul_precision", MATMUL_PRECISIONS),
            ("compile", COMPILE_MODES),
        ):  # fmt: skip
            one_of(getattr(self, name), choices, f"train.{name}")


@dataclass
class PoseEstimatorConfig:
    """Photometric pose alignment of the evaluation."""

    lr: float = option(0.005, "step size of rotation and translation")
    num_steps: int = option(200, "steps")
    lpips_weight: float = option(0.05, "weight of LPIPS relative to masked L1")
    batch_size: int = option(10, "views optimised jointly")
    threshold: float = option(1e-5, "stop when the loss changes by less than this …")
    patience: int = option(5, "… for this many steps in a row")
    fast: bool = option(
        False, "coarse to fine, per-view stop, best pose: faster, but not the protocol"
    )


@dataclass
class EvalConfig:
    """How predictions are evaluated."""

    num_views: int | None = option(
        None, "number of context views, selects the index; null: the smallest"
    )
    index: str | None = option(
        None, "index file for custom_benchmark, or to replace a published one"
    )
    align_poses: bool = option(True, "align target poses before scoring")
    align_context: bool = option(False, "align and score context views as well")
    render_resize: int | None = option(None, "align, render and score at this size")
    lpips: str = option("vgg", "vgg, or none to skip LPIPS")
    clip_metrics: bool = option(False, "clip renders before SSIM and LPIPS")
    pose_estimator: PoseEstimatorConfig = section(PoseEstimatorConfig, "pose alignment")
    renderer: str = option("auto", "auto, cpu, cuda or reference")
    compression: float | None = option(
        None, "fraction of tokens kept; null: maximum of query_sample_ratio"
    )
    refine: int = option(
        0, "also score the scene after this many refinement steps on the context; 0: off"
    )
    save_gaussians: bool = option(False, "save each scene as a .ply file")
    save_images: bool = option(True, "save renders and error maps")
    num_worst: int = option(8, "number of worst scenes in the report")
    seed: int = option(0, "seed of anything random")


@dataclass
class BenchmarkConfig:
    """Overrides of a benchmark that runs during training."""

    max_samples: int | None = option(None, "scenes to use")
    eval: dict[str, Any] = option({}, "overridden evaluation options")
    data: dict[str, Any] = option({}, "overridden data options")


@dataclass
class Config:
    """A training run or an evaluation."""

    model: ModelConfig = section(ModelConfig, "network")
    data: DataConfig = section(DataConfig, "batches")
    train: TrainConfig = section(TrainConfig, "training loop")
    eval: EvalConfig = section(EvalConfig, "evaluation")
    benchmarks: dict[str, BenchmarkConfig] = option({}, "evaluations during training")
    max_samples: int | None = option(None, "maximum number of scenes in an evaluation")
