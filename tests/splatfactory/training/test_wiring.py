"""What is configured is what happens: each number of a run goes where it should."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from splatfactory import train
from splatfactory.config import Request, load
from splatfactory.datasets.loader import SceneLoader
from splatfactory.datasets.samples import Views
from splatfactory.losses import TrainingLoss
from splatfactory.protocols import RenderedViews, Supervision, TrueMatches
from splatfactory.runtime import checkpoints
from splatfactory.runtime.distributed import World
from splatfactory.schema import HeadConfig
from splatfactory.training import trainer
from splatfactory.training.rendering import activated, render_views
from splatfactory.training.schedules import max_views, warmup_cosine
from splatfactory.training.trainer import Trainer
from splatfactory.training.validation import combined, validate
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.pose import Pose
from zipsplat.render import choose

OUTPUTS = Path("outputs/training")
ALONE = World(0, 1, 0, torch.device("cpu"))


@dataclasses.dataclass(frozen=True)
class Update:
    """One step of the optimizer: rates and gradient norm of its groups, weights around it."""

    rates: list[float]
    norm: float
    before: list[Tensor]
    after: list[Tensor]


@pytest.fixture
def updates(monkeypatch: pytest.MonkeyPatch) -> list[Update]:
    """Every update that AdamW makes from now on."""
    step, made = torch.optim.AdamW.step, []

    def recorded(self: torch.optim.AdamW, *arguments: object) -> object:
        parameters = [p for group in self.param_groups for p in group["params"]]
        rates = [group["lr"] for group in self.param_groups]
        norm = float(nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        before = [p.detach().clone() for p in parameters]
        result = step(self, *arguments)
        made.append(Update(rates, norm, before, [p.detach().clone() for p in parameters]))
        return result

    monkeypatch.setattr(torch.optim.AdamW, "step", recorded)
    return made


@pytest.fixture
def built(workplace: Path) -> Callable[..., Trainer]:
    """A trainer of the small configuration with some options changed."""

    def build(*overrides: str, world: World = ALONE) -> Trainer:
        config = load(Request("conf.yaml", overrides))
        return train.build(config, world, workplace / "run", is_restored=False)

    return build


def test_gradients_are_clipped_to_the_norm_asked_for(run_training, updates):
    assert run_training("a", "train.clip_grad=0.001", "train.num_steps=2") == 0
    assert [update.norm for update in updates] == pytest.approx([0.001] * 2, rel=1e-3)


def test_rates_follow_schedule_and_factors(run_training, updates):
    assert run_training("a", "train.lr=0.004", "train.warmup_steps=2",
                        "train.lr_scaling={backbone: 0.5}") == 0  # fmt: skip
    for number, update in enumerate(updates):
        rate = 0.004 * warmup_cosine(number, 6, 2)
        assert sorted(update.rates) == pytest.approx([0.5 * rate, rate])


def test_the_average_is_exported_and_evaluated_and_training_goes_on_without_it(
    run_training, updates, monkeypatch
):
    evaluated = []
    original = trainer.validate

    def seen(model: nn.Module, *arguments: object) -> object:
        evaluated.append(
            {n: v.clone() for n, v in model.get_submodule("network").state_dict().items()}
        )
        return original(model, *arguments)

    monkeypatch.setattr(trainer, "validate", seen)
    assert run_training("a", "train.ema_decay=0.9", "train.num_steps=4", "train.lr=0.1",
                        "train.eval_every_iter=1") == 0  # fmt: skip
    average = updates[0].before
    for number, update in enumerate(updates):
        decay = min(0.9, (1 + number) / (10 + number))
        average = [decay * a + (1 - decay) * w for a, w in zip(average, update.after, strict=True)]
    exported = load_file(OUTPUTS / "a" / checkpoints.LAST)
    found = {tuple(value.shape): value for value in exported.values()}
    for value in average:  # one tensor of each shape stands for all
        if sum(other.shape == value.shape for other in average) == 1:
            torch.testing.assert_close(found[tuple(value.shape)], value)
    assert all(torch.equal(evaluated[-1][name], value) for name, value in exported.items())
    for earlier, later in itertools.pairwise(updates):
        assert all(torch.equal(a, b) for a, b in zip(earlier.after, later.before, strict=True))


def test_a_time_limit_ends_the_run(run_training):
    assert run_training("a", "train.max_minutes=1e-6", "train.save_every_iter=null") == 0
    names = [path.name for path in checkpoints.full_checkpoints(OUTPUTS / "a")]
    assert names == ["checkpoint_00000001.tar"]


def test_saves_come_after_minutes(run_training):
    assert run_training("a", "train.save_every_minutes=1e-6", "train.save_every_iter=null",
                        "train.num_steps=3", "train.keep_last_checkpoints=9") == 0  # fmt: skip
    steps = [int(path.stem[-8:]) for path in checkpoints.full_checkpoints(OUTPUTS / "a")]
    assert steps == [1, 2, 3]


def test_a_short_run_has_the_steps_asked_for(run_training):
    assert run_training("a", "train.fast_dev_run=2") == 0
    lines = (OUTPUTS / "a" / "metrics.jsonl").read_text().splitlines()
    assert max(json.loads(line)["step"] for line in lines) == 2


def test_the_bound_of_views_reaches_the_data(run_training, monkeypatch):
    bounds, original = [], SceneLoader.set_max_views

    def recorded(self: SceneLoader, bound: int) -> None:
        bounds.append(bound)
        original(self, bound)

    monkeypatch.setattr(SceneLoader, "set_max_views", recorded)
    assert run_training("a", "data.view_schedule=1.0", "train.num_steps=4") == 0
    wanted = [max_views(step, 4, 1.0, 2, 3) for step in range(4)]
    assert len(set(wanted)) > 1
    assert [bound for bound in bounds if bound in wanted][:4] == wanted


def test_a_good_gradient_between_bad_ones_lets_a_run_go_on(run_training, monkeypatch):
    norms = iter([float("nan"), 1.0] * 2)
    monkeypatch.setattr(trainer, "gradient_norm", lambda _: torch.tensor(next(norms)))
    assert run_training("a", "train.max_nonfinite_steps=2", "train.num_steps=4") == 0
    lines = (OUTPUTS / "a" / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["training/nonfinite_steps"] == 2


def test_processes_build_equal_weights_and_sample_different_numbers(built, monkeypatch):
    seeds: list[int] = []
    monkeypatch.setattr(World, "wrap", lambda _self, model, *_: model)
    monkeypatch.setattr(train, "seed_everything", lambda seed: seeds.append(seed))
    for rank in (0, 1):
        built(world=World(rank, 2, rank, torch.device("cpu")))
    (first, own), (again, other) = seeds[:2], seeds[2:]
    assert first == again
    assert len({first, own, other}) == 3


# --- validation ---------------------------------------------------------------------------------


class Recording(nn.Module):
    """A model whose prediction is a random number; remembers in which mode it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.modes: list[bool] = []

    def forward(self, _context: object) -> Tensor:
        self.modes.append(self.training)
        return torch.rand(())


class Echo:
    """An objective whose only metric is the prediction itself."""

    def __init__(self) -> None:
        self.is_training: list[bool] = []

    def __call__(self, prediction: Tensor, _batch: object, *, is_training: bool):
        self.is_training.append(is_training)
        return {}, prediction

    def describe(self, supervision: Tensor, _terms: object) -> dict[str, Tensor]:
        return {"value": supervision}


def test_validation_is_in_evaluation_mode_and_repeats_itself():
    model, objective = Recording().train(), Echo()
    batch = SimpleNamespace(context=None, to=lambda _device: batch)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first, second = (validate(model, objective, [batch] * 2, ALONE, seed=7) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(7)
    assert first == second == {"value": pytest.approx(float(torch.rand(2).mean()))}
    assert set(model.modes) == {False}
    assert set(objective.is_training) == {False}
    assert model.training


def test_means_count_scenes_not_processes():
    parts = [(["a", "b"], [6.0, 1.0], [3.0, 1.0]), (["a"], [2.0], [1.0])]
    world = SimpleNamespace(gather=lambda _: parts)
    assert combined(SimpleNamespace(totals=lambda: None), world) == {"a": 2.0, "b": 1.0}


# --- what is supervised ---------------------------------------------------------------------------


def evaluated(trainer: Trainer, *, is_training: bool = False):
    """A batch of the trainer, what its model predicts, and what the objective makes of it."""
    torch.manual_seed(0)
    batch = next(iter(trainer.parts.source)).to("cpu")
    with torch.no_grad():
        prediction = trainer.parts.model.eval()(batch.context)
        _, supervision = trainer.parts.objective(prediction, batch, is_training=is_training)
    return batch, prediction, supervision


def test_targets_are_evaluated_and_context_views_where_asked(built):
    batch, _, supervision = evaluated(built())
    assert torch.equal(supervision.views.images, batch.target.images)
    batch, _, supervision = evaluated(built("model.gaussian_head.loss_on_context=true"))
    both = torch.cat([batch.context.images, batch.target.images], dim=1)
    assert torch.equal(supervision.views.images, both)


def test_gaussians_that_any_view_shows_are_spared(built):
    batch, prediction, supervision = evaluated(built())
    renderer, rule = choose("reference", torch.device("cpu")), HeadConfig().activated
    target, context = (
        activated(prediction.gaussians, views, renderer, rule)
        for views in (batch.target, batch.context)
    )
    assert (target != context).any()
    assert torch.equal(supervision.activated, target | context)


def test_random_backgrounds_stand_behind_the_scene_in_training_alone(built):
    trainer = built("model.gaussian_head.random_background=true")
    for is_training in (False, True):
        batch, prediction, supervision = evaluated(trainer, is_training=is_training)
        plain, _ = render_views(
            prediction.gaussians, batch.target, choose("reference", torch.device("cpu"))
        )
        behind = supervision.rendered.color - plain.color
        if not is_training:
            assert not behind.any()
            continue
        empty = 1 - plain.alpha.unsqueeze(2)
        assert float(empty.max()) > 0.5
        color = (behind * empty).sum(dim=(-2, -1), keepdim=True) / empty.square().sum(
            dim=(-2, -1), keepdim=True
        )
        torch.testing.assert_close(behind, color * empty, atol=1e-5, rtol=0)
        assert len(color.unique()) == color.numel()


def everything() -> Supervision:
    """One scene of one view in which no term is zero."""
    torch.manual_seed(0)
    gaussians = Gaussians(
        means=torch.randn(1, 4, 3), scales=torch.full((1, 4, 3), 0.5),
        quats=torch.tensor([1.0, 0, 0, 0]).expand(1, 4, 4), opacities=torch.rand(1, 4),
        sh_coeffs=torch.zeros(1, 4, 1, 3),
    )  # fmt: skip
    size = 16
    camera = Camera.from_fov(1.0, w=size, h=size).map(lambda value: value.expand(1, 1, 2))
    ones = torch.ones(1, 1)
    views = Views(
        images=torch.rand(1, 1, 3, size, size), cameras=camera,
        poses=Pose(torch.eye(3).expand(1, 1, 3, 3), torch.zeros(1, 1, 3)),
        depths=torch.full((1, 1, size, size), 2.0), near=ones, far=ones,
        indices=torch.zeros(1, 1, dtype=torch.int64),
    )  # fmt: skip
    rendered = RenderedViews(torch.rand(1, 1, 3, size, size), torch.rand(1, 1, size, size),
                  torch.rand(1, 1, size, size))  # fmt: skip
    matches = TrueMatches(
        torch.zeros(1, 1, 1, 2, 4, dtype=torch.int64), torch.full((1, 1, 1, 2, 4), 0.25)
    )
    return Supervision(
        gaussians, torch.zeros(1, 4, dtype=torch.bool), rendered, views,
        surface=torch.randn(1, 4, 3), match_logits=torch.randn(1, 1, 1, 2, 3), matches=matches,
    )  # fmt: skip


WEIGHTS = {
    "mse_weight": "mse_loss",
    "ssim_weight": "ssim_loss",
    "chamfer_weight": "location_loss",
    "depth_weight": "depth_loss",
    "surface_weight": "surface_loss",
    "match_weight": "match_loss",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_each_weight_multiplies_its_term(name: str):
    base = HeadConfig(lpips_weight=0.0, **{other: 0.5 for other in WEIGHTS})
    supervision = everything()
    terms = TrainingLoss(base, None)(supervision)
    more = TrainingLoss(dataclasses.replace(base, **{name: 2.0}), None)(supervision)
    term = terms[WEIGHTS[name]]
    assert float(term) > 0.01
    torch.testing.assert_close(more["total"] - terms["total"], 1.5 * term)


def test_an_objective_asks_only_for_what_has_a_weight(built):
    weight = "model.gaussian_head.surface_weight"
    surfaces = [evaluated(built(f"{weight}={value}"))[2].surface for value in (0.1, 0.0)]
    assert [surface is None for surface in surfaces] == [False, True]


def test_products_take_the_faster_path_forward_and_backward(run_training, monkeypatch):
    asked, active, seen = [], [], []

    @contextmanager
    def faster(width: int, device: torch.device) -> Iterator[None]:
        asked.append((width, device.type))
        active.append(True)
        yield
        active.pop()

    mean = trainer.mean_over_scenes

    def watched(total: Tensor, *arguments: float) -> Tensor:
        total.register_hook(lambda _: seen.append(bool(active)))
        return mean(total, *arguments)

    monkeypatch.setattr(trainer, "fastest", faster)
    monkeypatch.setattr(trainer, "mean_over_scenes", watched)
    assert run_training("a", "train.num_steps=2") == 0
    assert len(asked) == 2
    assert len(set(asked)) == 1
    assert asked[0][1] == "cpu"
    assert seen == [True, True]
    assert not active
