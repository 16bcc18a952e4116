"""What `WSTransport.underlying_transport` is on the native engine: the questions and settings of an
``asyncio.Transport``, answered by the worker's connection.

The methods of transports that would take bytes away from the worker are not there.
"""

from __future__ import annotations

import asyncio
import os
import socket
from asyncio.trsock import TransportSocket
from typing import Any, Optional, Tuple


class UnderlyingTransport(asyncio.Transport):
    """Stands for the socket of a connection."""

    def __init__(self, control: Any, carrier: Any = None) -> None:
        super().__init__()
        self._control = control
        # The loop's own transport, which knows more, where that brings the bytes.
        self._carrier = carrier
        self._socket: Optional[socket.socket] = None
        self._names: "dict[str, Any]" = {}
        self._limits: Tuple[int, int] = (64 * 1024, 16 * 1024)
        self._is_reading = True

    # -- questions ----------------------------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """``socket`` (of which options may be set), ``peername``, ``sockname``; and what TLS knows, where it
        is spoken."""
        if self._carrier is not None:
            return self._carrier.get_extra_info(name, default)
        if name == "socket":
            sock = self._own_socket()
            return default if sock is None else TransportSocket(sock)
        if name in ("peername", "sockname"):
            found = self._name(name)
            return default if found is None else found
        return default

    def _own_socket(self) -> Optional[socket.socket]:
        if self._socket is None:
            descriptor = self._control._descriptor()
            if descriptor >= 0:
                self._socket = socket.socket(fileno=os.dup(descriptor))
        return self._socket

    def _name(self, name: str) -> Any:
        if name not in self._names:
            sock = self._own_socket()
            if sock is None:
                return None
            try:
                found = sock.getpeername() if name == "peername" else sock.getsockname()
            except OSError:
                return None
            self._names[name] = found
        return self._names[name]

    def is_closing(self) -> bool:
        """Whether the connection is closing or closed."""
        return self._control._is_transport_closing()

    def is_reading(self) -> bool:
        return self._is_reading and not self.is_closing()

    def get_write_buffer_size(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._control.buffered_amount

    def get_write_buffer_limits(self) -> Tuple[int, int]:
        """Low and high watermark, in bytes."""
        high, low = self._limits
        return low, high

    # -- settings -----------------------------------------------------------------------------------

    def set_write_buffer_limits(
        self, high: Optional[int] = None, low: Optional[int] = None
    ) -> None:
        """Sets the watermarks of ``pause_writing`` and ``resume_writing``, in bytes, with the defaults of
        asyncio. What is above the limit of the queue, 64 MiB, counts as that."""
        if high is None:
            high = 64 * 1024 if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._limits = (high, low)
        self._control._set_watermarks(high, low)

    def pause_reading(self) -> None:
        """Stops receiving; frames that were received already may still come."""
        if self._is_reading:
            self._is_reading = False
            self._control._pause_reading(True)

    def resume_reading(self) -> None:
        """Receives again."""
        if not self._is_reading:
            self._is_reading = True
            self._control._pause_reading(False)

    # -- bytes and the end --------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Queues raw bytes behind the frames: for tests of peers that break the protocol."""
        self._control._write_raw(data)

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return False

    def close(self) -> None:
        """As ``WSTransport.disconnect()``."""
        self._control.disconnect()

    def abort(self) -> None:
        """As ``WSTransport.disconnect(False)``."""
        self._control.disconnect(False)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        raise NotImplementedError("the protocol is WebSocket's: nothing can take its place")

    def get_protocol(self) -> asyncio.BaseProtocol:
        raise NotImplementedError("there is no asyncio protocol behind this connection")

    def _forget(self) -> None:
        """Closes its duplicate of the socket, at the end of the connection."""
        if self._socket is not None:
            # Asked for after the end as well.
            self._name("peername")
            self._name("sockname")
            self._socket.close()
            self._socket = None
