"""Every option of the section `data`: which scenes to read, and how to make batches of them.

`MultiviewDataset` takes a `SampleConfig`, `SceneLoader` a `LoaderConfig`; a
`DataConfig` is both.
"""

from __future__ import annotations

# ruff: noqa: RUF009 -- `option` and `section` make fresh dataclass fields, so no default is shared
from dataclasses import dataclass
from enum import Enum
from typing import Any

from splatfactory.options import one_of, option, pair, section

RESIZE_METHODS = ("torch_bilinear_aa", "pil_lanczos", "cv2_inter_area")


class ScaleRule(str, Enum):
    """Which distance is scaled to 1 in a training sample."""

    DEPTH = "depth"
    START_END = "start_end"
    MAX_PAIRWISE = "max_pairwise_d"
    NONE = "none"

    @staticmethod
    def parse(value: str | bool | None) -> ScaleRule:
        """Parse `normalize_baseline` of a configuration.

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


@dataclass
class PreprocessingConfig:
    """Image sizes of training and evaluation."""

    resize: int | None = option(252, "long side in pixels; null: as stored")
    edge_divisible_by: int | None = option(14, "crop sides to multiples of this; null: no crop")
    resize_method: str = option(
        RESIZE_METHODS[0], f"{', '.join(RESIZE_METHODS)} (the last needs OpenCV)"
    )

    def __post_init__(self) -> None:
        """Validate the values."""
        for name in ("resize", "edge_divisible_by"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"preprocessing.{name} must be positive or null, got {value}")
        one_of(self.resize_method, RESIZE_METHODS, "preprocessing.resize_method")


@dataclass
class SampleConfig:
    """How a sample is made from a clip."""

    num_target_views: int = option(4, "target views per scene")
    preprocessing: PreprocessingConfig = section(
        lambda: PreprocessingConfig(None, None), "image sizes"
    )
    augmentations: str = option("identity", "colour augmentation in training: identity or strong")
    mirror_probability: float = option(0.0, "fraction of training scenes that are mirrored")
    color_shuffle_probability: float = option(
        0.0, "fraction of training scenes whose colour channels are permuted, equally in all views"
    )
    random_reference_view: bool = option(True, "shuffle which context view comes first in training")
    use_relative_poses: bool = option(True, "express poses relative to the first context view")
    normalize_baseline: str | bool = option(
        False,
        "distance scaled to 1; false: median depth, true or start_end: between the first and "
        "last context camera, max_pairwise_d: largest between context cameras, none: stored units",
    )
    near: float = option(0.1, "near distance, in units of the data")
    far: float = option(100.0, "far distance, in units of the data")
    max_pose_jump_ratio: float = option(
        10.0, "drop scenes with a camera step longer than this many median steps; 0: keep all"
    )

    def __post_init__(self) -> None:
        """Validate the values."""
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
        """The parsed `normalize_baseline`."""
        return ScaleRule.parse(self.normalize_baseline)


@dataclass
class LoaderConfig:
    """How batches are made of scenes.

    A batch of V views holds `batch_size // processes // V` scenes per process, at least one.
    """

    batch_size: int = option(1, "context images per step, over all processes")
    image_num_range: tuple[int, int] = option(
        (2, 24), "minimum and maximum number of context views"
    )
    aspect_ratio_range: tuple[float, float] = option((1.0, 1.0), "width / height of the images")
    num_workers: int = option(0, "loader processes per rank; 0: load in the training process")
    prefetch_factor: int = option(2, "batches each loader process prepares ahead")
    seed: int = option(0, "seed of shuffling and view choice")
    max_samples: int | None = option(None, "maximum number of scenes of each data set")
    max_drop_rate: float = option(
        0.1, "fraction of unusable scenes that is an error; clips with too few views do not count"
    )

    def __post_init__(self) -> None:
        """Validate the values."""
        self.image_num_range = pair(self.image_num_range, "data.image_num_range")
        self.aspect_ratio_range = pair(self.aspect_ratio_range, "data.aspect_ratio_range")
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
    weight: float = option(1.0, "weight in the mixture")
    view_sampler: dict[str, Any] = option({"name": "bounded"}, "view sampler and its options")
    preprocessing: PreprocessingConfig | None = option(None, "null: as in the mixture")
    augmentations: str | None = option(None, "null: as in the mixture")
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
    view_schedule: float | None = option(
        0.5, "fraction of training over which the view count rises"
    )
    val_batch_size: int = option(1, "context images per validation batch")
    val_scenes: int = option(32, "training scenes held out for validation")
    num_workers: int = option(8, "loader processes per rank; 0: load in the training process")
    preprocessing: PreprocessingConfig = section(PreprocessingConfig, "image sizes")

    def __post_init__(self) -> None:
        """Validate the values."""
        SampleConfig.__post_init__(self)
        LoaderConfig.__post_init__(self)
        if self.val_batch_size < 1:
            raise ValueError(f"data.val_batch_size must be at least 1, got {self.val_batch_size}")
