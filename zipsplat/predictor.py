"""`ZipSplat`: weights, preparation and network in one; the class that users meet."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from os import PathLike

import torch
from torch import nn

from zipsplat import weights as weights_files
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.model.checkpoint_layout import network_from_tensors, trained_size
from zipsplat.model.compression import check_compression
from zipsplat.model.network import Features, ZipSplatNetwork
from zipsplat.model.priors import Priors
from zipsplat.pose import Pose
from zipsplat.preprocess import Images, Inputs, Preprocessor

DEVICES = ("cpu", "cuda", "mps")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

logger = logging.getLogger(__name__)


class ZipSplat(nn.Module):
    """From a few pictures to a 3D Gaussian scene, in one forward pass.

    The scene is in the camera frame of the first view: x right, y down, z forward. Its scale is
    arbitrary; the network was trained on scenes scaled so that the median distance from the first
    camera is 1.

    Args:
        weights: a name ("zipsplat", the released weights), a path, an http(s) address, or a
            Hugging Face repository "organisation/repository". The architecture is read from it.
        device: where to compute: "auto" takes CUDA, else MPS (untested), else the CPU.
        dtype: "float32" (exact), "bfloat16" (half the memory, and faster on recent GPUs), or
            "auto": bfloat16 on CUDA devices that have it, else float32.
        image_size: pictures are cropped and resampled to this: a side in pixels, or (height,
            width); multiples of 14. None is the size that the weights were trained at, 252 for
            the released ones.

    Attributes:
        model: the network.
        preprocessor: brings pictures to the network's input size.
    """

    model: ZipSplatNetwork
    preprocessor: Preprocessor

    def __init__(
        self,
        weights: str | PathLike[str] = "zipsplat",
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        image_size: int | tuple[int, int] | None = None,
    ) -> None:
        checkpoint = weights_files.load(weights)
        try:
            network = network_from_tensors(checkpoint.tensors, checkpoint.conf)
        except ValueError as error:
            raise ValueError(f"{checkpoint.path}: {error}") from error
        size = trained_size(checkpoint.conf) if image_size is None else image_size
        self._assemble(network, device, dtype, size)

    @classmethod
    def from_network(
        cls,
        network: ZipSplatNetwork,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        image_size: int | tuple[int, int] = 252,
    ) -> ZipSplat:
        """Wrap a network that is there already, as one from a training; see the class.

        It is this network itself, not a copy, that is moved, cast and set to evaluation mode.
        """
        predictor = cls.__new__(cls)
        predictor._assemble(network, device, dtype, image_size)
        return predictor

    def _assemble(
        self,
        network: ZipSplatNetwork,
        device: str | torch.device,
        dtype: str | torch.dtype,
        image_size: int | tuple[int, int],
    ) -> None:
        super().__init__()
        where = choose_device(device)
        self.preprocessor = Preprocessor(image_size, network.backbone.patch_size)
        self.model = network.set_precision(choose_dtype(dtype, where)).to(where)
        self.eval()

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.model.parameters()).device

    @torch.no_grad()
    def forward(
        self,
        images: Images,
        cameras: Camera | Sequence[Camera] | None = None,
        poses: Pose | Sequence[Pose] | None = None,
        use_priors: bool = False,
        compression: float = 1.0,
        *,
        relative_priors: bool = True,
        prior_scale: float = 1.0,
    ) -> Gaussians:
        """Reconstruct one scene, or a batch of scenes.

        Args:
            images: list of (3, H, W) of any sizes, (V, 3, H, W), or (B, V, 3, H, W); RGB in [0, 1].
            cameras: of the pictures as given, used with `use_priors`: (V,), a list of V, or (B, V).
            poses: camera-to-world in any common frame; shapes as for `cameras`.
            use_priors: give cameras and poses to the network; both are needed.
            compression: share of the tokens to keep, in (0, 1]; the number of Gaussians follows.
            relative_priors: take poses relative to the first view, as training did. False passes
                them as they are.
            prior_scale: multiplies the translations of the poses. Training scaled scenes so that
                the median distance of their points from the first camera is 1; so with metric
                poses, choose 1 / (typical distance in metres).

        Returns:
            (B, N) Gaussians, B = 1 unless a batch was given.

        Raises:
            TypeError: if the pictures are no floating-point tensors.
            ValueError: if something does not fit; the message says what was wanted.
        """
        check_compression(compression)
        features = self.encode(
            images,
            cameras,
            poses,
            use_priors,
            relative_priors=relative_priors,
            prior_scale=prior_scale,
        )
        return self.decode(features, compression)

    @torch.no_grad()
    def encode(
        self,
        images: Images,
        cameras: Camera | Sequence[Camera] | None = None,
        poses: Pose | Sequence[Pose] | None = None,
        use_priors: bool = False,
        *,
        relative_priors: bool = True,
        prior_scale: float = 1.0,
    ) -> Features:
        """Run all that does not depend on the compression; arguments as for `forward`.

        Returns:
            What `decode` needs. Decoding again with another compression costs a fraction.
        """
        if (cameras is not None or poses is not None) != use_priors or (
            (cameras is None) != (poses is None)
        ):
            raise ValueError(_prior_problem(cameras is not None, poses is not None, use_priors))
        inputs = self.preprocessor(images, cameras, poses)
        priors = _priors(inputs, relative_priors, prior_scale)
        if priors is not None:
            priors = priors.to(self.device)
        return self.model.encode(inputs.images.to(self.device), priors)

    @torch.no_grad()
    def decode(self, features: Features, compression: float = 1.0) -> Gaussians:
        """Gaussians (B, N) of encoded pictures.

        Args:
            features: from `encode`.
            compression: share of the tokens to keep, in (0, 1].
        """
        return self.model.decode(features, compression)


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """The device to compute on; "auto" prefers CUDA, then MPS, then the CPU.

    Raises:
        ValueError: if there is no such device here.
    """
    if device != "auto":
        return _checked_device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        logger.warning("using Apple's MPS, which is untested; device='cpu' is the safe choice")
        return torch.device("mps")
    return torch.device("cpu")


def _checked_device(name: str | torch.device) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in DEVICES:
        raise ValueError(
            f"a device is auto, {', '.join(DEVICES)} or one by its number as cuda:1, got {name!r}"
        )
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            has = f"PyTorch sees {count} CUDA devices" if count else "PyTorch sees no CUDA device"
            raise ValueError(
                f"{name!s} cannot be used here: {has}; `zipsplat doctor` says why, 'cpu' works"
            )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise ValueError(f"{name!s} cannot be used here: it needs macOS on Apple silicon")
    return device


def choose_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The precision to compute in; "auto" is bfloat16 on CUDA devices that have it."""
    if dtype == "auto":
        has_bfloat16 = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8
        return torch.bfloat16 if has_bfloat16 else torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen is None or chosen not in DTYPES.values():
        raise ValueError(f"dtype must be 'auto', {' or '.join(map(repr, DTYPES))}, got {dtype!r}")
    return chosen


def _prior_problem(has_cameras: bool, has_poses: bool, use_priors: bool) -> str:
    if not use_priors:
        return (
            "cameras and poses are used only with use_priors=True; pass that as well, or leave "
            "them out"
        )
    given = "cameras" if has_cameras else "poses" if has_poses else "neither"
    return f"use_priors=True needs both cameras and poses, got {given}"


def _priors(inputs: Inputs, relative: bool, scale: float) -> Priors | None:
    if inputs.cameras is None or inputs.poses is None:
        return None
    if not (scale > 0 and math.isfinite(scale)):
        raise ValueError(f"prior_scale must be positive, got {scale}")
    poses = inputs.poses
    if relative:
        poses = poses[:, :1].inv().compose(poses)
    return Priors.from_cameras(inputs.cameras, Pose(poses.R, poses.t * scale))
