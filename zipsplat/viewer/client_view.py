"""The view of one browser: splats while the camera moves, exact colours once it rests.

Each client has its own splats, because view-dependent colours depend on its camera.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from zipsplat.figures import to_pixels
from zipsplat.gaussians import Gaussians
from zipsplat.viewer.appearance import Appearance, SplatBuffers, colors_from, splat_buffers
from zipsplat.viewer.frustums import Clicked, Frustums
from zipsplat.viewer.viewpoints import BrowserCamera

if TYPE_CHECKING:
    import viser

logger = logging.getLogger(__name__)

REST_S = 0.25  # the camera rests after this long without a camera message
MAX_PIXELS = 1920 * 1080  # of an exact frame; larger windows get it scaled up


@dataclass(frozen=True)
class Shown:
    """A scene after cut-offs and colouring, with the arrays that all clients share."""

    scene: Gaussians
    buffers: SplatBuffers
    look: Appearance

    @classmethod
    def of(cls, scene: Gaussians, look: Appearance) -> Shown:
        """Make the arrays."""
        return cls(scene, splat_buffers(scene), look)

    @property
    def follows_camera(self) -> bool:
        """Whether the colours depend on the camera."""
        return self.look.view_colors and self.scene.max_sh_degree > 0


class ClientView:
    """Keeps one browser up to date.

    Args:
        client: the connection.
        loop: the server's event loop, for timers.
        at_rest: called on the loop when the camera has come to rest; must run `show_at_rest` on
            another thread.
        clicked: called with (photo index, client id) when a frustum is clicked.
    """

    def __init__(
        self,
        client: viser.ClientHandle,
        loop: asyncio.AbstractEventLoop,
        at_rest: Callable[[ClientView], object],
        clicked: Clicked,
    ) -> None:
        self.client = client
        self.frustums = Frustums(client, clicked)
        self.frustums.look_from(client.camera.position.tolist())
        self._loop = loop
        self._at_rest = at_rest
        self._timer: asyncio.TimerHandle | None = None
        self._splats: viser.GaussianSplatHandle | None = None
        self._shown: Shown | None = None
        self._background: tuple[int, int, int] | None = None
        self._has_frame = False
        self._is_closed = False
        self._lock = threading.RLock()
        client.camera.on_update(self.on_move)

    def close(self) -> None:
        """The browser has disconnected; send nothing more."""
        with self._lock:
            self._shown = None
            self._is_closed = True

    def camera(self) -> BrowserCamera:
        """The camera as the browser last reported it."""
        camera = self.client.camera
        return BrowserCamera(
            wxyz=camera.wxyz.tolist(),
            position=camera.position.tolist(),
            vfov=camera.fov,
            width=max(1, camera.image_width),
            height=max(1, camera.image_height),
        )

    def show(self, shown: Shown) -> None:
        """Show another scene, or the same one in another appearance."""
        with self._lock:
            if self._is_closed:
                return
            self._shown = shown
            self._send_splats(shown)
            self._leave_frame()
            self._send_background(shown.look.background)
        self._loop.call_soon_threadsafe(self._restart_timer)

    async def on_move(self, _camera: viser.CameraHandle) -> None:
        """Handle a camera move; async, so that viser calls it in order on its loop."""
        self._restart_timer()
        self.frustums.look_from(self.client.camera.position.tolist())
        if self._has_frame:
            await asyncio.to_thread(self._leave_frame)

    def show_at_rest(self) -> None:
        """Show what only a resting camera gets: an exact frame or view-dependent colours."""
        with self._lock:
            shown, camera = self._shown, self.camera()
        if shown is None or not shown.scene.num_gaussians:
            return
        if shown.look.exact:
            frame = exact_frame(shown, camera)
            with self._lock:
                if self._shown is shown and self.camera() == camera:
                    self._show_frame(frame)
        elif shown.follows_camera:
            colors = colors_from(shown.scene, camera.center())
            with self._lock:
                if self._shown is shown and self._splats is not None:
                    self._splats.rgbs = colors

    def _restart_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(REST_S, self._at_rest, self)

    def _send_splats(self, shown: Shown) -> None:
        arrays = shown.buffers
        if not len(arrays.centers):
            if self._splats is not None:
                self._splats.remove()
                self._splats = None
            return
        colors = arrays.rgbs
        if shown.follows_camera:
            colors = colors_from(shown.scene, self.camera().center())
        values = (arrays.centers, arrays.covariances, colors, arrays.opacities)
        if self._splats is None:
            self._splats = self.client.scene.add_gaussian_splats(
                "/scene", *values, scale=arrays.scale
            )
            return
        with self.client.atomic():
            self._splats.scale = arrays.scale
            self._splats.set_gaussians(*values)

    def _send_background(self, color: tuple[int, int, int]) -> None:
        if color != self._background:
            self._background = color
            self.client.scene.set_background_image(
                np.full((1, 1, 3), color, np.uint8), format="png"
            )

    def _show_frame(self, frame: np.ndarray) -> None:
        self._has_frame, self._background = True, None
        with self.client.atomic():
            self.client.scene.set_background_image(frame, format="jpeg", jpeg_quality=92)
            if self._splats is not None:
                self._splats.visible = False

    def _leave_frame(self) -> None:
        """Return from an exact frame to splats."""
        with self._lock:
            if not self._has_frame or self._shown is None:
                return
            self._has_frame = False
            with self.client.atomic():
                if self._splats is not None:
                    self._splats.visible = True
                self._send_background(self._shown.look.background)


def exact_frame(shown: Shown, view: BrowserCamera) -> np.ndarray:
    """The scene (H, W, 3) uint8 from a browser's camera, rendered by `Gaussians.render`."""
    scene = shown.scene
    background = scene.means.new_tensor(shown.look.background) / 255
    with torch.no_grad():
        image, _ = scene.render(view.camera(MAX_PIXELS), view.pose(), backgrounds=background)
    pixels: np.ndarray = to_pixels(image[0])
    return pixels
