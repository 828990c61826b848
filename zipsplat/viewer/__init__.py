"""The viewer: a scene in the browser, on any machine.

`python -m zipsplat.viewer INPUT` reconstructs pictures or a video, or opens a saved scene, and
serves it with viser (the extra `zipsplat[viewer]`), which draws the Gaussians in the browser.

The modules: `command` reads the arguments; `app` holds the scene, the background worker and the
clients; `server` and `guard` decide who may connect; `reconstruction`, `sharpening`, `appearance`,
`cameras` and `uploads` know nothing of the browser; `tools` is what scenes are sharpened with;
`client_view` is what one browser shows, `flights` moves its camera, `frustums` stand where photos
were taken; `scene_panel`, `photo_panel`, `sharpen_panel`, `camera_panel` and `export_panel` are the
parts of the control panel, which know the viewer as a `host`.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the viewer until it is interrupted; see `zipsplat.viewer.command`."""
    from zipsplat.viewer.command import main as run

    return run(argv)
