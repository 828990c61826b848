"""The sliders that clean: what they leave is shown, counted and downloaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.zipsplat.viewer.test_appearance import scene as some_scene
from tests.zipsplat.viewer.test_viewer import num_splats
from zipsplat import cleaning
from zipsplat.gaussians import Gaussians
from zipsplat.viewer import clean_up
from zipsplat.viewer.appearance import Appearance, kept, painted
from zipsplat.viewer.clean_up import NOTHING, CleanUp, LastCleaned
from zipsplat.viewer.reconstruction import Reconstruction

Until = Callable[..., None]


def crowd_with_a_floater(num: int = 400) -> Gaussians:
    scene = some_scene(num)
    means = scene.means.clone()
    means[7] = 30.0
    return replace(scene, means=means, scales=scene.scales * 0.3)


def test_nothing_is_cleaned_at_first() -> None:
    scene = some_scene(40)
    assert CleanUp() == NOTHING
    assert NOTHING(scene) is scene
    assert LastCleaned()(scene, NOTHING) is scene
    assert kept(scene, Appearance()).num_gaussians == 40


def test_each_slider_does_what_convert_does() -> None:
    scene = crowd_with_a_floater()
    dropped = CleanUp(floaters=1.0)(scene)
    assert torch.equal(dropped.packed(), cleaning.drop_floaters(scene).packed())
    assert (dropped.means < 2).all()
    merged = CleanUp(share=0.25)(scene)
    assert torch.equal(merged.packed(), cleaning.decimate(scene, 0.25).packed())
    box = CleanUp(crop=((0.25, 0.75), (0.0, 1.0), (0.5, 1.0)))(scene)
    low, high = scene.means[:, 0].quantile(torch.tensor([0.25, 0.75]))
    inside = (scene.means[:, 0] >= low) & (scene.means[:, 0] <= high)
    inside &= scene.means[:, 2] >= scene.means[:, 2].quantile(0.5)
    assert torch.equal(box.means, scene.means[inside])
    everything = CleanUp(1.0, ((0.0, 0.5), (0.0, 1.0), (0.0, 1.0)), 0.5)(scene)
    assert everything.num_gaussians == pytest.approx(dropped.num_gaussians / 4, abs=2)


def test_stronger_drops_more() -> None:
    scene = crowd_with_a_floater()
    counts = [cleaning.drop_floaters(scene, strength).num_gaussians for strength in (0, 0.5, 1, 3)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] == 400 > counts[-1]
    with pytest.raises(ValueError, match="must not be negative"):
        cleaning.drop_floaters(scene, -1)


def test_a_scene_is_cleaned_once_for_all_other_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    runs: list[float] = []

    def spy(scene: Gaussians, strength: float) -> Gaussians:
        runs.append(strength)
        return scene

    monkeypatch.setattr(clean_up.cleaning, "drop_floaters", spy)
    scene, clean, look = some_scene(40), LastCleaned(), Appearance(clean_up=CleanUp(1.0))
    kept(scene, look, clean)
    painted(scene, replace(look, min_opacity=0.3), None, clean)
    assert runs == [1.0]
    painted(scene, replace(look, clean_up=CleanUp(2.0)), None, clean)
    painted(some_scene(41), look, None, clean)
    assert runs == [1.0, 2.0, 1.0]


def test_sliders_change_what_is_shown_counted_and_downloaded(
    viewer: Any, open_page: Any, until: Until, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    downloads: list[Any] = []
    monkeypatch.setattr(viewer.browsers, "send_file", lambda *file: downloads.append(file))
    viewer.show_scene(Reconstruction(crowd_with_a_floater()))
    page = open_page()
    until(lambda: num_splats(viewer, 0) == 400)
    handles = {
        handle.label: handle
        for handle in viewer.server.gui._gui_input_handle_from_uuid.values()
        if hasattr(handle, "label")
    }
    page.set(handles["Floaters"], 1.0)
    left = cleaning.drop_floaters(crowd_with_a_floater()).num_gaussians
    until(lambda: num_splats(viewer, 0) == left < 400)
    page.set(handles["Crop x %"], (0, 50))
    half = CleanUp(1.0, ((0.0, 0.5), (0.0, 1.0), (0.0, 1.0)))(crowd_with_a_floater())
    until(lambda: num_splats(viewer, 0) == half.num_gaussians < left)
    page.set(handles["Merge to %"], 50)
    until(lambda: num_splats(viewer, 0) == round(half.num_gaussians / 2))
    until(lambda: "of 400 Gaussians" in viewer.scene_panel._text.content)
    press = {"uuid": handles["Download"]._impl.uuid, "updates": {"value": True}}
    page.send("GuiUpdateMessage", **press)
    until(lambda: downloads)
    name, content, _ = downloads[-1]
    (tmp_path / name).write_bytes(content)
    assert Gaussians.load(tmp_path / name).num_gaussians == round(half.num_gaussians / 2)
    page.send("GuiUpdateMessage", uuid=handles["Keep everything"]._impl.uuid, updates={"value": 1})
    until(lambda: num_splats(viewer, 0) == 400)
    assert handles["Crop x %"].value == (0, 100)
