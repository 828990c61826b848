"""Registry of named weights: where they are, what they are for, and their licences.

Sources: the pages of https://huggingface.co/veichta/zipsplat and of the repositories
https://huggingface.co/depth-anything/DA3-SMALL, … (seen in November 2026). Sizes and digests were
not published there; they are recorded when a file is fetched.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zipsplat.hub import HubRelease
from zipsplat.images import InputSize

NON_COMMERCIAL = "cc-by-nc-4.0"
FREE = "apache-2.0"
LICENCE_NAMES = {NON_COMMERCIAL: "CC BY-NC 4.0", FREE: "Apache-2.0"}


@dataclass(frozen=True)
class Release:
    """Weights with a name.

    Args:
        title: name for messages.
        file: where they are.
        size: of the images they were trained on, which files need not state.
        variant: of the architecture, if they are a ZipSplat's; see `ZipSplatConfig.variant`.
    """

    title: str
    file: HubRelease
    size: InputSize
    variant: str | None = None

    @property
    def is_fetched(self) -> bool:
        """Whether the file is in the cache."""
        return any(file.cached.exists() for file in self.file.files)

    @property
    def licence(self) -> str | None:
        """As stated by the registry or the repository; None if unknown."""
        if self.file.licence is not None:
            return self.file.licence
        record = self.file.record()
        return record.licence if record else None

    @property
    def note(self) -> str:
        """The licence note for results made with them."""
        return licence_sentence(self.title, self.licence)


def licence_sentence(title: str, licence: str | None) -> str:
    """The licence note for results made with some weights.

    Args:
        title: of the weights.
        licence: as a repository states it; None if it is not known.
    """
    if licence is None:
        return f"Made with {title} (licence not known): not for commercial use."
    name = LICENCE_NAMES.get(licence, licence)
    rest = ": not for commercial use." if "-nc" in licence else "."
    return f"Made with {title} ({name}){rest}"


def _zipsplat(filenames: tuple[str, ...], size: InputSize) -> Release:
    file = HubRelease("veichta/zipsplat", filenames, NON_COMMERCIAL)
    return Release("the released ZipSplat weights", file, size, "vitg")


def _depth_anything(name: str, licence: str | None) -> Release:
    file = HubRelease(f"depth-anything/{name.upper()}", ("model.safetensors",), licence)
    return Release(f"Depth Anything 3, {name}", file, InputSize(504, keeps_shape=True))


_ZIPSPLAT_252 = _zipsplat(("zipsplat-da3g-252.tar", "zipsplat-da3g-252p.tar"), InputSize(252))
RELEASES: Mapping[str, Release] = {
    "zipsplat": _ZIPSPLAT_252,
    "zipsplat-252": _ZIPSPLAT_252,
    "zipsplat-504": _zipsplat(("zipsplat-da3g-504.tar",), InputSize(504, keeps_shape=True)),
    "da3-small": _depth_anything("da3-small", FREE),
    "da3-base": _depth_anything("da3-base", FREE),
    "da3-large": _depth_anything("da3-large", NON_COMMERCIAL),
    "da3-giant": _depth_anything("da3-giant", NON_COMMERCIAL),
    "da3metric-large": _depth_anything("da3metric-large", None),
    "da3mono-large": _depth_anything("da3mono-large", None),
    "da3nested-giant-large": _depth_anything("da3nested-giant-large", None),
}
