"""Panel section for the scene: number of Gaussians, compression, colours, cut-offs."""

from __future__ import annotations

from typing import Any

from zipsplat.viewer.host import Host
from zipsplat.viewer.reconstruction import Reconstruction
from zipsplat.viewer.viewpoints import UP_AXES

_MIN_COMPRESSION, _STEP = 0.05, 0.05


class ScenePanel:
    """Compression, colours, cut-offs, background, up axis."""

    def __init__(self, viewer: Host) -> None:
        self._viewer = viewer
        self._is_held = False
        self._has_features = False
        self._gui: Any = viewer.server.gui
        with self._gui.add_folder("Scene"):
            self._text = self._gui.add_markdown("Nothing yet.")
            self._add_compression()
            self._add_colors()
            self._add_cut_offs()
            self._add_surroundings()

    @property
    def compression(self) -> float:
        """Share of tokens set by the slider."""
        return float(self._compression.value)

    def hold_compression(self, is_held: bool) -> None:
        """Disable or enable the slider."""
        self._is_held = is_held
        self._compression.disabled = is_held or not self._has_features

    def describe(self, scene: Reconstruction, num_shown: int) -> None:
        """Show the size of the scene and how long it took."""
        num = scene.gaussians.num_gaussians
        of_all = "" if num_shown == num else f" of {num:,}"
        parts = [f"**{num_shown:,}{of_all} Gaussians**"]
        if scene.is_sharpened:
            parts.append("sharpened")
        if scene.photos.images:
            parts.append(f"{len(scene.photos.images)} views")
        if scene.encode_s is not None and scene.decode_s is not None:
            parts.append(f"encoded in {scene.encode_s:.2f} s, decoded in {scene.decode_s:.2f} s")
        notes = [f"*Note: {remark}.*" for remark in scene.remarks]
        self._text.content = "\n\n".join([" · ".join(parts), *notes])
        self._has_features = scene.features is not None
        self.hold_compression(self._is_held)
        self._by_token.disabled = scene.group_size is None
        self._view_colors.disabled = scene.gaussians.max_sh_degree == 0

    def _add_compression(self) -> None:
        viewer = self._viewer

        def recompress(event: Any) -> None:
            viewer.recompress(self.compression, event.client_id)

        self._compression = self._gui.add_slider(
            "Compression",
            min(_MIN_COMPRESSION, viewer.options.compression),
            1.0,
            _STEP,
            viewer.options.compression,
            hint="Share of scene tokens to keep. Photos are not encoded again. Shows the"
            " feed-forward scene.",
        )

        self._compression.on_update(recompress)

    def _add_colors(self) -> None:
        gui = self._gui
        self._by_token = gui.add_checkbox(
            "Colour by token", False, hint="One colour for the Gaussians of each scene token."
        )
        self._view_colors = gui.add_checkbox(
            "Colours by view",
            True,
            hint="Spherical harmonics, evaluated whenever your camera rests.",
        )
        self._exact = gui.add_checkbox(
            "Exact when at rest",
            self._viewer.options.exact,
            hint="Render with ZipSplat's own renderer when the camera rests.",
        )

        self._by_token.on_update(lambda event: self._set(by_token=event.target.value))
        self._view_colors.on_update(lambda event: self._set(view_colors=event.target.value))
        self._exact.on_update(lambda event: self._set(exact=event.target.value))

    def _add_cut_offs(self) -> None:
        gui = self._gui
        opacity = gui.add_slider(
            "Least opacity", 0.0, 1.0, 0.01, 0.0, hint="Fainter Gaussians are hidden."
        )
        size = gui.add_slider(
            "Hide largest %", 0.0, 50.0, 0.5, 0.0, hint="The largest Gaussians are hidden."
        )
        opacity.on_update(lambda event: self._set(min_opacity=event.target.value))
        size.on_update(lambda event: self._set(hide_largest=event.target.value / 100))

    def _add_surroundings(self) -> None:
        gui, viewer = self._gui, self._viewer
        background = gui.add_rgb("Background", viewer.look.background)
        axis = gui.add_dropdown("Up", tuple(UP_AXES), initial_value=viewer.up_axis)
        reset = gui.add_button("Reset camera", color="gray")
        background.on_update(lambda event: self._set(background=event.target.value))
        axis.on_update(lambda event: viewer.set_up_axis(event.target.value))
        reset.on_click(lambda event: viewer.reset_cameras(event.client_id))

    def _set(self, **changes: Any) -> None:
        self._viewer.change_look(**changes)
