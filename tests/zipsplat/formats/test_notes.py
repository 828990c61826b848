"""Notes about licences stay with a scene wherever its format has a place for them."""

import io
import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.zipsplat.formats.scenes import scene
from zipsplat import Gaussians
from zipsplat.formats import FORMATS, NOTE_MAX

NOTE = "Made with the released weights (CC BY-NC 4.0): not for commercial use."
KEEPING = ("ply", "compressed_ply", "glb", "sog")


def to_bytes(name: str, note: str, num: int = 10) -> bytes:
    file = io.BytesIO()
    FORMATS[name].write(file, replace(scene(num, 1), note=note))
    return file.getvalue()


def note_of(name: str, data: bytes) -> str:
    return FORMATS[name].read(io.BytesIO(data)).note


@pytest.mark.parametrize("num", [0, 10])
@pytest.mark.parametrize(
    "note", ["", NOTE, "© Jörg — 🄯", "two\nlines\rend_header\n", '"quoted" \\', "🄯" * NOTE_MAX]
)
@pytest.mark.parametrize("name", KEEPING)
def test_notes_are_kept(name: str, note: str, num: int):
    assert note_of(name, to_bytes(name, note, num)) == note


@pytest.mark.parametrize("name", sorted(set(FORMATS.names()) - set(KEEPING)))
def test_other_formats_are_as_they_were(name: str):
    assert to_bytes(name, NOTE) == to_bytes(name, "")


@pytest.mark.parametrize("name", ["ply", "compressed_ply"])
def test_headers_stay_ascii_and_without_a_note_as_they_were(name: str):
    header = to_bytes(name, "© two\nlines").split(b"end_header")[0].decode("ascii")
    (line,) = [line for line in header.splitlines() if "note" in line]
    assert json.loads(line.removeprefix("comment note ")) == "© two\nlines"
    noted, plain = to_bytes(name, NOTE), to_bytes(name, "")
    assert noted.replace(f'comment note "{NOTE}"\n'.encode(), b"") == plain
    assert b"comment" not in plain


@pytest.mark.parametrize(
    "comment", ["note", "note of mine", 'note ["a"]', 'note "a', f'note "{"a" * 301}"', "x"]
)
def test_comments_of_others_are_no_notes(comment: str):
    data = to_bytes("ply", "").replace(b"element", f"comment {comment}\nelement".encode(), 1)
    assert note_of("ply", data) == ""


def test_notes_have_a_limit():
    with pytest.raises(ValueError, match="at most 300 characters, got 301"):
        replace(scene(1, 0), note="a" * 301)


def test_scenes_are_saved_and_loaded_with_their_note(tmp_path: Path):
    splats = Gaussians.from_arrays(scene(5, 1))
    splats.save(tmp_path / "a.ply", note=NOTE)
    loaded, note = Gaussians.load_with_note(tmp_path / "a.ply")
    assert (loaded.num_gaussians, note) == (5, NOTE)
    assert (tmp_path / "a.ply").read_bytes() == splats.to_bytes("ply", note=NOTE)
