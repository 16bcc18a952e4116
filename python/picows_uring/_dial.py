"""Connected sockets for the native engine: direct, from a socket factory, or through a proxy.

The loop dials, so each keyword of ``loop.create_connection`` about that means what it always does; the
socket is then taken away from the transport that the loop made.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import socket
from typing import Any, Callable, Dict, Optional, Tuple

from .proxy import connect_tunnel
from .url import WSParsedURL

# What is about TLS, which the caller has taken out where it means something.
REFUSED = ("ssl", "sock", "all_errors", "protocol_factory", "host", "port")


class _Hold(asyncio.Protocol):
    """Keeps a new transport from reading what is not its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.pause_reading()  # type: ignore[attr-defined]


def refuse_keywords(kwargs: Dict[str, Any], refused: Tuple[str, ...], function: str) -> None:
    """Names the keyword that cannot be given.

    :raises TypeError: if there is one
    """
    for name in refused:
        if name in kwargs:
            cure = "use ssl_context" if name == "ssl" else "use socket_factory"
            raise TypeError(f"{function} takes no argument {name!r}: {cure}")


async def dial(
    loop: asyncio.AbstractEventLoop,
    target: WSParsedURL,
    proxy: Optional[WSParsedURL],
    socket_factory: Optional[Callable[[WSParsedURL], Any]],
    kwargs: Dict[str, Any],
) -> Tuple[socket.socket, Optional[socket.socket]]:
    """Connects to `target`, through `proxy` if there is one.

    :return: a connected socket, which is the caller's, and the one of the socket factory, if that made
        it: both are the same connection
    """
    first = proxy or target
    given = await made_by(socket_factory, first)
    if given is None:
        sock = await _dial_by_loop(loop, first, kwargs)
    else:
        sock = await _connect_given(loop, given, first)
    try:
        if proxy is not None:
            await connect_tunnel(loop, sock, proxy, target.host, target.port)
        _set_options(sock)
    except BaseException:
        sock.close()
        if given is not None:
            given.close()
        raise
    return sock, given


async def made_by(
    socket_factory: Optional[Callable[[WSParsedURL], Any]], parsed: WSParsedURL
) -> Optional[socket.socket]:
    """What a socket factory makes, be it a function or a coroutine."""
    if socket_factory is None:
        return None
    made = socket_factory(parsed)
    return await made if inspect.isawaitable(made) else made


def is_connected(sock: socket.socket) -> bool:
    """Whether a socket has a peer."""
    try:
        sock.getpeername()
    except OSError:
        return False
    return True


async def _dial_by_loop(
    loop: asyncio.AbstractEventLoop, parsed: WSParsedURL, kwargs: Dict[str, Any]
) -> socket.socket:
    transport, _ = await loop.create_connection(_Hold, parsed.host, parsed.port, **kwargs)
    try:
        return _duplicate(transport.get_extra_info("socket"))
    finally:
        # Closes its descriptor, and leaves the connection to ours.
        transport.abort()


async def _connect_given(
    loop: asyncio.AbstractEventLoop, given: socket.socket, parsed: WSParsedURL
) -> socket.socket:
    try:
        given.setblocking(False)
        if not is_connected(given):
            await connect_socket(loop, given, parsed)
        return _duplicate(given)
    except BaseException:
        given.close()
        raise


async def connect_socket(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, parsed: WSParsedURL
) -> None:
    """Connects `sock` to the first address of its family that answers."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        raise ValueError("a socket of this family has to be connected by the socket factory")
    found = await loop.getaddrinfo(
        parsed.host, parsed.port, family=sock.family, type=socket.SOCK_STREAM
    )
    await loop.sock_connect(sock, found[0][4])


def _duplicate(sock: Any) -> socket.socket:
    duplicate = socket.socket(fileno=os.dup(sock.fileno()))
    duplicate.setblocking(False)
    return duplicate


def _set_options(sock: socket.socket) -> None:
    if sock.family in (socket.AF_INET, socket.AF_INET6):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
