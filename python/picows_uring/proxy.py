"""Tunnels through proxies: CONNECT of HTTP, and SOCKS 4, 4a and 5.

Works on a socket that is connected to the proxy, or on a transport where TLS is in between.
"""

from __future__ import annotations

import asyncio
import base64
import re
import socket
from typing import Any, Optional
from urllib.parse import unquote

from python_socks import ProxyError  # which callers catch; the protocols are spoken here

from .url import WSParsedURL, authority, credentials

_MAX_PROXY_RESPONSE_SIZE = 64 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: .*)?")

SOCKS = ("socks4", "socks4a", "socks5", "socks5h")
HTTP = ("http", "https")


def connect_request(
    host: str, port: int, username: Optional[str], password: Optional[str]
) -> bytes:
    """The request for a tunnel; name and password are escaped as in a URL."""
    target = authority(host, port)
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}"]
    if username is not None:
        login = f"{unquote(username)}:{unquote(password or '')}".encode()
        lines.append(f"Proxy-Authorization: Basic {base64.b64encode(login).decode('ascii')}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class ConnectReply:
    """The answer to CONNECT, as it comes in pieces."""

    def __init__(self) -> None:
        self._data = bytearray()

    def feed(self, data: bytes) -> bool:
        """Adds a piece; whether the tunnel is established.

        :raises python_socks.ProxyError: if it is not, and will not be
        """
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        size = len(self._data) if end < 0 else end
        if size > _MAX_PROXY_RESPONSE_SIZE:
            raise ProxyError(
                f"HTTP proxy response headers are too large: more than {_MAX_PROXY_RESPONSE_SIZE} bytes"
            )
        if end < 0:
            return False
        line, _, rest = bytes(self._data[:end]).partition(b"\r\n")
        parts = _STATUS_LINE.fullmatch(line)
        if parts is None:
            raise ProxyError(f"HTTP proxy returned an invalid response: {line[:100]!r}")
        status = int(parts[1])
        if not 200 <= status < 300:
            offers = _offered_schemes(rest) if status == 407 else ""
            raise ProxyError(f"HTTP proxy rejected connection with status {status}{offers}", status)
        return True


def _offered_schemes(headers: bytes) -> str:
    """What a 407 asks for: a proxy that wants NTLM only should not look like a wrong password."""
    values = re.findall(rb"(?im)^proxy-authenticate:[ \t]*([!-~]+)", headers)
    names = sorted({it.decode("ascii", "replace").rstrip(",") for it in values})
    return f": it offers {', '.join(names)}, and only Basic is spoken" if names else ""


class HTTPProxyConnectProtocol(asyncio.Protocol):
    """Asks for a tunnel on a transport, and waits for the answer."""

    def __init__(
        self, host: str, port: int, username: Optional[str], password: Optional[str]
    ) -> None:
        self._request = connect_request(host, port, username, password)
        self._reply = ConnectReply()
        self._transport: Any = None
        self._tunnel_established: "asyncio.Future[None]" = (
            asyncio.get_running_loop().create_future()
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        if self._tunnel_established.done():
            return
        try:
            if self._reply.feed(data):
                self._tunnel_established.set_result(None)
        except ProxyError as error:
            self._fail(error)
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Optional[Exception]) -> None:
        self._fail(exc or ProxyError("HTTP proxy closed the connection before replying"))

    def _fail(self, error: Exception) -> None:
        if not self._tunnel_established.done():
            self._tunnel_established.set_exception(error)
            # Whoever waits raises it; where the attempt was given up, it is not to be logged.
            self._tunnel_established.exception()

    async def wait_tunnel_established(self) -> None:
        """Returns when the tunnel is there.

        :raises python_socks.ProxyError: if the proxy refuses
        """
        await self._tunnel_established


async def connect_tunnel(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: WSParsedURL, host: str, port: int
) -> None:
    """Has `proxy` connect `sock`, which is connected to it, to `host` and `port`.

    :raises python_socks.ProxyError: if the proxy refuses
    """
    if proxy.scheme in HTTP:
        await _connect_http(loop, sock, proxy, host, port)
    else:
        await _connect_socks(loop, sock, proxy, host, port)


async def _connect_http(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: WSParsedURL, host: str, port: int
) -> None:
    request = connect_request(host, port, proxy.username, proxy.password)
    await loop.sock_sendall(sock, request)
    reply = ConnectReply()
    while True:
        # What follows the answer is the server's, and a server does not speak before it is asked.
        data = await loop.sock_recv(sock, 4096)
        if not data:
            raise ProxyError("HTTP proxy closed the connection before replying")
        if reply.feed(data):
            return


async def _read_exactly(loop: asyncio.AbstractEventLoop, sock: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = await loop.sock_recv(sock, size - len(data))
        if not piece:
            raise ProxyError("SOCKS proxy closed the connection before replying")
        data += piece
    return data


async def _connect_socks(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: WSParsedURL, host: str, port: int
) -> None:
    if proxy.scheme in ("socks4", "socks4a"):
        await _connect_socks4(loop, sock, proxy, host, port)
    else:
        await _connect_socks5(loop, sock, proxy, host, port)


async def _connect_socks4(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: WSParsedURL, host: str, port: int
) -> None:
    name = b""
    try:
        address = socket.inet_pton(socket.AF_INET, host)
    except OSError:
        if proxy.scheme == "socks4a":
            # An address that cannot be one, and the name behind the user.
            address, name = b"\0\0\0\1", host.encode("ascii") + b"\0"
        else:
            found = await loop.getaddrinfo(
                host, port, family=socket.AF_INET, type=socket.SOCK_STREAM
            )
            address = socket.inet_pton(socket.AF_INET, found[0][4][0])
    login = credentials(proxy)
    user = b"" if login is None else login[0].encode()
    request = b"\x04\x01" + port.to_bytes(2, "big") + address + user + b"\0" + name
    await loop.sock_sendall(sock, request)
    reply = await _read_exactly(loop, sock, 8)
    if reply[0] != 0:
        raise ProxyError(f"SOCKS4 proxy returned an invalid response: {reply!r}")
    if reply[1] != 90:
        raise ProxyError(f"SOCKS4 proxy rejected connection with code {reply[1]}", reply[1])


_SOCKS5_FAULTS = {
    1: "general failure", 2: "not allowed by its rules", 3: "network unreachable",
    4: "host unreachable", 5: "connection refused", 6: "TTL expired",
    7: "command not supported", 8: "address type not supported",
}


async def _connect_socks5(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, proxy: WSParsedURL, host: str, port: int
) -> None:
    login = credentials(proxy)
    await loop.sock_sendall(sock, b"\x05\x01\x00" if login is None else b"\x05\x02\x00\x02")
    version, method = await _read_exactly(loop, sock, 2)
    if version != 5:
        raise ProxyError(f"SOCKS5 proxy returned an invalid response: its version is {version}")
    if method == 2 and login is not None:
        await _log_in_socks5(loop, sock, *login)
    elif method != 0:
        raise ProxyError("SOCKS5 proxy wants a login that was not given, or of another kind")
    await loop.sock_sendall(sock, b"\x05\x01\x00" + _socks5_address(host) + port.to_bytes(2, "big"))
    version, code, _, kind = await _read_exactly(loop, sock, 4)
    if version != 5:
        raise ProxyError(f"SOCKS5 proxy returned an invalid response: its version is {version}")
    if code != 0:
        fault = _SOCKS5_FAULTS.get(code, "unknown")
        raise ProxyError(f"SOCKS5 proxy rejected connection with code {code}: {fault}", code)
    sizes = {1: 4, 4: 16}
    size = sizes[kind] if kind in sizes else (await _read_exactly(loop, sock, 1))[0]
    await _read_exactly(loop, sock, size + 2)


async def _log_in_socks5(
    loop: asyncio.AbstractEventLoop, sock: socket.socket, user: str, password: str
) -> None:
    pair = [it.encode() for it in (user, password)]
    if any(len(it) > 255 for it in pair):
        raise ProxyError("user and password of a SOCKS5 proxy have at most 255 bytes each")
    request = b"\x01" + b"".join(bytes([len(it)]) + it for it in pair)
    await loop.sock_sendall(sock, request)
    if (await _read_exactly(loop, sock, 2))[1] != 0:
        raise ProxyError("SOCKS5 proxy refused user and password")


def _socks5_address(host: str) -> bytes:
    for kind, family in ((b"\x01", socket.AF_INET), (b"\x04", socket.AF_INET6)):
        try:
            return kind + socket.inet_pton(family, host)
        except OSError:
            pass
    name = host.encode("ascii")
    if len(name) > 255:
        raise ProxyError("a host name for a SOCKS5 proxy has at most 255 bytes")
    return b"\x03" + bytes([len(name)]) + name
