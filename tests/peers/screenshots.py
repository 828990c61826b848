"""The images of docs/formats.md: one scene in each viewer.

ZIPSPLAT_PEERS=FOLDER python -m tests.peers.screenshots docs/images
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path

import torch
from PIL import Image

from tests.peers.axes_scene import axes_scene
from tests.peers.conftest import CHROMIUMS, Browser, QuietHandler
from tests.peers.test_page import READY, look, rendered
from tests.peers.test_viewers import FOV_DEG, POSITION, SHOWN, pose_of_view
from tests.peers.viewer_pages import View, mkkellogg, spark, supersplat
from zipsplat.webpage import StartView, write_page


def main(target: Path) -> None:
    """Write viewer-*.png."""
    scene = axes_scene(6000)
    target.mkdir(parents=True, exist_ok=True)
    pixels = (torch.tensor(rendered(scene, pose_of_view())) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(target / "viewer-zipsplat.png")
    chromium = next(path for path in map(shutil.which, CHROMIUMS) if path)
    peers = Path(os.environ["ZIPSPLAT_PEERS"]).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        browser = Browser(peers, chromium, folder)
        start = StartView(pose_of_view(), 4.7, fov_deg=FOV_DEG)
        write_page(folder / "page.html", scene, title="Axes", start=start)
        shot = {"shot": str((target / "viewer-page.png").resolve())}
        browser.visit(
            (folder / "page.html").as_uri(),
            [READY, look(pose_of_view()), {"wait": 500}, shot],
            size=(480, 360),
        )
        (folder / "node_modules").symlink_to(peers / "node_modules")
        scene.save(folder / "scene.ply")
        view = View(POSITION, (0.0, 0.0, 0.0), (0.0, -1.0, 0.0), FOV_DEG)
        handler = functools.partial(QuietHandler, directory=name)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            for viewer in (spark, supersplat, mkkellogg):
                url, init = viewer(folder, "scene.ply", view)
                shot = {"shot": str((target / f"viewer-{viewer.__name__}.png").resolve())}
                address = f"http://127.0.0.1:{server.server_address[1]}{url}"
                browser.visit(address, [*SHOWN, {"wait": 4000}, shot], init=init)
            server.shutdown()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
