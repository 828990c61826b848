"""What commands say before they compute, and in which precision they compute."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zipsplat import ZipSplat, weights
from zipsplat.cli import expectation, main
from zipsplat.command_line import DTYPES
from zipsplat.devices import DTYPES as TORCH_DTYPES
from zipsplat.model import cost
from zipsplat.model.cost import Expectation
from zipsplat.model.untrained import untrained_network


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 40, 60, 3), dtype=np.uint8)
    for number, image in enumerate(pixels):
        Image.fromarray(image).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path, network = tmp_path / "tiny.safetensors", untrained_network()
    weights.save(path, network.state_dict(), network.config.to_conf())
    return path


@pytest.fixture
def takes(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], list[tuple[Any, ...]]]:
    """Lets every pass be expected to take some seconds; returns what was asked."""

    def set_seconds(seconds: float) -> list[tuple[Any, ...]]:
        asked: list[tuple[Any, ...]] = []

        def expect(*arguments: Any) -> Expectation:
            asked.append(arguments)
            return Expectation(seconds, 6.3e9, 9.2e10)

        monkeypatch.setattr(cost, "expect", expect)
        return asked

    return set_seconds


def test_a_release_is_announced_before_it_is_fetched(
    photos: Path,
    tmp_path: Path,
    takes: Callable[[float], list[tuple[Any, ...]]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = takes(57.3)
    monkeypatch.setenv("ZIPSPLAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["reconstruct", str(photos), "-o", str(tmp_path / "a.ply"), "--dtype=float32"]) == 1
    said = capsys.readouterr().err
    assert "zipsplat: 5.8 GB to download\n" in said
    assert "2 views of 252x252: about 57 s and 6.3 GB of memory" in said
    assert "in float32; a matrix product reaches 92 GFLOP/s here\n" in said
    assert said.index("to download") < said.index("error")
    config, num_views, size, dtype, compression = asked[0]
    assert config.backbone.vit_name == "vitg"
    assert (num_views, size, dtype, compression) == (2, (252, 252), torch.float32, 1.0)


@pytest.mark.parametrize(("seconds", "is_announced"), [(3, False), (30, True), (900, True)])
def test_other_weights_are_announced_if_they_take_long(
    seconds: float,
    is_announced: bool,
    photos: Path,
    checkpoint: Path,
    tmp_path: Path,
    takes: Callable[[float], list[tuple[Any, ...]]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked = takes(seconds)
    command = ["reconstruct", str(photos), "-o", str(tmp_path / "a.ply"), "--image-size", "56x42"]
    assert main([*command, "--weights", str(checkpoint), "--compression", "0.5"]) == 0
    said = capsys.readouterr().err
    assert ("2 views of 56x42: about" in said) == is_announced
    assert ("15 minutes" in said) == (seconds == 900)
    assert asked[0][1:3] == (2, (42, 56))
    assert asked[0][4] == 0.5


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_reconstruct_computes_in_the_dtype(
    dtype: str, photos: Path, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.dtype] = []
    encode = ZipSplat.encode

    def watched(self: ZipSplat, *arguments: Any, **options: Any) -> Any:
        seen.append(next(self.model.backbone.parameters()).dtype)
        return encode(self, *arguments, **options)

    monkeypatch.setattr(ZipSplat, "encode", watched)
    command = ["reconstruct", str(photos), "-o", str(tmp_path / "a.ply"), "--image-size", "56"]
    assert main([*command, "--weights", str(checkpoint), "--dtype", dtype]) == 0
    assert seen == [getattr(torch, dtype)]


def test_dtypes_have_the_same_names_everywhere() -> None:
    assert tuple(DTYPES) == ("auto", *TORCH_DTYPES)


def test_the_viewer_computes_in_the_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("viser", reason="the viewer needs viser")
    from zipsplat.viewer import app, command

    made: list[tuple[Any, ...]] = []
    monkeypatch.setattr("zipsplat.predictor.ZipSplat", lambda *given: made.append(given))
    monkeypatch.setattr(app, "Viewer", lambda _server, load, *_: load())
    arguments = command.parser().parse_args(["a.jpg", "--dtype", "bfloat16", "--device", "cpu"])
    command._viewer(arguments, None)  # type: ignore[arg-type]
    assert made == [("zipsplat", torch.device("cpu"), "bfloat16", None)]


def test_doctor_tells_of_the_released_model(
    takes: Callable[[float], list[tuple[Any, ...]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    takes(57.3)
    monkeypatch.setenv("ZIPSPLAT_CACHE", str(tmp_path))
    assert main(["doctor", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["released_model"]
    assert found["download_bytes"] == pytest.approx(5.79e9, rel=1e-3)
    assert found["seconds"] == 57
    assert found["memory_bytes"] == 6_300_000_000
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "6 views of 252x252: about 57 s" in out
    assert "5.8 GB" in out


def test_doctor_reports_without_pytorch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from zipsplat.cli import main; main(['doctor'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "weights bundled: zipsplat-tiny" in done.stdout
    assert "h264 writing" in done.stdout
    assert "PyTorch cannot be imported: " in done.stdout
    assert "released model" not in done.stdout


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "0.5 s"), (57, "57 s"), (600, "10 minutes"), (9000, "2.5 hours")]
)
def test_seconds_are_readable(seconds: float, text: str) -> None:
    assert expectation.readable_seconds(seconds) == text


def test_free_memory_is_what_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "meminfo"
    file.write_text("MemTotal: 9 kB\nMemAvailable:    2048 kB\n")
    monkeypatch.setattr(expectation, "_MEMORY_FILE", file)
    assert expectation.free_memory() == 2 * 1024**2
    file.unlink()
    assert expectation.free_memory() is None
