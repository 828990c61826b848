"""`splatfactory.train` end to end on rendered scenes."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from splatfactory import train
from splatfactory.config import read_yaml
from splatfactory.runtime import checkpoints, run_folder
from splatfactory.training.trainer import Trainer
from tests.splatfactory.conftest import CONF
from zipsplat import ZipSplat

OUTPUTS = Path("outputs/training")


def final_weights(name: str) -> dict[str, torch.Tensor]:
    return load_file(OUTPUTS / name / checkpoints.LAST)


def assert_equal_weights(first: str, second: str) -> None:
    a, b = final_weights(first), final_weights(second)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory, rendered_shards) -> Path:
    """A run of the shared settings that nothing interrupts."""
    place = tmp_path_factory.mktemp("whole")
    (place / "conf.yaml").write_text(CONF)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("SPLATFACTORY_DATA", str(rendered_shards.parent))
        assert train.main(["whole", "--conf", "conf.yaml"]) == 0
    return place / OUTPUTS / "whole"


@pytest.fixture
def whole(workplace: Path, trained_once: Path) -> Path:
    """The unbroken run, as if it had been trained in this workplace."""
    shutil.copytree(trained_once, OUTPUTS / "whole")
    return OUTPUTS / "whole"


def log_of(name: str) -> list[dict]:
    text = (OUTPUTS / name / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def forget_after(name: str, step: int) -> None:
    """Leave a run as a kill shortly after `step` would have left it."""
    for path in (OUTPUTS / name).glob("checkpoint_*"):
        if path.name.startswith("checkpoint_last") or f"{step:08d}" not in path.name:
            path.unlink()


def test_a_run_leaves_what_it_promises(run_training):
    assert (
        run_training("a", "train.num_steps=4", "train.eval_every_iter=2", "train.plot_every_iter=4")
        == 0
    )
    folder = OUTPUTS / "a"
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["torch"] == torch.__version__
    assert read_yaml(folder / "config.yaml")["train"]["num_steps"] == 4
    assert "step 4/4" in (folder / "log.log").read_text()
    lines = log_of("a")
    trained = [line for line in lines if "training/loss/total" in line]
    evaluated = [line for line in lines if "eval/psnr" in line]
    assert [line["step"] for line in trained] == [2, 4]
    assert [line["step"] for line in evaluated] == [2, 4]
    for key in ("training/lr", "training/l2/grad_norm", "training/rate/views_per_s",
                "training/schedule/query_ratio_min", "training/memory/peak_gib"):  # fmt: skip
        assert key in trained[0]
    assert len(list(folder.glob("figures/training/*/00000004.png"))) == 5
    assert [p.name for p in checkpoints.full_checkpoints(folder)] == [
        "checkpoint_00000003.tar",
        "checkpoint_00000004.tar",
    ]
    model = ZipSplat(checkpoints.best_weights(folder), device="cpu", image_size=28)
    scene = model([torch.rand(3, 28, 28), torch.rand(3, 28, 28)])
    assert scene.shape == (1, 2 * 4 * 8)


def test_a_resumed_run_equals_one_never_stopped(run_training):
    extra = ["train.ema_decay=0.9", "train.gradient_accumulation_steps=2"]
    assert run_training("whole", *extra) == 0
    shutil.copytree(OUTPUTS / "whole", OUTPUTS / "parts")
    forget_after("parts", 3)
    assert run_training("parts", "--restore", conf=None) == 0
    assert_equal_weights("whole", "parts")


def test_a_signal_saves_and_stops_and_the_run_goes_on_from_there(run_training, whole, monkeypatch):
    step = Trainer._update

    def update(self, batches, num_scenes):
        if self.progress.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, batches, num_scenes)

    monkeypatch.setattr(Trainer, "_update", update)
    assert run_training("parts") == 128 + signal.SIGTERM
    names = [path.name for path in checkpoints.full_checkpoints(OUTPUTS / "parts")]
    assert names in (["checkpoint_00000002.tar"], ["checkpoint_00000003.tar"])
    monkeypatch.setattr(Trainer, "_update", step)
    assert run_training("parts", "--restore") == 0
    assert_equal_weights("whole", "parts")


def test_a_second_signal_kind_saves_and_goes_on(run_training, monkeypatch):
    step = Trainer._update

    def update(self, batches, num_scenes):
        if self.progress.step == 0:
            os.kill(os.getpid(), signal.SIGUSR1)
        step(self, batches, num_scenes)

    monkeypatch.setattr(Trainer, "_update", update)
    assert run_training("a", "train.num_steps=4", "train.save_every_iter=null",
                        "train.keep_last_checkpoints=9") == 0  # fmt: skip
    names = [path.name for path in checkpoints.full_checkpoints(OUTPUTS / "a")]
    assert names == ["checkpoint_00000002.tar", "checkpoint_00000004.tar"]


def test_overrides_survive_restore_and_new_ones_win(run_training):
    assert run_training("a", "train.num_steps=3", "data.batch_size=6") == 0
    assert run_training("a", "--restore", "train.num_steps=4") == 0
    config = read_yaml(OUTPUTS / "a" / "config.yaml")
    assert (config["train"]["num_steps"], config["data"]["batch_size"]) == (4, 6)
    assert log_of("a")[-1]["step"] == 4
    assert read_yaml(OUTPUTS / "a" / "cli_config.yaml")["overrides"] == [
        "train.num_steps=3", "data.batch_size=6", "train.num_steps=4",
    ]  # fmt: skip


def test_an_existing_run_is_not_touched_unasked(run_training, capsys):
    assert run_training("a", "train.num_steps=1") == 0
    before = final_weights("a")
    assert run_training("a", "train.num_steps=2") == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--restore" in message
    assert "--overwrite" in message
    assert run_training("a", "--overwrite", "train.num_steps=1", "train.seed=5") == 0
    old = load_file(OUTPUTS / "a.old-1" / checkpoints.LAST)
    assert all(torch.equal(old[name], before[name]) for name in before)
    assert not all(torch.equal(final_weights("a")[name], before[name]) for name in before)


def test_a_run_can_start_from_another(run_training):
    assert run_training("first", "train.num_steps=2", "train.eval_every_iter=1") == 0
    assert run_training("second", "train.load_experiment=first", "train.num_steps=1",
                        "train.lr=0") == 0  # fmt: skip
    best = load_file(checkpoints.best_weights(OUTPUTS / "first"))
    second = final_weights("second")
    assert all(torch.equal(best[name], second[name]) for name in best)


def test_the_model_options_of_another_run_can_be_taken_too(run_training, capsys):
    fewer = "model.gaussians_per_prototype=4"
    assert run_training("other", "train.num_steps=1", fewer) == 0
    start = ("train.load_experiment=other", "train.num_steps=1")
    assert run_training("plain", *start) == 1  # sizes differ
    assert run_training("taken", *start, "train.reload_model=true", "train.lr=0",
                        "model.prior_probability=0.5") == 0  # fmt: skip
    model = read_yaml(OUTPUTS / "taken" / "config.yaml")["model"]
    assert (model["gaussians_per_prototype"], model["prior_probability"]) == (4, 0.5)
    assert_equal_weights("other", "taken")
    # Composed again by a group, the continued run still has the other run's model.
    assert run_training("taken", "--restore", "train=zipsplat", "train.num_steps=2") == 0
    model = read_yaml(OUTPUTS / "taken" / "config.yaml")["model"]
    assert (model["gaussians_per_prototype"], model["prior_probability"]) == (4, 0.5)
    capsys.readouterr()
    assert run_training("taken", "--restore", "model/backbone=da3s") == 1
    assert "model/backbone=da3s selects another; drop one" in capsys.readouterr().err
    assert run_training("alone", "train.reload_model=true") == 1
    assert "needs train.load_experiment" in capsys.readouterr().err


def test_the_architecture_is_told_to_a_depth():
    network = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Linear(999, 10)))
    lines = ["Sequential, 0.01 M values", "  0: Sequential, 0.01 M values",
             "    0.0: Linear, 0.01 M values"]  # fmt: skip
    for depth in (0, 1, 2):
        expected = lines[: depth + 1] if depth else []
        assert train.architecture_lines(network, depth) == expected


def test_overfitting_a_batch_and_a_short_run(run_training):
    assert run_training("few", "train.overfit=1", "train.num_steps=3") == 0
    assert {line.get("training/epoch") for line in log_of("few")} >= {1.0}
    assert run_training("short", "train.fast_dev_run=2") == 0
    assert not checkpoints.full_checkpoints(OUTPUTS / "short")
    assert any("eval/psnr" in line for line in log_of("short"))


def test_the_pixel_aligned_baseline_trains(run_training):
    assert run_training("pixels", "model=pixel_aligned", "train.num_steps=2") == 0
    config = read_yaml(OUTPUTS / "pixels" / "config.yaml")
    assert config["model"]["name"] == "networks.pixel_aligned"


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train.lrr=1"], "did you mean train.lr"),
        (["data.dataset_dir=data/nothing"], "nothing"),
        (["model.backbone.weights=weights/da3-small.pth"], "hf download"),
        (["model.weights=nowhere.safetensors"], "nowhere"),
        (["train.writer=paper"], "tensorboard"),
        (["train.best_key=psnrr", "train.num_steps=1"], "psnr"),
        (["data.image_num_range=[50,60]"], "50 context views"),
        (["data.view_sampler.name=unknown"], "no view sampler named"),
        (["--distributed"], "torchrun"),
        (["train.renderer=nothing"], "nothing"),
        (["model.backbone.embed_dim=65"], "multiple"),
    ],
)
def test_mistakes_are_one_clear_line(run_training, capsys, arguments: list[str], hint: str):
    assert run_training("bad", *arguments) == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert hint in message
    is_known_late = "best_key" in arguments[0]  # what is validated tells the metrics
    assert (OUTPUTS / "bad").exists() == is_known_late


def test_weights_are_saved_before_they_are_evaluated(run_training):
    assert run_training("a", "train.best_key=psnrr", "train.num_steps=3") == 1
    assert checkpoints.full_checkpoints(OUTPUTS / "a")
    assert final_weights("a")


def test_a_refused_restore_changes_nothing(run_training, whole, capsys):
    shutil.copytree(whole, OUTPUTS / "parts")
    forget_after("parts", 3)
    files = ("config.yaml", "cli_config.yaml", "log.log")
    before = [(OUTPUTS / "parts" / name).read_bytes() for name in files]
    assert run_training("parts", "--restore", "data.seed=7") == 1
    assert "accept_changed_data" in capsys.readouterr().err
    assert [(OUTPUTS / "parts" / name).read_bytes() for name in files] == before
    assert run_training("parts", "--restore", conf=None) == 0
    assert_equal_weights("whole", "parts")


def test_changed_data_are_accepted_when_asked(run_training, whole, capsys):
    shutil.copytree(whole, OUTPUTS / "parts")
    forget_after("parts", 3)
    accepted = ("data.seed=7", "train.accept_changed_data=true")
    assert run_training("parts", "--restore", *accepted) == 0
    assert "next epoch" in capsys.readouterr().err
    epochs = [
        line["training/epoch"]
        for line in log_of("parts")
        if line["step"] == 4 and "training/epoch" in line
    ]
    assert epochs == [0, 1]  # of the unbroken run, and of the one with other data


def test_a_signal_during_validation_is_answered_at_the_next_batch(run_training, monkeypatch):
    from splatfactory.training.objective import Objective

    judge, evaluated = Objective.__call__, []

    def call(self, prediction, batch, *, is_training):
        if not is_training:
            evaluated.append(batch)
            os.kill(os.getpid(), signal.SIGTERM)
        return judge(self, prediction, batch, is_training=is_training)

    monkeypatch.setattr(Objective, "__call__", call)
    common = ("train.num_steps=4", "train.eval_every_iter=3", "data.val_scenes=4",
              "data.batch_size=2")  # fmt: skip
    assert run_training("a", *common) == 128 + signal.SIGTERM
    assert len(evaluated) == 1
    assert not any("eval/psnr" in line for line in log_of("a"))
    monkeypatch.setattr(Objective, "__call__", judge)
    assert run_training("a", "--restore", conf=None) == 0
    evaluated_steps = [line["step"] for line in log_of("a") if "eval/psnr" in line]
    assert evaluated_steps == [3, 4]


def test_without_a_seed_one_is_sampled_and_recorded(run_training):
    for name in ("a", "b"):
        assert run_training(name, "train.seed=null", "train.num_steps=1") == 0
    seeds = [read_yaml(OUTPUTS / name / "config.yaml")["train"]["seed"] for name in ("a", "b")]
    assert None not in seeds
    assert seeds[0] != seeds[1]
    again = f"train.seed={seeds[0]}"
    assert run_training("again", again, "train.num_steps=1") == 0
    assert_equal_weights("a", "again")


def test_two_processes_do_not_train_in_one_folder(run_training, whole, capsys):
    lock = run_folder.open_for_training(OUTPUTS / "whole", is_restored=True)
    for choice in ("--restore", "--overwrite"):
        assert run_training("whole", choice) == 1
        assert "another process trains" in capsys.readouterr().err
    lock.release()
    assert run_training("whole", "--restore") == 0


def test_what_a_kill_left_half_written_is_removed(run_training, whole):
    (OUTPUTS / "whole" / "figures").mkdir(exist_ok=True)
    left = [OUTPUTS / "whole" / ".partial-abc.tar", OUTPUTS / "whole/figures/.partial-x.png"]
    for path in left:
        path.write_bytes(b"half")
    assert run_training("whole", "--restore") == 0
    assert not any(path.exists() for path in left)


def test_missing_lpips_weights_are_an_error_not_a_switch(run_training, capsys, monkeypatch):
    from zipsplat import downloads

    def refuse(*_args, **_kwargs):
        raise downloads.DownloadError("cannot fetch vgg16-397923af.pth from …")

    monkeypatch.setattr("splatfactory.perceptual_network.fetch", refuse)
    assert run_training("bad", "model.gaussian_head.lpips_weight=0.05") == 1
    assert "vgg16-397923af.pth" in capsys.readouterr().err


def test_a_restart_by_torchrun_continues(run_training, whole, monkeypatch):
    shutil.copytree(whole, OUTPUTS / "parts")
    forget_after("parts", 3)
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert run_training("parts") == 0
    assert_equal_weights("whole", "parts")


def test_gradients_that_are_not_finite_are_counted_and_end_the_run(
    run_training, capsys, monkeypatch
):
    from splatfactory.training import trainer

    monkeypatch.setattr(trainer, "gradient_norm", lambda _: torch.tensor(float("nan")))
    assert run_training("bad", "train.max_nonfinite_steps=3") == 1
    assert "3 gradients in a row were not finite" in capsys.readouterr().err


def test_running_out_of_memory_is_called_by_its_name(run_training, capsys, monkeypatch):
    def update(self, batches, num_scenes):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(Trainer, "_update", update)
    assert run_training("bad") == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "out of memory" in message
    assert "data.batch_size" in message
    assert "finite" not in message


def test_a_full_disk_is_said_and_the_earlier_checkpoint_stays(run_training, capsys, monkeypatch):
    assert run_training("a", "train.num_steps=3") == 0
    monkeypatch.setattr(
        torch, "save", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
    )
    assert run_training("a", "--restore", "train.num_steps=6") == 1
    assert "No space left" in capsys.readouterr().err
    monkeypatch.undo()
    os.chdir(os.environ.get("PWD", "."))


@pytest.mark.parametrize("place", ["outputs", "outputs/training", "outputs/training/a"])
def test_a_folder_that_cannot_be_written_is_said(run_training, capsys, place: str):
    """A file in the place of a folder stops root as well, which permissions do not."""
    Path(place).parent.mkdir(parents=True, exist_ok=True)
    Path(place).write_text("precious")
    assert run_training("a", "train.num_steps=1") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("error: ")
    assert place in lines[-1]
    assert not any("Traceback" in line for line in lines)
    assert Path(place).read_text() == "precious"


def test_help_lists_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        train.main(["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "train.ema_decay=null" in text
    assert "model.gaussian_head.ssim_weight=0.0" in text
