"""Masks of photos, from a folder or from the photos' own transparency.

A mask is bool (H, W), True where the photo counts. In files, white counts and black does not, as in
COLMAP, nerfstudio and most tools that make masks; `is_inverted` swaps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from zipsplat.images import crop_to_ar, image_info, load_alpha, load_image
from zipsplat.media_kinds import kind_by_suffix

ALPHA = "alpha"
_THRESHOLD = 0.5  # of white, or of opacity
_WHOLE = 1 - 1e-3  # share of an area that counts as all of it, up to rounding
_LEAST_PATCH = 0.5  # share of a patch; more would erode small objects
_INVERSES = {6: 8, 8: 6}  # EXIF orientations whose inverse is another one
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class MaskSource:
    """Where masks come from.

    Args:
        folder: contains one mask per photo, found by name: that of the photo with another suffix
            (`a.png` for `a.jpg`), with one more (`a.jpg.png`), or with `_mask` (`a_mask.png`);
            None for the photos' own alpha.
        is_inverted: whether white or opaque pixels are the ones excluded.
    """

    folder: Path | None = None
    is_inverted: bool = False

    @classmethod
    def from_argument(cls, masks: str, is_inverted: bool = False) -> MaskSource:
        """Parse `--masks DIR|alpha`.

        Raises:
            ValueError: if it is neither "alpha" nor a folder.
        """
        if masks == ALPHA:
            return cls(None, is_inverted)
        if not Path(masks).is_dir():
            raise ValueError(f"masks must be a folder or {ALPHA!r}, got {masks!r}")
        return cls(Path(masks), is_inverted)


def load_mask(
    photo: Path, source: MaskSource, size: tuple[int, int], *, as_stored: bool = False
) -> Tensor:
    """Load the mask of a photo.

    Args:
        photo: its file.
        source: where masks come from.
        size: height and width of the loaded photo.
        as_stored: whether the photo was loaded without its EXIF rotation.

    Returns:
        (height, width) bool on the CPU, True where the photo counts.

    Raises:
        FileNotFoundError: if the folder has no mask for the photo.
        ValueError: if the mask is unreadable, has another aspect ratio than the photo, or is empty.
    """
    if source.folder is None:
        shares = load_alpha(photo)
    else:
        shares = _from_file(find_mask(photo, source.folder), photo)
    if as_stored:
        orientation = image_info(photo).orientation
        shares = _turned(shares, _INVERSES.get(orientation, orientation))
    mask = resized((shares >= _THRESHOLD) != source.is_inverted, *size)
    if not bool(mask.any()):
        hint = "" if source.is_inverted else "; are the masks inverted (--invert-masks)?"
        raise ValueError(f"{photo}: its mask leaves no pixel{hint}")
    return mask


def load_masks(
    photos: Sequence[Path], source: MaskSource, sizes: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """Load the masks of several photos; see `load_mask`.

    Raises:
        ValueError: also if masks come from transparency and none of the photos has any.
    """
    masks = [load_mask(photo, source, size) for photo, size in zip(photos, sizes, strict=True)]
    if source == MaskSource() and all(bool(mask.all()) for mask in masks):
        raise ValueError(
            f"masks come from the photos' transparency, but none of {len(masks)} photos has any,"
            f" e.g. {photos[0]}"
        )
    return masks


def check_has_photos(video: Path | None) -> None:
    """Reject masks for a video, whose frames have no file names to find masks by.

    Raises:
        ValueError: if there is a video; the message says what to do.
    """
    if video is not None:
        raise ValueError(
            f"{video}: masks are for photos, not for a video; write its frames as images first,"
            f" as `ffmpeg -i {video.name} frames/%06d.png` does, and give that folder"
        )


def resized(mask: Tensor, height: int, width: int) -> Tensor:
    """Resize a mask; a pixel counts if all of its area does.

    Args:
        mask: (H, W) bool.
        height: of the result.
        width: of the result.

    Returns:
        (height, width) bool.
    """
    if tuple(mask.shape) == (height, width):
        return mask
    return _resampled(mask.float(), (height, width)) > _WHOLE


def find_mask(photo: Path, folder: Path) -> Path:
    """Find the mask file of a photo; see `MaskSource`.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if there are several.
    """
    stems = {photo.stem, photo.name, f"{photo.stem}_mask"}
    found = sorted(
        path for path in folder.iterdir() if path.stem in stems and kind_by_suffix(path) is not None
    )
    found = [path for path in found if not path.samefile(photo)]
    if not found:
        raise FileNotFoundError(
            f"{folder}: no mask for {photo.name}; it would be called {photo.stem}.png,"
            f" {photo.name}.png or {photo.stem}_mask.png"
        )
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ValueError(f"{folder}: several masks for {photo.name}: {names}")
    return found[0]


def prepared(mask: Tensor, height: int, width: int) -> Tensor:
    """Crop and scale a mask as `Preprocessor` does with its photo.

    Args:
        mask: (H, W) bool.
        height: of the network input.
        width: of the network input.

    Returns:
        (height, width) in [0, 1]: the share of each pixel that counts.
    """
    cropped = crop_to_ar(mask.float(), width / height)
    return _resampled(cropped, (height, width))


def patch_shares(mask: Tensor, patch: int = 14) -> Tensor:
    """The share of each network patch that counts.

    Args:
        mask: (..., H, W) from `prepared`; the sides are multiples of `patch`.
        patch: side of a patch in pixels.

    Returns:
        (..., H / patch, W / patch) in [0, 1].
    """
    return functional.avg_pool2d(mask.float().reshape(-1, 1, *mask.shape[-2:]), patch).reshape(
        *mask.shape[:-2], mask.shape[-2] // patch, mask.shape[-1] // patch
    )


def kept_patches(masks: Sequence[Tensor], height: int, width: int, patch: int = 14) -> Tensor:
    """Which patches of the network input become Gaussians: those with at least half unmasked.

    Args:
        masks: V of (H, W) bool, at the size of the loaded photos.
        height: of the network input.
        width: of the network input.
        patch: side of a patch in pixels.

    Returns:
        (V, rows, columns) bool.

    Raises:
        ValueError: if no patch is left.
    """
    seen = torch.stack([prepared(mask, height, width) for mask in masks])
    kept = patch_shares(seen, patch) >= _LEAST_PATCH
    if not bool(kept.any()):
        raise ValueError(
            f"the masks cover all of the {width}×{height} pixels of the network input; are they"
            " inverted?"
        )
    return kept


def _from_file(path: Path, photo: Path) -> Tensor:
    """Load a mask as grey levels (H, W) in [0, 1], upright like the photo."""
    shares = load_image(path, background="black").mean(dim=0)
    info = image_info(photo)
    if _has_shape(shares, info.height, info.width):
        return shares
    if _has_shape(shares, info.width, info.height):  # made for the photo as stored
        return _turned(shares, info.orientation)
    raise ValueError(
        f"{path}: the mask has {shares.shape[1]}×{shares.shape[0]} pixels, its photo"
        f" {info.width}×{info.height}; their aspect ratios must be equal"
    )


def _has_shape(shares: Tensor, height: int, width: int) -> bool:
    aspect = shares.shape[1] * height / (shares.shape[0] * width)
    return abs(aspect - 1) <= _ASPECT_TOLERANCE


def _turned(shares: Tensor, orientation: int) -> Tensor:
    """Apply an EXIF orientation."""
    if orientation >= 5:
        shares = shares.T
    flips = {2: (1,), 3: (0, 1), 4: (0,), 6: (1,), 7: (0, 1), 8: (0,)}.get(orientation, ())
    return shares.flip(flips).contiguous()


def _resampled(shares: Tensor, size: tuple[int, int]) -> Tensor:
    """Resample by area means."""
    if tuple(shares.shape) == tuple(size):
        return shares
    return functional.interpolate(shares[None, None], size, mode="area")[0, 0]
