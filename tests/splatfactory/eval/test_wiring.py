"""What is scored is what the protocol says: poses, images, shares of processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from splatfactory.config import Request, load, to_dict
from splatfactory.eval import benchmarks, compare, pipeline, results, scoring
from splatfactory.eval.loading import from_checkpoint, load_model
from splatfactory.eval.scoring import SceneScores, ViewScores
from splatfactory.metrics import psnr, ssim
from splatfactory.models import build_model
from splatfactory.runtime import checkpoints
from splatfactory.runtime.distributed import World
from splatfactory.schema import EvalConfig
from zipsplat.alignment import Refined
from zipsplat.pose import Pose

ALONE = World(0, 1, 0, torch.device("cpu"))
Score = Callable[..., Path]


@pytest.fixture
def score(workplace: Path) -> Score:
    """Score an untrained model with small settings; returns the result folder."""
    torch.manual_seed(0)
    config = load(Request("conf.yaml", ()))
    network = build_model(config.model, with_initial_weights=True).network
    checkpoints.export(network.state_dict(), to_dict(config), Path("model.safetensors"))
    index = {f"test{i}": {"context": [0, 3], "target": [1, 2]} for i in range(3)}
    Path("index.json").write_text(json.dumps(index))

    def run(name: str, *overrides: str, world: World = ALONE) -> Path:
        evaluated = from_checkpoint("model.safetensors")
        evaluation = benchmarks.configure(
            benchmarks.load_benchmark("custom_benchmark"), None, evaluated.model,
            ["data.dataset_dir=data/rendered", "eval.index=index.json", "eval.lpips=none",
             "data.preprocessing.resize=28", "eval.renderer=reference",
             "eval.pose_estimator.num_steps=2", *overrides],
        )  # fmt: skip
        model, digest = load_model(evaluation.config, evaluated.weights)
        pipeline.evaluate(evaluation, model, digest, Path(name), world)
        return Path(name)

    return run


def scenes_of(folder: Path) -> list[dict]:
    return json.loads((folder / results.EVERYTHING).read_text())


def test_aligned_scores_are_those_at_the_aligned_poses(score: Score, monkeypatch):
    def turn_away(_scene, _images, _cameras, poses: Pose, **_settings: object) -> Refined:
        half_turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0]))
        return Refined(Pose(poses.R @ half_turn, poses.t + 500), [0.0])

    monkeypatch.setattr(scoring, "refine_poses", turn_away)
    seen = []
    original = scoring.psnr
    monkeypatch.setattr(
        scoring,
        "psnr",
        lambda true, rendered: seen.append((true, rendered)) or original(true, rendered),
    )
    view = scenes_of(score("a", "max_samples=1"))[0]["views"][0]
    true = seen[0][0]
    assert not seen[1][1].any()  # nothing is there
    assert view["aligned"]["psnr"] == pytest.approx(float(psnr(true[0], torch.zeros_like(true[0]))))
    assert view["aligned"]["psnr"] != pytest.approx(view["unaligned"]["psnr"])


def test_the_share_of_tokens_is_the_one_asked_for(score: Score):
    plain = ("eval.align_poses=false", "max_samples=1")
    full, half = (
        scenes_of(score(f"c{share}", *plain, f"eval.compression={share}"))[0]["total_gaussians"]
        for share in (1.0, 0.5)
    )
    assert full == 2 * half


def test_scenes_are_refined_against_what_the_model_saw(score: Score, monkeypatch):
    seen = []

    def refine(gaussians, images, cameras, poses, *_: object) -> SimpleNamespace:
        seen.append((images, cameras, poses))
        return SimpleNamespace(gaussians=gaussians)

    original = scoring.Scorer.__call__

    def judge(self, scene):
        seen.append(scene)
        return original(self, scene)

    monkeypatch.setattr(scoring, "refine", refine)
    monkeypatch.setattr(scoring.Scorer, "__call__", judge)
    score("a", "eval.refine=1", "eval.align_poses=false", "max_samples=1")
    scene, (images, cameras, poses) = seen
    assert torch.equal(images, scene.context.rgb)
    assert torch.equal(cameras.K, scene.context.cameras.K)
    assert torch.equal(poses.t, scene.context.poses.t)


@pytest.mark.parametrize("clips", [False, True])
def test_renderings_are_clipped_where_asked(clips: bool):
    torch.manual_seed(0)
    true, rendered = torch.rand(1, 3, 16, 16), 1.8 * torch.rand(1, 3, 16, 16)
    judge = scoring.Scorer(
        torch.nn.Identity(), EvalConfig(clip_metrics=clips), None, torch.device("cpu")
    )
    expected = rendered.clamp(0, 1) if clips else rendered
    value = judge._scores(true, rendered)[0]["ssim"]
    assert value == pytest.approx(float(ssim(true.double(), expected.double())))


def test_processes_share_the_scenes(score: Score):
    class Half(World):
        """One of two processes, of which this one does not wait for the other."""

        def gather(self, value: object) -> list[object]:
            return [value, value]

    def done() -> list[str]:
        return sorted(path.stem for path in Path("a/scenes").glob("*.json"))

    plain = "eval.align_poses=false"
    with pytest.raises(pipeline.EvaluationError, match="1 of 3 scenes"):
        score("a", plain, world=Half(0, 2, 0, torch.device("cpu")))
    assert done() == ["custom-test0", "custom-test2"]
    score("a", plain, world=Half(1, 2, 1, torch.device("cpu")))
    assert done() == ["custom-test0", "custom-test1", "custom-test2"]


def scene(name: str, **scores: float) -> SceneScores:
    return SceneScores(name, [ViewScores(0, False, scores, scores)], [], 1, 0, -1.0, {}, 0.5)


def test_the_interval_holds_95_percent():
    summary = results.summarise([scene("a", psnr=20.0), scene("b", psnr=22.0)])
    # Two values one from their mean: variance 2, error of the mean 1.
    assert summary["target_psnr_ci95"] == pytest.approx(1.96)


def test_less_is_better_for_lpips_only():
    first, second = (
        compare.Result(
            name,
            Path(name),
            {"total_gaussians": 1},
            {},
            {"a": scene("a", psnr=psnr, ssim=0.5, lpips=lpips)},
        )
        for name, psnr, lpips in (("first", 20.0, 0.3), ("second", 21.0, 0.2))
    )
    text = compare.compare([first, second])
    assert "| PSNR | +1.000 | 0.000 | 1/1 |" in text
    assert "| LPIPS | -0.100 | 0.000 | 1/1 |" in text
