"""The loop engine: a transport of the loop carries the bytes of a connection, and the worker does the
rest.

For what only the loop can do: TLS by Python's `ssl`, TLS proxies, and whatever a loop's own transports
are. The transport receives into memory of the worker, and the worker knows what it has sent once the
transport holds nothing any more.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from typing import Any, Callable, Dict, Optional

from ._dial import connect_socket, dial, is_connected, made_by
from .proxy import HTTPProxyConnectProtocol
from .url import WSParsedURL

EARLY_BYTES = 64 * 1024
# As many as a record of TLS has.
RECORD_BYTES = 16 * 1024


class Carrier(asyncio.BufferedProtocol):
    """Carries bytes between a transport of the loop and a stream of the worker."""

    def __init__(self, begin: "Optional[Callable[[Carrier], Any]]" = None) -> None:
        self._begin = begin
        self._transport: Any = None
        self._stream: Any = None
        # Received before there is a stream.
        self._early = bytearray()
        # The buffer that was asked for last, if it is not the stream's.
        self._early_buffer: Optional[memoryview] = None
        self._is_ended = False
        self._errno = 0
        self._is_holding = False

    def attach(self, stream: Any) -> None:
        """Begins to carry."""
        self._stream = stream
        if self._early:
            stream.give(self._early)
            self._early = bytearray()
        if self._is_ended:
            stream.ended(self._errno)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """What the loop's transport knows."""
        return default if self._transport is None else self._transport.get_extra_info(name, default)

    # -- called by the loop -------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        # Pauses as soon as it holds anything.
        transport.set_write_buffer_limits(0)  # type: ignore[attr-defined]
        if self._begin is not None:
            try:
                self.attach(self._begin(self))
            except OSError:
                # The server was closed.
                self.abort()

    def take_over(self, transport: Any) -> None:
        """Becomes the protocol of a transport that is connected."""
        transport.set_protocol(self)
        self.connection_made(transport)
        transport.resume_reading()

    def get_buffer(self, sizehint: int) -> Any:
        if self._stream is not None:
            self._early_buffer = None
            return self._stream.buffer()
        if self._early_buffer is None:
            self._early_buffer = memoryview(bytearray(EARLY_BYTES))
        return self._early_buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._early_buffer is None:
            if self._stream is not None:
                self._stream.filled(nbytes)
            return
        # Asked for before the stream was there.
        data, self._early_buffer = bytes(self._early_buffer[:nbytes]), None
        if self._stream is None:
            self._early += data
        else:
            self._stream.give(data)

    def eof_received(self) -> Optional[bool]:
        # The transport closes itself; connection_lost follows.
        return None

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._is_ended = True
        if exc is not None:
            self._errno = getattr(exc, "errno", None) or errno.ECONNRESET
        if self._stream is not None:
            self._stream.ended(self._errno)

    def pause_writing(self) -> None:
        self._is_holding = True

    def resume_writing(self) -> None:
        self._is_holding = False
        if self._stream is not None:
            self._stream.drained()

    # -- called by the worker -----------------------------------------------------------------------

    def set_reading(self, is_on: bool) -> None:
        """Reads from the peer, or stops."""
        if self._is_ended or self._transport.is_closing():
            return
        if is_on:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write(self, data: bytes) -> bool:
        """Takes bytes; whether the transport holds nothing."""
        if self._is_ended:
            return True
        # Of a view, transports cut off what they have sent without a copy of the rest.
        self._transport.write(memoryview(data) if len(data) > RECORD_BYTES else data)
        return not self._is_holding

    def shut_down(self) -> None:
        """Ends this side, behind what was written; a transport of TLS both."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def close(self) -> None:
        """Closes the transport, and drops what it holds."""
        self._stream = None
        self.abort()

    def abort(self) -> None:
        """Drops what the transport holds."""
        if self._transport is not None:
            self._transport.abort()


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
) -> Carrier:
    """Connects by a transport of the loop.

    :return: what carries the bytes, once the worker has made a stream of it
    """
    context = _contexts(ssl_context, target.is_secure)
    carrier = Carrier()
    if proxy is not None and proxy.is_secure:
        await _through_tls_proxy(
            loop, carrier, target, proxy, socket_factory, context, proxy_ssl_context, kwargs
        )
    else:
        await _by_socket(loop, carrier, target, proxy, socket_factory, context, kwargs)
    return carrier


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


class LoopListening:
    """A listening socket whose connections the loop accepts, and carriers bring to the worker."""

    def __init__(self, inner: Any, accepting: asyncio.AbstractServer) -> None:
        self._inner = inner
        self._accepting = accepting

    def close(self) -> None:
        """Accepts no more."""
        self._accepting.close()
        self._inner.close()


async def accept(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    tls: Dict[str, Any],
    backlog: int,
    inner: Any,
) -> LoopListening:
    """Has the loop accept on `sock`, and the worker serve what comes."""
    try:
        accepting = await loop.create_server(
            lambda: Carrier(inner.enter),
            sock=socket.socket(fileno=os.dup(sock.fileno())),
            backlog=backlog,
            **tls,
        )
    except BaseException:
        inner.close()
        raise
    return LoopListening(inner, accepting)
