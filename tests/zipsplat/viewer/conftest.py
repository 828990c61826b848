"""A running viewer with a small made-up network, and clients that speak viser's protocol."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch

from tests.zipsplat.tiny_network import TINY, tiny_network
from zipsplat.predictor import ZipSplat

IMAGE_SIZE = 28  # four tokens and 128 Gaussians for each view


@pytest.fixture
def tiny() -> ZipSplat:
    network = tiny_network(config=replace(TINY, gaussians_per_token=32)).eval()
    return ZipSplat.from_network(network, device="cpu", image_size=IMAGE_SIZE)


@pytest.fixture
def pictures() -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.rand(3, 30, 40, generator=generator) for _ in range(3))


@dataclass
class Backbone:
    """Counts the runs of a backbone, and can hold them up."""

    num_runs: int = 0
    started: threading.Event = field(default_factory=threading.Event)
    may_go_on: threading.Event = field(default_factory=threading.Event)

    def __call__(self, *_: object) -> None:
        self.num_runs += 1
        self.started.set()
        assert self.may_go_on.wait(30)


@pytest.fixture
def backbone(tiny: ZipSplat) -> Backbone:
    counter = Backbone()
    counter.may_go_on.set()
    tiny.model.backbone.register_forward_pre_hook(counter)  # type: ignore[operator]
    return counter


@pytest.fixture
def viewer(tiny: ZipSplat) -> Iterator[Any]:
    pytest.importorskip("viser", reason="the viewer needs viser: pip install 'zipsplat[viewer]'")
    from zipsplat.viewer.app import Options, Viewer
    from zipsplat.viewer.server import Address, start_server, stop_server

    server = start_server(Address(port=0))
    running = Viewer(server, lambda: tiny, Options(max_upload_bytes=200_000))
    yield running
    running.close()
    stop_server(server)


class Page:
    """What a browser does, without one: connects, reports a camera, presses things."""

    def __init__(self, port: int, **headers: Any) -> None:
        import viser
        from websockets.sync.client import connect

        self._socket = connect(
            f"ws://127.0.0.1:{port}",
            subprotocols=[f"viser-v{viser.__version__}"],  # type: ignore[list-item]
            max_size=None,
            **headers,
        )
        # Unread messages would hold up the server's, as a browser never lets them.
        self._reader = threading.Thread(target=self._read, daemon=True)
        self.num_bytes = 0
        self._reader.start()

    def _read(self) -> None:
        for message in self._socket:
            self.num_bytes += len(message)

    def send(self, kind: str, **values: Any) -> None:
        import msgspec

        self._socket.send(msgspec.msgpack.encode({"type": kind, **values}))

    def look(self, position: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> None:
        self.send(
            "ViewerCameraMessage",
            wxyz=(1.0, 0.0, 0.0, 0.0),
            position=position,
            fov=1.0,
            near=0.01,
            far=1000.0,
            image_height=24,
            image_width=32,
            look_at=(0.0, 0.0, 1.0),
            up_direction=(0.0, -1.0, 0.0),
        )

    def set(self, handle: Any, value: Any) -> None:
        self.send("GuiUpdateMessage", uuid=handle._impl.uuid, updates={"value": value})

    def upload(self, handle: Any, name: str, content: bytes, announced: int | None = None) -> None:
        size = len(content) if announced is None else announced
        ids = {"source_component_uuid": handle._impl.uuid, "transfer_uuid": f"upload of {name}"}
        self.send(
            "FileTransferStartUpload",
            **ids,
            filename=name,
            mime_type="",
            part_count=1,
            size_bytes=size,
        )
        if content:
            self.send("FileTransferPart", **ids, part_index=0, content=content)

    def leave(self) -> None:
        self._socket.close()


@pytest.fixture
def open_page(viewer: Any) -> Iterator[Callable[..., Page]]:
    pages = []

    def connect(**headers: Any) -> Page:
        known = set(viewer.server.get_clients())
        page = Page(viewer.server.get_port(), **headers)
        pages.append(page)
        page.look()
        wait_until(lambda: (set(viewer.server.get_clients()) & set(viewer.browsers._views)) - known)
        return page

    yield connect
    for page in pages:
        page.leave()


def wait_until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something that another thread does."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until
