from __future__ import annotations

import http.client
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

pytest.importorskip("viser", reason="the viewer needs viser: pip install 'zipsplat[viewer]'")

from zipsplat.gaussians import Gaussians
from zipsplat.model.untrained import TINY, untrained_network
from zipsplat.viewer import command, main

Until = Callable[..., None]


class Running:
    """The command in a thread of its own."""

    def __init__(self, capfd: pytest.CaptureFixture[str], *arguments: str) -> None:
        self.stop, self.status, self.out, self.err = threading.Event(), -1, "", ""
        self._capfd = capfd

        def run() -> None:
            self.status = command.main(arguments, self.stop)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def read(self) -> str:
        out, err = self._capfd.readouterr()
        self.out, self.err = self.out + out, self.err + err
        return self.out

    def port(self, until: Until) -> int:
        until(lambda: re.search(r":(\d+)", self.read()))
        found = re.search(r"The viewer is at http://127\.0\.0\.1:(\d+) ", self.out)
        assert found is not None
        return int(found[1])

    def end(self) -> int:
        self.stop.set()
        self.thread.join(20)
        self.read()
        return self.status


@pytest.fixture
def saved(tmp_path: Path) -> str:
    path = tmp_path / "my scene.ply"
    Gaussians.from_packed(torch.full((5, 14), 0.5)).save(path)
    return str(path)


@pytest.fixture
def viewers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The viewers that commands make."""
    made: list[Any] = []
    plain = command._viewer

    def keep(*arguments: Any) -> Any:
        made.append(plain(*arguments))
        return made[-1]

    monkeypatch.setattr(command, "_viewer", keep)
    return made


def get(port: int, host: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/", headers={"Host": host})
        answer = connection.getresponse()
        answer.read()
        return answer.status
    finally:
        connection.close()


def test_a_saved_scene(
    saved: str, viewers: list[Any], until: Until, capfd: pytest.CaptureFixture[str]
) -> None:
    running = Running(capfd, saved, "--port", "0", "--device", "cpu")
    port = running.port(until)
    until(lambda: viewers[0].scene is not None)
    assert viewers[0].scene.gaussians.num_gaussians == 5
    assert viewers[0].options.name == "my-scene"
    assert get(port, f"localhost:{port}") == 200
    assert get(port, "evil.example") == 403
    assert running.end() == 0
    assert running.err == ""
    with socket.socket() as closed:
        assert closed.connect_ex(("127.0.0.1", port)) != 0


def test_photos_with_weights_from_a_file(
    tmp_path: Path, viewers: list[Any], until: Until, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = tmp_path / "weights.tar"
    torch.save({"model": untrained_network().state_dict(), "conf": TINY.to_conf()}, weights)
    for index in range(2):
        Image.new("RGB", (40, 30), (100 * index, 50, 50)).save(tmp_path / f"{index}.png")
    running = Running(
        capfd, str(tmp_path / "*.png"), "--weights", str(weights), "--port", "0",
        "--image-size", "28", "--compression", "0.5", "--device", "cpu",
    )  # fmt: skip
    until(lambda: (viewers and viewers[0].scene is not None) or running.status == 1)
    assert viewers[0].scene.gaussians.num_gaussians == 4 * 32
    assert viewers[0].options.note == ""
    assert running.end() == 0


def test_what_is_wrong_is_said_in_one_line(
    tmp_path: Path, saved: str, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.ply").write_bytes(b"junk")
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.png")
    photo = str(tmp_path / "photo.png")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for arguments, message in {
            ("nowhere/",): "nowhere: there is no such file or folder",
            ("nowhere.ply",): "nowhere.ply: No such file or directory",
            (str(tmp_path / "empty"),): "contains no images and no video",
            (str(tmp_path / "bad.ply"),): "bad.ply: ",
            (saved, photo): "my scene.ply: ",
            (photo, "--weights", "nowhere.tar"): "nowhere.tar",
            (saved, "--port", port): f"port {port} on 127.0.0.1 is in use",
            (saved, "--host", "192.0.2.1"): "cannot listen on 192.0.2.1",
        }.items():
            default = () if "--port" in arguments else ("--port", "0")
            assert main([*arguments, *default, "--device", "cpu"]) == 1, arguments
            error = capfd.readouterr().err
            assert message in error
            assert error.startswith("zipsplat viewer: ")
            assert error.count("\n") == 1, error


def test_the_default_port_gives_way(
    saved: str, until: Until, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(command, "DEFAULT_PORT", port)
        running = Running(capfd, saved, "--device", "cpu")
        assert running.port(until) > port
        assert running.end() == 0


def test_other_hosts_are_a_choice_with_a_warning(
    saved: str, until: Until, capfd: pytest.CaptureFixture[str]
) -> None:
    running = Running(capfd, saved, "--host", "0.0.0.0", "--port", "0", "--device", "cpu")
    port = running.port(until)
    assert get(port, f"192.168.1.5:{port}") == 200
    assert get(port, "evil.example") == 403
    assert running.end() == 0
    assert "everyone who can reach this machine" in running.err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["x.ply", "--port", "70000"], ["x.ply", "--port", "-1"], ["x.ply", "--num-frames", "0"],
        ["x.ply", "--compression", "0"], ["x.ply", "--compression", "many"],
        ["x.ply", "--max-upload", "0"],
    ],
)  # fmt: skip
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_without_viser_one_line_says_what_to_install(
    saved: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    assert main([saved]) == 1
    assert capfd.readouterr().err == (
        'zipsplat viewer: the viewer needs viser; install it with: pip install "zipsplat[viewer]"\n'
    )


def test_help_needs_no_viser() -> None:
    code = "import sys; sys.modules['viser'] = None; from zipsplat.viewer import main; main(['-h'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "--max-upload" in done.stdout
