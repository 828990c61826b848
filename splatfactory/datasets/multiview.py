"""From a store of clips to training samples: choose views, decode, normalise frame and scale."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from splatfactory import paths
from splatfactory.data_schema import SampleConfig, ScaleRule
from splatfactory.datasets import (
    augment,
    depth_codec,
    normalize,
    pixel_loops,
    resizing,
    samplers,
    scene_augment,
)
from splatfactory.datasets.depth_codec import INVALID
from splatfactory.datasets.frames import Frame, FrameError
from splatfactory.datasets.remote_files import is_remote
from splatfactory.datasets.resizing import Geometry
from splatfactory.datasets.samplers import Choice, Request, Rng, Split, ViewSampler
from splatfactory.datasets.samples import Scene, Views
from splatfactory.datasets.store import SceneError, SceneStore, ShardStore
from splatfactory.datasets.view_checks import MIN_BASELINE, check_size, check_view
from zipsplat.camera import Camera
from zipsplat.pose import Pose

NO_DEPTH_ADVICE = (
    "the scale of a scene comes from its depth maps: add them with"
    " `python -m splatfactory.datasets.scripts.extract_depth <shard directory>`,"
    " or take the scale from the cameras with normalize_baseline=max_pairwise_d"
)

TOO_FEW_VIEWS = "too few views"

_ANY = 2**31
"""Capacity of clips with fixed views: unlimited, as the requested number of views is ignored."""

Pixels = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]


class MultiviewDataset:
    """Training samples from the clips of one data set.

    Args:
        name: data set name; sample names are `<name>-<key>`.
        store: source of the clips.
        sampler: chooses the views.
        config: options of the samples.
        split: split of the samples.
        only: keys to use; None uses all.
        without: keys not to use.

    Attributes:
        scenes: indices in the store of the usable clips.
        capacities: maximum number of context views of each.
        excluded: unusable clips, with the reason.

    Raises:
        ValueError: if no clip is usable, or one listed in an evaluation index is missing.
    """

    def __init__(
        self,
        name: str,
        store: SceneStore,
        sampler: ViewSampler,
        config: SampleConfig,
        split: Split = Split.TRAIN,
        only: Collection[str] | None = None,
        without: Collection[str] = (),
    ) -> None:
        self.name = name
        self.store = store
        self.sampler = sampler
        self.config = config
        self.split = split
        self.scenes: list[int] = []
        self.capacities: list[int] = []
        self.excluded: list[tuple[str, SceneError]] = []
        self._augment = augment.build(config.augmentations) if split == Split.TRAIN else None
        self._admit(only, frozenset(without))

    def __len__(self) -> int:
        return len(self.scenes)

    def key(self, index: int) -> str:
        """Key of a clip."""
        return self.store.scenes[self.scenes[index]].key

    def load(self, index: int, num_context: int, aspect: float, seed: int) -> Scene:
        """Make a sample of a clip.

        Args:
            index: position in `scenes`.
            num_context: context views, at most the capacity of the clip.
            aspect: width / height of the images.
            seed: seed of everything random, in [0, 2³²).

        Raises:
            SceneError: if the clip is damaged or unsuitable.
        """
        scene = self.scenes[index]
        rng = Rng.seeded(seed)
        choice = self._choose(scene, num_context, rng)
        poses = self.store.poses(scene)
        order = choice.context + choice.target
        cameras = self.store.cameras(scene)
        for view in order:
            check_view(cameras[view], poses[view], f"view {view}")
        if normalize.has_jump(poses[:, 9:], order, self.config.max_pose_jump_ratio):
            raise SceneError("pose jump")
        buffers = self._decode(scene, order, aspect, rng)
        sample = self._assemble(scene, choice, buffers, poses)
        if self.split != Split.TRAIN:
            return sample
        config = self.config
        return scene_augment.vary(
            sample, config.mirror_probability, config.color_shuffle_probability, rng.numpy
        )

    def prefetch(self, samples: Iterable[tuple[int, int, int]]) -> None:
        """Start prefetching what `load` will need; drop everything else prefetched.

        Args:
            samples: index, number of context views and seed of each.
        """
        if not isinstance(self.store, ShardStore) or not self.store.reads_ahead:
            return
        views: dict[int, set[int]] = {}
        for index, num_context, seed in samples:
            scene = self.scenes[index]
            with suppress(SceneError):  # reported when the sample is loaded
                choice = self._choose(scene, num_context, Rng.seeded(seed))
                views.setdefault(scene, set()).update(choice.context, choice.target)
        self.store.prefetch({scene: sorted(chosen) for scene, chosen in views.items()})

    def _admit(self, only: Collection[str] | None, without: frozenset[str]) -> None:
        """Sort clips into usable and excluded ones."""
        known = self.sampler.keys
        wanted = None if only is None and known is None else _both(only, known)
        faults = dict(self.store.faults)
        found = set()
        for number, info in enumerate(self.store.scenes):
            if info.key in without or (wanted is not None and info.key not in wanted):
                continue
            found.add(info.key)
            error = self._unsuitable(number)
            if error is None:
                self.scenes.append(number)
                self.capacities.append(self._capacity(info.num_views))
            else:
                self.excluded.append((info.key, error))
        for key, error in faults.items():
            if key not in without and key not in found and (wanted is None or key in wanted):
                self.excluded.append((key, error))
        self._check_admitted(found, wanted)

    def _check_admitted(self, found: set[str], wanted: frozenset[str] | None) -> None:
        if self.split == Split.TEST and wanted is not None:
            missing = [(key, SceneError("not in the shards")) for key in sorted(wanted - found)]
            bad = [entry for entry in self.excluded if entry[0] in wanted]
            lost = dict(missing) | dict(bad)
            if lost:
                raise ValueError(
                    f"{self.name}: {len(lost)} of {len(wanted)} indexed scenes cannot be"
                    f" evaluated: {_listing(list(lost.items()))}"
                )
        if not self.scenes:
            advice = f"; {NO_DEPTH_ADVICE}" if self._lacks_depth() else ""
            if any(error.reason == TOO_FEW_VIEWS for _, error in self.excluded):
                advice += f"; {self._views_advice()}"
            raise ValueError(
                f"{self.name}: no usable scene for split {self.split.value}:"
                f" {_listing(self.excluded) or 'the directory is empty'}{advice}"
            )

    def _views_advice(self) -> str:
        needed = max(self.sampler.min_views, self.config.num_target_views + 1)
        return (
            f"the view sampler and {self.config.num_target_views} targets need {needed} views:"
            " change the distances of the sampler (or use `random`), or use fewer targets"
        )

    def _lacks_depth(self) -> bool:
        return any(error.reason == "no depth" for _, error in self.excluded)

    def _unsuitable(self, number: int) -> SceneError | None:
        info = self.store.scenes[number]
        if info.num_views < self.sampler.min_views or self._capacity(info.num_views) < 1:
            return SceneError(TOO_FEW_VIEWS, str(info.num_views))
        if self.config.scale_rule == ScaleRule.DEPTH and not info.has_depth:
            return SceneError("no depth", NO_DEPTH_ADVICE)
        return None

    def _capacity(self, num_views: int) -> int:
        if self.sampler.is_fixed:
            return _ANY
        return num_views - self.config.num_target_views

    def _choose(self, scene: int, num_context: int, rng: Rng) -> Choice:
        """Context and target frames; in training, a random one becomes the reference."""
        info = self.store.scenes[scene]
        request = Request(
            info.key, info.num_views, num_context, self.config.num_target_views, self.split
        )
        choice = self.sampler.sample(request, rng)
        if self.split != Split.TRAIN or not self.config.random_reference_view:
            return choice
        order = rng.numpy.permutation(len(choice.context))
        return Choice(
            tuple(choice.context[place] for place in order),
            choice.target,
            tuple(choice.overlaps[place] for place in order),
        )

    def _decode(self, scene: int, order: tuple[int, ...], aspect: float, rng: Rng) -> _ViewBuffers:
        """Decode images, depth maps and cameras at final size; views may repeat in `order`."""
        cameras = self.store.cameras(scene)
        views = tuple(dict.fromkeys(order))
        frames = dict(zip(views, self.store.frames(scene, views), strict=True))
        buffers: _ViewBuffers | None = None
        for view in views:
            # Release each frame after use, so that the next one is decoded into cached memory.
            frame = frames.pop(view)
            pixels, depth, geometry = self._fit(view, frame, aspect)
            mask = frame.sample_mask(*geometry.nearest)
            if self._augment is not None:
                pixels = self._augment(pixels, rng.fresh_generator())
            if buffers is None:
                buffers = _ViewBuffers.empty(len(order), *pixels.shape[:2])
            places = [place for place, other in enumerate(order) if other == view]
            buffers.put(places, pixels, depth, geometry.camera(cameras[view]))
            check_size(cameras[view], frame.size, f"view {view}")
            if mask is not None:
                buffers.mask(places, mask)
        assert buffers is not None
        return buffers

    def _fit(
        self, view: int, frame: Frame, aspect: float
    ) -> tuple[Pixels, FloatArray | None, Geometry]:
        """Decode, resize and crop an image and its depth map."""
        config = self.config.preprocessing
        try:
            geometry = resizing.plan(frame.size, aspect, config)
            pixels = resizing.apply(frame, geometry, config.resize_method)
            return pixels, frame.sample_depth(*geometry.nearest), geometry
        except FrameError as error:
            raise SceneError("corrupt image", f"image {view}, {error}") from error
        except ValueError as error:
            raise SceneError("unfit image", str(error)) from error

    def _assemble(
        self,
        scene: int,
        choice: Choice,
        buffers: _ViewBuffers,
        rows: FloatArray,
    ) -> Scene:
        """Bring everything into the frame and scale of the sample."""
        order = choice.context + choice.target
        poses = Pose.from_packed(torch.from_numpy(rows[list(order)]))
        if self.config.use_relative_poses:
            poses = poses[0].inv().compose(poses)
        N = len(choice.context)
        scale = self._scale(buffers, N, poses.packed().numpy())
        depths = buffers.depths
        pixel_loops.rescale(depths.reshape(-1), np.float32(1 / scale), np.float32(INVALID))
        V = len(order)
        views = Views(
            images=torch.from_numpy(buffers.images),
            cameras=Camera.from_packed(torch.from_numpy(buffers.cameras)),
            poses=Pose(poses.R, poses.t * (1 / scale)),
            depths=torch.from_numpy(depths),
            near=torch.full((V,), self.config.near / scale),
            far=torch.full((V,), self.config.far / scale),
            indices=torch.tensor(order),
            masks=torch.from_numpy(buffers.masks) if buffers.is_masked else None,
        )
        return Scene(
            name=f"{self.name}-{self.store.scenes[scene].key}",
            dataset=self.name,
            context=views[:N],
            target=views[N:],
            overlaps=torch.tensor(choice.overlaps, dtype=torch.float32),
            scale=torch.tensor(scale, dtype=torch.float32),
        )

    def _scale(self, buffers: _ViewBuffers, N: int, poses: FloatArray) -> float:
        """Length of the scene's unit, from its first N views, the context."""
        rule = self.config.scale_rule
        if rule == ScaleRule.DEPTH:
            distance = normalize.median_distance(buffers.depths[:N], buffers.cameras[:N], poses[:N])
            if distance is None:
                raise SceneError("no valid depth", NO_DEPTH_ADVICE)
            return distance
        unit = normalize.baseline(rule, poses[:N, 9:])
        if unit < MIN_BASELINE * self.config.near:
            raise SceneError(
                "no baseline", f"the context cameras are {unit:g} apart, near is {self.config.near}"
            )
        return unit


@dataclass(frozen=True)
class _ViewBuffers:
    """Buffers of the decoded views of one clip.

    Attributes:
        images: (V, 3, H, W).
        depths: (V, H, W).
        cameras: (V, 6) rows.
        masks: (V, H, W), pixels that losses use.
    """

    images: Pixels
    depths: FloatArray
    cameras: FloatArray
    masks: npt.NDArray[np.bool_]

    @property
    def is_masked(self) -> bool:
        """Whether any pixel is masked out."""
        return not self.masks.all()

    @staticmethod
    def empty(V: int, height: int, width: int) -> _ViewBuffers:
        """Allocate buffers for V views."""
        return _ViewBuffers(
            np.empty((V, 3, height, width), np.uint8),
            np.empty((V, height, width), np.float32),
            np.empty((V, 6), np.float32),
            np.ones((V, height, width), np.bool_),
        )

    def put(
        self,
        places: Sequence[int],
        pixels: Pixels,
        depth: FloatArray | None,
        camera: FloatArray,
    ) -> None:
        """Store one view at all its positions.

        Args:
            places: positions among the V views.
            pixels: (H, W, 3).
            depth: (H, W) z depth; None without depth.
            camera: (6,) row.
        """
        if pixels.shape[:2] != self.depths.shape[1:]:
            raise SceneError("mixed sizes", "set preprocessing.resize to unify them")
        for place in places:
            _separate(pixels, self.images[place])
            self.depths[place] = INVALID if depth is None else depth
            self.cameras[place] = camera

    def mask(self, places: Sequence[int], mask: npt.NDArray[np.bool_]) -> None:
        """Mask out pixels of one view at all its positions; their depth becomes unknown."""
        for place in places:
            self.masks[place] = mask
            self.depths[place][~mask] = INVALID


def _separate(pixels: Pixels, planes: Pixels) -> None:
    """Copy an image (H, W, 3) to planes (3, H, W); OpenCV takes a quarter of NumPy's time."""
    cv2 = depth_codec.opencv()
    if cv2 is None:
        planes[:] = pixels.transpose(2, 0, 1)
    else:
        cv2.split(pixels, list(planes))


def _both(only: Collection[str] | None, known: frozenset[str] | None) -> frozenset[str]:
    if only is None:
        return known or frozenset()
    return frozenset(only) if known is None else known & frozenset(only)


def _listing(entries: Sequence[tuple[str, SceneError]], shown: int = 3) -> str:
    """Format counts by reason, with a few examples."""
    counts = Counter(error.reason for _, error in entries)
    parts = []
    for reason, count in counts.most_common():
        keys = [key for key, error in entries if error.reason == reason][:shown]
        parts.append(f"{count} × {reason} ({', '.join(keys)}{', …' if count > shown else ''})")
    return "; ".join(parts)


def held_out(keys: Sequence[str], count: int) -> frozenset[str]:
    """A fixed choice of training scenes held out for validation.

    The choice depends only on the keys, so it is stable when shards are repacked; added scenes
    change it only where they displace others.

    Args:
        keys: scene keys of a training directory.
        count: scenes to hold out; at most half of all.
    """
    by_digest = sorted(keys, key=lambda key: hashlib.sha256(key.encode()).digest())
    return frozenset(by_digest[: min(count, len(keys) // 2)])


def open_shards(
    name: str,
    directory: str | Path,
    view_sampler: Mapping[str, Any],
    config: SampleConfig,
    split: Split = Split.TRAIN,
    **selection: Any,
) -> MultiviewDataset:
    """Open a data set in a shard directory.

    Args:
        name: data set name.
        directory: folder of `*.tar` shards, where a leading `data` follows `$SPLATFACTORY_DATA`; or
            a URL such as `s3://bucket/folder`.
        view_sampler: `name` and options of a sampler.
        config: options of the samples.
        split: split of the samples.
        **selection: `only` and `without` of `MultiviewDataset`.
    """
    place = directory if is_remote(directory) else paths.resolve(directory)
    store = ShardStore(place, show_progress=True)
    return MultiviewDataset(name, store, samplers.build(view_sampler), config, split, **selection)
