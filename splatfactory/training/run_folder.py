"""A run's folder: what was asked for, on what machine, by what code, and the log."""

from __future__ import annotations

import json
import logging
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from splatfactory import __version__
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
from splatfactory.training import checkpoints

REQUEST, CONFIG, RAW, LOG = "cli_config.yaml", "config.yaml", "raw_config.yaml", "log.log"
ENVIRONMENT, PATCH = "environment.json", "changes.patch"


def run_folder(experiment: str) -> Path:
    """Where a training run lies.

    Raises:
        ConfigError: If the name would leave the outputs.
    """
    root = outputs_root() / "training"
    folder = root / experiment
    if not experiment or root.resolve() not in folder.resolve().parents:
        raise ConfigError(f"an experiment is a name below {root}, got {experiment!r}")
    return folder


def experiments() -> list[str]:
    """Names of all runs."""
    root = outputs_root() / "training"
    return sorted(str(path.parent.relative_to(root)) for path in root.rglob(CONFIG))


def existing_run(experiment: str) -> Path:
    """The folder of a run that is there.

    Raises:
        ConfigError: If it is not, with the nearest name.
    """
    folder = run_folder(experiment)
    if not (folder / CONFIG).is_file():
        raise ConfigError(f"there is no run {experiment!r} in {folder.parent}"
                          + nearest(experiment, experiments()))  # fmt: skip
    return folder


def restored_request(folder: Path, new: Request) -> tuple[Request, Config]:
    """What a run was asked for, with new wishes on top, and the configuration that follows.

    Without a new `--conf` or group the saved configuration is the base, so a newer version of a
    shipped file changes nothing in a run that continues.

    Raises:
        ConfigError: If the saved request cannot be read or the new one does not fit.
    """
    saved = read_yaml(folder / REQUEST)
    conf = new.conf or saved.get("conf")
    old = tuple(str(text) for text in saved.get("overrides") or ())
    request = Request(conf, old + new.overrides)
    groups, values = split_overrides(new.overrides)
    if new.conf or groups:
        return request, load(request)
    return request, merge([read_yaml(folder / CONFIG)], values)


def create(folder: Path, *, overwrite: bool) -> None:
    """Make the folder of a new run; an old one is kept under another name.

    Raises:
        ConfigError: If it is there and was not to be overwritten.
    """
    if (folder / CONFIG).exists():
        if not overwrite:
            raise ConfigError(
                f"{folder} exists; add --restore to continue that run, --overwrite to begin anew "
                "(the old folder is kept as <name>.old-1, …), or choose another name"
            )
        number = 1
        while (old := folder.with_name(f"{folder.name}.old-{number}")).exists():
            number += 1
        folder.rename(old)
    folder.mkdir(parents=True, exist_ok=True)


def describe(folder: Path, request: Request, config: Config, world_size: int) -> None:
    """Write down what was asked for, what it means, and the state of machine and code."""
    save_yaml({"conf": request.conf, "overrides": list(request.overrides)}, folder / REQUEST)
    save_yaml(to_dict(config), folder / CONFIG)
    source = None if request.conf is None else CONFIG_DIR / f"{request.conf}.yaml"
    if source is not None and not source.is_file():
        source = Path(str(request.conf))
    if source is not None and source.is_file():
        shutil.copyfile(source, folder / RAW)
    text = json.dumps(environment(world_size), indent=1)
    (folder / ENVIRONMENT).write_text(text, encoding="utf-8")
    changes = _git("diff", "HEAD")
    if changes:
        (folder / PATCH).write_text(changes, encoding="utf-8")


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
    """Show progress on the console and keep it in the run's folder; other ranks only warn."""
    root = logging.getLogger("splatfactory")
    root.setLevel(logging.INFO if is_main else logging.WARNING)
    root.propagate = False
    for handler in list(root.handlers):
        root.removeHandler(handler)
        handler.close()
    form = logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S")
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if folder is not None and is_main:
        handlers.append(logging.FileHandler(folder / LOG, encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(form)
        root.addHandler(handler)


def weights_of(experiment: str) -> Path:
    """Weights of a run that is to be judged or continued from: the best, else the last.

    Raises:
        ConfigError: If the run has none.
    """
    folder = existing_run(experiment)
    found = checkpoints.best_weights(folder)
    if found is None:
        full = checkpoints.full_checkpoints(folder)
        found = full[-1] if full else None
    if found is None:
        raise ConfigError(f"the run {experiment!r} has no weights yet; let it train first")
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
