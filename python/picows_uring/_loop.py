"""The loop engine: a transport of the loop brings the bytes of a connection, and the worker does the
rest.

For what only the loop can do: TLS by Python's `ssl`, TLS proxies, and whatever a loop's own transports
are. Between the two is a pair of connected Unix sockets: a carrier copies from one to the other, and
holds either side back when the other does not keep up.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import ssl
import tempfile
from typing import Any, Callable, Dict, Optional, Tuple, Union

from ._dial import connect_socket, dial, is_connected, made_by
from .proxy import HTTPProxyConnectProtocol
from .url import WSParsedURL

# Taken from the worker at once, and only while the transport has passed on all that it was given: so much,
# and what the pair of sockets holds, the worker takes for sent before it is.
READ_BYTES = 64 * 1024
# Beyond this, the transport does not read: the worker has to keep up.
HELD_BYTES_MAX = 256 * 1024


class Carrier(asyncio.Protocol):
    """Copies between a transport of the loop and the worker's socket."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        begin: "Optional[Callable[[Carrier], socket.socket]]" = None,
    ) -> None:
        self._loop = loop
        self._begin = begin
        self._transport: Any = None
        self._socket: Optional[socket.socket] = None
        # Received, and not yet taken by the worker.
        self._held = bytearray()
        self._is_ended = False
        self._is_reading_worker = False
        self.on_close: Optional[Callable[[], Any]] = None

    def attach(self, sock: socket.socket) -> None:
        """Begins to copy; `sock` is this side's end of the pair."""
        sock.setblocking(False)
        self._socket = sock
        self._read_worker()
        if self._held:
            self._loop.add_writer(sock, self._write_worker)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the loop's transport knows."""
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    # -- the loop's side ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        # Pauses as soon as it keeps anything.
        transport.set_write_buffer_limits(0)  # type: ignore[attr-defined]
        if self._begin is not None:
            try:
                self.attach(self._begin(self))
            except OSError:
                # More come at once than the worker's entrance has room for.
                self.abort()

    def take_over(self, transport: Any) -> None:
        """Becomes the protocol of a transport that is connected."""
        transport.set_protocol(self)
        self.connection_made(transport)
        transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._held or self._socket is None:
            self._hold(data)
            return
        try:
            count = self._socket.send(data)
        except (BlockingIOError, InterruptedError):
            count = 0
        except OSError:
            # The worker has ended the connection.
            self._abort()
            return
        if count < len(data):
            self._hold(memoryview(data)[count:])

    def _hold(self, data: Any) -> None:
        is_first = not self._held
        self._held += data
        if len(self._held) > HELD_BYTES_MAX:
            self._transport.pause_reading()
        if is_first and self._socket is not None:
            self._loop.add_writer(self._socket, self._write_worker)

    def _write_worker(self) -> None:
        if self._socket is None:
            return
        try:
            count = self._socket.send(self._held)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self._abort()
            return
        del self._held[:count]
        if self._held:
            return
        self._loop.remove_writer(self._socket)
        if self._is_ended:
            self.close()
        elif self._transport is not None:
            self._transport.resume_reading()

    def eof_received(self) -> Optional[bool]:
        # The transport closes itself; connection_lost follows.
        return None

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._is_ended = True
        self._stop_reading_worker()
        if not self._held:
            # The worker sees the end of the stream, behind what was received.
            self.close()

    def _stop_reading_worker(self) -> None:
        if self._is_reading_worker and self._socket is not None:
            self._is_reading_worker = False
            self._loop.remove_reader(self._socket)

    def pause_writing(self) -> None:
        self._stop_reading_worker()

    def resume_writing(self) -> None:
        self._read_worker()

    # -- the worker's side --------------------------------------------------------------------------

    def _read_worker(self) -> None:
        if self._socket is None or self._is_reading_worker or self._is_ended:
            return
        self._is_reading_worker = True
        self._loop.add_reader(self._socket, self._on_worker_readable)

    def _on_worker_readable(self) -> None:
        if self._socket is None:
            return
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._transport.write(data)
            return
        self._stop_reading_worker()
        # Sends what it holds first.
        self._transport.close()

    # -- the end ------------------------------------------------------------------------------------

    def abort(self) -> None:
        """Drops what the transport holds."""
        if self._transport is not None:
            self._transport.abort()

    def _abort(self) -> None:
        self._held.clear()
        if self._is_ended:
            self.close()
        else:
            self.abort()

    def close(self) -> None:
        """Closes this side's end of the pair."""
        if self._socket is None:
            return
        sock, self._socket = self._socket, None
        for remove in (self._loop.remove_reader, self._loop.remove_writer):
            try:
                remove(sock)
            except Exception:
                # The loop is closed.
                pass
        sock.close()
        if self.on_close is not None:
            self.on_close()


def _contexts(context: Optional[ssl.SSLContext], is_wanted: bool) -> Optional[ssl.SSLContext]:
    if not is_wanted:
        return None
    return context or ssl.create_default_context(ssl.Purpose.SERVER_AUTH)


async def carry(
    loop: asyncio.AbstractEventLoop,
    target: WSParsedURL,
    proxy: Optional[WSParsedURL],
    socket_factory: Any,
    ssl_context: Optional[ssl.SSLContext],
    proxy_ssl_context: Optional[ssl.SSLContext],
    kwargs: Dict[str, Any],
) -> Tuple[socket.socket, Carrier]:
    """Connects by a transport of the loop.

    :return: the worker's end of a pair of sockets, and what carries the bytes to it
    """
    context = _contexts(ssl_context, target.is_secure)
    carrier = Carrier(loop)
    if proxy is not None and proxy.is_secure:
        await _through_tls_proxy(
            loop, carrier, target, proxy, socket_factory, context, proxy_ssl_context, kwargs
        )
    else:
        await _by_socket(loop, carrier, target, proxy, socket_factory, context, kwargs)
    ours, theirs = socket.socketpair()
    carrier.attach(ours)
    return theirs, carrier


def _tls_keywords(
    context: Optional[ssl.SSLContext], target: WSParsedURL, kwargs: Dict[str, Any]
) -> Dict[str, Any]:
    """What is about TLS with the server, and the rest of the keywords apart from it."""
    if context is None:
        return {}
    tls: Dict[str, Any] = {"ssl": context, "server_hostname": target.host}
    for name in ("server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout"):
        if kwargs.get(name) is not None:
            tls[name] = kwargs[name]
    return tls


_TLS = ("server_hostname", "ssl_handshake_timeout", "ssl_shutdown_timeout")


async def _by_socket(
    loop: asyncio.AbstractEventLoop,
    carrier: Carrier,
    target: WSParsedURL,
    proxy: Optional[WSParsedURL],
    socket_factory: Any,
    context: Optional[ssl.SSLContext],
    kwargs: Dict[str, Any],
) -> None:
    tls = _tls_keywords(context, target, kwargs)
    plain = {name: value for name, value in kwargs.items() if name not in _TLS}
    if proxy is not None:
        sock, given = await dial(loop, target, proxy, socket_factory, plain)
        if given is not None:
            # The one that the factory has made stays the connection's.
            sock.close()
            sock = given
    else:
        made = await made_by(socket_factory, target)
        if made is None:
            await loop.create_connection(lambda: carrier, target.host, target.port, **tls, **plain)
            return
        sock = await _connected(loop, made, target)
    await loop.create_connection(lambda: carrier, sock=sock, **tls)


async def _connected(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, parsed: WSParsedURL
) -> socket.socket:
    try:
        sock.setblocking(False)
        if not is_connected(sock):
            await connect_socket(loop, sock, parsed)
    except BaseException:
        sock.close()
        raise
    return sock


async def _through_tls_proxy(
    loop: asyncio.AbstractEventLoop,
    carrier: Carrier,
    target: WSParsedURL,
    proxy: WSParsedURL,
    socket_factory: Any,
    context: Optional[ssl.SSLContext],
    proxy_ssl_context: Optional[ssl.SSLContext],
    kwargs: Dict[str, Any],
) -> None:
    plain = {name: value for name, value in kwargs.items() if name not in _TLS}
    tls = {"ssl": _contexts(proxy_ssl_context, True), "server_hostname": proxy.host}
    made = await made_by(socket_factory, proxy)

    def tunnel() -> HTTPProxyConnectProtocol:
        return HTTPProxyConnectProtocol(target.host, target.port, proxy.username, proxy.password)

    if made is None:
        transport, protocol = await loop.create_connection(
            tunnel, proxy.host, proxy.port, **tls, **plain
        )
    else:
        sock = await _connected(loop, made, proxy)
        transport, protocol = await loop.create_connection(tunnel, sock=sock, **tls)
    try:
        await protocol.wait_tunnel_established()
        if context is not None:
            more = _tls_keywords(context, target, kwargs)
            transport = await loop.start_tls(
                transport, protocol, more.pop("ssl"), **more
            )
        carrier.take_over(transport)
    except BaseException:
        transport.abort()
        raise


class Entrance:
    """A listening socket of the worker that only this process can connect to, for carriers of accepted
    connections: its name in the file system is removed as soon as it is there."""

    def __init__(self, is_secure: bool) -> None:
        self.is_secure = is_secure
        folder = tempfile.mkdtemp(prefix="picows-uring-")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path = os.path.join(folder, "entrance")
            self.socket.bind(path)
            self.socket.listen(4096)
            self.socket.setblocking(False)
            self._name = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except BaseException:
            self.socket.close()
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        # By the name that the worker's end sees.
        self._carriers: Dict[Union[str, bytes], Carrier] = {}

    def enter(self, carrier: Carrier) -> socket.socket:
        """Connects a carrier to the worker."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            # The kernel finds a name, by which the worker's end is known.
            sock.bind("")
            sock.connect(f"/proc/self/fd/{self._name}")
        except BaseException:
            sock.close()
            raise
        name = sock.getsockname()
        self._carriers[name] = carrier
        carrier.on_close = lambda: self._carriers.pop(name, None)
        return sock

    def carrier_of(self, descriptor: int) -> Optional[Carrier]:
        """The carrier behind a connection of the worker."""
        with socket.socket(fileno=os.dup(descriptor)) as sock:
            return self._carriers.get(sock.getpeername())

    def close(self) -> None:
        """Lets no more in."""
        self.socket.close()
        if self._name >= 0:
            os.close(self._name)
            self._name = -1


class TlsListening:
    """A listening socket whose connections the loop accepts, and carriers bring to the worker."""

    def __init__(self, entrance: Entrance, inner: Any, accepting: asyncio.AbstractServer) -> None:
        self._entrance = entrance
        self._inner = inner
        self._accepting = accepting

    def close(self) -> None:
        """Accepts no more."""
        self._accepting.close()
        self._inner.close()
        self._entrance.close()


async def accept(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    tls: Dict[str, Any],
    backlog: int,
    listen: Callable[[Entrance], Any],
) -> TlsListening:
    """Has the loop accept on `sock`, and the worker serve what comes."""
    entrance = Entrance(tls.get("ssl") is not None)
    inner = listen(entrance)
    try:
        accepting = await loop.create_server(
            lambda: Carrier(loop, entrance.enter),
            sock=socket.socket(fileno=os.dup(sock.fileno())),
            backlog=backlog,
            **tls,
        )
    except BaseException:
        inner.close()
        entrance.close()
        raise
    return TlsListening(entrance, inner, accepting)


