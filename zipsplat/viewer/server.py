"""A viser server that answers only its own page, opens no tunnel and bounds uploads.

viser 1.1 checks neither Host nor Origin, lets any client request a public tunnel, accepts uploads
of any size, listens on every interface and silently moves to another port. The fixes reach into
viser's internals, so its minor version is pinned, and a viser with other internals is refused
rather than run unguarded.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zipsplat.viewer.guard import Guard

if TYPE_CHECKING:
    import viser

logger = logging.getLogger(__name__)

PORTS_TRIED = 20
MAX_NAME_BYTES = 255  # of an uploaded file; the limit of most file systems
MAX_TRANSFERS = 64  # concurrent uploads of all clients together
_POLICY = "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'"
UNFRAMED = {"Content-Security-Policy": _POLICY, "X-Frame-Options": "DENY"}
"""Headers that keep other sites from embedding the viewer in a frame."""
_patching = threading.Lock()

Refuse = Callable[[int, str], None]


@dataclass(frozen=True)
class Address:
    """Where to listen.

    Args:
        host: a name or address of this machine.
        port: 0 for any free one.
        exact: fail if the port is in use, instead of trying the next ones.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    exact: bool = False


def start_server(address: Address, label: str = "ZipSplat") -> viser.ViserServer:
    """Start a guarded server.

    Raises:
        ModuleNotFoundError: viser is not installed.
        OSError: the port is in use, or the host is not this machine; the message says which.
        RuntimeError: this version of viser cannot be guarded.
    """
    package = import_viser()
    port = find_port(address)
    make: Any = type("GuardedServer", (package.ViserServer,), {"request_share_url": _refuse_share})
    with _quiet(), _guarded_sockets(Guard.for_host(address.host)) as served:
        server: viser.ViserServer = make(host=address.host, port=port, label=label, verbose=False)
    if not served:
        server.stop()
        raise RuntimeError(
            f"viser {package.__version__} cannot be guarded against other pages; install viser 1.1"
        )
    if address.exact and port and server.get_port() != port:
        stop_server(server)
        raise OSError(_in_use(address.host, port))
    server.gui.configure_theme(show_share_button=False, show_logo=False)
    return server


def stop_server(server: viser.ViserServer) -> None:
    """Stop a server without viser's own announcement."""
    with _quiet():
        server.stop()


def import_viser() -> Any:
    """The package viser.

    Raises:
        ModuleNotFoundError: it is not installed; the message says how to get it.
    """
    try:
        import viser
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'the viewer needs viser; install it with: pip install "zipsplat[viewer]"'
        ) from error
    return viser


def find_port(address: Address) -> int:
    """The requested port, or the first free one after it unless `exact`.

    Raises:
        OSError: no port is free, or the host is not this machine.
    """
    if address.port == 0:
        _is_free(address.host, 0)  # viser retries forever on a foreign host
        return 0
    last = address.port + (1 if address.exact else PORTS_TRIED)
    for port in range(address.port, min(last, 65536)):
        if _is_free(address.host, port):
            if port != address.port:
                logger.warning("port %d is in use; taking %d", address.port, port)
            return port
    raise OSError(_in_use(address.host, address.port))


def bound_uploads(server: viser.ViserServer, max_bytes: int, refuse: Refuse) -> None:
    """Refuse uploads that would exceed `max_bytes` in memory, all clients together.

    Args:
        server: its shared panel holds the upload buttons.
        max_bytes: limit on all unfinished uploads together.
        refuse: called with (client id, reason).
    """
    from viser import _messages

    gui: Any = server.gui
    start, take = gui._handle_file_transfer_start, gui._handle_file_transfer_part
    transfers: dict[str, Any] = gui._current_file_upload_states

    def checked_start(client_id: int, message: Any) -> None:
        held = sum(transfer["total_bytes"] for transfer in transfers.values())
        size, name = message.size_bytes, message.filename
        if len(name.encode("utf-8", "replace")) > MAX_NAME_BYTES or len(transfers) >= MAX_TRANSFERS:
            refuse(client_id, f"{name[:40]}…: the name is too long, or too many files at once")
            _end_transfer(gui, message, size)
            return
        if not 0 <= size <= max_bytes - held:
            refuse(client_id, f"{name}: {size / 1e6:.3g} MB exceed the limit")
            _end_transfer(gui, message, size)
            return
        start(client_id, message)

    def checked_take(client_id: int, message: Any) -> None:
        transfer = transfers.get(message.transfer_uuid)
        if transfer is None or transfer["client_id"] != client_id:
            return
        if transfer["transferred_bytes"] + len(message.content) > transfer["total_bytes"]:
            del transfers[message.transfer_uuid]
            refuse(client_id, f"{transfer['filename']}: larger than announced")
            return
        take(client_id, message)

    handlers = gui._websock_interface
    for kind, old, new in (
        (_messages.FileTransferStartUpload, start, checked_start),
        (_messages.FileTransferPart, take, checked_take),
    ):
        handlers.unregister_handler(kind, old)
        handlers.register_handler(kind, new)


def _end_transfer(gui: Any, message: Any, size: int) -> None:
    """Let the page stop showing progress; it knows no other end than a complete transfer."""
    from viser import _messages

    gui._websock_interface.queue_message(
        _messages.FileTransferPartAck(
            source_component_uuid=message.source_component_uuid,
            transfer_uuid=message.transfer_uuid,
            transferred_bytes=size,
            total_bytes=size,
        )
    )


def _refuse_share(*_: object, **__: object) -> None:
    """Stands in for `ViserServer.request_share_url`, which any client can have called."""
    logger.warning("a page asked for a public address of this viewer; it gets none")


@contextlib.contextmanager
def _guarded_sockets(guard: Guard) -> Iterator[list[bool]]:
    """Make servers that are started meanwhile ask the guard first; yields a list of them.

    viser has no hook before its own responses, so the function that opens its socket is replaced
    while it starts.
    """
    import websockets.asyncio.server as sockets

    plain: Any = sockets.serve
    served: list[bool] = []

    def serve(*args: Any, **options: Any) -> Any:
        answer = options.pop("process_request")
        served.append(True)

        def check(connection: Any, request: Any) -> Any:
            headers = request.headers
            reason = guard.refusal(headers.get_all("Host"), headers.get_all("Origin"))
            if reason is not None:
                return connection.respond(403, reason + "\n")
            response = answer(connection, request)
            if response is not None:  # None for a WebSocket, which only the page may open
                for name, value in UNFRAMED.items():
                    response.headers[name] = value
            return response

        return plain(*args, process_request=check, **options)

    with _patching:
        setattr(sockets, "serve", serve)  # noqa: B010  (a plain assignment fails the type check)
        try:
            yield served
        finally:
            setattr(sockets, "serve", plain)  # noqa: B010


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence viser's own terminal output."""
    import rich

    console = rich.get_console()
    before, console.quiet = console.quiet, True
    try:
        yield
    finally:
        console.quiet = before


def _is_free(host: str, port: int) -> bool:
    """Whether a server can listen there.

    Raises:
        OSError: it cannot, for another reason than the port being in use.
    """
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        socket.create_server(where[:2], family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return False
        raise OSError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return True


def _in_use(host: str, port: int) -> str:
    return f"port {port} on {host} is in use, perhaps by another viewer; choose another with --port"
