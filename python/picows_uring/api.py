"""`ws_connect` and `ws_create_server`."""

from __future__ import annotations

import asyncio
import inspect
import socket
from ssl import SSLContext
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import urljoin

from multidict import CIMultiDict

from . import _dial, _loop, _server
from .common import (
    WSHandshakeError,
    WSHeadersLike,
    WSListenerFactory,
    WSLoggerLike,
    WSUpgradeRequest,
    _headers,
    _resolve_logger,
)
from .picows import (
    WSAutoPingStrategy,
    WSListener,
    WSTransport,
    connect,
    listen,
    serve_carried,
    worker_of,
)
from .proxy import HTTP, SOCKS
from .url import (
    WSInvalidURL,
    WSParsedURL,
    authority,
    host_header,
    is_same_origin,
    parse_url,
)

_REDIRECTS = (301, 302, 303, 307, 308)
# What goes to the host that it was given for, and to no other.
_PRIVATE_HEADERS = ("authorization", "cookie", "host", "proxy-authorization")
ENGINES = (None, "native", "loop")
COMPRESSIONS = (None, "deflate")


async def ws_connect(
    ws_listener_factory: WSListenerFactory,
    url: str,
    *,
    ssl_context: Optional[SSLContext] = None,
    disconnect_on_exception: bool = True,
    websocket_handshake_timeout: Optional[float] = 5,
    logger_name: WSLoggerLike = None,
    enable_auto_ping: bool = False,
    auto_ping_idle_timeout: float = 10,
    auto_ping_reply_timeout: float = 10,
    auto_ping_strategy: WSAutoPingStrategy = WSAutoPingStrategy.PING_WHEN_IDLE,
    enable_auto_pong: bool = True,
    max_frame_size: int = 10 * 1024 * 1024,
    extra_headers: Optional[WSHeadersLike] = None,
    max_redirects: int = 5,
    proxy: Optional[str] = None,
    proxy_ssl_context: Optional[SSLContext] = None,
    read_buffer_init_size: int = 16 * 1024,
    socket_factory: Optional[Callable[[WSParsedURL], Any]] = None,
    use_aiofastnet: Optional[bool] = None,
    engine: Optional[str] = None,
    compression: Optional[str] = None,
    **kwargs: Any,
) -> Tuple[WSTransport, WSListener]:
    """Opens a connection.

    :param ws_listener_factory: makes the listener; takes nothing, or the request and the response of the
        handshake
    :param url: ``ws://`` or ``wss://``
    :param ssl_context: for ``wss://``; by default that of ``ssl.create_default_context``
    :param disconnect_on_exception: end the connection when ``on_ws_frame`` raises; else that is logged
    :param websocket_handshake_timeout: seconds that the server has to answer the upgrade request;
        ``None`` for no limit
    :param logger_name: logs to ``picows.<name>``, or to this logger; by default to ``picows.client``
    :param enable_auto_ping: find out that the server is gone, by pings
    :param auto_ping_idle_timeout: seconds without received data after which a ping is sent, or between
        pings
    :param auto_ping_reply_timeout: seconds that the server has to answer one, at most those of
        `auto_ping_idle_timeout`
    :param auto_ping_strategy: ``PING_WHEN_IDLE``, or ``PING_PERIODICALLY`` whatever is received
    :param enable_auto_pong: answer the server's pings; else ``on_ws_frame`` gets them
    :param max_frame_size: bytes of payload of the largest frame that is received
    :param extra_headers: headers of the request; ``Host`` takes the place of the one from the URL
    :param max_redirects: redirects that are followed. ``Authorization``, ``Cookie`` and ``Host`` of
        `extra_headers` do not go to another host
    :param proxy: URL of a proxy: ``http``, ``https``, ``socks4``, ``socks4a``, ``socks5`` or ``socks5h``
    :param proxy_ssl_context: for ``https`` proxies
    :param read_buffer_init_size: accepted for picows; the worker's buffers serve all connections
    :param socket_factory: makes the socket, connected or not, from the parsed URL of the server, or of
        the proxy if there is one; a function or a coroutine. ``None`` has one made
    :param use_aiofastnet: accepted for picows
    :param engine: ``"native"`` or ``"loop"`` forces one; by default ``wss://`` and ``https`` proxies use
        the loop engine, and all else the native one
    :param compression: ``"deflate"`` offers permessage-deflate; frames are still delivered plain. Then
        RSV1 and the order of fragments are not the application's
    :param kwargs: further arguments of ``loop.create_connection``, such as ``local_addr``
    :return: the transport and the listener
    :raises WSHandshakeError: when the server does not upgrade
    :raises WSInvalidURL: when a URL cannot be used
    :raises asyncio.TimeoutError: when the server does not answer in time
    :raises OSError: when the host cannot be reached
    :raises python_socks.ProxyError: when the proxy refuses
    """
    del read_buffer_init_size, use_aiofastnet
    _dial.refuse_keywords(kwargs, _dial.REFUSED, "ws_connect")
    settings = _settings(
        disconnect_on_exception=disconnect_on_exception,
        websocket_handshake_timeout=websocket_handshake_timeout,
        # The loop keeps it, which is finer than the worker.
        handshake_timeout=None,
        enable_auto_ping=enable_auto_ping,
        auto_ping_idle_timeout=auto_ping_idle_timeout,
        auto_ping_reply_timeout=auto_ping_reply_timeout,
        auto_ping_strategy=auto_ping_strategy,
        enable_auto_pong=enable_auto_pong,
        max_frame_size=max_frame_size,
        compression=compression,
    )
    attempt = _Attempt(
        factory=ws_listener_factory,
        wants_heads=_takes_two(ws_listener_factory),
        settings=settings,
        logger=_resolve_logger(logger_name, "client"),
        proxy=_parse_proxy(proxy),
        ssl_context=ssl_context,
        proxy_ssl_context=proxy_ssl_context,
        socket_factory=socket_factory,
        engine=_checked_engine(engine),
        kwargs=kwargs,
    )
    parsed = parse_url(url)
    headers = _headers(extra_headers)
    while True:
        try:
            return await attempt.make(parsed, headers)
        except WSHandshakeError as error:
            following = _maybe_handle_redirect(error, parsed, max_redirects)
        if not is_same_origin(parsed, following):
            for name in _PRIVATE_HEADERS:
                headers.popall(name, None)
        attempt.logger.debug("redirected to %s", following.host)
        parsed = following
        max_redirects -= 1


class _Attempt:
    """What stays the same while redirects are followed."""

    def __init__(self, **parts: Any) -> None:
        self.factory: Any = parts["factory"]
        self.wants_heads: bool = parts["wants_heads"]
        self.settings: Dict[str, Any] = parts["settings"]
        self.logger: Any = parts["logger"]
        self.proxy: Optional[WSParsedURL] = parts["proxy"]
        self.ssl_context: Optional[SSLContext] = parts["ssl_context"]
        self.proxy_ssl_context: Optional[SSLContext] = parts["proxy_ssl_context"]
        self.socket_factory: Any = parts["socket_factory"]
        self.engine: Optional[str] = parts["engine"]
        self.kwargs: Dict[str, Any] = parts["kwargs"]

    async def make(
        self, parsed: WSParsedURL, extra: "CIMultiDict[str]"
    ) -> Tuple[WSTransport, WSListener]:
        loop = asyncio.get_running_loop()
        worker = worker_of(loop)
        headers = extra.copy()
        headers.setdefault("Host", host_header(parsed))
        request = _request(parsed, headers)
        sock, given, carrier = await self._carry(loop, parsed)
        return await connect(
            worker,
            sock,
            f"ws://{authority(parsed.host, parsed.port)}{parsed.resource_name}",
            _encoded(headers),
            request,
            self.settings,
            self.factory,
            self.wants_heads,
            self.logger,
            given,
            carrier,
            parsed.is_secure,
        )

    async def _carry(
        self, loop: asyncio.AbstractEventLoop, parsed: WSParsedURL
    ) -> Tuple[Optional[socket.socket], Optional[socket.socket], Any]:
        is_tls = parsed.is_secure or (self.proxy is not None and self.proxy.is_secure)
        if not is_tls and self.engine != "loop":
            sock, given = await _dial.dial(
                loop, parsed, self.proxy, self.socket_factory, self.kwargs
            )
            return sock, given, None
        if self.engine == "native":
            raise ValueError("the native engine speaks no TLS: leave engine out")
        carrier = await _loop.carry(
            loop,
            parsed,
            self.proxy,
            self.socket_factory,
            self.ssl_context,
            self.proxy_ssl_context,
            self.kwargs,
        )
        return None, None, carrier


async def ws_create_server(
    ws_listener_factory: Callable[[WSUpgradeRequest], Any],
    host: Any = None,
    port: Optional[int] = None,
    *,
    disconnect_on_exception: bool = True,
    websocket_handshake_timeout: Optional[float] = 5,
    logger_name: WSLoggerLike = None,
    enable_auto_ping: bool = False,
    auto_ping_idle_timeout: float = 20,
    auto_ping_reply_timeout: float = 20,
    auto_ping_strategy: WSAutoPingStrategy = WSAutoPingStrategy.PING_WHEN_IDLE,
    enable_auto_pong: bool = True,
    max_frame_size: int = 10 * 1024 * 1024,
    read_buffer_init_size: int = 16 * 1024,
    use_aiofastnet: Optional[bool] = None,
    engine: Optional[str] = None,
    compression: Optional[str] = None,
    proxy_protocol: Optional[str] = None,
    trusted_proxies: Optional[str] = None,
    origins: Optional[str] = None,
    **kwargs: Any,
) -> _server.Server:
    """Listens for connections.

    :param ws_listener_factory: takes the request, before its upgrade headers are judged, and returns a
        listener, a ``WSUpgradeResponseWithListener``, or ``None`` for 404. A response other than 101 is
        sent with ``Connection: close``. If it raises, the answer is 500, and the exception is logged
    :param host: name or address, several of them, or ``None`` for all interfaces
    :param port: 0 or ``None`` for a free one
    :param disconnect_on_exception: as for ``ws_connect``, like the others that have its names
    :param websocket_handshake_timeout: seconds that a client has for its request; ``None`` for no limit
    :param logger_name: logs to ``picows.<name>``, or to this logger; by default to ``picows.server``
    :param compression: ``"deflate"`` accepts offers of permessage-deflate; otherwise as for ``ws_connect``
    :param proxy_protocol: networks of proxies that begin each connection with a header of the PROXY
        protocol, which names the client, such as ``"10.0.0.0/8, 192.0.2.7"``. On the native
        engine only, as the loop engine accepts connections itself
    :param trusted_proxies: networks of proxies that name the client in ``X-Forwarded-For``
    :param origins: sites whose scripts may open connections, such as ``"https://example.com"``, several
        with commas between them, or ``"same-host"``; others are answered with 403, and the factory is not
        asked
    :param kwargs: further arguments of ``loop.create_server``: ``family``, ``flags``, ``sock``,
        ``backlog``, ``ssl`` and its kin, ``reuse_address``, ``reuse_port``, ``keep_alive``,
        ``start_serving``
    :return: a server, as ``loop.create_server`` does
    :raises OSError: when an address cannot be bound
    :raises ValueError: when a setting makes no sense
    """
    del read_buffer_init_size, use_aiofastnet
    loop = asyncio.get_running_loop()
    settings = _settings(
        disconnect_on_exception=disconnect_on_exception,
        websocket_handshake_timeout=websocket_handshake_timeout,
        handshake_timeout=websocket_handshake_timeout,
        enable_auto_ping=enable_auto_ping,
        auto_ping_idle_timeout=auto_ping_idle_timeout,
        auto_ping_reply_timeout=auto_ping_reply_timeout,
        auto_ping_strategy=auto_ping_strategy,
        enable_auto_pong=enable_auto_pong,
        max_frame_size=max_frame_size,
        compression=compression,
        proxy_protocol=_text_of(proxy_protocol),
        trusted_proxies=_text_of(trusted_proxies),
        origins=_text_of(origins),
    )
    logger = _resolve_logger(logger_name, "server")
    engine = _checked_engine(engine)
    tls = {name: kwargs.pop(name) for name in _TLS_KEYWORDS if name in kwargs}
    is_carried = tls.get("ssl") is not None or engine == "loop"
    if is_carried and engine == "native":
        raise ValueError("the native engine speaks no TLS: leave engine out")
    if is_carried and proxy_protocol is not None:
        raise ValueError(
            "the loop engine accepts connections itself: proxy_protocol is for the native engine, "
            "without TLS"
        )
    bound = {name: kwargs.pop(name, None) for name in _BIND_KEYWORDS}
    backlog = kwargs.pop("backlog", 100)
    is_serving = kwargs.pop("start_serving", True)
    if kwargs:
        raise TypeError(f"ws_create_server takes no argument {next(iter(kwargs))!r}")
    bound["family"] = bound["family"] or socket.AF_UNSPEC
    bound["flags"] = socket.AI_PASSIVE if bound["flags"] is None else bound["flags"]
    sockets = await _server.bind(loop, host, port, **bound)
    worker = worker_of(loop)

    async def serve(sock: socket.socket, server: _server.Server) -> Any:
        parts = (server, ws_listener_factory, logger, settings)
        if is_carried:
            inner = serve_carried(worker, *parts, tls.get("ssl") is not None)
            return await _loop.accept(loop, sock, tls, backlog, inner)
        return listen(worker, sock, *parts)

    server = _server.Server(loop, sockets, serve, backlog)
    if is_serving:
        await server.start_serving()
    return server


_TLS_KEYWORDS = ("ssl", "ssl_handshake_timeout", "ssl_shutdown_timeout")
_BIND_KEYWORDS = ("family", "flags", "sock", "reuse_address", "reuse_port", "keep_alive")


def _settings(**settings: Any) -> Dict[str, Any]:
    """The settings of connections, checked.

    :raises ValueError: naming the one that makes no sense
    """
    strategy = settings.pop("auto_ping_strategy")
    settings["is_periodic"] = strategy == WSAutoPingStrategy.PING_PERIODICALLY
    if settings["enable_auto_ping"]:
        idle, reply = settings["auto_ping_idle_timeout"], settings["auto_ping_reply_timeout"]
        if not 0 < reply <= idle:
            raise ValueError(
                f"auto_ping_reply_timeout is {reply}: it has to be more than 0, and at most "
                f"auto_ping_idle_timeout, which is {idle}"
            )
    if settings["compression"] not in COMPRESSIONS:
        raise ValueError(f"compression is {settings['compression']!r}: use 'deflate' or None")
    if settings["max_frame_size"] <= 0:
        raise ValueError(f"max_frame_size is {settings['max_frame_size']}: give bytes")
    timeout = settings["websocket_handshake_timeout"]
    if timeout is not None and timeout <= 0:
        raise ValueError(f"websocket_handshake_timeout is {timeout}: give seconds, or None")
    return settings


def _text_of(value: Optional[str]) -> Optional[bytes]:
    """A setting as the library takes it.

    :raises ValueError: if it cannot be the text of a setting
    """
    if value is None:
        return None
    if not value.isascii() or "\0" in value:
        raise ValueError(f"{value!r} has characters that no network and no origin has")
    return value.encode("ascii")


def _checked_engine(engine: Optional[str]) -> Optional[str]:
    if engine not in ENGINES:
        raise ValueError(f"engine is {engine!r}: use 'native', 'loop' or None")
    return engine


def _takes_two(factory: WSListenerFactory) -> bool:
    """Whether a factory wants the request and the response."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return False
    required = [
        it
        for it in parameters
        if it.kind in (it.POSITIONAL_ONLY, it.POSITIONAL_OR_KEYWORD) and it.default is it.empty
    ]
    return len(required) == 2


def _parse_proxy(proxy: Optional[str]) -> Optional[WSParsedURL]:
    if proxy is None:
        return None
    parsed = parse_url(proxy, False)
    if parsed.scheme not in HTTP + SOCKS:
        raise WSInvalidURL(proxy, f"the scheme of a proxy is one of {', '.join(HTTP + SOCKS)}")
    return parsed


def _request(parsed: WSParsedURL, headers: "CIMultiDict[str]") -> WSUpgradeRequest:
    request = WSUpgradeRequest()
    request.method = b"GET"
    request.path = parsed.resource_name.encode("ascii")
    request.version = b"HTTP/1.1"
    request.headers = headers.copy()
    return request


def _encoded(headers: "CIMultiDict[str]") -> List[Tuple[bytes, bytes]]:
    return [
        (name.encode("ascii"), value.encode("utf-8", "surrogateescape"))
        for name, value in headers.items()
    ]


def _maybe_handle_redirect(
    exc: WSHandshakeError, old_parsed_url: WSParsedURL, max_redirects: int
) -> WSParsedURL:
    """Where an answer leads; raises `exc` if it is no redirect, or one too many."""
    response = exc.response
    if response is None or int(response.status) not in _REDIRECTS or max_redirects <= 0:
        raise exc
    location = response.headers.get("Location")
    if location is None:
        raise WSHandshakeError(
            "the server redirects without Location header", exc.raw_header, exc.raw_body, response
        ) from exc
    url = urljoin(_like_http(old_parsed_url.url), _like_http(location))
    parsed = parse_url("ws" + url[4:] if url.startswith("http") else url)
    if old_parsed_url.is_secure and not parsed.is_secure:
        raise WSHandshakeError(
            f"the server redirects from wss to a non-secure URL: {parsed.host}",
            exc.raw_header,
            exc.raw_body,
            response,
        ) from exc
    return parsed


def _like_http(url: str) -> str:
    """`urljoin` knows the rules of http, not those of ws."""
    return "http" + url[2:] if url.lower().startswith(("ws://", "wss://")) else url


