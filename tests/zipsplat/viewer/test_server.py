"""The guard bites: tried on the running server, from outside."""

from __future__ import annotations

import http.client
import logging
import socket
import sys
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("viser", reason="the viewer needs viser: pip install 'zipsplat[viewer]'")

from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from zipsplat.viewer.server import Address, find_port, import_viser, start_server, stop_server


def get(port: int, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", "/", headers=headers)
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer


def test_pages_are_for_the_own_address_only(viewer: Any) -> None:
    port = viewer.server.get_port()
    assert get(port).status == 200
    assert get(port, Host=f"localhost:{port}").status == 200
    assert get(port, Host="evil.example").status == 403
    assert get(port, Host=f"evil.example:{port}").status == 403
    assert get(port, Origin="http://evil.example").status == 403


def test_no_other_page_can_frame_the_viewer(viewer: Any) -> None:
    answer = get(viewer.server.get_port())
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


def test_sockets_are_for_the_own_page_only(viewer: Any) -> None:
    port = viewer.server.get_port()
    address = f"ws://127.0.0.1:{port}"
    protocol: Any = [f"viser-v{import_viser().__version__}"]
    for origin in (None, f"http://127.0.0.1:{port}"):
        with connect(address, subprotocols=protocol, origin=origin, max_size=None):
            pass
    for headers in (
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"additional_headers": {"Host": "evil.example"}},
    ):
        with pytest.raises(InvalidStatus, match="403"):
            connect(address, subprotocols=protocol, **headers)  # type: ignore[arg-type]


def test_nobody_gets_a_public_address(
    viewer: Any,
    open_page: Callable[..., Any],
    caplog: pytest.LogCaptureFixture,
    until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import viser._viser

    def tunnel(*_: object, **__: object) -> None:
        raise AssertionError("a tunnel was opened")

    monkeypatch.setattr(viser._viser, "ViserTunnel", tunnel)
    with caplog.at_level(logging.WARNING):
        open_page().send("ShareUrlRequest")
        until(lambda: "public address" in caplog.text)
    assert viewer.server._share_tunnel is None


def test_listens_on_loopback_only(viewer: Any) -> None:
    sockets = viewer.server._websock_server._live_connections
    assert sockets == {}
    assert viewer.server.get_host() == "127.0.0.1"
    other = socket.socket()
    other.bind(("127.0.0.2", viewer.server.get_port()))  # taken if the server listened everywhere
    other.close()


def test_a_viser_that_starts_differently_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from viser.infra import _infra
    from websockets.asyncio import server as sockets

    class OwnSockets:
        """As if viser opened its sockets without the function that we guard."""

        def __getattr__(self, name: str) -> Any:
            return getattr(sockets, name)

    plain = sockets.serve
    fake = OwnSockets()
    fake.serve = plain  # type: ignore[attr-defined]

    class Websockets:
        def __getattr__(self, name: str) -> Any:
            return getattr(__import__("websockets"), name)

    wrapped = Websockets()
    wrapped.asyncio = type("asyncio", (), {"server": fake})  # type: ignore[attr-defined]
    monkeypatch.setattr(_infra, "websockets", wrapped)
    with pytest.raises(RuntimeError, match="cannot be guarded"):
        start_server(Address(port=0))


def test_a_port_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"port {port} on 127.0.0.1 is in use.*--port"):
            start_server(Address(port=port, exact=True))
        assert port < find_port(Address(port=port)) <= port + 20
    assert find_port(Address(port=port, exact=True)) == port


def test_a_host_of_another_machine() -> None:
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1, port 8080"):
        find_port(Address("192.0.2.1", 8080))
    with pytest.raises(OSError, match="cannot listen on 192"):
        find_port(Address("192.0.2.1", 0))
    with pytest.raises(OSError, match="cannot listen on no"):
        find_port(Address("no.such.host.invalid", 8080))


def test_starting_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    stop_server(start_server(Address(port=0)))
    assert capfd.readouterr().out == ""


def test_without_viser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "viser", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "zipsplat\[viewer\]"'):
        start_server(Address(port=0))
