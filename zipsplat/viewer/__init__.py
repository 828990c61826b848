"""The viewer: a scene in the browser, without a GPU.

`python -m zipsplat.viewer INPUT` reconstructs images or a video, or opens a saved scene, and
serves it with viser (the extra `zipsplat[viewer]`), which renders the Gaussians in the browser.

The modules: `command` parses the arguments; `app` holds the scene, the background worker and the
clients; `server` and `guard` decide who may connect; `reconstruction`, `sharpening`, `appearance`,
`viewpoints` and `uploads` do not depend on the browser; `tools` finds cameras and refines scenes;
`client_view` is the state of one browser, `flights` moves its camera, `frustums` shows the cameras
of the photos; `scene_panel`, `photo_panel`, `sharpen_panel`, `camera_panel` and `export_panel` are
the parts of the control panel, which see the viewer as a `Host`.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the viewer until it is interrupted; see `zipsplat.viewer.command`."""
    from zipsplat.viewer.command import main as run

    return run(argv)
