"""Download DL3DV-10K scene zips from their gated Hugging Face repositories.

Accept the terms on the repository's page and log in (`hf auth login`, or set HF_TOKEN) first.
Complete zips are kept. The list of scenes is downloaded once and recorded; to renew it, delete it
from `.cache` in the output folder.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from splatfactory.datasets.scripts import conversion, downloading
from splatfactory.datasets.scripts.dl3dv.convert import RESOLUTIONS
from zipsplat.downloads import Source, fetch

LIST_URL = "https://raw.githubusercontent.com/DL3DV-10K/Dataset/main/cache/DL3DV-valid.csv"
SUBSETS = tuple(f"{number}K" for number in range(1, 12))
SAMPLE_SIZE = 50


def main(argv: Sequence[str] | None = None) -> int:
    """Download; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m splatfactory.datasets.scripts.dl3dv.download",
        description=__doc__.splitlines()[0],
    )
    downloading.add_options(parser, "data/dl3dv/raw")
    parser.add_argument(
        "--subset",
        nargs="+",
        choices=SUBSETS,
        default=list(SUBSETS),
        help="subsets to download (default: all)",
    )
    parser.add_argument(
        "--resolution",
        choices=RESOLUTIONS,
        default="960P",
        help="resolution to download (default: %(default)s)",
    )
    parser.add_argument("--scene-ids", nargs="+", metavar="HASH", help="only these scenes")
    arguments = parser.parse_args(argv)
    return conversion.run_command(partial(_download, arguments))


def _download(arguments: argparse.Namespace) -> int:
    repository = f"DL3DV/DL3DV-ALL-{arguments.resolution}"
    scenes = choose_scenes(
        read_list(arguments.output_dir),
        ["1K"] if arguments.sample else arguments.subset,
        arguments.scene_ids,
        SAMPLE_SIZE if arguments.sample else None,
    )
    _check_access(repository)
    folder = arguments.output_dir / arguments.resolution
    get = partial(
        _get, repository, folder, overwrite=arguments.overwrite, extract=arguments.extract
    )
    log = arguments.output_dir / "failed.log"
    return downloading.fetch_all(scenes, get, arguments.num_workers, log)


def read_list(output_dir: Path) -> list[tuple[str, str]]:
    """Batch and hash of every scene.

    Raises:
        ValueError: if the list is invalid.
    """
    path = fetch(Source(LIST_URL), output_dir / ".cache" / "DL3DV-valid.csv")
    with path.open(newline="") as file:
        try:
            rows = [(row["batch"], row["hash"]) for row in csv.DictReader(file)]
        except KeyError as error:
            raise ValueError(
                f"{path} has no column {error}; delete it to download it again"
            ) from None
    if not rows:
        raise ValueError(f"{path} is empty; delete it to download it again")
    return rows


def choose_scenes(
    rows: Sequence[tuple[str, str]],
    subsets: Sequence[str],
    scene_ids: Sequence[str] | None,
    limit: int | None = None,
) -> list[str]:
    """Names `batch/hash` of the selected scenes.

    Raises:
        ValueError: if a selected scene is unknown.
    """
    chosen = [f"{batch}/{key}" for batch, key in rows if batch in subsets]
    if scene_ids is not None:
        known = {name.split("/")[1]: name for name in chosen}
        unknown = sorted(set(scene_ids) - known.keys())
        if unknown:
            raise ValueError(f"not in {', '.join(subsets)} of the scene list: {unknown}")
        chosen = [known[key] for key in scene_ids]
    return chosen[:limit]


def _hub() -> Any:
    import huggingface_hub

    return huggingface_hub


def _check_access(repository: str) -> None:
    """Check access once, so that ten thousand files do not fail one by one."""
    try:
        _hub().HfApi().auth_check(repository, repo_type="dataset")
    except (
        Exception
    ) as error:  # the client raises many types, for network and permission errors alike
        raise OSError(
            f"no access to {repository} ({type(error).__name__}). Accept its terms on"
            f" https://huggingface.co/datasets/{repository} and log in with `hf auth login`,"
            " or set HF_TOKEN"
        ) from error


def _get(repository: str, folder: Path, name: str, *, overwrite: bool, extract: bool) -> None:
    """Download one zip; the client resumes, verifies and renames."""
    target = folder / f"{name}.zip"
    if overwrite or not _is_whole(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        _hub().hf_hub_download(
            repository,
            f"{name}.zip",
            repo_type="dataset",
            local_dir=folder,
            force_download=overwrite or target.exists(),
        )
        downloading.check_zip(target)
    if extract:
        downloading.unpack(target, target.parent)


def _is_whole(archive: Path) -> bool:
    if not archive.exists():
        return False
    try:
        downloading.check_zip(archive)
    except ValueError:
        return False
    return True


if __name__ == "__main__":
    raise SystemExit(main())
