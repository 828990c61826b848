"""Run one evaluation: score every scene of the index, on one or many processes, then report."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from torch import nn
from tqdm import tqdm

from splatfactory.config import save_yaml, to_dict
from splatfactory.datasets.from_config import evaluation_dataset
from splatfactory.datasets.multiview import MultiviewDataset
from splatfactory.datasets.samples import Scene
from splatfactory.eval import report, results
from splatfactory.eval.benchmarks import Evaluation
from splatfactory.eval.fingerprint import fingerprint
from splatfactory.eval.scoring import SceneResult, SceneScores, Scorer
from splatfactory.perceptual_network import PerceptualNetwork, fetch_perceptual_network
from splatfactory.runtime.distributed import World
from splatfactory.runtime.randomness import fixed_randomness
from splatfactory.visualization.evaluation_figures import comparison_sheet
from zipsplat.viz import save_image

logger = logging.getLogger(__name__)


class EvaluationError(RuntimeError):
    """An evaluation that is incomplete or invalid; the message is one line for the user."""


def evaluate(
    evaluation: Evaluation,
    model: nn.Module,
    weights: str,
    folder: Path,
    world: World,
    *,
    overwrite: bool = False,
    overwrite_eval: bool = False,
    is_stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """Score all scenes and write the report; finished scenes are not repeated.

    Args:
        evaluation: benchmark, settings, index.
        model: on its device, in evaluation mode.
        weights: digest of the weights.
        folder: result folder.
        world: process group that shares the scenes.
        overwrite: replace results with any other fingerprint.
        overwrite_eval: replace results that differ only in settings or code.
        is_stopping: checked before each scene; finished scenes are kept.

    Returns:
        The summary; None if any process was stopped.

    Raises:
        EvaluationError: if a scene of the index could not be scored.
        ValueError: if data or settings do not fit.
    """
    dataset = evaluation_dataset(
        evaluation.config.data, {"name": "eval_sampler", "indices_file": str(evaluation.index)}
    )
    scenes = _chosen(dataset, evaluation.config.max_samples)
    failure = ""
    if world.is_main:
        try:
            prints = fingerprint(evaluation, weights, dataset)
            results.open_results(folder, prints, overwrite=overwrite, overwrite_eval=overwrite_eval)
            save_yaml(to_dict(evaluation.config), folder / results.CONFIG)
        except (ValueError, OSError) as error:
            failure = str(error)
    failure = world.gather(failure)[0]
    if failure:
        raise EvaluationError(failure)
    mine = scenes[world.rank :: world.size]
    _score(evaluation, model, dataset, mine, folder, world, is_stopping)
    if any(world.gather(is_stopping())):
        return None
    if not world.is_main:
        return {}
    return _conclude(evaluation, [_name(dataset, index) for index in scenes], folder)


def perceptual_network(name: str) -> PerceptualNetwork | None:
    """The LPIPS network that `eval.lpips` selects.

    Raises:
        ValueError: if the choice is unknown, or the weights cannot be downloaded.
    """
    if name == "none":
        return None
    if name != "vgg":
        raise ValueError(f"eval.lpips must be vgg or none, got {name!r}")
    try:
        return fetch_perceptual_network()
    except OSError as error:
        raise ValueError(f"{error}; or set eval.lpips=none to skip LPIPS") from error


def _score(
    evaluation: Evaluation,
    model: nn.Module,
    dataset: MultiviewDataset,
    mine: list[int],
    folder: Path,
    world: World,
    is_stopping: Callable[[], bool],
) -> None:
    options = evaluation.config.eval
    open_scenes = [i for i in mine if results.read_scene(folder, _name(dataset, i)) is None]
    if not open_scenes:
        return
    perceptual = perceptual_network(options.lpips)
    if perceptual is not None:
        perceptual = perceptual.to(world.device)
    scorer = Scorer(model, options, perceptual, world.device)
    bar = tqdm(
        _ahead(dataset, open_scenes), total=len(open_scenes), unit="scene", disable=None,
        desc=evaluation.label, position=world.local_rank,
    )  # fmt: skip
    for scene in bar:
        if is_stopping():
            return
        with fixed_randomness(options.seed, world.device):
            result = scorer(scene)
        # Images first: a scene counts as finished once its scores exist.
        _keep_images(evaluation, result, folder)
        results.write_scene(folder, result.scores)


def _ahead(dataset: MultiviewDataset, scenes: list[int]) -> Iterator[Scene]:
    """Load the next scene while the current one is scored."""
    with ThreadPoolExecutor(1) as pool:
        waiting = None
        for index in scenes:
            coming = pool.submit(dataset.load, index, 1, 1.0, 0)
            if waiting is not None:
                yield waiting.result()
            waiting = coming
        if waiting is not None:
            yield waiting.result()


def _keep_images(evaluation: Evaluation, result: SceneResult, folder: Path) -> None:
    options, name = evaluation.config.eval, result.scores.name
    if options.save_gaussians:
        result.gaussians.save_ply(folder / "gaussians" / f"{name}.ply")
    if options.save_images:
        sheet = comparison_sheet(
            result.true,
            result.rendered,
            [view.view for view in result.scores.views],
            [view.aligned["psnr"] for view in result.scores.views],
        )
        save_image(sheet, folder / results.sheet_path(name))


def _conclude(evaluation: Evaluation, names: list[str], folder: Path) -> dict[str, float]:
    """Read all scores back, check that none is missing, write tables and report."""
    found = {name: results.read_scene(folder, name) for name in names}
    missing = [name for name, scores in found.items() if scores is None]
    if missing:
        raise EvaluationError(
            f"{len(missing)} of {len(names)} scenes have no scores, e.g. {missing[0]}; run the "
            "same command again to finish"
        )
    scenes: list[SceneScores] = [scores for scores in found.values() if scores is not None]
    summary = results.summarise(scenes)
    results.write_tables(folder, scenes, summary)
    report.write(evaluation, scenes, summary, folder)
    return summary


def _chosen(dataset: MultiviewDataset, max_samples: int | None) -> list[int]:
    """Scenes sorted by key, so that the first few are the same everywhere."""
    order = sorted(range(len(dataset)), key=dataset.key)
    return order[:max_samples]


def _name(dataset: MultiviewDataset, index: int) -> str:
    return f"{dataset.name}-{dataset.key(index)}"
