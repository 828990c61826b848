"""Panel section for downloading the scene as a file."""

from __future__ import annotations

from typing import Any

from zipsplat.formats import FORMATS
from zipsplat.gaussians import Gaussians
from zipsplat.viewer.host import Host
from zipsplat.viewer.reconstruction import Reconstruction
from zipsplat.webpage import page

PAGE = ".html (a page)"


def suffixes() -> dict[str, str]:
    """Suffix and name of each format that a scene can be saved in."""
    return {FORMATS[name].suffixes[0]: name for name in FORMATS.names()}


class ExportPanel:
    """A format selector and a download button."""

    def __init__(self, viewer: Host) -> None:
        self._viewer = viewer
        gui: Any = viewer.server.gui
        with gui.add_folder("Download", expand_by_default=False):
            self._suffix = gui.add_dropdown(
                "Format",
                (*suffixes(), PAGE),
                initial_value=".ply",
                hint="The scene after cleaning and cut-offs, in its own colours.",
            )
            button = gui.add_button("Download")
        button.on_click(viewer.handled(self._download))

    def _download(self, event: Any) -> None:
        viewer = self._viewer
        scene, suffix = viewer.scene_as_kept(), self._suffix.value
        if suffix == PAGE:
            suffix, content = ".html", self._page(scene)
        else:
            content = scene.to_bytes(suffixes()[suffix], note=self._note())
        viewer.browsers.send_file(viewer.options.name + suffix, content, event.client_id)

    def _note(self) -> str:
        """The licence note of the weights used, or of the opened file."""
        scene = self._viewer.scene
        if scene is None:
            return ""
        return self._viewer.options.note if scene.photos.images else scene.note

    def _page(self, scene: Gaussians) -> bytes:
        viewer = self._viewer
        red, green, blue = viewer.look.background
        text = page(
            scene,
            title=viewer.options.name,
            note=self._note(),
            background=(red / 255, green / 255, blue / 255),
            **_cameras(viewer.scene),
        )
        return text.encode("utf-8")


def _cameras(scene: Reconstruction | None) -> dict[str, Any]:
    """Arguments of `write_page` for the photos' cameras; empty if they are unknown."""
    if scene is None or scene.poses is None:
        return {}
    names = [scene.photos.name(view) for view in range(len(scene.poses.t))]
    return {"cameras": scene.photos.cameras, "poses": scene.poses, "names": names}
