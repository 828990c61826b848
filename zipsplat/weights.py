"""Load weights by name, path, URL or repository as a checked state dict.

Supports PyTorch checkpoints (`.tar`, `.pth`, `.pt`, `.ckpt`: zip archives of `torch.save`,
with the weights bare or under `model` or `state_dict`) and `.safetensors` files. Nothing in them
is executed (see `tensor_pickle`); all tensors are views of the memory-mapped file.

Names are those of `releases.RELEASES` and of the files bundled with the package.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from torch import Tensor

from zipsplat.checkpoints import bundled
from zipsplat.downloads import DownloadError, Source, cache_dir, fetch
from zipsplat.file_records import Record, public_address
from zipsplat.files import atomic_path
from zipsplat.hub import fetch_release, fetch_repository, repository_record
from zipsplat.images import InputSize
from zipsplat.media_kinds import CHECKPOINT_SUFFIXES
from zipsplat.releases import RELEASES, licence_sentence
from zipsplat.tensor_pickle import Opaque
from zipsplat.torch_files import read_torch_file
from zipsplat.untrusted_files import parse_json

WRAPPERS = ("model", "state_dict")
# Older training heads contained a perceptual network, which is not part of the model.
IGNORED_PREFIX = "gaussian_head.lpips."
DEFAULT_SIZE = InputSize(252)
MAX_CONF_DEPTH, MAX_CONF_PARTS = 50, 100_000
MAX_SHARING = 2  # limit on the tensors' total size relative to the file; tied layers share memory
CONF_KEYS = ("out_layers", "alt_start", "qknorm_start", "rope_start")

logger = logging.getLogger(__name__)


LICENCE_NOTES: Mapping[str, str] = {
    "zipsplat-tiny": "Made with zipsplat-tiny (Apache-2.0), a small model of generated scenes.",
}


@dataclass(frozen=True)
class Checkpoint:
    """The content of a weights file.

    Args:
        path: the file.
        tensors: by name, as in the network's state dict.
        conf: training configuration, as plain containers; empty if there is none.
        extras: other contents of a training checkpoint: epoch, eval, optimizer, ...
    """

    path: Path
    tensors: dict[str, Tensor]
    conf: dict[str, Any]
    extras: dict[str, Any]


def load(weights: str | PathLike[str]) -> Checkpoint:
    """Find a weights file, downloading it if necessary, and read it.

    Args:
        weights: a name (see `names`), a path, an http(s) URL, or a Hugging Face repository
            "organisation/repository".

    Raises:
        FileNotFoundError: there is no such file or name.
        DownloadError: the file cannot be downloaded.
        ValueError: the file is damaged, or not a checkpoint.
    """
    return read(locate(weights))


def licence_note(weights: str | PathLike[str]) -> str:
    """A sentence on the licence of named weights or those of a repository; else empty."""
    name = os.fspath(weights)
    if name in LICENCE_NOTES:
        return LICENCE_NOTES[name]
    if name in RELEASES:
        return RELEASES[name].note
    record = repository_record(name) if _is_repository(name) else None
    return licence_sentence(name, record.licence) if record else ""


def usual_size(weights: str | PathLike[str]) -> InputSize:
    """The usual input size of weights, if their file does not state it."""
    name = os.fspath(weights)
    return RELEASES[name].size if name in RELEASES else DEFAULT_SIZE


def names() -> list[str]:
    """Names that `locate` knows: released and bundled weights."""
    return [*RELEASES, *bundled()]


def locate(weights: str | PathLike[str]) -> Path:
    """The local file of weights, downloaded to the cache if necessary; see `load`."""
    text = os.fspath(weights)
    if not isinstance(weights, str):
        return _existing(Path(text))
    if urlsplit(text).scheme in ("http", "https"):
        return _with_hint(text, _fetch_url)
    if text in bundled():
        return bundled()[text]
    if text in RELEASES and not Path(text).is_file():
        return _with_hint(text, lambda name: fetch_release(RELEASES[name].file))
    if _is_repository(text):
        return _with_hint(text, lambda name: fetch_repository(name, CHECKPOINT_SUFFIXES))
    return _existing(Path(text))


def read(path: Path) -> Checkpoint:
    """Read a weights file; see the module."""
    if path.suffix == ".safetensors":
        found, conf, extras = _read_safetensors(path)
    else:
        found, conf, extras = _read_torch(path)
    tensors = _named_as_in_network(path, found)
    if not tensors:
        raise ValueError(f"{path}: contains no weights")
    num_bytes = sum(value.numel() * value.element_size() for value in tensors.values())
    if num_bytes > MAX_SHARING * path.stat().st_size:
        raise ValueError(
            f"{path}: its tensors repeat the same bytes, {num_bytes / 1e6:.0f} MB in a file of"
            f" {path.stat().st_size / 1e6:.0f} MB"
        )
    return Checkpoint(path, tensors, conf, extras)


def save(path: str | PathLike[str], tensors: Mapping[str, Tensor], conf: Mapping[str, Any]) -> None:
    """Write weights as `.safetensors`, with the configuration in the file's metadata.

    Args:
        path: ends in `.safetensors`; replaced only when complete.
        tensors: a network's state dict.
        conf: plain containers, as from `ZipSplatConfig.to_conf`.
    """
    from safetensors.torch import save_file

    if Path(path).suffix != ".safetensors":
        raise ValueError(f"weights must be written as .safetensors, got {path}")
    contents = {name: value.detach().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(contents, temporary, metadata={"format": "pt", "conf": json.dumps(conf)})


def _read_safetensors(path: Path) -> tuple[dict[Any, Any], dict[str, Any], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"{path}: not a readable safetensors file ({error})") from error
    return tensors, _conf_from_metadata(path, metadata), {}


def _conf_from_metadata(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """The JSON under `conf`, or the separate settings of files written by others."""
    try:
        if "conf" in metadata:
            conf = parse_json(metadata["conf"])
            return conf if isinstance(conf, dict) else {}
        backbone = {key: parse_json(metadata[key]) for key in CONF_KEYS if key in metadata}
    except ValueError as error:
        raise ValueError(f"{path}: its metadata are not JSON ({error})") from error
    return {"model": {"backbone": backbone}} if backbone else {}


def _read_torch(path: Path) -> tuple[dict[Any, Any], dict[str, Any], dict[str, Any]]:
    content = read_torch_file(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path}: wanted a dict of tensors, got {_shown(content)}")
    wrapper = next((key for key in WRAPPERS if isinstance(content.get(key), dict)), None)
    if wrapper is None:
        return content, {}, {}
    conf = _Plain(path).of(content.get("conf"))
    if not isinstance(conf, dict):
        if content.get("conf") is not None:
            logger.warning("%s: its conf is not a plain dict and is ignored", path)
        conf = {}
    extras = {key: value for key, value in content.items() if key not in (wrapper, "conf")}
    return content[wrapper], conf, extras


class _Plain:
    """Copies containers without opaque objects.

    Shared parts are copied each time they occur, so a few bytes could cost years; hence the limits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.count = 0

    def of(self, value: Any, depth: int = 0) -> Any:
        """The copy.

        Raises:
            ValueError: if it is nested too deeply, refers to itself, or has too many parts.
        """
        self.count += 1
        if depth > MAX_CONF_DEPTH or self.count > MAX_CONF_PARTS:
            raise ValueError(
                f"{self.path}: its conf refers to itself, or is nested or repeated too often"
            )
        if isinstance(value, dict):
            items = value.items()
            return {k: self.of(v, depth + 1) for k, v in items if not isinstance(v, Opaque)}
        if isinstance(value, (list, tuple)):
            return [self.of(item, depth + 1) for item in value if not isinstance(item, Opaque)]
        return None if isinstance(value, Opaque) else value


def _named_as_in_network(path: Path, found: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Strip prefixes of training wrappers from names; reject entries that are not tensors."""
    strange = {k: v for k, v in found.items() if not (isinstance(k, str) and isinstance(v, Tensor))}
    if strange:
        key, value = next(iter(strange.items()))
        raise ValueError(
            f"{path}: weights must be tensors, but entry {_shown(key)} is {_shown(value)}"
            + (f" (and {len(strange) - 1} more)" if len(strange) > 1 else "")
        )
    is_wrapped = bool(found) and all(name.startswith("module.") for name in found)
    tensors: dict[str, Tensor] = {}
    for name, value in found.items():
        plain = name.removeprefix("module.") if is_wrapped else name
        plain = plain.replace("_orig_mod.", "")
        if plain.startswith(IGNORED_PREFIX):
            continue
        if plain in tensors:
            raise ValueError(f"{path}: two tensors are named {plain!r} once prefixes are stripped")
        tensors[plain] = value
    return tensors


def _shown(value: object) -> str:
    """A short form of a value for an error message; nested containers could be endless."""
    text = repr(value) if isinstance(value, Opaque) else reprlib.repr(value)
    return text[:100]


def _existing(path: Path) -> Path:
    path = path.expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise FileNotFoundError(
            f"{path} is a folder; give the weights file, e.g. {path}/….safetensors"
        )
    raise FileNotFoundError(
        f"no weights at {path}; give a file, an http(s) URL, a Hugging Face repository "
        f"'organisation/repository', or one of the names {', '.join(names())}"
    )


def _is_repository(text: str) -> bool:
    """Whether this is an "organisation/repository" rather than a file."""
    is_pair = re.fullmatch(r"[\w.-]+/[\w.-]+", text) is not None
    return is_pair and not text.endswith(CHECKPOINT_SUFFIXES) and not Path(text).exists()


def _with_hint(text: str, fetch_it: Callable[[str], Path]) -> Path:
    """Download; if that fails, name the weights that need no download."""
    try:
        return fetch_it(text)
    except DownloadError as error:
        others = [name for name in bundled() if name != text]
        hint = f". Without a connection, use {' or '.join(map(repr, others))}" if others else ""
        raise DownloadError(f"{error}{hint}") from error


def _fetch_url(url: str) -> Path:
    name = Path(urlsplit(url).path).name or "weights"
    digest = hashlib.sha256(url.encode()).hexdigest()[:32]
    path = fetch(Source(url), cache_dir() / "urls" / digest / name)
    record = Record.read(path)
    if record is not None and record.url != public_address(url):
        raise DownloadError(
            f"{path} came from {record.url}, not from {public_address(url)}; delete it (and"
            f" {Record.path_for(path).name}) to download it again"
        )
    return path
