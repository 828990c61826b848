"""What can be observed of a configuration. Each probe returns plain values that can be compared.

A probe builds no more than it needs: the network alone, a batch alone, one step of training.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from splatfactory import train
from splatfactory.config import Config, compose, merge, read_yaml
from splatfactory.datasets import samplers
from splatfactory.datasets.from_config import (
    evaluation_dataset,
    training_loader,
    validation_loader,
)
from splatfactory.datasets.loader import DataLossError
from splatfactory.datasets.samples import Batch
from splatfactory.eval import run as evaluation
from splatfactory.eval.scoring import Scorer, refine_settings
from splatfactory.losses import TrainingLoss
from splatfactory.models import build_model
from splatfactory.runtime import checkpoints, distributed
from splatfactory.runtime.distributed import World
from splatfactory.training import writers
from splatfactory.training.objective import Objective
from splatfactory.training.optim import build_optimization
from zipsplat.render import choose

CPU = torch.device("cpu")


class StandInPerception(nn.Module):
    """Takes the place of LPIPS, whose weights are not in the repository."""

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return (first - second).abs().flatten(1).amax(dim=1)


@dataclass(frozen=True)
class Place:
    """Files that probes read, and the configuration that they start from.

    Attributes:
        folder: An empty folder for what they write.
        conf: A YAML file.
        files: Names that overrides may use, as {elsewhere}.
    """

    folder: Path
    conf: Path
    files: dict[str, str]

    @cached_property
    def tree(self) -> dict[str, Any]:
        return compose(str(self.conf), [])

    def config(self, overrides: tuple[str, ...]) -> Config:
        return merge([self.tree], self.filled(overrides))

    def filled(self, overrides: tuple[str, ...]) -> list[str]:
        filled = list(overrides)
        for name, value in self.files.items():
            filled = [text.replace(f"<{name}>", value) for text in filled]
        return filled


Probe = Callable[[Place, tuple[str, ...]], Any]


def plain(value: Any) -> Any:
    """Tensors and structures as values with an equality."""
    if isinstance(value, Tensor):
        content = value.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return str(value.dtype), tuple(value.shape), hashlib.sha256(content).hexdigest()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain({f.name: getattr(value, f.name) for f in dataclasses.fields(value)})
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def shapes(place: Place, overrides: tuple[str, ...]) -> Any:
    """Names and shapes of the network's tensors; nothing is computed."""
    with torch.device("meta"):
        model = build_model(place.config(overrides).model, with_initial_weights=False)
    return {name: tuple(value.shape) for name, value in model.network.state_dict().items()}


def weights(place: Place, overrides: tuple[str, ...]) -> Any:
    """First values of the network, what of it is trained, and which blocks are recomputed."""
    config = place.config(overrides)
    torch.manual_seed(0)
    network = build_model(config.model, with_initial_weights=True).network
    train.compile_parts(network, config.train.compile)
    return {
        "values": plain(network.state_dict()),
        "trained": [name for name, value in network.named_parameters() if value.requires_grad],
        "recomputed": [
            name for name, part in network.named_modules()
            if getattr(part, "activation_checkpointing", False)
        ],
        "compiled": [
            name for name, part in network.named_modules() if part._compiled_call_impl is not None
        ],
    }  # fmt: skip


@lru_cache(maxsize=4)
def _batch(place_tree: str, data: str) -> Batch:
    config = merge(
        [json.loads(place_tree)], [f"data.dataset_dir={data}", "data.image_num_range=[3,3]"]
    )
    return next(iter(training_loader(config.data)))


def batch_of(place: Place) -> Batch:
    """A batch of the base configuration, whatever is changed."""
    return _batch(json.dumps(place.tree), place.files["rendered"])


def predict(place: Place, overrides: tuple[str, ...], *, training: bool) -> Any:
    torch.manual_seed(0)
    model = build_model(place.config(overrides).model, with_initial_weights=True)
    model.train(training)
    torch.manual_seed(1)
    with torch.no_grad():
        return plain(model(batch_of(place).context))


def forward(place: Place, overrides: tuple[str, ...]) -> Any:
    """The prediction in evaluation."""
    return predict(place, overrides, training=False)


def training_forward(place: Place, overrides: tuple[str, ...]) -> Any:
    """The prediction in training."""
    return predict(place, overrides, training=True)


def schedule(place: Place, overrides: tuple[str, ...]) -> Any:
    """What the model changes half way through training."""
    model = build_model(place.config(overrides).model, with_initial_weights=False)
    return [dict(model.schedule(step, 10)) for step in (0, 3, 6)]


def loss(place: Place, overrides: tuple[str, ...]) -> Any:
    """The minimised number of a batch, its gradient, and the share of activated Gaussians."""
    config = place.config(overrides)
    torch.manual_seed(0)
    model = build_model(config.model, with_initial_weights=True)
    torch.manual_seed(1)
    batch = batch_of(place)
    head = config.model.gaussian_head
    perceptual: Any = StandInPerception()
    objective = Objective(TrainingLoss(head, perceptual), choose("reference", CPU))
    terms, supervision = objective(model(batch.context), batch, is_training=True)
    terms["total"].mean().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    return plain([terms["total"], gradients, supervision.activated])


def optimizer(place: Place, overrides: tuple[str, ...]) -> Any:
    """The rule of the updates, and the groups it is over."""
    config = place.config(overrides)
    network = build_model(config.model, with_initial_weights=False).network
    made = build_optimization(network, config.train)
    groups = [
        {key: value for key, value in group.items() if key != "params"}
        for group in made.optimizer.param_groups
    ]
    names = [group.names for group in made.groups]
    average = None if made.average is None else made.average.decay
    return type(made.optimizer).__name__, groups, names, average


def batches(place: Place, overrides: tuple[str, ...]) -> Any:
    """Two batches of training, or the refusal to make them."""
    data = place.config(overrides).data
    try:
        loader = training_loader(data)
        found = [batch for batch, _ in zip(loader, range(2), strict=False)]
    except DataLossError as error:
        return re.sub(r"[\d.]+", "#", str(error))
    return plain([len(loader), found])


def held_out(place: Place, overrides: tuple[str, ...]) -> Any:
    """The batches of validation."""
    loader = validation_loader(place.config(overrides).data)
    return plain(list(loader or ()))


def workers(place: Place, overrides: tuple[str, ...]) -> Any:
    """The processes that load; what they load is the same by design, see test_loader.py."""
    loader = training_loader(place.config(overrides).data)._loader
    return loader.num_workers, loader.prefetch_factor


def test_scenes(place: Place, overrides: tuple[str, ...]) -> Any:
    """The scenes of an evaluation."""
    dataset = evaluation_dataset(place.config(overrides).data, {"name": "random"})
    return [dataset.key(index) for index in range(len(dataset))]


def process(place: Place, overrides: tuple[str, ...]) -> Any:
    """Settings of PyTorch for the whole process."""
    before = _process()
    try:
        torch.use_deterministic_algorithms(False)
        train.prepare_torch(place.config(overrides))
        return _process()
    finally:
        precision, is_deterministic, is_anomaly_enabled, num_threads = before
        torch.set_float32_matmul_precision(precision)
        torch.use_deterministic_algorithms(is_deterministic)
        torch.autograd.set_detect_anomaly(is_anomaly_enabled)
        torch.set_num_threads(num_threads)


def _process() -> tuple[str, bool, bool, int]:
    return (
        torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(),
        torch.is_anomaly_enabled(), torch.get_num_threads(),
    )  # fmt: skip


class RecordingWorld(World):
    """Notes how the model would be shared among processes."""

    def wrap(self, model: nn.Module, find_unused_parameters: bool) -> nn.Module:
        vars(model)["finds_unused"] = find_unused_parameters
        return model


def trainer(place: Place, overrides: tuple[str, ...]) -> Any:
    """The parts of a trainer that has not begun."""
    config = place.config(overrides)
    made = train.build(config, RecordingWorld(0, 1, 0, CPU), place.folder, is_restored=False)
    return made.parts.objective.renderer.name, vars(made.model)["finds_unused"]


def judge(place: Place, overrides: tuple[str, ...]) -> Any:
    """What scores the scenes of an evaluation."""
    config = place.config(overrides)
    return Scorer(nn.Identity(), config.eval, None, CPU).renderer.name


def alignment(place: Place, overrides: tuple[str, ...]) -> Any:
    """How poses are aligned before scoring."""
    return plain(refine_settings(place.config(overrides).eval.pose_estimator))


def sampler(place: Place, overrides: tuple[str, ...]) -> Any:
    """The frames that a view sampler chooses in a few clips, and the clips that it takes."""
    chosen = samplers.build(place.config(overrides).data.view_sampler)
    rendered = []
    for split in (samplers.Split.TRAIN, samplers.Split.VAL):
        for seed in range(8):
            request = samplers.Request("test0", 40, 4, 3, split)
            rendered.append(plain(chosen.sample(request, samplers.Rng.seeded(seed))))
    return rendered, chosen.min_views, chosen.keys


@contextmanager
def fresh_folder(place: Place) -> Iterator[Path]:
    """An empty current directory that knows one finished run, `before`."""
    folder = place.folder / f"{len(list(place.folder.iterdir()))}"
    folder.mkdir()
    before = os.getcwd()
    os.chdir(folder)
    try:
        (folder / "outputs" / "training").mkdir(parents=True)
        if "before" in place.files:
            shutil.copytree(place.files["before"], folder / "outputs" / "training" / "before")
        yield folder
    finally:
        os.chdir(before)


class Recorder:
    """Takes the place of Weights & Biases."""

    made: list[str] = []  # noqa: RUF012 -- of all that are made

    def __init__(self, folder: Path, project: str, name: str, conf: Any) -> None:
        Recorder.made.append(project)

    def scalars(self, step: int, values: Any) -> None: ...

    def image(self, step: int, name: str, pixels: Any) -> None: ...

    def close(self) -> None: ...


def run(place: Place, overrides: tuple[str, ...], *arguments: tuple[str, ...]) -> Any:
    """A short training, as the command does it: what it says, writes and learns."""
    said: list[str] = []
    with fresh_folder(place) as folder, pytest.MonkeyPatch.context() as patch:
        timeouts: list[float] = []
        join = distributed.join
        patch.setattr(
            distributed, "join", lambda minutes: (timeouts.append(minutes), join(minutes))[1]
        )
        patch.setattr(writers, "WeightsAndBiases", Recorder)
        for module in (writers, train):  # as if wandb were installed
            check = module.check_writers
            patch.setattr(
                module, "check_writers",
                lambda names, check=check: ["wandb"] if names == "wandb" else check(names),
            )  # fmt: skip
        patch.setattr(Recorder, "made", [])
        patch.setattr(logging.StreamHandler, "emit", lambda _, note: said.append(note.getMessage()))
        chosen = place.filled(overrides)
        status = [train.main(["run", "--conf", str(place.conf), *chosen])]
        for further in arguments:
            status.append(train.main(["run", *further]))
        return {
            "status": status,
            "timeouts": timeouts,
            "projects": Recorder.made,
            "said": sorted({re.sub(r"\d[\d.:e+-]*", "#", text) for text in said}),
            **_found(folder / "outputs" / "training" / "run"),
        }


def _found(folder: Path) -> dict[str, Any]:
    """What is in the folder of a run, without what no two runs share."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    found: dict[str, Any] = {
        "files": [
            re.sub(r"events\.out.*", "", name) for name in files if name != "changes.patch"
        ]  # the patch is there or not with the state of the checkout
    }
    log = folder / "metrics.jsonl"
    if log.is_file():
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        is_timing = re.compile("/(time|rate|memory)/|seconds|memory_gib|^time")
        found["log"] = [
            {key: value for key, value in line.items() if not is_timing.search(key)}
            for line in lines
        ]
    for path in checkpoints.full_checkpoints(folder)[-1:]:
        state = checkpoints.load(path)
        found["weights"] = plain(dict(state["model"]))
        found["best"] = state["best"]
    last = folder / checkpoints.LAST
    if last.is_file():
        from safetensors.torch import load_file

        found["exported"] = plain(load_file(last))
    return found


def run_with_model(place: Place, overrides: tuple[str, ...]) -> Any:
    """The model options that a short training was made with."""
    with fresh_folder(place) as folder:
        train.main(["run", "--conf", str(place.conf), *place.filled(overrides)])
        return read_yaml(folder / "outputs/training/run/config.yaml")["model"]


def restored(place: Place, overrides: tuple[str, ...]) -> Any:
    """A run that goes on with other data."""
    values = ("train.num_steps=2", "data.seed=9")
    return run(place, ("train.num_steps=1",), ("--restore", *values, *place.filled(overrides)))


def scores(place: Place, overrides: tuple[str, ...], name: str = "custom_benchmark") -> Any:
    """An evaluation of the run `before`, as the command does it."""
    with fresh_folder(place) as folder:
        index = () if any(text.startswith("eval.num_views") for text in overrides) else (
            "eval.index=<index>",)  # fmt: skip
        common = place.filled((
            "data.dataset_dir=<rendered>", "data.preprocessing.resize=28",
            "eval.renderer=reference",
            "eval.pose_estimator.num_steps=1", "max_samples=1", *index, *overrides,
        ))  # fmt: skip
        if any(text.startswith("eval.lpips") for text in overrides):
            pass
        else:
            common.insert(0, "eval.lpips=none")
        status = evaluation.main([name, "--checkpoint", "before", *common])
        results = folder / "outputs" / "results"
        files = sorted(str(p.relative_to(results)) for p in results.rglob("*") if p.is_file())
        summaries = [json.loads(path.read_text()) for path in results.rglob("results.json")]
        reports = [path.read_text() for path in results.rglob("report.md")]
    kept = [{k: v for k, v in s.items() if not k.startswith(("seconds", "memory"))}
            for s in summaries]  # fmt: skip
    sizes = [len(text.splitlines()) for text in reports]
    return {"status": [status], "files": files, "scores": kept, "report": sizes}


def published_scores(place: Place, overrides: tuple[str, ...]) -> Any:
    """An evaluation by the published indices."""
    return scores(place, overrides, "dl3dv_benchmark")
