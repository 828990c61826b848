"""Whatever a user points at becomes the views they would expect, in the order they expect."""

import logging

import numpy as np
import pytest
from PIL import Image

from zipsplat.inputs import find_inputs, load_views, natural_key
from zipsplat.video import write_video


def image(path, level=100, size=(20, 16)):
    Image.new("RGB", size, (level, level, level)).save(path)
    return path


def levels(views):
    return [round(float(view.mean()) * 255) for view in views]


@pytest.fixture
def folder(tmp_path):
    """Three images named so that plain sorting would be wrong, among other files."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for index in (10, 1, 2):
        image(photos / f"IMG{index}.png", index * 10)
    (photos / "notes.txt").write_text("not an image")
    (photos / "._IMG1.png").write_bytes(b"what some systems leave behind")
    (photos / "sub").mkdir()
    image(photos / "sub" / "IMG3.png", 30)
    return photos


def test_natural_order():
    names = [
        "img10.png",
        "img2.png",
        "Img1.png",
        "img2b.png",
        "a.png",
        "10.png",
        "9.png",
        "1a2.png",
    ]
    ordered = sorted(names, key=natural_key)
    expected = [
        "1a2.png",
        "9.png",
        "10.png",
        "a.png",
        "Img1.png",
        "img2.png",
        "img2b.png",
        "img10.png",
    ]
    assert ordered == expected


def test_a_folder_gives_its_images_in_natural_order(folder):
    assert [path.name for path in find_inputs(folder).images] == [
        "IMG1.png",
        "IMG2.png",
        "IMG10.png",
    ]
    assert levels(load_views(str(folder))) == [10, 20, 100]


def test_a_pattern_is_sorted_and_filtered(folder):
    assert levels(load_views(f"{folder}/*")) == [10, 20, 100]
    assert levels(load_views(f"{folder}/**/*.png")) == [10, 20, 100, 30]
    assert levels(load_views(f"{folder}/IMG[12].png")) == [10, 20]


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path):
    image(tmp_path / "photo[1].png", 40)
    assert levels(load_views(tmp_path / "photo[1].png")) == [40]


def test_a_list_keeps_its_order_and_may_mix_kinds_of_entries(folder):
    chosen = [folder / "IMG10.png", str(folder / "IMG1.png")]
    assert levels(load_views(chosen)) == [100, 10]
    assert levels(load_views([folder / "sub", folder / "IMG2.png"])) == [30, 20]


def test_one_image(folder):
    assert levels(load_views(folder / "IMG2.png")) == [20]


def test_num_frames_and_stride_thin_out_images(tmp_path):
    for index in range(9):
        image(tmp_path / f"{index}.png", index * 20)
    assert levels(load_views(tmp_path, num_frames=3)) == [0, 80, 160]
    assert levels(load_views(tmp_path, stride=4)) == [0, 80, 160]
    assert len(load_views(tmp_path, num_frames=99)) == 9
    with pytest.raises(ValueError, match="num_frames"):
        load_views(tmp_path, num_frames=0)


def test_images_of_different_sizes_stay_as_they_are(tmp_path):
    image(tmp_path / "1.png", size=(40, 30))
    image(tmp_path / "2.png", size=(30, 40))
    assert [tuple(view.shape) for view in load_views(tmp_path)] == [(3, 30, 40), (3, 40, 30)]
    assert [tuple(view.shape) for view in load_views(tmp_path, max_side=20)] == [
        (3, 15, 20),
        (3, 20, 15),
    ]


def clip(path, count):
    write_video(path, (np.full((16, 20, 3), i * 6, np.uint8) for i in range(count)))
    return path


def test_a_video_gives_24_frames_by_default(tmp_path):
    video = clip(tmp_path / "clip.mp4", 40)
    assert len(load_views(video)) == 24
    assert len(load_views([video], num_frames=5)) == 5
    assert len(load_views(tmp_path, stride=10)) == 4  # a folder with one video
    assert load_views(str(tmp_path / "*.mp4"), num_frames=1, max_side=18)[0].shape == (3, 14, 18)


def test_a_folder_with_images_ignores_videos_beside_them(folder):
    clip(folder / "IMG1.mov", 3)
    assert levels(load_views(folder)) == [10, 20, 100]


def test_videos_cannot_be_mixed(tmp_path, folder):
    first, second = clip(tmp_path / "a.mp4", 2), clip(tmp_path / "b.mp4", 2)
    with pytest.raises(ValueError, match="one video"):
        load_views([first, second])
    with pytest.raises(ValueError, match="one video"):
        load_views([first, folder / "IMG1.png"])


def test_missing_inputs(tmp_path, folder):
    with pytest.raises(FileNotFoundError, match=r"nothing\.png"):
        load_views(tmp_path / "nothing.png")
    with pytest.raises(FileNotFoundError, match="pattern"):
        load_views(f"{folder}/*.webp")
    with pytest.raises(ValueError, match="no images"):
        load_views(f"{folder}/*.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"empty.*no images"):
        load_views(tmp_path / "empty")
    with pytest.raises(ValueError, match="no input"):
        load_views([])


def test_bad_images_are_errors_or_left_out_with_a_warning(folder, caplog):
    (folder / "IMG3.png").write_bytes(b"")
    image(folder / "IMG4.png", size=(1, 1))
    with pytest.raises(ValueError, match=r"IMG3\.png.*empty"):
        load_views(folder)
    with caplog.at_level(logging.WARNING):
        assert levels(load_views(folder, skip_bad=True)) == [10, 20, 100]
    assert "IMG3.png" in caplog.text
    assert "IMG4.png" in caplog.text
    with pytest.raises(ValueError, match=r"none of 2 images.*IMG3"):
        load_views([folder / "IMG3.png", folder / "IMG4.png"], skip_bad=True)


def test_images_smaller_than_a_patch_are_refused(tmp_path):
    image(tmp_path / "dot.png", size=(20, 13))
    with pytest.raises(ValueError, match=r"dot\.png: 20×13 pixels"):
        load_views(tmp_path / "dot.png")


def test_progress_counts_images(folder):
    reports = []
    load_views(folder, report=lambda done, total: reports.append((done, total)))
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_home_folder(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    assert len(load_views("~/photos")) == 3
