"""`splatfactory.eval.run` end to end: the protocol, result folders, resuming, reports."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from splatfactory.config import Request, load, to_dict
from splatfactory.eval import benchmarks, compare, results, run, scoring
from splatfactory.metrics import psnr
from splatfactory.models import build_model
from splatfactory.runtime import checkpoints
from tests.splatfactory.conftest import start

SMALL = (
    "data.preprocessing.resize=28",
    "eval.renderer=reference",
    "eval.lpips=none",
    "eval.pose_estimator.num_steps=2",
)
RESULTS = Path("outputs/results")

Evaluate = Callable[..., int]


@pytest.fixture
def evaluate(workplace: Path) -> Evaluate:
    """Untrained weights, an index, and the command with small settings."""
    torch.manual_seed(0)
    config = load(Request("conf.yaml", ()))
    network = build_model(config.model, with_initial_weights=True).network
    checkpoints.export(network.state_dict(), to_dict(config), Path("model.safetensors"))
    index = {f"test{i}": {"context": [0, 3], "target": [1, 2, 3]} for i in range(3)}
    Path("index.json").write_text(json.dumps(index))

    def run_it(*arguments: str, name: str = "custom_benchmark") -> int:
        common = ["data.dataset_dir=data/rendered", "eval.index=index.json", *SMALL]
        source = () if "--conf" in arguments else ("--checkpoint", "model.safetensors")
        return run.main([name, *source, *common, *arguments])

    return run_it


def summary_of(folder: Path) -> dict:
    return json.loads((folder / results.SUMMARY).read_text())


def untimed(summary: dict) -> dict:
    return {k: v for k, v in summary.items() if not k.startswith(("seconds", "memory"))}


def test_a_result_has_all_its_parts(evaluate: Evaluate, capsys):
    assert evaluate() == 0
    folder = RESULTS / "custom_benchmark" / "model" / "index"
    assert "over 3 scenes" in capsys.readouterr().out
    names = {"conf.yaml", "fingerprint.json", "report.html", "report.md", "results.json",
             "scenes.csv", "scenes.json", "scenes", "images"}  # fmt: skip
    assert {path.name for path in folder.iterdir()} == names
    summary, scenes = summary_of(folder), json.loads((folder / "scenes.json").read_text())
    per_scene = [math.fsum(v["aligned"]["psnr"] for v in s["views"]) / 3 for s in scenes]
    assert summary["target_psnr"] == pytest.approx(math.fsum(per_scene) / 3, rel=1e-12)
    clean = [math.fsum(v["aligned"]["psnr"] for v in s["views"][:2]) / 2 for s in scenes]
    assert summary["target_leak_free_psnr"] == pytest.approx(math.fsum(clean) / 3, rel=1e-12)
    assert summary["leaked_targets"] == 3
    assert summary["target_psnr"] != round(summary["target_psnr"], 3)
    rows = list(csv.DictReader((folder / "scenes.csv").read_text().splitlines()))
    assert [float(row["aligned_psnr"]) for row in rows] == pytest.approx(per_scene)
    assert "off (eval.lpips=none)" in (folder / "report.md").read_text()
    assert len(list((folder / "images").glob("*.png"))) == 3


def test_the_refined_scene_is_scored_beside_the_predicted_one(evaluate: Evaluate):
    assert evaluate("--tag", "plain", "eval.align_poses=false") == 0
    more = ("eval.align_poses=false", "eval.refine=3")
    assert evaluate("--tag", "refined", *more) == 0
    assert evaluate("--tag", "again", *more) == 0
    plain, refined, again = (
        summary_of(RESULTS / "custom_benchmark" / tag / "index")
        for tag in ("plain", "refined", "again")
    )
    assert refined["target_psnr"] == plain["target_psnr"]
    assert refined["target_refined_psnr"] != refined["target_psnr"]
    assert untimed(refined) == untimed(again)
    assert not any("refined" in key for key in plain)
    folder = RESULTS / "custom_benchmark" / "refined" / "index"
    rows = list(csv.DictReader((folder / "scenes.csv").read_text().splitlines()))
    mean = math.fsum(float(row["refined_psnr"]) for row in rows) / 3
    assert mean == pytest.approx(refined["target_refined_psnr"])
    assert "scene refined against the context views" in (folder / "report.md").read_text()


def test_results_are_reproducible_to_the_digit(evaluate: Evaluate):
    assert evaluate("--tag", "a") == 0
    assert evaluate("--tag", "b") == 0
    first, second = (summary_of(RESULTS / "custom_benchmark" / tag / "index") for tag in "ab")
    assert untimed(first) == untimed(second)


@pytest.mark.slow
@pytest.mark.usefixtures("evaluate")
def test_two_processes_judge_as_one_does(workplace: Path):
    """Three scenes between two processes, so that one of them has more to do."""
    torchrun = ["torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m"]
    for tag, launcher in (("one", []), ("two", torchrun)):
        # Both are started here, with as many threads each: their number changes the last digits.
        arguments = ["custom_benchmark", "--checkpoint", "model.safetensors", "--tag", tag,
                     "data.dataset_dir=data/rendered", "eval.index=index.json", *SMALL]  # fmt: skip
        process = start([*launcher, "splatfactory.eval.run", *arguments], workplace)
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        assert output.count("over 3 scenes") == 1, output
    one, two = (RESULTS / "custom_benchmark" / tag / "index" for tag in ("one", "two"))
    assert untimed(summary_of(one)) == pytest.approx(untimed(summary_of(two)), rel=1e-6)
    scenes = [json.loads((folder / "scenes.json").read_text()) for folder in (one, two)]
    for first, second in zip(*scenes, strict=True):
        assert first["name"] == second["name"]
        for a, b in zip(first["views"], second["views"], strict=True):
            assert a["aligned"] == pytest.approx(b["aligned"], rel=1e-6)
            assert a["unaligned"] == pytest.approx(b["unaligned"], rel=1e-6)


def test_an_interrupted_evaluation_goes_on_where_it_was(evaluate: Evaluate, monkeypatch):
    judge = scoring.Scorer.__call__
    seen: list[str] = []

    def stop_after_two(self, scene):
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(scene.name)
        return judge(self, scene)

    monkeypatch.setattr(scoring.Scorer, "__call__", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        evaluate()
    assert not (RESULTS / "custom_benchmark/model/index/results.json").exists()
    seen.clear()
    monkeypatch.setattr(
        scoring.Scorer, "__call__", lambda self, s: seen.append(s.name) or judge(self, s)
    )
    assert evaluate() == 0
    assert seen == ["custom-test2"]
    seen.clear()
    assert evaluate() == 0
    assert seen == []


def test_other_settings_weights_or_data_are_never_mixed(evaluate: Evaluate, capsys):
    assert evaluate() == 0
    folder = RESULTS / "custom_benchmark/model/index"
    before = (folder / "results.json").read_bytes()
    assert evaluate("eval.pose_estimator.num_steps=1") == 1
    assert "different settings" in capsys.readouterr().err
    weights = Path("model.safetensors")
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(changed)
    assert evaluate() == 1
    assert "different weights" in capsys.readouterr().err
    assert (folder / "results.json").read_bytes() == before
    assert evaluate("--overwrite_eval") == 1
    assert evaluate("--overwrite") == 0
    assert (folder.with_name("index.old-1") / "results.json").read_bytes() == before


def test_view_counts_and_priors_have_folders_of_their_own(evaluate: Evaluate, monkeypatch):
    def published(_name: str, num_views: int) -> Path:
        path = Path(f"published_{num_views}.json")
        content = {"test0": {"context": list(range(min(num_views, 4))), "target": [4, 5]}}
        path.write_text(json.dumps(content))
        return path

    monkeypatch.setattr(benchmarks, "published_index", published)
    common = ("eval.index=null", "eval.align_poses=false", "--tag", "t")
    for extra in (["eval.num_views=6"], ["eval.num_views=12"], ["eval.num_views=24"],
                  ["eval.num_views=6", "model.eval_use_priors=true"]):  # fmt: skip
        assert evaluate(*common, *extra, name="dl3dv_benchmark") == 0
    folder = RESULTS / "dl3dv_benchmark" / "t"
    assert sorted(p.name for p in folder.iterdir()) == ["12v", "24v", "6v", "6v_priors"]
    plain, priors = summary_of(folder / "6v"), summary_of(folder / "6v_priors")
    assert plain["target_psnr"] != priors["target_psnr"]
    assert "ZipSplat (published) | 25.24" in (folder / "6v" / "report.md").read_text()
    assert compare.main([str(folder / "6v"), str(folder / "6v_priors")]) == 0


def test_a_trained_run_is_evaluated_by_its_name(evaluate: Evaluate, run_training):
    assert run_training("exp", "train.num_steps=2") == 0
    common = ["data.dataset_dir=data/rendered", "eval.index=index.json", *SMALL]
    assert run.main(["custom_benchmark", "--checkpoint", "exp", *common]) == 0
    assert (RESULTS / "custom_benchmark/exp/index/report.html").is_file()


def test_benchmarks_run_during_training(evaluate: Evaluate, run_training):
    arguments = [
        "train.num_steps=1", "train.run_benchmarks=[custom_benchmark]",
        "benchmarks.custom_benchmark.max_samples=1",
        "benchmarks.custom_benchmark.eval={index: index.json, align_poses: false}",
        "benchmarks.custom_benchmark.data={dataset_dir: data/rendered, "
        "preprocessing: {resize: 28}}",
    ]  # fmt: skip
    assert run_training("exp", *arguments) == 0
    lines = Path("outputs/training/exp/metrics.jsonl").read_text()
    assert "custom_benchmark/target_psnr" in lines


def test_unaligned_numbers_are_those_of_the_plain_rendering(evaluate: Evaluate):
    assert evaluate("eval.align_poses=false", "eval.save_gaussians=true") == 0
    folder = RESULTS / "custom_benchmark/model/index"
    scenes = json.loads((folder / "scenes.json").read_text())
    for view in scenes[0]["views"]:
        assert view["aligned"] == view["unaligned"]
    assert (folder / "gaussians" / "custom-test0.ply").stat().st_size > 1000


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["eval.numviews=24"], "did you mean eval.num_views"),
        (["evl.num_views=24"], "did you mean eval"),
        (["eval.index=nowhere.json"], "nowhere.json"),
        (["eval.num_views=6"], "index.json has 2 context views per scene"),
        (["data.dataset_dir=data/nothing"], "nothing"),
        (["--checkpoint", "nobody"], "no run 'nobody'"),
        (["eval.lpips=alex"], "vgg or none"),
        (["model/backbone=da3s"], "name it with --conf"),
    ],
)
def test_mistakes_are_one_clear_line(evaluate: Evaluate, capsys, arguments: list[str], hint: str):
    assert evaluate(*arguments) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert hint in message


def test_a_missing_scene_fails_the_run(evaluate: Evaluate, capsys):
    index = json.loads(Path("index.json").read_text())
    Path("index.json").write_text(json.dumps({**index, "gone": index["test0"]}))
    assert evaluate() == 1
    assert "gone" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["outputs", "outputs/results/custom_benchmark/model"])
def test_a_folder_that_cannot_be_written_is_said(
    evaluate: Evaluate, capsys, monkeypatch, place: str
):
    """A file in the place of a folder stops root as well; nothing is scored in vain."""
    monkeypatch.setattr(scoring.Scorer, "__call__", lambda *_: pytest.fail("scored in vain"))
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_text("precious")
    assert evaluate() == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert place in lines[-1]
    assert Path(place).read_text() == "precious"


def test_unknown_names_are_answered_with_the_nearest(evaluate: Evaluate, capsys):
    assert evaluate(name="dl3dv_benchmrk") == 1
    assert "did you mean dl3dv_benchmark" in capsys.readouterr().err
    assert evaluate("eval.index=null", "eval.num_views=7", name="dl3dv_benchmark") == 1
    assert "6, 12, 24, got 7" in capsys.readouterr().err


def test_released_weights_are_named_when_they_cannot_be_had(workplace, capsys, monkeypatch):
    from zipsplat import downloads, weights

    def refuse(*_args, **_kwargs):
        raise downloads.DownloadError("cannot fetch zipsplat-da3g-252p.tar")

    monkeypatch.setattr(weights, "fetch_release", refuse)
    monkeypatch.setattr(benchmarks, "published_index", lambda *_: Path("conf.yaml"))
    assert run.main(["re10k_benchmark", "--conf", "zipsplat_eval", "eval.num_views=6"]) == 1
    assert "zipsplat-da3g-252p.tar" in capsys.readouterr().err


def test_means_ignore_what_is_missing_and_keep_infinity():
    view = scoring.ViewScores(0, False, {"psnr": float("inf")}, {"psnr": 20.0})
    scene = scoring.SceneScores("a", [view], [], 1, 0, -1.0, {"predict": 1.0}, 0.5)
    summary = results.summarise([scene])
    assert summary["target_psnr"] == math.inf
    assert summary["target_unaligned_psnr"] == 20.0
    assert "target_lpips" not in summary
    assert not any("overlap" in key for key in summary)


@pytest.mark.parametrize(
    ("overlap", "name"),
    [(0.01, "ignore"), (0.05, "small"), (0.3, "small"), (0.31, "medium"), (0.6, "large"),
     (0.9, "ignore"), (-1.0, "ignore")],
)  # fmt: skip
def test_overlap_classes(overlap: float, name: str):
    assert results.overlap_class(overlap) == name


def test_every_benchmark_file_loads():
    for name in benchmarks.names():
        benchmark = benchmarks.load_benchmark(name)
        for rows in benchmark.published.values():
            assert sorted(rows) == benchmark.view_counts
            assert all(len(scores) == 3 for scores in rows.values())


def test_scores_follow_the_images(workplace):
    true = torch.rand(2, 3, 28, 28)
    judge = scoring.Scorer.__new__(scoring.Scorer)
    judge.options, judge.perceptual = load(Request("conf.yaml", ())).eval, None
    scores = judge._scores(true, true + 0.1)
    assert [s["psnr"] for s in scores] == pytest.approx(psnr(true, true + 0.1).tolist())
    assert all(s.keys() == {"psnr", "ssim"} for s in scores)


def test_results_are_compared_with_their_images_side_by_side(evaluate: Evaluate, capsys):
    assert evaluate("--tag", "a") == 0
    assert evaluate("--tag", "b", "eval.compression=0.5") == 0
    folders = [str(RESULTS / "custom_benchmark" / tag / "index") for tag in "ab"]
    capsys.readouterr()
    assert compare.main([*folders, "-o", "both.html"]) == 0
    assert "page: both.html" in capsys.readouterr().out
    text = Path("both.html").read_text()
    # Of each of three scenes: the photos, then renderings and errors of both.
    assert text.count('src="data:image/webp;base64,') == 3 * 5
    assert text.count("index: renderings</figcaption>") == 6
    assert "They differ in: settings." in text
    (Path(folders[1]) / "images" / "custom-test0.png").unlink()
    assert compare.main([*folders, "-o", "both.html"]) == 0
    assert Path("both.html").read_text().count('src="data:image/webp;base64,') == 2 * 5 + 3
    with pytest.raises(SystemExit):
        compare.main([*folders, "-o", "both.png"])
