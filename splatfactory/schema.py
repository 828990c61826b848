"""Every option of training and evaluation: its name, type, default and meaning.

YAML files hold only what differs from these defaults. Names follow the released configurations.
Cross-field checks are in `__post_init__`; loading is `splatfactory.config`.
"""

from __future__ import annotations

# ruff: noqa: RUF009 -- `option` and `section` make fresh dataclass fields, no shared defaults
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from splatfactory.options import option, section
from zipsplat.plugins import nearest


class Precision(str, Enum):
    """Arithmetic of the network's forward pass; geometry and losses are always float32."""

    float32 = "float32"
    bfloat16 = "bfloat16"


class ActivatedRule(str, Enum):
    """Which Gaussians count as constrained by the pictures."""

    centred = "centred"
    contributed = "contributed"


class Direction(str, Enum):
    """Whether a smaller or a larger value of a metric is better."""

    min = "min"
    max = "max"


class ScaleRule(str, Enum):
    """What becomes 1 in a training sample."""

    DEPTH = "depth"
    START_END = "start_end"
    MAX_PAIRWISE = "max_pairwise_d"
    NONE = "none"

    @staticmethod
    def parse(value: str | bool | None) -> ScaleRule:
        """The rule behind `normalize_baseline` of a configuration.

        Args:
            value: false or null (the median distance of the visible points), true or `start_end`,
                `max_pairwise_d`, or `none`.
        """
        if value is None or value is False or value == "false":
            return ScaleRule.DEPTH
        if value is True or value == "true":
            return ScaleRule.START_END
        try:
            return ScaleRule(value)
        except ValueError:
            raise ValueError(
                "normalize_baseline must be false, true, start_end, max_pairwise_d or none,"
                f" got {value!r}"
            ) from None


LR_SCHEDULES = ("warmup_cosine", "constant")
MATMUL_PRECISIONS = ("highest", "high", "medium")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
"""Of `torch.compile`."""
RESIZE_METHODS = ("torch_bilinear_aa", "pil_lanczos", "cv2_inter_area")


@dataclass
class KnnConfig:
    """Token selection by k-means."""

    init_mode: str = option("uniform", "first centroids: evenly spaced tokens")
    n_iters: int = option(5, "k-means rounds")


@dataclass
class BackboneConfig:
    """Image encoder: the vision transformer of Depth Anything 3, or one of your own."""

    name: str = option("dav3", "module of zipsplat.model.backbones, or of your own: my_lab.mine")
    vit_name: str = option("vitg", "vits, vitb, vitl, vitg, or custom with the sizes below")
    embed_dim: int = option(1536, "token width")
    depth: int | None = option(None, "number of blocks; null: that of vit_name")
    num_heads: int | None = option(None, "attention heads; null: embed_dim / 64")
    ffn: str | None = option(None, "mlp or swiglu; null: that of vit_name, or mlp")
    ffn_hidden: int | None = option(None, "hidden width of the blocks; null: by the usual rule")
    patch_size: int | None = option(None, "patch side in pixels; null: 14")
    pos_grid: int | None = option(None, "side of the learned position grid; null: 37")
    prior_heads: int | None = option(None, "heads of the camera encoder; null: 16")
    stem_dim: int = option(0, "width of a convolutional pyramid beside the patches; 0: none")
    has_matcher: bool = option(False, "tell tokens what their pyramid features match elsewhere")
    out_layers: list[int] = option([19, 29, 39], "blocks whose tokens are used, ascending")
    alt_start: int = option(13, "first block that may attend across views")
    qknorm_start: int = option(13, "first block with normalised queries and keys")
    rope_start: int = option(13, "first block with rotary positions")
    cat_token: bool = option(True, "emit local and global tokens side by side")
    with_camera_enc: bool = option(True, "have a camera-prior encoder")
    freeze_camera_enc: bool = option(True, "do not train the camera encoder and camera tokens")
    weights: str | None = option("weights/da3-giant.pth", "initial weights; null: random")
    init_layer_scale: float = option(1.0, "initial layer scale of the blocks, where random")
    use_checkpoint: bool = option(False, "recompute activations of the blocks in the backward pass")


@dataclass
class HeadConfig:
    """Gaussian head and losses."""

    sh_degree: int = option(1, "degree of the spherical harmonics")
    max_scale: float = option(0.1, "scales above are penalised")
    min_scale: float = option(1e-6, "scales below are penalised")
    opacity_penalty_threshold: float = option(0.01, "opacities below are penalised")
    location_penalty_range: float = option(10.0, "coordinates beyond are penalised")
    random_background: bool = option(False, "draw over a random colour, so that holes cost")
    coupled_init: bool = option(True, "start all Gaussians of a token from equal weights")
    init_position_z_bias: float = option(0.5, "initial raw depth")
    init_scale_bias: float = option(0.5, "initial raw scale")
    init_opacity_bias: float = option(-1.5, "initial raw opacity")
    detach_activated_gaussians: bool = option(True, "spare visible Gaussians the chamfer pull")
    activated: ActivatedRule = option(
        ActivatedRule.centred,
        "centred: blended at its own centre pixel; contributed: blended anywhere",
    )
    use_l1_loss: bool = option(True, "mse_loss is the absolute error; false: squared error")
    use_chamfer: bool = option(True, "chamfer term; false: pull towards (0, 0, 1)")
    loss_on_context: bool = option(False, "supervise the context views as well")
    mse_weight: float = option(1.0, "weight of the pixel error")
    lpips_weight: float = option(0.05, "weight of LPIPS-VGG; 0 needs no weight files")
    ssim_weight: float = option(0.0, "weight of 1 − SSIM")
    chamfer_weight: float = option(0.1, "weight of the chamfer term")
    depth_weight: float = option(0.01, "weight of the depth error")
    surface_weight: float = option(
        0.0, "weight of the distance of Gaussians to what their patch of a context view shows"
    )
    match_weight: float = option(0.0, "weight of the error of backbone.has_matcher's matches")
    extra_losses: dict[str, Any] = option(
        {},
        "further losses by module: their weight, or {weight: 0.1, <own options>}",
    )


@dataclass
class ModelConfig:
    """The network and how it is trained."""

    name: str = option("networks.zipsplat", "networks.zipsplat or networks.pixel_aligned")
    weights: str | None = option(None, "weights of the whole network: name, path or URL")
    backbone: BackboneConfig = section(BackboneConfig, "image encoder")
    gaussian_head: HeadConfig = section(HeadConfig, "Gaussian head and losses")
    knn: KnnConfig = section(KnnConfig, "token selection")
    img_size: int = option(252, "picture side in pixels")
    gaussians_per_prototype: int = option(32, "Gaussians per scene token")
    clustering_layer: int = option(0, "feature layer the tokens are chosen on, 0 is the deepest")
    scene_init_layer: int = option(0, "feature layer scene tokens start from")
    num_heads: int | None = option(None, "heads of the fusion blocks; null: embed_dim / 64")
    color_heads: int | None = option(None, "heads of the colour branch; null: width / 64")
    mlp_ratio: float = option(4.0, "hidden width of the fusion MLPs over embed_dim")
    relief_init: bool = option(
        False, "start as pictures in front of the first camera; for small models without weights"
    )
    fuse_layer_scale: float = option(0.01, "initial layer scale of the fusion blocks")
    query_sample_ratio: list[float] = option([0.5, 1.0], "kept share of tokens in training")
    query_ratio_schedule: float = option(0.5, "share of training that lowers the minimum ratio")
    query_scale_with_views: float = option(0.5, "minimum ratio falls with (2 / views) ** this")
    token_selection_mode: str = option("kmeans", "kmeans, stride or random")
    with_color_skip: bool = option(True, "feed picture colours to the head")
    color_skip_dim: int = option(128, "width of the colour branch")
    prior_probability: float = option(0.2, "chance of a step to see camera priors")
    eval_use_priors: bool = option(False, "feed true context cameras in evaluation")
    use_checkpoint: bool = option(False, "recompute activations of the fusion blocks")
    compile_loss: bool = option(False, "only false: a k-d tree cannot be compiled")

    def __post_init__(self) -> None:
        """Check what one field cannot know of another."""
        low, high = _pair(self.query_sample_ratio, "model.query_sample_ratio")
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
        """Options that released configurations name, but of which the network knows one value."""
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
class PreprocessingConfig:
    """Picture sizes of training and evaluation."""

    resize: int | None = option(252, "long side in pixels; null: as stored")
    edge_divisible_by: int | None = option(14, "crop sides to multiples of this; null: do not")
    resize_method: str = option(
        RESIZE_METHODS[0], f"{', '.join(RESIZE_METHODS)} (the last one needs OpenCV)"
    )

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("resize", "edge_divisible_by"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"preprocessing.{name} must be positive or null, got {value}")
        _one_of(self.resize_method, RESIZE_METHODS, "preprocessing.resize_method")


@dataclass
class SampleConfig:
    """How a clip becomes a sample."""

    num_target_views: int = option(4, "target views per scene")
    preprocessing: PreprocessingConfig = section(
        lambda: PreprocessingConfig(None, None), "picture sizes"
    )
    augmentations: str = option("identity", "identity or strong colour changes, in training")
    mirror_probability: float = option(0.0, "share of training scenes that are mirrored")
    color_shuffle_probability: float = option(
        0.0, "share of training scenes whose colour channels change places, alike in all views"
    )
    random_reference_view: bool = option(True, "shuffle which context view comes first in training")
    use_relative_poses: bool = option(True, "express poses relative to the first context view")
    normalize_baseline: str | bool = option(
        False,
        "what becomes 1; false: median depth, true or start_end: distance of the first and last "
        "context camera, max_pairwise_d: the largest between context cameras, none: stored units",
    )
    near: float = option(0.1, "near distance, in units of the data")
    far: float = option(100.0, "far distance, in units of the data")
    max_pose_jump_ratio: float = option(
        10.0, "drop scenes with a camera step of more than so many median steps; 0: keep"
    )

    def __post_init__(self) -> None:
        """Check the values."""
        ScaleRule.parse(self.normalize_baseline)
        if self.num_target_views < 1:
            raise ValueError(f"num_target_views must be positive, got {self.num_target_views}")
        if not 0 < self.near < self.far:
            raise ValueError(f"need 0 < near < far, got near {self.near} and far {self.far}")
        for name in ("mirror_probability", "color_shuffle_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    @property
    def scale_rule(self) -> ScaleRule:
        """The meaning of `normalize_baseline`."""
        return ScaleRule.parse(self.normalize_baseline)


@dataclass
class LoaderConfig:
    """How scenes become batches.

    A batch of V views holds `batch_size // processes // V` scenes per process, at least one.
    """

    batch_size: int = option(1, "context images per step, over all processes")
    image_num_range: tuple[int, int] = option((2, 24), "fewest and most context views")
    aspect_ratio_range: tuple[float, float] = option((1.0, 1.0), "width / height of the pictures")
    num_workers: int = option(0, "loader processes per rank; 0: load in the training process")
    prefetch_factor: int = option(2, "batches each loader process prepares ahead")
    seed: int = option(0, "seed of shuffling and view choice")
    max_samples: int | None = option(None, "use at most so many scenes of each data set")
    max_drop_rate: float = option(
        0.1, "share of unusable scenes that is an error; clips of too few views do not count"
    )

    def __post_init__(self) -> None:
        """Check the values."""
        self.image_num_range = _pair(self.image_num_range, "data.image_num_range")
        self.aspect_ratio_range = _pair(self.aspect_ratio_range, "data.aspect_ratio_range")
        low, high = self.image_num_range
        if not 1 <= low <= high:
            raise ValueError(f"data.image_num_range must be [min, max], got [{low}, {high}]")
        narrow, wide = self.aspect_ratio_range
        if not 0 < narrow <= wide:
            raise ValueError(f"data.aspect_ratio_range must be [min, max], got [{narrow}, {wide}]")
        for name in ("batch_size", "prefetch_factor"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} must be at least 1, got {getattr(self, name)}")
        for name in ("num_workers", "seed"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} must not be negative, got {getattr(self, name)}")
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"data.max_samples must be positive or null, got {self.max_samples}")
        if not 0 <= self.max_drop_rate <= 1:
            raise ValueError(f"data.max_drop_rate must be in [0, 1], got {self.max_drop_rate}")


@dataclass
class ChildConfig:
    """One dataset of a mixture."""

    dataset_dir: str = option("", "folder of train-scenes and test-scenes")
    dataset_name: str | None = option(None, "name in logs and result tables")
    weight: float = option(1.0, "share of the mixture")
    view_sampler: dict[str, Any] = option({"name": "bounded"}, "view sampler and its options")
    preprocessing: PreprocessingConfig | None = option(None, "null: as the mixture")
    augmentations: str | None = option(None, "null: as the mixture")
    train_shard_dir: str = option("train-scenes", "folder of training shards")
    test_shard_dir: str = option("test-scenes", "folder of test shards")


@dataclass
class SyntheticConfig:
    """Generated scenes; used by data.name=synthetic."""

    num_scenes: int = option(1000, "scenes per epoch")
    num_views: int = option(24, "views per scene to sample from")
    size: list[int] = option([252, 252], "height and width in pixels")
    seed: int = option(0, "seed of the collection")


@dataclass
class DataConfig(SampleConfig, LoaderConfig):
    """Where batches come from, and how they are made."""

    name: str = option("composed", "composed, synthetic, or the name of one converted dataset")
    dataset_dir: str = option("", "folder of one converted dataset")
    childs: dict[str, ChildConfig] = option({}, "datasets of a mixture")
    synthetic: SyntheticConfig = section(SyntheticConfig, "generated scenes")
    train_shard_dir: str = option("train-scenes", "folder of training shards")
    test_shard_dir: str = option("test-scenes", "folder of test shards")
    view_sampler: dict[str, Any] = option({"name": "bounded"}, "view sampler and its options")
    view_schedule: float | None = option(0.5, "share of training that raises the view count")
    val_batch_size: int = option(1, "context images per validation batch")
    val_scenes: int = option(32, "training scenes held out for validation")
    num_workers: int = option(8, "loader processes per rank; 0: load in the training process")
    preprocessing: PreprocessingConfig = section(PreprocessingConfig, "picture sizes")

    def __post_init__(self) -> None:
        """Check the values."""
        SampleConfig.__post_init__(self)
        LoaderConfig.__post_init__(self)
        if self.val_batch_size < 1:
            raise ValueError(f"data.val_batch_size must be at least 1, got {self.val_batch_size}")


@dataclass
class OptimizerConfig:
    """Update rule."""

    name: str = option("AdamW", "AdamW, Adam or Muon (for matrices of hidden layers)")
    weight_decay: float = option(0.05, "decoupled weight decay")
    betas: list[float] = option([0.9, 0.95], "moment decay rates")
    eps: float = option(1e-8, "denominator floor")
    decay_exclusions: bool = option(
        False, "spare norms, biases, layer scales and position embeddings the weight decay"
    )
    muon_lr_factor: float = option(1.0, "Muon: factor on the learning rate of the matrices")


@dataclass
class TrainConfig:
    """The training loop."""

    seed: int | None = option(0, "seed of everything random; null: from the system")
    num_steps: int | None = option(None, "optimizer steps")
    epochs: int | None = option(None, "passes over the data")
    max_minutes: float | None = option(None, "save and stop after so long")
    lr: float = option(1e-3, "peak learning rate")
    lr_scaling: dict[str, float] = option(
        {}, "factors by part of a parameter's name, first match counts; a+b: either"
    )
    lr_schedule: str = option("warmup_cosine", "warmup_cosine or constant")
    warmup_steps: int | None = option(None, "null: 5 % of num_steps")
    optimizer: OptimizerConfig = section(OptimizerConfig, "update rule")
    opt_regexp: str | None = option(None, "train only parameters whose name matches")
    clip_grad: float | None = option(None, "largest gradient norm")
    gradient_accumulation_steps: int = option(1, "batches per optimizer step")
    ema_decay: float | None = option(None, "keep an average of the weights, e.g. 0.9999")
    max_nonfinite_steps: int = option(20, "stop after so many unusable gradients in a row")
    mixed_precision: Precision = option(Precision.float32, "float32 or bfloat16")
    matmul_precision: str = option("high", "highest, high or medium, as torch names them")
    compile: str | None = option(None, f"torch.compile mode; {', '.join(COMPILE_MODES)}")
    deterministic: bool = option(True, "on a CPU: bit-equal repetition")
    detect_anomaly: bool = option(False, "name the operation behind a NaN; slow")
    num_threads: int | None = option(None, "CPU threads per process; null: as the system says")
    renderer: str = option("auto", "auto, cpu, cuda or reference")
    ddp_find_unused_parameters: bool = option(False, "for models with unused parameters")
    ddp_timeout_minutes: float = option(30.0, "give up on a silent process after so long")
    save_every_iter: int | None = option(None, "checkpoint every so many steps")
    save_every_minutes: float | None = option(30.0, "checkpoint every so many minutes")
    keep_last_checkpoints: int = option(2, "full checkpoints to keep")
    keep_best_checkpoints: int = option(1, "best models to keep")
    best_key: str = option("loss/total", "validation metric that decides which is best")
    best_mode: Direction = option(Direction.min, "min or max is better")
    export_dtype: Precision = option(Precision.float32, "precision of exported safetensors")
    load_experiment: str | None = option(None, "start from the weights of another run")
    reload_model: bool = option(False, "with load_experiment: take its model options too")
    eval_every_iter: int | None = option(None, "validate every so many steps")
    eval_every_epoch: int = option(1, "validate every so many epochs, unless by steps; 0: never")
    eval_init: bool = option(False, "validate before the first step")
    run_benchmarks: list[str] = option([], "evaluations to run during training")
    benchmark_every_epoch: int = option(1, "run them every so many epochs; 0: at the end only")
    writer: str | None = option(None, "tensorboard, wandb, or both; JSON lines are always written")
    project_name: str = option("splatfactory", "Weights & Biases project")
    log_every_iter: int = option(200, "log every so many steps")
    plot_every_iter: int | None = option(None, "draw figures every so many steps")
    num_eval_plots: int = option(4, "validation batches to draw")
    stdout_metrics: list[str] | None = option(["loss/total"], "shown on the console; null: all")
    accept_changed_data: bool = option(
        False, "--restore with other data or seed: go on at the begin of the next epoch"
    )
    median_metrics: list[str] = option([], "validation metrics logged as <name>_median as well")
    print_arch: int = option(1, "depth of the printed module tree; 0: none")
    fast_dev_run: int = option(0, "run so many steps, validate once and stop")
    overfit: int = option(0, "train on the first so many batches over and over")
    record_memory: bool = option(False, "write a CUDA memory snapshot at the end or on a failure")
    profile: int = option(0, "write a trace of so many steps after the third")

    def __post_init__(self) -> None:
        """Check what one field cannot know of another."""
        if self.num_steps is not None and self.num_steps < 1:
            raise ValueError(f"train.num_steps must be at least 1, got {self.num_steps}")
        if self.gradient_accumulation_steps < 1:
            raise ValueError("train.gradient_accumulation_steps must be at least 1")
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(f"train.ema_decay must be in (0, 1), got {self.ema_decay}")
        _pair(self.optimizer.betas, "train.optimizer.betas")
        for name, choices in (
            ("lr_schedule", LR_SCHEDULES), ("matmul_precision", MATMUL_PRECISIONS),
            ("compile", COMPILE_MODES),
        ):  # fmt: skip
            _one_of(getattr(self, name), choices, f"train.{name}")


@dataclass
class PoseEstimatorConfig:
    """Photometric pose alignment of the evaluation."""

    lr: float = option(0.005, "step size of rotation and translation")
    num_steps: int = option(200, "steps")
    lpips_weight: float = option(0.05, "weight of LPIPS beside the masked L1")
    batch_size: int = option(10, "views optimised together")
    threshold: float = option(1e-5, "stop when the loss changes less …")
    patience: int = option(5, "… for so many steps in a row")
    fast: bool = option(False, "coarse first, per-view stop, best pose: faster, not the protocol")


@dataclass
class EvalConfig:
    """How predictions are judged."""

    num_views: int | None = option(None, "context views; chooses the index; null: the smallest")
    index: str | None = option(None, "index file for custom_benchmark, or instead of the shipped")
    align_poses: bool = option(True, "align target poses before scoring")
    align_context: bool = option(False, "align and score context views as well")
    render_resize: int | None = option(None, "align, draw and score at this size")
    lpips: str = option("vgg", "vgg, or none where its weights cannot be had")
    clip_metrics: bool = option(False, "clip renderings before SSIM and LPIPS")
    pose_estimator: PoseEstimatorConfig = section(PoseEstimatorConfig, "pose alignment")
    renderer: str = option("auto", "auto, cpu, cuda or reference")
    compression: float | None = option(None, "kept share of tokens; null: query_sample_ratio max")
    refine: int = option(0, "also score the scene refined for so many steps on the context; 0: off")
    save_gaussians: bool = option(False, "keep each scene as a .ply file")
    save_images: bool = option(True, "keep renderings and error maps")
    num_worst: int = option(8, "worst scenes shown in the report")
    seed: int = option(0, "seed of anything random")


@dataclass
class BenchmarkConfig:
    """Changes to one evaluation when it runs during training."""

    max_samples: int | None = option(None, "scenes to use")
    eval: dict[str, Any] = option({}, "changed evaluation options")
    data: dict[str, Any] = option({}, "changed data options")


@dataclass
class Config:
    """A training run or an evaluation."""

    model: ModelConfig = section(ModelConfig, "network")
    data: DataConfig = section(DataConfig, "batches")
    train: TrainConfig = section(TrainConfig, "training loop")
    eval: EvalConfig = section(EvalConfig, "evaluation")
    benchmarks: dict[str, BenchmarkConfig] = option({}, "evaluations during training")
    max_samples: int | None = option(None, "evaluation: use at most so many scenes")


def _one_of(value: str | None, choices: Sequence[str], name: str) -> None:
    if value is not None and value not in choices:
        raise ValueError(
            f"{name} must be one of {', '.join(choices)}, got {value!r}{nearest(value, choices)}"
        )


def _pair(values: Sequence[Any], name: str) -> tuple[Any, Any]:
    if len(values) != 2:
        raise ValueError(f"{name} must be two numbers, got {values}")
    return values[0], values[1]
