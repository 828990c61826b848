from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splatfactory.datasets.frames import decode_pixels
from splatfactory.datasets.scripts.cropping import CalibratedImage, centred
from splatfactory.datasets.scripts.dl3dv import convert as dl3dv
from splatfactory.datasets.scripts.mipnerf360 import convert as mipnerf360
from splatfactory.datasets.scripts.re10k import convert as re10k
from splatfactory.datasets.store import ShardStore

GOLDEN = Path(__file__).parents[3] / "golden" / "data"
RE10K = GOLDEN / "raw" / "re10k" / "re10k.zip"
DL3DV = GOLDEN / "raw" / "dl3dv" / "raw"
MIPNERF360 = GOLDEN / "raw" / "mipnerf360" / "360_v2.zip"
BENCHMARK_SCENE = "032dee9fb0a8bc1b90871dc5fe950080d0bcd3caf166447f44e60ca50ac04ec7"


@pytest.fixture(autouse=True)
def private_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPLATFACTORY_CACHE", str(tmp_path / "cache"))


def run_re10k(output: Path, *options: str, archive: Path = RE10K) -> int:
    return re10k.main(["--input-zip", str(archive), "--output-dir", str(output), *options])


def run_dl3dv(output: Path, *options: str, folder: Path = DL3DV) -> int:
    ids = output.parent / "ids.json"
    ids.write_text(json.dumps({"test": [BENCHMARK_SCENE]}))
    common = ["--input-dir", str(folder), "--output-dir", str(output), "--test-ids", str(ids)]
    return dl3dv.main([*common, *options])


def run_mipnerf360(output: Path, *options: str, archive: Path = MIPNERF360) -> int:
    return mipnerf360.main(["--input-zip", str(archive), "--output-dir", str(output), *options])


def compare(made: Path, expected: Path, copies: Path) -> None:
    """Same folders, scenes and views; arrays to 1e-4, images to 2 levels."""
    folders = sorted({path.parent.relative_to(expected) for path in expected.rglob("*.tar")})
    assert folders
    assert folders == sorted({path.parent.relative_to(made) for path in made.rglob("*.tar")})
    for folder in folders:
        ours = ShardStore(made / folder)
        theirs = ShardStore(shutil.copytree(expected / folder, copies / folder))
        numbers = {info.key: number for number, info in enumerate(ours.scenes)}
        assert numbers.keys() == {info.key for info in theirs.scenes}
        for number, info in enumerate(theirs.scenes):
            a, b = ours.read(numbers[info.key]), theirs.read(number)
            np.testing.assert_allclose(a.cameras, b.cameras, atol=1e-4)
            np.testing.assert_allclose(a.poses, b.poses, atol=1e-4)
            assert len(a.images) == len(b.images)
            for x, y in zip(a.images, b.images, strict=True):
                difference = decode_pixels(x).astype(int) - decode_pixels(y)
                assert np.abs(difference).max() <= 2
        index = json.loads((made / folder / "index.json").read_text())
        assert index == json.loads((expected / folder / "index.json").read_text())


def test_a_clip_that_two_re10k_chunks_hold_does_not_end_the_conversion(tmp_path):
    archive = chunks(tmp_path, {"000000": [clip("a")], "000001": [clip("a"), clip("b")]})
    assert run_re10k(tmp_path / "out", "--split", "train", archive=archive) == 1
    folder = tmp_path / "out" / "360x640" / "train-scenes"
    assert [info.key for info in ShardStore(folder).scenes] == ["a", "b"]
    failures = json.loads((folder / "manifest.json").read_text())["failures"]
    assert failures == {"duplicate key": ["a"]}


def test_re10k_is_converted_as_by_the_reference(tmp_path):
    assert run_re10k(tmp_path / "out") == 0
    assert run_re10k(tmp_path / "out", "--target-size", "56") == 0
    compare(tmp_path / "out", GOLDEN / "raw_expected" / "re10k", tmp_path / "expected")
    native = ShardStore(tmp_path / "out" / "360x640" / "test-scenes").read(0)
    assert all(data.startswith(b"\xff\xd8") for data in native.images)


def test_dl3dv_is_converted_as_by_the_reference(tmp_path):
    assert run_dl3dv(tmp_path / "out") == 0
    assert run_dl3dv(tmp_path / "out", "--target-size", "56") == 0
    compare(tmp_path / "out", GOLDEN / "raw_expected" / "dl3dv", tmp_path / "expected")


def test_mipnerf360_is_converted_as_by_the_reference(tmp_path):
    pytest.importorskip("pycolmap")
    pytest.importorskip("cv2")
    assert run_mipnerf360(tmp_path / "out", "--scenes", "bicycle", "garden", "bonsai") == 0
    compare(tmp_path / "out", GOLDEN / "raw_expected" / "mipnerf360", tmp_path / "expected")


def test_workers_change_nothing(tmp_path):
    assert run_dl3dv(tmp_path / "alone", "--split", "all") == 0
    archive = chunks(tmp_path, {f"{i:06d}": [clip(f"c{i}")] for i in range(3)})
    for name, workers in (("alone", "0"), ("many", "2")):
        assert run_re10k(tmp_path / name, "--num-workers", workers, archive=archive) == 0
    shard = Path("360x640") / "train-scenes" / "shard-000000.tar"
    assert (tmp_path / "alone" / shard).read_bytes() == (tmp_path / "many" / shard).read_bytes()


def test_a_finished_conversion_is_left_alone_and_overwrite_renews_it(tmp_path):
    assert run_re10k(tmp_path / "out", "--split", "test") == 0
    shard = tmp_path / "out" / "360x640" / "test-scenes" / "shard-000000.tar"
    before = shard.stat().st_mtime_ns
    assert run_re10k(tmp_path / "out", "--split", "test") == 0
    assert shard.stat().st_mtime_ns == before
    assert not (tmp_path / "out" / "360x640" / "train-scenes").exists()
    assert run_re10k(tmp_path / "out", "--split", "test", "--overwrite") == 0
    assert shard.stat().st_mtime_ns != before


def clip(key: str, num_views: int = 3) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.fromarray(np.full((36, 64, 3), 90, np.uint8)).save(buffer, "JPEG")
    row = torch.tensor([0.9, 1.6, 0.5, 0.5, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0])
    return {
        "key": key,
        "url": "",
        "timestamps": torch.arange(num_views),
        "cameras": row.repeat(num_views, 1).float(),
        "images": [torch.frombuffer(bytearray(buffer.getvalue()), dtype=torch.uint8)] * num_views,
    }


def chunks(folder: Path, content: dict[str, object]) -> Path:
    archive = folder / "clips.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name, clips in content.items():
            buffer = io.BytesIO()
            torch.save(clips, buffer)
            data = clips if isinstance(clips, bytes) else buffer.getvalue()
            file.writestr(f"re10k/train/{name}.torch", data)
    return archive


def test_a_bad_clip_costs_only_itself(tmp_path, capsys):
    broken = clip("bad")
    broken["cameras"] = torch.zeros(2, 18)
    content = {"000000": [clip("a"), broken, clip("b")], "000001": b"nonsense"}
    assert run_re10k(tmp_path / "out", archive=chunks(tmp_path, content)) == 1
    folder = tmp_path / "out" / "360x640" / "train-scenes"
    assert [info.key for info in ShardStore(folder).scenes] == ["a", "b"]
    failures = json.loads((folder / "manifest.json").read_text())["failures"]
    assert failures == {
        "unusable clip": ["bad"],
        "unreadable chunk": ["re10k/train/000001.torch"],
    }
    assert "bad" in capsys.readouterr().err
    # What failed is tried again, what is there is not.
    fixed = chunks(tmp_path, {"000000": [clip("a"), clip("bad"), clip("b")]})
    assert run_re10k(tmp_path / "out", archive=fixed) == 0
    assert [info.key for info in ShardStore(folder).scenes] == ["a", "b", "bad"]


class Evil:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.mark,))


def test_chunks_cannot_run_code(tmp_path):
    mark = tmp_path / "code-was-run"
    program = pickle.dumps([Evil(mark)])
    archive = chunks(tmp_path, {"000000": program, "000001": [clip("a")]})
    assert run_re10k(tmp_path / "out", archive=archive) == 1
    assert not mark.exists()
    pickle.loads(program)  # the program would have left its mark
    assert mark.exists()
    assert len(ShardStore(tmp_path / "out" / "360x640" / "train-scenes").scenes) == 1


def test_dl3dv_failures_are_recorded_scene_by_scene(tmp_path):
    folder = tmp_path / "raw"
    shutil.copytree(DL3DV, folder)
    source = next((folder / "960P" / "1K").glob("*.zip"))
    (source.parent / "truncated.zip").write_bytes(source.read_bytes()[:5000])
    with zipfile.ZipFile(source.parent / "empty.zip", "w") as archive:
        archive.writestr("empty/images_4/frame_00001.png", b"")
    assert run_dl3dv(tmp_path / "out", "--split", "train", folder=folder) == 1
    made = tmp_path / "out" / "90x160" / "train-scenes"
    failures = json.loads((made / "manifest.json").read_text())["failures"]
    assert failures == {"damaged zip": ["truncated"], "unusable scene": ["empty"]}
    assert len(ShardStore(made).scenes) == 1


def test_test_ids_may_be_lists_or_lines(tmp_path):
    for text in (json.dumps([BENCHMARK_SCENE]), f"{BENCHMARK_SCENE}\n"):
        (tmp_path / "ids").write_text(text)
        arguments = ["--input-dir", str(DL3DV), "--output-dir", str(tmp_path / "out")]
        options = ["--test-ids", str(tmp_path / "ids"), "--split", "test", "--overwrite"]
        assert dl3dv.main([*arguments, *options]) == 0
        made = ShardStore(tmp_path / "out" / "90x160" / "test-scenes")
        assert [info.key for info in made.scenes] == [BENCHMARK_SCENE]


def test_mipnerf360_takes_missing_images_from_the_full_size_with_their_own_scale(tmp_path):
    pytest.importorskip("pycolmap")
    archive = tmp_path / "360_v2.zip"
    with zipfile.ZipFile(MIPNERF360) as source, zipfile.ZipFile(archive, "w") as target:
        for name in source.namelist():
            if not name.startswith("bicycle"):
                continue
            data = source.read(name)
            if name.endswith("images_4/_DSC8601.JPG"):
                buffer = io.BytesIO()
                small = Image.open(io.BytesIO(data))
                small.resize((small.width * 4, small.height * 4)).save(buffer, "PNG")
                name, data = "bicycle/images/_DSC8601.JPG", buffer.getvalue()
            target.writestr(f"inside/{name}", data)
    assert run_mipnerf360(tmp_path / "out", "--scenes", "bicycle", archive=archive) == 0
    scene = ShardStore(tmp_path / "out" / "84x124" / "test-scenes").read(0)
    relative = scene.cameras[:, 2] / scene.cameras[:, 0]
    np.testing.assert_allclose(relative, relative[0], rtol=0.02)
    assert scene.cameras[1, 0] > 3 * scene.cameras[0, 0]


def test_mipnerf360_names_absent_scenes_and_missing_packages(tmp_path, monkeypatch, capsys):
    pytest.importorskip("pycolmap")
    assert run_mipnerf360(tmp_path / "out", "--scenes", "bicycle", "stump") == 1
    manifest = tmp_path / "out" / "84x124" / "test-scenes" / "manifest.json"
    assert json.loads(manifest.read_text())["failures"] == {"not in the zip": ["stump"]}
    assert (manifest.parent / "bicycle.tar").exists()
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    assert run_mipnerf360(tmp_path / "other") == 1
    assert "pip install 'splatfactory[colmap]'" in capsys.readouterr().err


@pytest.mark.parametrize("run", [run_re10k, run_mipnerf360])
def test_missing_and_foreign_archives_are_explained(run, tmp_path, capsys):
    assert run(tmp_path / "out", archive=tmp_path / "nothing.zip") == 1
    assert "download" in capsys.readouterr().err
    (tmp_path / "text.zip").write_text("no zip")
    assert run(tmp_path / "out", archive=tmp_path / "text.zip") == 1
    assert "is not a zip file" in capsys.readouterr().err
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("a.txt", "a")
    assert run(tmp_path / "out", archive=tmp_path / "other.zip") == 1
    assert "is it" in capsys.readouterr().err
    assert not list(tmp_path.rglob("*.tar"))


def test_centring_keeps_points_on_their_pixels():
    """A bright dot stays where the camera says it is."""
    pixels = np.zeros((90, 120, 3), np.uint8)
    pixels[40:44, 70:74] = 255
    image = CalibratedImage(pixels, np.array([100.0, 100.0]), np.array([66.0, 40.0]))
    result = centred(image)
    assert result.size[0] >= 90
    assert result.size[1] >= 120
    ray = (np.array([72.0, 42.0]) - image.c) / image.f
    y, x = np.mgrid[: result.size[0], : result.size[1]]
    weight = result.pixels[..., 0].astype(float)
    found = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum() + 0.5
    np.testing.assert_allclose(found, ray * result.f + result.c, atol=0.05)
    middle = np.array(result.size[::-1]) / 2
    assert np.abs(result.c - middle).max() <= 1.5
    with pytest.raises(ValueError, match="outside the image"):
        centred(CalibratedImage(pixels, image.f, np.array([-5.0, 40.0])))
