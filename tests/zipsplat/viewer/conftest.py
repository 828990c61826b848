"""A running viewer with a small made-up network, and clients that speak viser's protocol."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pytest
import torch

from tests.zipsplat.tiny_network import TINY, tiny_network
from zipsplat.camera import Camera
from zipsplat.gaussians import Gaussians
from zipsplat.harmonics import dc_from_rgb
from zipsplat.pose import Pose
from zipsplat.posed_images import SparsePoints
from zipsplat.predictor import ZipSplat
from zipsplat.refinement.settings import (
    OnStep,
    RefinedScene,
    RefinementProgress,
    RefinementSettings,
)
from zipsplat.viewer.reconstruction import Photos
from zipsplat.viewer.sharpening import FoundCameras, SharpeningTools

IMAGE_SIZE = 28  # four tokens and 128 Gaussians for each view
DEFAULT = RefinementSettings()


@pytest.fixture
def tiny() -> ZipSplat:
    network = tiny_network(config=replace(TINY, gaussians_per_token=32)).eval()
    return ZipSplat.from_network(network, device="cpu", image_size=IMAGE_SIZE)


@pytest.fixture
def images() -> tuple[torch.Tensor, ...]:
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


@dataclass
class Tools:
    """Finds cameras on an orbit and paints scenes green, a share with each step; counts steps."""

    num_searches: int = 0
    num_steps: int = 0
    last_step: int = 40
    step_s: float = 0.02
    error: Exception | None = None
    settings: RefinementSettings | None = None
    start: tuple[Any, ...] = ()

    def find_cameras(self, photos: Photos, on_stage: Callable[[str], object]) -> FoundCameras:
        self.num_searches += 1
        on_stage("Matching")
        if self.error is not None:
            raise self.error
        V = len(photos.images)
        height, width = photos.images[0].shape[1:]
        cameras = Camera.from_fov(
            torch.full((V,), 1.0), w=torch.full((V,), width), h=torch.full((V,), height)
        )
        poses = Pose.orbit(torch.tensor([0.0, 0.0, 1.0]), 1.0, torch.arange(V) * 10.0)
        placed = replace(photos, cameras=cameras, poses=poses[:1].inv().compose(poses))
        return FoundCameras(placed, tuple(range(V)), ("one is doubtful",))

    def refine(
        self, gaussians: Gaussians | None, images: Sequence[torch.Tensor], cameras: Camera,
        poses: Pose, points: SparsePoints | None = None,
        settings: RefinementSettings = DEFAULT, on_step: OnStep | None = None,
    ) -> RefinedScene:  # fmt: skip
        self.settings, self.start = settings, (gaussians, images, cameras, poses, points)
        stopped = "budget"
        for step in range(1, self.last_step + 1):
            time.sleep(self.step_s)
            self.num_steps = step
            if self.error is not None:
                raise self.error
            progress = RefinementProgress(
                step, step / self.last_step, 9.0, 100, 20.0 + step, None, partial(green, step)
            )
            if on_step is not None and on_step(progress) is False:
                stopped = "interrupted"
                break
        return RefinedScene(
            green(self.num_steps), cameras, poses, (), 20.0, 20.0 + self.num_steps, 0.9, (),
            self.num_steps, stopped,
        )  # fmt: skip


def green(step: int) -> Gaussians:
    """A green wall of 100 + step Gaussians one unit in front of the first camera."""
    N = 100 + step
    rows, columns = torch.arange(N) // 12, torch.arange(N) % 12
    means = torch.stack((columns / 6 - 1, rows / 6 - 1, torch.ones(N)), -1)
    colors = torch.tensor([0.0, 1.0, 0.0]).expand(N, 1, 3)
    return Gaussians(
        means, torch.full((N, 3), 0.08), torch.tensor([1.0, 0, 0, 0]).repeat(N, 1),
        torch.full((N,), 0.95), dc_from_rgb(colors),
    )  # fmt: skip


@pytest.fixture
def tools() -> Tools:
    return Tools()


@pytest.fixture
def viewer(tiny: ZipSplat, tools: Tools) -> Iterator[Any]:
    pytest.importorskip("viser", reason="the viewer needs viser: pip install 'zipsplat[viewer]'")
    from zipsplat.viewer.app import Viewer
    from zipsplat.viewer.host import Options
    from zipsplat.viewer.server import Address, start_server, stop_server

    server = start_server(Address(port=0))
    given = SharpeningTools(tools.find_cameras, tools.refine)
    running = Viewer(server, lambda: tiny, Options(max_upload_bytes=200_000), given)
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
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


@pytest.fixture
def until() -> Callable[..., None]:
    return wait_until
