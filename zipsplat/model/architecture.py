"""The architecture of a network: sizes of the released variants and of custom ones.

Letters: D width, G Gaussians per scene token, S harmonics.

The sizes of the named variants are those of Depth Anything 3 (Lin et al., 2025) and of its DINOv2
ancestors; the output layers are those ZipSplat was trained with. A checkpoint's architecture is
read in `checkpoint_layout.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

HEAD_DIM = 64
GEOMETRY_PARAMETERS = 11  # mean 3, scale 3, quaternion 4, opacity 1


@dataclass(frozen=True)
class BackboneConfig:
    """The multi-view vision transformer.

    Args:
        dim: width D of the tokens.
        depth: number of blocks.
        num_heads: attention heads of a block.
        out_layers: blocks whose tokens are outputs, shallow to deep.
        alt_start: first block of alternating attention: from here on, odd blocks attend across
            views. Camera tokens are inserted before this block.
        qknorm_start: first block with normalised queries and keys.
        rope_start: first block with rotary positions.
        ffn: "mlp" or "swiglu".
        ffn_hidden: hidden width of the feed-forward nets.
        patch_size: side of a patch in pixels.
        pos_grid: side of the square grid of learned position embeddings.
        prior_heads: attention heads of the camera encoder.
        stem_dim: width of the finest level of a convolutional pyramid whose features are added to
            the patches; 0 means none, as in the released variants.
        has_matcher: whether tokens get matches of pyramid features with other views.
        is_multiview: whether views attend to each other. False is a plain transformer: no camera
            tokens, no attention across views, D channels per output instead of 2·D.
        picks_reference: whether the network selects the reference view, which gets the first
            camera token, if there are three or more views and no priors, as in Depth Anything 3;
            otherwise it is the first view.
        final_norm_eps: of the LayerNorm over outputs; 1e-5 in Depth Anything 3.
        name: the module of `zipsplat.model.backbones` that builds it.
    """

    dim: int
    depth: int
    num_heads: int
    out_layers: tuple[int, ...]
    alt_start: int
    qknorm_start: int
    rope_start: int
    ffn: str = "mlp"
    ffn_hidden: int = 0
    patch_size: int = 14
    pos_grid: int = 37
    prior_heads: int = 16
    stem_dim: int = 0
    has_matcher: bool = False
    is_multiview: bool = True
    picks_reference: bool = False
    final_norm_eps: float = 1e-6
    name: str = "dav3"

    def __post_init__(self) -> None:
        """Set the default hidden width, and check that the sizes are consistent."""
        object.__setattr__(self, "out_layers", tuple(int(layer) for layer in self.out_layers))
        if not self.ffn_hidden:
            object.__setattr__(self, "ffn_hidden", _default_hidden(self.dim, self.ffn))
        self._check_widths()
        layers = self.out_layers
        if (
            not layers
            or list(layers) != sorted(set(layers))
            or not (layers[0] >= 0 and layers[-1] < self.depth)
        ):
            raise ValueError(
                f"out_layers must be increasing block numbers below the depth {self.depth}, "
                f"got {layers}"
            )

    def _check_widths(self) -> None:
        if self.ffn not in ("mlp", "swiglu"):
            raise ValueError(f"ffn must be 'mlp' or 'swiglu', got {self.ffn!r}")
        for name in ("dim", "depth", "num_heads", "prior_heads", "patch_size", "pos_grid"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("num_heads", "prior_heads"):
            if self.dim % getattr(self, name):
                raise ValueError(
                    f"the width {self.dim} must be a multiple of {name}, got {getattr(self, name)}"
                )
        if self.stem_dim < 0 or self.stem_dim % 8:
            raise ValueError(f"stem_dim must be 0 or a multiple of 8, got {self.stem_dim}")
        if self.has_matcher and not self.stem_dim:
            raise ValueError(
                "has_matcher needs the features of a pyramid; set stem_dim, e.g. to 24"
            )
        if self.has_matcher and self.picks_reference:
            raise ValueError("has_matcher and picks_reference exclude each other")
        if self.rope_start < self.depth and (self.dim // self.num_heads) % 4:
            raise ValueError(
                "rotary positions need heads of a multiple of 4 channels, "
                f"got {self.dim} / {self.num_heads}"
            )

    @property
    def vit_name(self) -> str | None:
        """The released variant with this width, depth and feed-forward net, or None."""
        size = (self.dim, self.depth, self.ffn)
        known = {(v.dim, v.depth, v.ffn): name for name, v in VARIANTS.items()}
        return known.get(size)


def _default_hidden(dim: int, ffn: str) -> int:
    """4 D, or two thirds of that for the gated net, rounded up to a multiple of 8."""
    return 4 * dim if ffn == "mlp" else -(-(4 * dim * 2 // 3) // 8) * 8


def _variant(
    dim: int, depth: int, start: int, out_layers: tuple[int, ...], ffn: str = "mlp"
) -> BackboneConfig:
    return BackboneConfig(
        dim=dim,
        depth=depth,
        num_heads=dim // HEAD_DIM,
        out_layers=out_layers,
        alt_start=start,
        qknorm_start=start,
        rope_start=start,
        ffn=ffn,
    )


VARIANTS: dict[str, BackboneConfig] = {
    "vits": _variant(384, 12, 4, (5, 7, 11)),
    "vitb": _variant(768, 12, 4, (5, 8, 11)),
    "vitl": _variant(1024, 24, 8, (11, 17, 23)),
    "vitg": _variant(1536, 40, 13, (19, 29, 39), "swiglu"),
}


@dataclass(frozen=True)
class ZipSplatConfig:
    """The whole network.

    Args:
        backbone: the vision transformer.
        gaussians_per_token: Gaussians G per scene token.
        sh_degree: degree of the Gaussians' spherical harmonics, 0 to 3.
        color_dim: width of the colour branch.
        mlp_ratio: hidden width of the fusion's feed-forward nets, in multiples of D.
        num_heads: attention heads of the fusion; 0 means heads of 64 channels.
        color_heads: attention heads of the colour branch; 0 means heads of 64 channels.
        has_camera_decoder: whether cameras are predicted too, as in Depth Anything 3.
    """

    backbone: BackboneConfig
    gaussians_per_token: int = 32
    sh_degree: int = 1
    color_dim: int = 128
    mlp_ratio: float = 4.0
    num_heads: int = 0
    color_heads: int = 0
    has_camera_decoder: bool = False

    def __post_init__(self) -> None:
        """Set the default numbers of heads, and check the rest."""
        for name, width in (("num_heads", self.backbone.dim), ("color_heads", self.color_dim)):
            if not getattr(self, name):
                object.__setattr__(self, name, max(1, width // HEAD_DIM))
            if width < 1 or width % getattr(self, name):
                raise ValueError(
                    f"a width of {width} cannot be split into {getattr(self, name)} heads ({name})"
                )
        if self.gaussians_per_token < 1:
            raise ValueError(
                f"gaussians_per_token must be at least 1, got {self.gaussians_per_token}"
            )
        if not 0 <= self.sh_degree <= 3:
            raise ValueError(f"sh_degree must be 0, 1, 2 or 3, got {self.sh_degree}")

    @property
    def parameters_per_gaussian(self) -> int:
        """Parameters of one Gaussian: 11, and three per harmonic."""
        return GEOMETRY_PARAMETERS + 3 * (self.sh_degree + 1) ** 2

    @classmethod
    def variant(cls, name: str, **changes: Any) -> ZipSplatConfig:
        """A released size: "vits", "vitb", "vitl" or "vitg".

        Args:
            name: of the backbone.
            changes: fields of this class or of `BackboneConfig` to override.
        """
        if name not in VARIANTS:
            known = ", ".join(VARIANTS)
            raise ValueError(f"no backbone variant named {name!r}; known: {known}")
        inner = {key: changes.pop(key) for key in list(changes) if key in _BACKBONE_FIELDS}
        return cls(replace(VARIANTS[name], **inner), **changes)

    def to_conf(self) -> dict[str, Any]:
        """Plain containers as checkpoints store them under `conf`, for `from_conf`."""
        backbone = {_CONF_NAMES.get(key, key): v for key, v in asdict(self.backbone).items()}
        backbone["out_layers"] = list(self.backbone.out_layers)
        backbone["vit_name"] = self.backbone.vit_name
        model: dict[str, Any] = {
            _CONF_NAMES.get(name, name): getattr(self, name) for name in _NETWORK_FIELDS
        }
        model["gaussian_head"] = {"sh_degree": model.pop("sh_degree")}
        return {"model": model | {"backbone": backbone}}

    @classmethod
    def from_conf(cls, conf: Mapping[str, Any]) -> ZipSplatConfig:
        """The architecture described by a configuration; unknown keys are ignored.

        Missing values come from the released variant named by `model.backbone.vit_name`.

        Args:
            conf: with the section `model`, keys as in `to_conf`.

        Raises:
            ValueError: if neither a known `vit_name` nor all sizes of the backbone are given.
        """
        model = conf.get("model", conf)
        given = dict(model.get("backbone") or {})
        base = VARIANTS.get(str(given.get("vit_name")))
        fields = {} if base is None else asdict(base)
        fields |= backbone_fields(given)
        missing = sorted(_REQUIRED_BACKBONE_FIELDS - set(fields))
        if missing:
            raise ValueError(
                "the configuration's model.backbone names no known vit_name "
                f"({', '.join(VARIANTS)}) and lacks {', '.join(missing)}"
            )
        return cls(BackboneConfig(**fields), **network_fields(model))


_BACKBONE_FIELDS = frozenset(BackboneConfig.__dataclass_fields__)
_NETWORK_FIELDS = tuple(name for name in ZipSplatConfig.__dataclass_fields__ if name != "backbone")
_CONF_NAMES = {  # other names in the configurations of released weights
    "dim": "embed_dim",
    "gaussians_per_token": "gaussians_per_prototype",
    "color_dim": "color_skip_dim",
}
_FIELD_NAMES = {conf: field for field, conf in _CONF_NAMES.items()}
_RELEASED_NAMES = {"encoders.dav3_encoder": "dav3"}  # as in configurations of released weights
_REQUIRED_BACKBONE_FIELDS = frozenset(
    {"dim", "depth", "num_heads", "out_layers", "alt_start", "qknorm_start", "rope_start"}
)


def backbone_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `BackboneConfig` that the section `model.backbone` of a configuration sets."""
    named = {_FIELD_NAMES.get(key, key): value for key, value in given.items()}
    if named.get("name") in _RELEASED_NAMES:
        named["name"] = _RELEASED_NAMES[named["name"]]
    return {
        key: value for key, value in named.items() if key in _BACKBONE_FIELDS and value is not None
    }


def network_fields(model: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `ZipSplatConfig`, except the backbone, that the section `model` sets."""
    found = {name: model.get(_CONF_NAMES.get(name, name)) for name in _NETWORK_FIELDS}
    found["sh_degree"] = (model.get("gaussian_head") or {}).get("sh_degree")
    return {name: value for name, value in found.items() if value is not None}
