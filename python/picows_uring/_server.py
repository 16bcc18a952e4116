"""The server object: what ``loop.create_server`` returns, over listening sockets of a worker."""

from __future__ import annotations

import asyncio
import socket
import sys
from asyncio.trsock import TransportSocket
from typing import Any, List, Optional, Set, Tuple


class Server(asyncio.AbstractServer):
    """Listening sockets and the connections that came by them."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: List[socket.socket],
        listen: Any,
        backlog: int,
    ) -> None:
        self._loop = loop
        self._sockets: Optional[List[socket.socket]] = sockets
        self._listen = listen
        self._backlog = backlog
        self._listening: List[Any] = []
        self._clients: Set[Any] = set()
        self._waiters: Optional[List["asyncio.Future[None]"]] = []
        self._forever: Optional["asyncio.Future[None]"] = None
        self._is_serving = False

    def __repr__(self) -> str:
        return f"<Server sockets={self.sockets!r}>"

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop that the server belongs to."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether it accepts connections."""
        return self._is_serving

    @property
    def sockets(self) -> Tuple[TransportSocket, ...]:
        """The listening sockets; none once it is closed."""
        if self._sockets is None:
            return ()
        return tuple(TransportSocket(it) for it in self._sockets)

    async def _start(self) -> None:
        if self._is_serving or self._sockets is None:
            return
        self._is_serving = True
        for sock in self._sockets:
            sock.listen(self._backlog)
            self._listening.append(await self._listen(sock, self))

    async def start_serving(self) -> None:
        """Begins to accept, where ``start_serving=False`` was given."""
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        await self._start()
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accepts until the task is cancelled, and then closes the server."""
        if self._forever is not None:
            raise RuntimeError(f"server {self!r} is already being awaited on serve_forever()")
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        await self._start()
        self._forever = self._loop.create_future()
        try:
            await self._forever
        except asyncio.CancelledError:
            try:
                self.close()
                await self.wait_closed()
            finally:
                raise
        finally:
            self._forever = None

    def close(self) -> None:
        """Accepts no more connections. Those that are open stay."""
        if self._sockets is None:
            return
        sockets, self._sockets = self._sockets, None
        for listening in self._listening:
            listening.close()
        self._listening.clear()
        for sock in sockets:
            sock.close()
        self._is_serving = False
        if self._forever is not None and not self._forever.done():
            self._forever.cancel()
        if not self._clients:
            self._wake()

    def close_clients(self) -> None:
        """Disconnects all connections, once what they have queued is sent."""
        for transport in list(self._clients):
            transport.disconnect()

    def abort_clients(self) -> None:
        """Ends all connections at once."""
        for transport in list(self._clients):
            transport.disconnect(False)

    async def wait_closed(self) -> None:
        """Waits as the running version of Python does: since 3.12 until the last connection of the closed
        server has ended, before only until it is closed."""
        if self._waiters is None or (sys.version_info < (3, 12) and self._sockets is None):
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _attach(self, transport: Any) -> None:
        self._clients.add(transport)

    def _detach(self, transport: Any) -> None:
        self._clients.discard(transport)
        if not self._clients and self._sockets is None:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(self, *_: Any) -> None:
        self.close()
        await self.wait_closed()


async def bind(
    loop: asyncio.AbstractEventLoop,
    host: Any,
    port: Optional[int],
    family: int,
    flags: int,
    sock: Optional[socket.socket],
    reuse_address: Optional[bool],
    reuse_port: Optional[bool],
    keep_alive: Optional[bool],
) -> List[socket.socket]:
    """Binds what ``loop.create_server`` would.

    :raises OSError: if an address cannot be bound
    """
    if sock is not None:
        if host is not None or port is not None:
            raise ValueError("host/port and sock can not be specified at the same time")
        if sock.type != socket.SOCK_STREAM:
            raise ValueError(f"A Stream Socket was expected, got {sock!r}")
        sock.setblocking(False)
        return [sock]
    if host is None and port is None:
        raise ValueError("Neither host/port nor sock were specified")
    hosts = [host or None] if host is None or isinstance(host, str) else list(host)
    addresses: List[Tuple[Any, ...]] = []
    for one in hosts:
        found = _literal(one, port or 0, family) or await loop.getaddrinfo(
            one, port or 0, family=family, type=socket.SOCK_STREAM, flags=flags
        )
        addresses.extend(it for it in found if it not in addresses)
    bound: List[socket.socket] = []
    try:
        for address in addresses:
            one = _bind(address, reuse_address is not False, bool(reuse_port), bool(keep_alive))
            if one is not None:
                bound.append(one)
    except BaseException:
        for one in bound:
            one.close()
        raise
    return bound


def _literal(host: Any, port: int, family: int) -> List[Tuple[Any, ...]]:
    """The address that `host` is already, which needs no thread to look it up."""
    for kind, name in ((socket.AF_INET, (host, port)), (socket.AF_INET6, (host, port, 0, 0))):
        if family not in (socket.AF_UNSPEC, kind) or not isinstance(host, str):
            continue
        try:
            socket.inet_pton(kind, host)
        except (OSError, ValueError):
            continue
        return [(kind, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", name)]
    return []


def _bind(
    address: Tuple[Any, ...], reuse_address: bool, reuse_port: bool, keep_alive: bool
) -> Optional[socket.socket]:
    family, kind, protocol, _, where = address
    try:
        sock = socket.socket(family, kind, protocol)
    except OSError:
        # A family that this kernel does not have.
        return None
    try:
        if reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if keep_alive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(where)
        sock.setblocking(False)
    except OSError as error:
        sock.close()
        text = f"error while attempting to bind on address {where!r}: {error.strerror}"
        raise OSError(error.errno, text) from None
    return sock
