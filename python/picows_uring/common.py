"""Values and exceptions of the interface: requests, responses, failures of the handshake.

Describes and formats. Whether a request or a response is right is decided by the library in C, and
the texts for it are in `_http.py`.
"""

from __future__ import annotations

from http import HTTPStatus
from logging import Logger, LoggerAdapter
from typing import Any, Callable, Iterable, Mapping, Optional, Tuple, Union

from multidict import CIMultiDict

PICOWS_DEBUG_LL = 9
"""Level of the log lines that are for debugging picows-uring itself; below ``logging.DEBUG``."""

WSBuffer = Union[str, bytes, bytearray, memoryview]
WSHeadersLike = Union[Mapping[str, str], Iterable[Tuple[str, str]]]
WSLoggerLike = Union[str, Logger, "LoggerAdapter[Any]", None]


class WSError(Exception):
    """Base of the failures that are about WebSocket. Those of the system keep their own types."""


class WSHandshakeError(WSError):
    """The upgrade to WebSocket failed.

    :ivar raw_header: head of the answer as it came, without the empty line; ``None`` if there is none
    :ivar raw_body: first bytes of its body, at most 4 KiB; ``None`` if there is no answer
    :ivar response: the answer, as far as it could be read
    """

    def __init__(
        self,
        description: str,
        raw_header: Optional[bytes] = None,
        raw_body: Optional[bytes] = None,
        response: Optional["WSUpgradeResponse"] = None,
    ) -> None:
        super().__init__(description)
        self.raw_header = raw_header
        self.raw_body = raw_body
        self.response = response


class WSInvalidMessageError(WSHandshakeError):
    """The answer to the upgrade request is not HTTP, or too long."""


class WSInvalidStatusError(WSHandshakeError):
    """The answer to the upgrade request has a status other than 101."""


class WSInvalidHeaderError(WSHandshakeError):
    """A header of the answer is wrong.

    :ivar name: name of the header
    :ivar value: its value; ``None`` if it is missing
    """

    def __init__(
        self,
        description: str,
        name: str,
        value: Optional[str] = None,
        raw_header: Optional[bytes] = None,
        raw_body: Optional[bytes] = None,
        response: Optional["WSUpgradeResponse"] = None,
    ) -> None:
        super().__init__(description, raw_header, raw_body, response)
        self.name = name
        self.value = value


class WSInvalidUpgradeError(WSInvalidHeaderError):
    """``Upgrade`` or ``Connection`` of the answer do not say that it is an upgrade."""


class WSProtocolError(WSError):
    """The peer broke the protocol or exceeded a limit; or, raised by a callback, the CLOSE that the
    peer is to get.

    :ivar code: close code that the peer gets
    :ivar message: reason that the peer gets, at most 123 bytes of UTF-8
    """

    def __init__(self, code: Any, message: Any) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return f"{self.message} (close code {int(self.code)})"


def _headers(extra: Optional[WSHeadersLike] = None) -> "CIMultiDict[str]":
    """Headers of a mapping or of pairs; several of one name stay several."""
    headers: "CIMultiDict[str]" = CIMultiDict()
    if extra is not None:
        pairs = extra.items() if isinstance(extra, Mapping) else extra
        for name, value in pairs:
            headers.add(name, value)
    return headers


class WSUpgradeRequest:
    """A request for an upgrade.

    :ivar method: ``b"GET"``
    :ivar path: target with its query, such as ``b"/ws?room=1"``
    :ivar version: ``b"HTTP/1.1"``
    :ivar headers: names are compared without regard to case; bytes outside of ASCII are escaped as
        ``str.encode(..., "surrogateescape")`` undoes it
    :ivar peer: for the factory of a server, address and port of the client, such as
        ``"192.0.2.7:4711"``: the one that a proxy has named, where that is trusted; else ``None``
    """

    method: bytes
    path: bytes
    version: bytes
    headers: "CIMultiDict[str]"
    peer: Optional[str] = None

    def __repr__(self) -> str:
        method = getattr(self, "method", b"").decode("ascii", "replace")
        path = getattr(self, "path", b"").decode("ascii", "replace")
        return f"<WSUpgradeRequest {method} {path}>"


class WSUpgradeResponse:
    """An answer to a request for an upgrade.

    :ivar version: ``b"HTTP/1.1"``
    :ivar status: ``http.HTTPStatus``; a plain ``int`` where that has no such member
    :ivar headers: names are compared without regard to case
    :ivar body: ``bytes``, or ``None``
    """

    version: bytes
    status: Union[HTTPStatus, int]
    headers: "CIMultiDict[str]"
    body: Optional[bytes]

    @staticmethod
    def _create(
        status: Union[HTTPStatus, int],
        body: Optional[bytes],
        extra_headers: Optional[WSHeadersLike],
    ) -> "WSUpgradeResponse":
        response = WSUpgradeResponse()
        response.version = b"HTTP/1.1"
        response.status = _status(status)
        response.headers = _headers(extra_headers)
        response.body = body
        return response

    @staticmethod
    def create_ok_response(
        body: Optional[bytes] = None, extra_headers: Optional[WSHeadersLike] = None
    ) -> "WSUpgradeResponse":
        """Makes a response 200, of ``text/plain; charset=utf-8`` unless a header says otherwise."""
        response = WSUpgradeResponse._create(HTTPStatus.OK, body, extra_headers)
        response.headers.setdefault("Content-Type", "text/plain; charset=utf-8")
        return response

    @staticmethod
    def create_error_response(
        status: Union[int, HTTPStatus],
        body: Optional[bytes] = None,
        extra_headers: Optional[WSHeadersLike] = None,
    ) -> "WSUpgradeResponse":
        """Makes a response of an error status.

        :raises ValueError: if `status` is below 400
        """
        if int(status) < 400:
            raise ValueError(f"{int(status)} is no status of an error: those begin with 400")
        return WSUpgradeResponse._create(status, body, extra_headers)

    @staticmethod
    def create_redirect_response(
        status: Union[int, HTTPStatus],
        location: str,
        extra_headers: Optional[WSHeadersLike] = None,
    ) -> "WSUpgradeResponse":
        """Makes a response that leads to `location`.

        :raises ValueError: if `status` is not in the range of 300
        """
        if not 300 <= int(status) < 400:
            raise ValueError(f"{int(status)} is no redirect: those are 300 to 399")
        response = WSUpgradeResponse._create(status, None, extra_headers)
        response.headers["Location"] = location
        return response

    @staticmethod
    def create_101_response(
        extra_headers: Optional[WSHeadersLike] = None,
    ) -> "WSUpgradeResponse":
        """Makes the response that accepts, with further headers such as the subprotocol."""
        return WSUpgradeResponse._create(HTTPStatus.SWITCHING_PROTOCOLS, None, extra_headers)

    def to_bytes(self) -> bytes:
        """The response as it would be sent, with its ``Content-Length`` if there is a body."""
        phrase = getattr(self.status, "phrase", "")
        lines = [f"{self.version.decode('ascii')} {int(self.status)} {phrase}"]
        lines.extend(f"{name}: {value}" for name, value in self.headers.items())
        body = self.body or b""
        if body and "Content-Length" not in self.headers:
            lines.append(f"Content-Length: {len(body)}")
        head = "\r\n".join(lines) + "\r\n\r\n"
        return head.encode("utf-8", "surrogateescape") + body

    def __repr__(self) -> str:
        return f"<WSUpgradeResponse {int(getattr(self, 'status', 0))}>"


class WSUpgradeResponseWithListener:
    """A response together with the listener of the connection, which is ``None`` unless the status is
    101."""

    def __init__(self, response: WSUpgradeResponse, listener: Any) -> None:
        if not isinstance(response, WSUpgradeResponse):
            raise TypeError(f"response has to be a WSUpgradeResponse, not {type(response).__name__}")
        is_accepted = int(response.status) == HTTPStatus.SWITCHING_PROTOCOLS
        if is_accepted and listener is None:
            raise ValueError("a response 101 needs a listener")
        if not is_accepted and listener is not None:
            raise ValueError("only a response 101 has a listener: give None")
        self.response = response
        self.listener = listener


def _status(status: Union[int, HTTPStatus]) -> Union[HTTPStatus, int]:
    try:
        return HTTPStatus(int(status))
    except ValueError:
        return int(status)


def _resolve_logger(logger_name: WSLoggerLike, default_suffix: str, prefix: str = "picows.") -> Any:
    """The logger of a name behind ``picows.``, the one that was given, or the default one."""
    from logging import getLogger

    if logger_name is None:
        return getLogger(prefix + default_suffix)
    if isinstance(logger_name, str):
        return getLogger(prefix + logger_name)
    return logger_name


WSListenerFactory = Callable[..., Any]
