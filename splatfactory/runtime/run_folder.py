"""A run's folder: request, configuration, environment, code version, and log."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import subprocess
import sys
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from splatfactory._version import __version__
from splatfactory.config import (
    CONFIG_DIR,
    Config,
    ConfigError,
    Request,
    load,
    merge,
    nearest,
    read_yaml,
    save_yaml,
    split_overrides,
    to_dict,
)
from splatfactory.paths import outputs_root
from splatfactory.runtime import checkpoints
from zipsplat import files
from zipsplat.files import put_aside, remove_partial, write_text
from zipsplat.terminal import PrintableFormatter

logger = logging.getLogger(__name__)

REQUEST, CONFIG, RAW, LOG = "cli_config.yaml", "config.yaml", "raw_config.yaml", "log.log"
ENVIRONMENT, PATCH = "environment.json", "changes.patch"


def run_folder(experiment: str) -> Path:
    """Folder of a training run.

    Raises:
        ConfigError: if the name points outside the outputs folder.
    """
    root = outputs_root() / "training"
    folder = root / experiment
    if not experiment or root.resolve() not in folder.resolve().parents:
        raise ConfigError(f"an experiment must be a name below {root}, got {experiment!r}")
    return folder


def experiments() -> list[str]:
    """Names of all runs."""
    root = outputs_root() / "training"
    return sorted(str(path.parent.relative_to(root)) for path in root.rglob(CONFIG))


def existing_run(experiment: str) -> Path:
    """The folder of an existing run.

    Raises:
        ConfigError: if it does not exist; the message suggests the nearest name.
    """
    folder = run_folder(experiment)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"there is no run {experiment!r} in {folder.parent}"
                          + nearest(experiment, experiments()))  # fmt: skip
    return folder


def restored_request(folder: Path, new: Request) -> tuple[Request, Config]:
    """The saved request of a run merged with a new one, and the resulting configuration.

    Without a new `--conf` or group, the saved configuration is the base, so a newer version of a
    shipped file does not change a resumed run.

    Raises:
        ConfigError: if the saved request cannot be read or the new one is incompatible.
    """
    saved = read_yaml(folder / REQUEST)
    conf = new.conf or saved.get("conf")
    old = tuple(str(text) for text in saved.get("overrides") or ())
    request = Request(conf, old + new.overrides)
    groups, values = split_overrides(new.overrides)
    if new.conf or groups:
        return request, load(request)
    return request, merge([read_yaml(folder / CONFIG)], values)


def check_unused(folder: Path, *, overwrite: bool) -> None:
    """Reject a folder that already holds a run, before any work is done.

    Raises:
        ConfigError: if it does and may not be overwritten.
    """
    if (folder / CONFIG).exists() and not overwrite:
        raise ConfigError(
            f"{folder} exists; add --restore to continue that run, --overwrite to start over "
            "(the old folder is kept as <name>.old-1, …), or choose another name"
        )


def open_for_training(folder: Path, *, is_restored: bool) -> FileLock:
    """Create the folder of a run, or reopen that of a resumed run.

    An old run in its place is renamed, and partial files of killed processes are removed.

    Args:
        folder: folder of the run; a new run must have passed `check_unused`.
        is_restored: whether the existing run is resumed.

    Returns:
        A lock that keeps other processes out; the system releases it when this process ends.

    Raises:
        ConfigError: if another process trains in the folder.
    """
    lock = _locked(folder)
    if not is_restored and (folder / CONFIG).exists():
        put_aside(folder)
        lock.release()
        lock = _locked(folder)
    remove_partial(folder)
    return lock


def _locked(folder: Path) -> FileLock:
    try:
        return files.lock(folder)
    except ValueError:
        raise ConfigError(
            f"another process trains in {folder}; wait for it, stop it, or choose another name"
        ) from None


def describe(folder: Path, request: Request, config: Config, world_size: int) -> None:
    """Record the request, the configuration, and the state of machine and code."""
    save_yaml({"conf": request.conf, "overrides": list(request.overrides)}, folder / REQUEST)
    save_yaml(to_dict(config), folder / CONFIG)
    source = None if request.conf is None else CONFIG_DIR / f"{request.conf}.yaml"
    if source is not None and not source.is_file():
        source = Path(str(request.conf))
    if source is not None and source.is_file():
        shutil.copyfile(source, folder / RAW)
    text = json.dumps(environment(world_size), indent=1)
    write_text(folder / ENVIRONMENT, text)
    changes = _git("diff", "HEAD")
    if changes:
        write_text(folder / PATCH, changes)


def environment(world_size: int) -> dict[str, Any]:
    """Versions, devices, command line and the commit of the code."""
    devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    status = _git("status", "--porcelain")
    return {
        "splatfactory": __version__,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
        "gpus": devices,
        "processes": world_size,
        "command": sys.argv,
        "git_commit": _git("rev-parse", "HEAD") or None,
        "git_is_clean": None if status is None else not status,
    }


def log_to(folder: Path | None, *, is_main: bool) -> None:
    """Log to the console and to the run's folder; other ranks only show warnings.

    Args:
        folder: folder of the run; None before it exists. Messages until then are buffered
            and written to its log later.
        is_main: whether this is the main process.
    """
    root = logging.getLogger("splatfactory")
    root.setLevel(logging.INFO if is_main else logging.WARNING)
    root.propagate = False
    form = PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    file = None
    if folder is not None and is_main:
        file = logging.FileHandler(folder / LOG, encoding="utf-8")
        handlers.append(file)
    elif is_main:
        handlers.append(MemoryHandler(10_000, flushLevel=logging.CRITICAL + 1, flushOnClose=False))
    for handler in handlers:
        handler.setFormatter(form)
    for old in list(root.handlers):
        root.removeHandler(old)
        if isinstance(old, MemoryHandler) and file is not None:
            old.setTarget(file)
            old.flush()
        old.close()
    for handler in handlers:
        root.addHandler(handler)


def weights_of(experiment: str) -> Path:
    """Weights of a run for evaluation or initialisation: the best, else the last.

    Raises:
        ConfigError: if the run has none.
    """
    folder = existing_run(experiment)
    found = checkpoints.best_weights(folder)
    if found is None:
        full = checkpoints.full_checkpoints(folder)
        found = full[-1] if full else None
    if found is None:
        raise ConfigError(f"the run {experiment!r} has no weights yet; train it first")
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=Path(__file__).parent, capture_output=True, text=True,
            timeout=20, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
