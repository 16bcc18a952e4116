"""Heads of HTTP as objects, and the exceptions that describe a refused upgrade.

The library in C has judged a head before it comes here; this says what was wrong with it in the types
of the interface. Where the two disagree, the library decides.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import List, Optional, Tuple

from multidict import CIMultiDict

from .common import (
    WSHandshakeError,
    WSInvalidHeaderError,
    WSInvalidMessageError,
    WSInvalidStatusError,
    WSInvalidUpgradeError,
    WSUpgradeRequest,
    WSUpgradeResponse,
    _status,
)

HEADERS_MAX = 128
# The library's limit of a response's head.
HEAD_BYTES_MAX = 16 * 1024
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS_LINE = re.compile(rb"(\S+) (\d{3})(?: ([\t\x20-\x7e]*))?")


def parse_http_request(head: bytes) -> WSUpgradeRequest:
    """Reads the head of a request, given without its empty line.

    :raises RuntimeError: if it is no GET request of HTTP/1.1 without a body
    """
    line, *lines = head.split(b"\r\n")
    parts = line.split(b" ")
    if len(parts) != 3:
        raise RuntimeError(f"Malformed request line: {line!r}")
    request = WSUpgradeRequest()
    request.method, request.path, request.version = parts
    if request.method != b"GET":
        raise RuntimeError(f"Unsupported HTTP method: {request.method!r}")
    if not request.path:
        raise RuntimeError("HTTP request target cannot be empty")
    if request.version != b"HTTP/1.1":
        raise RuntimeError(f"Unsupported HTTP version: {request.version!r}")
    request.headers = _parse_headers(lines)
    _check_no_body(request.headers)
    return request


def _parse_headers(lines: List[bytes]) -> "CIMultiDict[str]":
    headers: "CIMultiDict[str]" = CIMultiDict()
    if len(lines) > HEADERS_MAX:
        raise RuntimeError(f"more than {HEADERS_MAX} headers")
    for line in lines:
        name, value = _parse_header(line)
        headers.add(name, value)
    return headers


def _parse_header(line: bytes) -> Tuple[str, str]:
    if line[:1] in (b" ", b"\t"):
        raise RuntimeError(f"Obsolete folded HTTP header: {line!r}")
    name, colon, value = line.partition(b":")
    if not colon:
        raise RuntimeError(f"Malformed header, there is no colon: {line!r}")
    if not _NAME.fullmatch(name):
        raise RuntimeError(f"Invalid HTTP header name: {name!r}")
    if _BAD_VALUE.search(value):
        raise RuntimeError(f"Invalid HTTP header value of {name.decode('ascii')}: {value!r}")
    return name.decode("ascii"), value.strip(b" \t").decode("ascii", "surrogateescape")


def _check_no_body(headers: "CIMultiDict[str]") -> None:
    if "Transfer-Encoding" in headers:
        raise RuntimeError("Transfer-Encoding is not supported in an upgrade request")
    lengths = headers.getall("Content-Length", [])
    if len(lengths) > 1:
        raise RuntimeError("Multiple Content-Length headers")
    if lengths and (not lengths[0].isascii() or not lengths[0] or lengths[0].strip("0")):
        raise RuntimeError(f"HTTP request body is not supported: Content-Length is {lengths[0]!r}")


def validate_upgrade_request(request: WSUpgradeRequest) -> bytes:
    """Checks the headers of an upgrade.

    :return: the value of ``Sec-WebSocket-Accept`` for it
    :raises RuntimeError: naming the header that is wrong
    """
    headers = request.headers
    if not _has_token(headers, "Upgrade", "websocket"):
        raise RuntimeError("No WebSocket UPGRADE header")
    if "Connection" not in headers:
        raise RuntimeError("No CONNECTION upgrade header")
    if not _has_token(headers, "Connection", "upgrade"):
        raise RuntimeError("CONNECTION header value is not 'upgrade'")
    if headers.get("Sec-WebSocket-Version") != "13":
        raise RuntimeError("unsupported websocket version: only 13 is")
    key = headers.get("Sec-WebSocket-Key", "").encode("ascii", "surrogateescape")
    try:
        decoded = base64.b64decode(key, validate=True)
    except (binascii.Error, ValueError):
        decoded = b""
    if len(decoded) != 16:
        raise RuntimeError("invalid key: Sec-WebSocket-Key has to be 16 bytes in base64")
    return accept_value(key)


def accept_value(key: bytes) -> bytes:
    """``Sec-WebSocket-Accept`` for a key (RFC 6455, 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())


def _has_token(headers: "CIMultiDict[str]", name: str, token: str) -> bool:
    return any(
        it.strip().lower() == token for value in headers.getall(name, []) for it in value.split(",")
    )


def parse_response_head(head: bytes, body: Optional[bytes] = None) -> WSUpgradeResponse:
    """Reads the head of a response, given without its empty line.

    :raises WSInvalidMessageError: if it is no response of HTTP/1.1
    """
    line, *lines = head.split(b"\r\n")
    raw_body = body or b""
    parts = _STATUS_LINE.fullmatch(line)
    if parts is None:
        text = f"the server answered with an invalid HTTP status line: {line!r}"
        raise WSInvalidMessageError(text, head, raw_body)
    if parts[1] != b"HTTP/1.1":
        text = f"the server answered with an unknown protocol: {parts[1]!r}"
        raise WSInvalidMessageError(text, head, raw_body)
    response = WSUpgradeResponse()
    response.version = parts[1]
    response.status = _status(int(parts[2]))
    response.headers = CIMultiDict()
    response.body = None
    try:
        response.headers = _parse_headers(lines)
    except RuntimeError as error:
        text = f"the server's response cannot be read: {error}"
        text = text.replace("Malformed header", "malformed header")
        raise WSInvalidMessageError(text, head, raw_body, response) from None
    if int(response.status) != 101:
        response.body = raw_body
    return response


def parse_upgrade_response(data: bytes, key: bytes) -> Optional[WSUpgradeResponse]:
    """Reads and checks an answer to an upgrade request that had `key`; ``None`` as long as its head is
    not whole.

    :raises WSHandshakeError: of the type for what is wrong
    """
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    response = parse_response_head(head, body)
    check_upgrade_response(response, head, body, accept_value(key).decode("ascii"))
    return response


def check_upgrade_response(
    response: WSUpgradeResponse, head: bytes, body: bytes, accept: Optional[str]
) -> None:
    """Says why a response is no upgrade. Without `accept` its own value is not looked at.

    :raises WSHandshakeError: of the type for what is wrong
    """
    headers, raw = response.headers, (head, body, response)
    if int(response.status) != 101:
        status = int(response.status)
        raise WSInvalidStatusError(
            f"the server has to answer with status 101, received {status}", *raw
        )
    coding = headers.get("Transfer-Encoding")
    if coding is not None:
        text = "a Transfer-Encoding in an upgrade response is not supported"
        raise WSInvalidHeaderError(text, "Transfer-Encoding", coding, *raw)
    length = headers.get("Content-Length")
    if length is not None and not (length.isascii() and length.isdigit()):
        text = f"invalid Content-Length in an upgrade response: {length!r}"
        raise WSInvalidHeaderError(text, "Content-Length", length, *raw)
    if length is not None and length.strip("0"):
        text = f"non-zero Content-Length in an upgrade response: {length}"
        raise WSInvalidHeaderError(text, "Content-Length", length, *raw)
    if not _has_token(headers, "Upgrade", "websocket"):
        value = headers.get("Upgrade")
        text = f"invalid upgrade header in the response: {value!r}"
        raise WSInvalidUpgradeError(text, "Upgrade", value, *raw)
    if not _has_token(headers, "Connection", "upgrade"):
        value = headers.get("Connection")
        text = f"invalid connection header in the response: {value!r}"
        raise WSInvalidUpgradeError(text, "Connection", value, *raw)
    given = headers.get("Sec-WebSocket-Accept")
    if given is None or (accept is not None and given != accept):
        text = f"invalid sec-websocket-accept header in the response: {given!r}"
        raise WSInvalidHeaderError(text, "Sec-WebSocket-Accept", given, *raw)


def describe_refusal(head: bytes, body: bytes, fault: str, is_malformed: bool) -> WSHandshakeError:
    """The exception for an answer that the library refused with the sentence `fault`."""
    head = head.partition(b"\r\n\r\n")[0].rstrip(b"\r\n")
    if is_malformed and len(head) >= HEAD_BYTES_MAX:
        text = f"the head of the server's answer exceeds max_size, {HEAD_BYTES_MAX} bytes: {fault}"
        return WSInvalidMessageError(text, head, body)
    try:
        response = parse_response_head(head, body)
        if not is_malformed:
            check_upgrade_response(response, head, body, None)
    except WSHandshakeError as error:
        return error
    if is_malformed:
        return WSInvalidMessageError(fault, head, body, response)
    if "accept" in fault.lower():
        value = response.headers.get("Sec-WebSocket-Accept")
        text = f"invalid sec-websocket-accept header in the response: {value!r}"
        return WSInvalidHeaderError(text, "Sec-WebSocket-Accept", value, head, body, response)
    return WSHandshakeError(fault, head, body, response)


def read_headers(lines: List[bytes]) -> "CIMultiDict[str]":
    """Headers of a head that was judged already: nothing is refused."""
    headers: "CIMultiDict[str]" = CIMultiDict()
    for line in lines:
        name, _, value = line.partition(b":")
        text = value.strip(b" \t").decode("ascii", "surrogateescape")
        headers.add(name.decode("ascii", "surrogateescape"), text)
    return headers
