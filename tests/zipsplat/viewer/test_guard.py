from __future__ import annotations

import socket

import pytest

from zipsplat.viewer.guard import Guard, is_loopback

LOCAL = Guard.for_host("127.0.0.1")
OPEN = Guard.for_host("0.0.0.0")


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "LOCALHOST:9000", "[::1]:80"])
def test_own_addresses_are_answered(host: str) -> None:
    assert LOCAL.refusal([host], []) is None
    assert LOCAL.refusal([host], [f"http://{host}"]) is None
    assert LOCAL.refusal([host], [f"https://{host}"]) is None


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost.evil.example",
        "192.168.0.7:8080", "evil@127.0.0.1", "127.0.0.1/evil.example", "[::1", "", "127.0.0.1:x y",
        "localhost@evil.example", "2130706433x",
    ],
)  # fmt: skip
def test_foreign_hosts_are_refused(host: str) -> None:
    assert LOCAL.refusal([host], []) is not None


def test_exactly_one_host_is_wanted() -> None:
    assert LOCAL.refusal([], []) is not None
    assert LOCAL.refusal(["localhost", "localhost"], []) is not None


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://localhost:3000", "http://127.0.0.1", "file://", ""],
)
def test_foreign_origins_are_refused(origin: str) -> None:
    assert LOCAL.refusal(["127.0.0.1:8080"], [origin]) is not None
    assert LOCAL.refusal(["127.0.0.1:8080"], ["http://127.0.0.1:8080", origin]) is not None


def test_an_open_server_answers_addresses_and_its_names_but_no_others() -> None:
    own = socket.gethostname()
    for host in ("192.168.0.7:8080", "[fe80::1]:8080", "localhost:8080", own, f"{own}.local:1"):
        assert OPEN.refusal([host], [f"http://{host}"]) is None
    for host in ("evil.example", f"{own}.evil.example"):
        assert OPEN.refusal([host], []) is not None
    assert OPEN.refusal(["192.168.0.7:8080"], ["http://evil.example"]) is not None
    assert Guard.for_host("Box.lan").refusal(["box.lan:80"], []) is None


def test_loopback() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "example.org", "")))
