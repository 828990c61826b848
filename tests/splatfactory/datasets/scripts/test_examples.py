"""The example inputs are what the command renders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splatfactory.datasets.scripts.synthetic import examples, sheet
from splatscenes.scene import generate_scene
from zipsplat.images import load_image
from zipsplat.video import load_video, video_info

EXAMPLES = Path(__file__).parents[4] / "assets" / "examples"


def test_the_examples_are_there_and_small() -> None:
    assert [file.name for file in sorted((EXAMPLES / "office").iterdir())] == [
        f"{number:02d}.png" for number in range(1, 7)
    ]
    assert video_info(EXAMPLES / "drone.mp4").num_frames == 96
    files = [path for path in EXAMPLES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 2_000_000


def test_the_images_are_what_the_command_renders() -> None:
    rendered = examples.office_scene().render(2)[0]
    stored = load_image(EXAMPLES / "office" / "03.png").permute(1, 2, 0).numpy() * 255
    assert np.abs(rendered - stored).mean() < 0.5
    frame = examples.flight_scene().render(0)[0]
    first = load_video(EXAMPLES / "drone.mp4", num_frames=1)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(frame - first).mean() < 6  # the video is compressed


def test_the_command_writes_all_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples, "OFFICE_SIZE", (24, 32))
    monkeypatch.setattr(examples, "FLIGHT_SIZE", (24, 32))
    assert examples.main([str(tmp_path)]) == 0
    assert len(list((tmp_path / "office").iterdir())) == 6
    assert video_info(tmp_path / "drone.mp4").num_frames == 96
    with Image.open(tmp_path / "office" / "01.png") as image:
        assert image.size == (32, 24)


def test_a_contact_sheet_shows_one_image_per_scene(tmp_path: Path) -> None:
    file = tmp_path / "new" / "sheet.png"
    assert sheet.main([str(file), "--count", "3", "--columns", "2", "--size", "24"]) == 0
    pixels = np.asarray(Image.open(file))
    assert pixels.shape == (48, 48, 3)
    np.testing.assert_array_equal(
        pixels[24:, :24], generate_scene("train", 0, 2, 3, (24, 24)).render(1)[0]
    )
    assert (pixels[24:, 24:] == 255).all()  # no fourth scene


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["a.gif"], "must be .webp"), (["a.png", "--count", "0"], "positive")],
)
def test_contact_sheets_explain_wrong_requests(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        sheet.main(arguments)
    assert message in capsys.readouterr().err
