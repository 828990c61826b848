from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zipsplat.video import write_video
from zipsplat.viewer.uploads import MAX_MEMBERS, Upload, load_upload


def png(value: int, size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (value, 0, 0)).save(file, "PNG")
    return file.getvalue()


def zipped(members: dict[str, bytes], **options: Any) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file.getvalue()


def load(name: str, content: bytes, **changes: int) -> list[float]:
    """The red of each view."""
    limits = {"num_frames": 3, "max_side": 20, "max_bytes": 10**6, **changes}
    views = load_upload(Upload(name, content), **limits)
    assert all(max(view.shape[-2:]) <= 20 for view in views)
    return [round(float(view[0].mean()) * 255) for view in views]


def test_a_photo() -> None:
    assert load("photo.png", png(100)) == [100]
    assert load("photo", png(100)) == [100]  # the content decides
    assert load("../../etc/photo.jpg", png(7)) == [7]


def test_a_video(tmp_path: Path) -> None:
    frames = [np.full((30, 40, 3), 20 * n, np.uint8) for n in range(9)]
    write_video(tmp_path / "clip.mp4", frames)
    content = (tmp_path / "clip.mp4").read_bytes()
    assert load("clip.mp4", content) == pytest.approx([0, 80, 160], abs=3)
    assert len(load("clips.zip", zipped({"a/clip.mp4": content}))) == 3


def test_many_photos_in_the_order_in_which_people_count() -> None:
    members = {
        "img10.png": png(10), "img2.png": png(2), "notes.txt": b"x", "sub/": b"",
        "__MACOSX/._img2.png": b"x", ".hidden.png": b"x", "a/img1.png": png(1),
    }  # fmt: skip
    assert sorted(load("all.zip", zipped(members))) == [1, 2, 10]
    assert load("all.ZIP", zipped({"img10.png": png(10), "img2.png": png(2)})) == [2, 10]


def test_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    load("all.zip", zipped({"a.png": png(1), "../../b.png": png(2)}))
    with pytest.raises(ValueError, match=r"x\.png"):
        load("x.png", b"junk")
    assert list(tmp_path.iterdir()) == []
    assert list(tmp_path.parent.glob("b.png")) == []


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("photo.jpg", b"", "photo.jpg: the file is empty"),
        ("photo.jpg", b"junk", "photo.jpg: cannot be read as an image"),
        ("clip.mp4", b"junk" * 100, "clip.mp4: cannot be read as a video"),
        ("all.zip", b"junk", "all.zip: cannot be read as a .zip"),
        ("all.zip", zipped({"a.png": png(1)})[:-30], "all.zip: cannot be read as a .zip"),
        ("all.zip", zipped({"notes.txt": b"x"}), "all.zip: there are no images"),
        ("all.zip", zipped({"a.png": b"junk"}), "all.zip, a.png: cannot be read as an image"),
    ],
)
def test_damaged_files_are_named_as_the_sender_knows_them(
    name: str, content: bytes, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load(name, content)
    assert "tmp" not in str(error.value)


def test_archives_that_unpack_to_too_much() -> None:
    bomb = zipped({"a.png": bytes(2_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 10_000
    with pytest.raises(ValueError, match="at most"):
        load("bomb.zip", bomb)
    with pytest.raises(ValueError, match="at most"):
        load("many.zip", zipped({f"{n}.png": b"" for n in range(MAX_MEMBERS + 1)}))


def test_archives_that_lie_about_their_size() -> None:
    honest = zipped({"a.png": bytes(900_000)}, compression=zipfile.ZIP_DEFLATED)
    size = (900_000).to_bytes(4, "little")
    assert honest.count(size) == 2
    lying = honest.replace(size, (900).to_bytes(4, "little"))
    with pytest.raises(ValueError, match=r"lie\.zip"):  # no more than 900 bytes are unpacked
        load("lie.zip", lying, max_bytes=1000)
