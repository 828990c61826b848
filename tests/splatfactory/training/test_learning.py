"""Training learns: the shipped small configuration on generated scenes, tested on others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from splatfactory import train
from splatfactory.config import Request, load
from splatfactory.datasets.from_config import validation_loader
from splatfactory.datasets.scripts.synthetic import generate
from splatfactory.metrics import psnr

SETTINGS = ("data.val_scenes=20", "train.eval_init=true", "train.eval_every_iter=300")


@pytest.mark.slow
def test_three_hundred_steps_beat_the_untrained_model_and_the_mean_colour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert generate.main(["--size", "56", "--num-scenes", "240", "--num-views", "8"]) == 0
    assert train.main(["learns", "--conf", "quickstart", *SETTINGS]) == 0
    records = [
        json.loads(line)
        for line in Path("outputs/training/learns/metrics.jsonl").read_text().splitlines()
    ]
    evaluated = [record for record in records if "eval/psnr" in record]
    untrained, trained = evaluated[0], evaluated[-1]
    assert (untrained["step"], trained["step"]) == (0, 300)
    assert trained["eval/loss/total"] <= 0.5 * untrained["eval/loss/total"]
    assert trained["eval/psnr"] >= untrained["eval/psnr"] + 6
    assert trained["eval/psnr"] >= mean_color_psnr() + 3


def mean_color_psnr() -> float:
    """Of images in the one colour that the context views have on average."""
    loader = validation_loader(load(Request("quickstart", SETTINGS)).data)
    assert loader is not None
    values = []
    for batch in loader:
        true = batch.to("cpu").target.rgb
        mean = batch.to("cpu").context.rgb.mean(dim=(1, 3, 4))
        values += psnr(true, mean[:, None, :, None, None].expand_as(true)).mean(dim=1).tolist()
    return float(torch.tensor(values).mean())
