"""Which pixels of photos count: masks from a folder, or the photos' own transparency.

A mask is bool (H, W), True where the photo counts. In files white counts and black does not, as in
COLMAP, nerfstudio and most tools that make masks; `is_inverted` turns that around.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn import functional

from zipsplat.images import crop_to_ar, image_info, load_alpha, load_image
from zipsplat.media_kinds import kind_by_suffix

ALPHA = "alpha"
_THRESHOLD = 0.5  # of white, or of opacity
_ASPECT_TOLERANCE = 0.02


@dataclass(frozen=True)
class MaskSource:
    """Where masks come from.

    Args:
        folder: with one mask for each photo, found by name: that of the photo with another suffix
            (`a.png` for `a.jpg`), with one more (`a.jpg.png`), or with `_mask` (`a_mask.png`);
            None for the photos' own alpha.
        is_inverted: whether what is white or opaque is left out instead.
    """

    folder: Path | None = None
    is_inverted: bool = False

    @classmethod
    def from_argument(cls, masks: str, is_inverted: bool = False) -> MaskSource:
        """What `--masks DIR|alpha` means.

        Raises:
            ValueError: if it is neither "alpha" nor a folder.
        """
        if masks == ALPHA:
            return cls(None, is_inverted)
        if not Path(masks).is_dir():
            raise ValueError(f"masks are a folder or {ALPHA!r}, got {masks!r}")
        return cls(Path(masks), is_inverted)


def load_mask(photo: Path, source: MaskSource, size: tuple[int, int]) -> Tensor:
    """The mask of a photo.

    Args:
        photo: its file.
        source: where masks come from.
        size: height and width wanted, those of the photo as it was loaded.

    Returns:
        (height, width) bool on the CPU, True where the photo counts.

    Raises:
        FileNotFoundError: if the folder has no mask for the photo.
        ValueError: if the mask is unreadable, of another shape than the photo, or leaves no pixel.
    """
    if source.folder is None:
        shares = load_alpha(photo)
    else:
        shares = _from_file(find_mask(photo, source.folder), photo)
    shares = _resampled(shares, size)
    mask = shares < _THRESHOLD if source.is_inverted else shares >= _THRESHOLD
    if not bool(mask.any()):
        hint = "" if source.is_inverted else "; are the masks inverted (--invert-masks)?"
        raise ValueError(f"{photo}: its mask leaves no pixel{hint}")
    return mask


def load_masks(
    photos: Sequence[Path], source: MaskSource, sizes: Sequence[tuple[int, int]]
) -> list[Tensor]:
    """Masks of several photos; see `load_mask`."""
    return [load_mask(photo, source, size) for photo, size in zip(photos, sizes, strict=True)]


def find_mask(photo: Path, folder: Path) -> Path:
    """The file in a folder that is the mask of a photo; see `MaskSource`.

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
    """A mask cropped and scaled as `Preprocessor` does with its photo.

    Args:
        mask: (H, W) bool.
        height: of what the network sees.
        width: of what the network sees.

    Returns:
        (height, width) in [0, 1]: the share of each pixel that counts.
    """
    cropped = crop_to_ar(mask.float(), width / height)
    return _resampled(cropped, (height, width))


def patch_shares(mask: Tensor, patch: int = 14) -> Tensor:
    """The share of each patch of a network that counts.

    Args:
        mask: (..., H, W) as `prepared` gives it; the sides are multiples of `patch`.
        patch: side of a patch in pixels.

    Returns:
        (..., H / patch, W / patch) in [0, 1].
    """
    return functional.avg_pool2d(mask.float().reshape(-1, 1, *mask.shape[-2:]), patch).reshape(
        *mask.shape[:-2], mask.shape[-2] // patch, mask.shape[-1] // patch
    )


def _from_file(path: Path, photo: Path) -> Tensor:
    """Grey levels (H, W) in [0, 1] of a mask, upright as the photo is."""
    shares = load_image(path, background="black").mean(dim=0)
    info = image_info(photo)
    if _has_shape(shares, info.height, info.width):
        return shares
    if _has_shape(shares, info.width, info.height):  # made of the photo as it is stored
        return _turned(shares, info.orientation)
    raise ValueError(
        f"{path}: the mask has {shares.shape[1]}×{shares.shape[0]} pixels, its photo"
        f" {info.width}×{info.height}; they must have one shape"
    )


def _has_shape(shares: Tensor, height: int, width: int) -> bool:
    aspect = shares.shape[1] * height / (shares.shape[0] * width)
    return abs(aspect - 1) <= _ASPECT_TOLERANCE


def _turned(shares: Tensor, orientation: int) -> Tensor:
    """By the EXIF orientations 5 to 8, which change rows and columns."""
    flips = {5: (), 6: (1,), 7: (0, 1), 8: (0,)}[orientation]
    return shares.T.flip(flips).contiguous() if flips else shares.T.contiguous()


def _resampled(shares: Tensor, size: tuple[int, int]) -> Tensor:
    """Mean of the area of each new pixel."""
    if tuple(shares.shape) == tuple(size):
        return shares
    return functional.interpolate(shares[None, None], size, mode="area")[0, 0]
