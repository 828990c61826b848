"""The connected browsers: what they show, their cameras, messages to them."""

from __future__ import annotations

import asyncio
import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from zipsplat.viewer.client_view import ClientView, Shown
from zipsplat.viewer.flights import flight, fly, place
from zipsplat.viewer.frustums import Clicked
from zipsplat.viewer.reconstruction import Reconstruction
from zipsplat.viewer.viewpoints import VIEW_FOV_DEG, Viewpoint
from zipsplat.viewer.worker import Job, Worker

if TYPE_CHECKING:
    import viser

logger = logging.getLogger(__name__)
StartOf = Callable[[float], Viewpoint]


class Browsers:
    """Keeps all browsers up to date, including those that connect later.

    Args:
        server: the server they connect to.
        clicked: called with (photo index, client id) when a frustum is clicked.
    """

    def __init__(self, server: viser.ViserServer, clicked: Clicked) -> None:
        self._server = server
        self._clicked = clicked
        self._photos: Reconstruction | None = None
        self._are_photos_shown = False
        self._flights: dict[int, Future[None]] = {}
        self._views: dict[int, ClientView] = {}
        self._shown: Shown | None = None
        self._start: StartOf | None = None
        self._lock = threading.RLock()
        self._worker = Worker(_Log())
        server.initial_camera.fov = math.radians(VIEW_FOV_DEG)
        server.on_client_connect(self._welcome)
        server.on_client_disconnect(self._forget)

    def show(self, shown: Shown) -> None:
        """Show a scene in all browsers."""
        with self._lock:
            self._shown, views = shown, list(self._views.values())
        connected = self._server.get_clients()
        for view in views:
            if view.client.client_id in connected:
                view.show(shown)

    def show_photos(self, scene: Reconstruction | None, is_shown: bool) -> None:
        """Show the cameras of a scene's photos as frustums in all browsers.

        Args:
            scene: with the photos; None keeps the present frustums.
            is_shown: whether they are visible.
        """
        with self._lock:
            self._photos = scene or self._photos
            self._are_photos_shown = is_shown
            views = list(self._views.values())
        for view in views:
            if scene is None:
                view.frustums.set_shown(is_shown)
            else:
                view.frustums.show(scene, is_shown)

    def place_cameras(self, start: StartOf, client_id: int | None = None) -> None:
        """Move the camera of one browser, or of all present and future ones.

        Args:
            start: gives the viewpoint for a field of view (degrees) along the shorter side.
            client_id: of the browser; None is all.
        """
        if client_id is None:
            with self._lock:
                self._start = start
            usual = start(VIEW_FOV_DEG)
            self._server.initial_camera.position = usual.position
            self._server.initial_camera.look_at = usual.target
            self._server.initial_camera.up = usual.up
        for client in self._clients(client_id):
            self._end_flight(client.client_id)
            _place(client, start)

    def fly(self, goal: Viewpoint, client_id: int) -> None:
        """Fly the camera of one browser to a viewpoint.

        Raises:
            ValueError: the browser has disconnected.
        """
        view = self.view(client_id)
        target = torch.tensor(view.client.camera.look_at.tolist())
        views = flight(view.camera(), target, goal)
        self._end_flight(client_id)
        loop = self._server.get_event_loop()
        self._flights[client_id] = asyncio.run_coroutine_threadsafe(fly(view.client, views), loop)

    def view(self, client_id: int) -> ClientView:
        """The view of one browser.

        Raises:
            ValueError: the browser has disconnected.
        """
        view = self._views.get(client_id)
        if view is None or client_id not in self._server.get_clients():
            raise ValueError("this page is no longer connected; reload it")
        return view

    def notify(self, title: str, body: str, client_id: int | None = None) -> None:
        """Show an error in one browser or in all; a disconnected one is ignored."""
        for client in self._clients(client_id):
            client.add_notification(title, body, auto_close_seconds=15, color="red")

    def send_file(self, name: str, content: bytes, client_id: int) -> None:
        """Offer a file for download in one browser; a disconnected one is ignored."""
        for client in self._clients(client_id):
            client.send_file_download(name, content, save_immediately=True)

    def close(self) -> None:
        """Stop the thread that renders for resting cameras."""
        self._worker.close()

    def _clients(self, client_id: int | None) -> list[viser.ClientHandle]:
        connected = self._server.get_clients()
        if client_id is None:
            return list(connected.values())
        return [connected[client_id]] if client_id in connected else []

    def _welcome(self, client: viser.ClientHandle) -> None:
        view = ClientView(client, self._server.get_event_loop(), self._rest, self._clicked)
        with self._lock:
            self._views[client.client_id] = view
            start = self._start
        if start is not None and not _suits_all(start, client):
            _place(client, start)
            client.camera.on_update(partial(_place_if_usual, client, start))
        with self._lock:  # else an older state could overwrite a newer one
            if self._shown is not None:
                view.show(self._shown)
            if self._photos is not None:
                view.frustums.show(self._photos, self._are_photos_shown)

    def _forget(self, client: viser.ClientHandle) -> None:
        self._end_flight(client.client_id)
        with self._lock:
            view = self._views.pop(client.client_id, None)
        if view is not None:
            view.close()

    def _end_flight(self, client_id: int) -> None:
        running = self._flights.pop(client_id, None)
        if running is not None:
            running.cancel()

    def _rest(self, view: ClientView) -> None:
        name = f"rest {view.client.client_id}"
        self._worker.submit(Job(name, lambda _: view.show_at_rest()))


def _place(client: viser.ClientHandle, start: StartOf) -> None:
    """Move a browser's camera to the viewpoint for its aspect ratio."""
    narrower = math.tan(math.radians(VIEW_FOV_DEG) / 2) * min(1.0, client.camera.aspect)
    place(client, start(math.degrees(2 * math.atan(narrower))))


def _suits_all(start: StartOf, client: viser.ClientHandle) -> bool:
    """Whether a browser needs no viewpoint of its own; all start with the one of wide windows."""
    return client.camera.aspect >= 1 and start(VIEW_FOV_DEG).extent is None


def _place_if_usual(client: viser.ClientHandle, start: StartOf, camera: viser.CameraHandle) -> None:
    """Move a browser from the shared start viewpoint to the one for its aspect ratio.

    viser moves it to the shared one when the view is reset, and sometimes after our first move.
    """
    usual = start(VIEW_FOV_DEG)
    is_there = np.allclose(camera.position, usual.position, atol=1e-5)
    if is_there and np.allclose(camera.look_at, usual.target, atol=1e-5):
        _place(client, start)


class _Log:
    """Logs jobs that nothing waits for."""

    def progress(self, stage: str, done: int, total: int) -> None:
        """Show nothing."""

    def ended(self, job: Job, error: Exception | None) -> None:
        """Log a failure; the viewer works without the frame."""
        if error is not None:
            logger.warning("could not render for a resting camera (%s)", job.name, exc_info=error)
