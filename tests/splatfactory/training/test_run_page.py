"""The page of a run: what it shows is what the run wrote."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from splatfactory import cli
from splatfactory.training import run_page
from splatfactory.visualization import curves
from tests.splatfactory.conftest import Train

FOLDER = Path("outputs/training/a")


class Page(HTMLParser):
    """Counts open tags and remembers addresses."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Closes itself, as shapes of SVG do."""

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_a_run_leaves_a_page_that_needs_nothing_else(run_training: Train):
    assert run_training("a", "train.num_steps=4", "train.eval_every_iter=2",
                        "train.num_eval_plots=1") == 0  # fmt: skip
    text = (FOLDER / run_page.PAGE).read_text()
    page = Page(text)
    assert page.open == []
    assert len(page.addresses) == 2  # comparison and depth
    assert all(address.startswith("data:image/webp;base64,") for address in page.addresses)
    assert "<script" not in text
    assert re.findall(r"https?://[^\s<\"]*", text) == []
    for shown in ("4 of 4", "steps, finished", "best loss/total, at step", "loss/mse_loss",
                  "num_target_views: 2", "Machine and versions", "step 4/4"):  # fmt: skip
        assert shown in text
    assert "loss/match_loss" not in text  # has no weight, so it is always 0


def test_the_page_of_a_running_run(run_training: Train, capsys):
    assert run_training("a", "train.num_steps=4") == 0
    (FOLDER / "checkpoint_last.safetensors").unlink()
    (FOLDER / run_page.PAGE).unlink()
    with (FOLDER / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "training/lo')  # it is being written
    assert cli.main(["report", "a", "-o", "page.html"]) == 0
    assert capsys.readouterr().out == "page.html\n"
    assert not (FOLDER / run_page.PAGE).exists()
    text = Path("page.html").read_text()
    assert "default-src 'none'" in text  # whatever names of data sets hold, nothing runs
    assert "<script" not in text
    assert "remaining at the current rate" in text
    assert "finished" not in text
    assert cli.main(["report", "b"]) == 1
    assert "no run 'b'" in capsys.readouterr().err


def test_repeated_steps_of_a_resumed_run_replace_the_first(tmp_path: Path):
    lines = [(2, 1.0), (4, 2.0), (6, 3.0), (4, 20.0), (5, None)]
    text = "".join(json.dumps({"step": step, "x": value}) + "\n" for step, value in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    (tmp_path / "config.yaml").write_text("train: {num_steps: 9}\n")
    run = run_page.read(tmp_path)
    assert run.series["x"][:2] == [(2, 1.0), (4, 20.0)]
    assert run.step == 5


def test_a_page_that_cannot_be_written_fails_no_run(run_training: Train, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_page, "write_text", full)
    assert run_training("a", "train.num_steps=1") == 0
    assert "could not write the page of the run: [Errno 28]" in capsys.readouterr().err


# --- charts -------------------------------------------------------------------------------------


def places(svg: str) -> list[list[tuple[float, float]]]:
    """The points of each line."""
    found = re.findall(r'<path class="series s\d" d="M([^"]*)"', svg)
    return [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in found]


def test_lines_go_from_left_to_right_and_up_where_values_grow():
    svg = curves.chart("a", {"up": [(0, 1.0), (5, 2.0), (10, 3.0)]})
    ((left, low), (middle, between), (right, high)) = places(svg)[0]
    assert (left, right) == (curves.LEFT, curves.WIDTH - curves.RIGHT)
    assert middle == pytest.approx((left + right) / 2, abs=0.1)
    assert curves.TOP < high < between < low < curves.HEIGHT - curves.BOTTOM
    assert between == pytest.approx((low + high) / 2, abs=0.1)


def test_values_of_many_sizes_get_a_logarithmic_axis():
    ((first, second, third),) = places(curves.chart("a", {"": [(0, 1e-4), (1, 1e-2), (2, 1.0)]}))
    assert first[1] - second[1] == pytest.approx(second[1] - third[1], abs=0.11)


def test_what_is_not_finite_or_not_there_is_left_out():
    nan, inf = float("nan"), float("inf")
    assert curves.chart("a", {"x": [(0, nan)], "y": []}) == ""
    assert len(places(curves.chart("a", {"x": [(0, 1.0), (1, nan), (2, inf), (3, 2.0)]}))[0]) == 2
    assert places(curves.chart("a", {"x": [(3, 5.0)]}))  # one point is a chart, too


def test_long_curves_are_means_and_keep_their_end():
    points = [(step, float(step % 2)) for step in range(100_001)]
    (line,) = places(curves.chart("a", {"x": points}))
    assert len(line) <= curves.MAX_POINTS + 2
    assert len({y for _, y in line[:-2]}) < 3  # means of zeros and ones
    assert line[-1][0] == curves.WIDTH - curves.RIGHT


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0, 100, [0, 50, 100]), (3, 7, [3, 4, 5, 6, 7]), (2, 2, [2])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]):
    assert curves.ticks(low, high) == pytest.approx(expected)


def test_numbers_are_short_and_neighbours_differ():
    assert [curves.short(v) for v in (0.12345, 2, 1234, 45_000, 3.2e6)] == [
        "0.123", "2", "1234", "45k", "3.2M",
    ]  # fmt: skip
    assert [curves.short(v, 0.02) for v in (107.02, 107.04)] == ["107.02", "107.04"]


def test_titles_are_text():
    svg = curves.chart("<b>", {"<i>": [(0, 1.0)], "&": [(0, 2.0)]})
    assert "<b>" not in svg
    assert "&lt;i&gt;" in svg
    assert "&amp;" in svg
