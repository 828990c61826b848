"""Panel section for cleaning: floaters, a crop box, fewer Gaussians."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from zipsplat.viewer.clean_up import NOTHING
from zipsplat.viewer.host import Host

_AXES = ("x", "y", "z")
_STRONGEST = 3.0
_LEAST_PERCENT = 5


class CleaningPanel:
    """Cleaning sliders; the cleaned scene is what is shown, downloaded and rendered to videos."""

    def __init__(self, viewer: Host) -> None:
        self._viewer = viewer
        gui: Any = viewer.server.gui
        with gui.add_folder("Clean", expand_by_default=False):
            floaters = gui.add_slider(
                "Floaters",
                0.0,
                _STRONGEST,
                0.25,
                0.0,
                hint="Drop isolated Gaussians, and huge faint ones; 1 is the usual strength.",
            )
            crops = [self._add_crop(gui, axis) for axis in range(3)]
            percent = gui.add_slider(
                "Merge to %",
                _LEAST_PERCENT,
                100,
                5,
                100,
                hint="Merge neighbours until this share of the Gaussians is left.",
            )
            reset = gui.add_button("Keep everything", color="gray")
        floaters.on_update(lambda event: self._set(floaters=float(event.target.value)))
        percent.on_update(lambda event: self._set(share=event.target.value / 100))

        def keep_everything(_: Any) -> None:
            floaters.value, percent.value = 0.0, 100
            for crop in crops:
                crop.value = (0, 100)
            viewer.change_look(clean_up=NOTHING)

        reset.on_click(keep_everything)

    def _add_crop(self, gui: Any, axis: int) -> Any:
        slider = gui.add_multi_slider(
            f"Crop {_AXES[axis]} %",
            0,
            100,
            1,
            (0, 100),
            min_range=1,
            hint=f"Keep Gaussians whose centres lie between these percentiles along {_AXES[axis]}.",
        )

        def crop(event: Any) -> None:
            low, high = event.target.value
            ranges = list(self._viewer.look.clean_up.crop)
            ranges[axis] = (low / 100, high / 100)
            self._set(crop=tuple(ranges))

        slider.on_update(crop)
        return slider

    def _set(self, **changes: Any) -> None:
        viewer = self._viewer
        viewer.change_look(clean_up=replace(viewer.look.clean_up, **changes))
