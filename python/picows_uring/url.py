"""URLs of WebSocket servers and of proxies, taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Tuple
from urllib.parse import quote, unquote, urlsplit

from .common import WSError

_PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}
_PORTS.update(dict.fromkeys(("socks4", "socks4a", "socks5", "socks5h"), 1080))
# What user info, path and query may hold unescaped (RFC 3986), `%` included: escapes stay.
_USER_INFO = "!$&'()*+,;=:%-._~"
_PATH = "/?!$&'()*+,;=:@%-._~[]"


class WSInvalidURL(WSError):
    """A URL that cannot be used.

    :ivar url: the URL
    """

    def __init__(self, url: str, msg: str) -> None:
        super().__init__(f"{_without_password(url)!r} isn't a valid URL: {msg}")
        self.url = url


@dataclass(frozen=True)
class WSParsedURL:
    """A URL in parts. The host is in the form of the DNS (punycode), and without brackets."""

    url: str
    scheme: str
    is_secure: bool
    netloc: str
    host: str
    port: int
    path: str
    query: str
    username: Optional[str] = None
    password: Optional[str] = None

    @property
    def resource_name(self) -> str:
        """Path and query, as in the request line."""
        return f"{self.path or '/'}?{self.query}" if self.query else self.path or "/"

    @property
    def user_info(self) -> Optional[Tuple[str, Optional[str]]]:
        """User name and password, escaped by percent signs; ``None`` if there is no user name."""
        return None if self.username is None else (self.username, self.password)


def parse_url(url: str, check_scheme: bool = True) -> WSParsedURL:
    """Takes a URL apart.

    :param check_scheme: allow ``ws`` and ``wss`` only
    :raises WSInvalidURL: if it cannot be used
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise WSInvalidURL(url, str(error)) from error
    scheme = parts.scheme.lower()
    if check_scheme and scheme not in ("ws", "wss"):
        raise WSInvalidURL(url, "scheme isn't ws or wss")
    if not parts.hostname:
        raise WSInvalidURL(url, "hostname isn't provided")
    if check_scheme and ("#" in url):
        raise WSInvalidURL(url, "fragment identifier is meaningless in a WebSocket URL")
    if port is None:
        port = _PORTS.get(scheme, 0)
    host = _ascii_host(url, parts.hostname)
    username = None if parts.username is None else quote(parts.username, safe=_USER_INFO)
    password = None if parts.password is None else quote(parts.password, safe=_USER_INFO)
    return WSParsedURL(
        url=url,
        scheme=scheme,
        is_secure=scheme in ("wss", "https"),
        netloc=_netloc(host, port, scheme, username, password),
        host=host,
        port=port,
        path=quote(parts.path, safe=_PATH) or "/",
        query=quote(parts.query, safe=_PATH),
        username=username,
        password=password,
    )


def _ascii_host(url: str, host: str) -> str:
    if host.isascii():
        if any(it <= " " or it in "<>\"\\^`{|}\x7f" for it in host):
            raise WSInvalidURL(url, "hostname has a character that none can have")
        return host
    try:
        return host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise WSInvalidURL(url, f"hostname isn't valid: {error}") from error


def authority(host: str, port: int) -> str:
    """Host and port, with the brackets of IPv6."""
    return f"{bracketed(host)}:{port}"


def bracketed(host: str) -> str:
    """The host as in a URL, with the brackets of IPv6."""
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def host_header(parsed: WSParsedURL) -> str:
    """The value of ``Host``: without the port where that is the scheme's."""
    if parsed.port == _PORTS.get(parsed.scheme):
        return bracketed(parsed.host)
    return authority(parsed.host, parsed.port)


def credentials(parsed: WSParsedURL) -> Optional[Tuple[str, str]]:
    """User name and password with their escapes undone."""
    if parsed.username is None:
        return None
    return unquote(parsed.username), unquote(parsed.password or "")


def is_same_origin(one: WSParsedURL, other: WSParsedURL) -> bool:
    """Whether headers for the one may go to the other: same host and port, and no less secure."""
    return (one.host.lower(), one.port) == (other.host.lower(), other.port) and (
        other.is_secure or not one.is_secure
    )


def _netloc(
    host: str, port: int, scheme: str, username: Optional[str], password: Optional[str]
) -> str:
    location = bracketed(host) if port == _PORTS.get(scheme) else authority(host, port)
    if username is None:
        return location
    return f"{username}@{location}" if password is None else f"{username}:{password}@{location}"


def _without_password(url: str) -> str:
    """For messages, which end up in logs."""
    head, separator, rest = url.partition("://")
    userinfo, at, tail = rest.rpartition("@")
    if not separator or not at or "/" in userinfo or ":" not in userinfo:
        return url
    return f"{head}://{userinfo.split(':', 1)[0]}:***@{tail}"
