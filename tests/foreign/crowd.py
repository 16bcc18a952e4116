"""Many clients at once, in one thread: each says who it is and waits for the echo."""

import select
import socket
import time

from wire import BINARY, encode, upgrade_request


class Visitor:
    """One of them."""

    def __init__(self, server, number):
        self.sock = socket.socket(server.endpoint.family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        self.sock.connect_ex(server.endpoint.address)
        self.payload = f"visitor {number}".encode()
        self.out = upgrade_request() + encode(BINARY, self.payload)
        self.received = b""

    def write(self):
        try:
            self.out = self.out[self.sock.send(self.out) :]
        except BlockingIOError:
            pass

    def is_served(self):
        """Whether the echo is there."""
        try:
            part = self.sock.recv(65536)
        except BlockingIOError:
            return False
        assert part, f"a visitor was sent away with {self.received[:100]!r}"
        self.received += part
        _, _, frames = self.received.partition(b"\r\n\r\n")
        return frames == bytes([0x82, len(self.payload)]) + self.payload


class Crowd:
    """All of them. `served` have their echo and stay until they are told to leave."""

    def __init__(self, server, count):
        self.visitors = {}
        self.served = []
        self.gone = 0
        self.epoll = select.epoll()
        for number in range(count):
            visitor = Visitor(server, number)
            self.visitors[visitor.sock.fileno()] = visitor
            self.epoll.register(visitor.sock, select.EPOLLIN | select.EPOLLOUT)

    def serve(self, quiet_s):
        """Until nobody has been served for so long, or everybody is."""
        quiet_since = time.monotonic()
        while self.visitors and time.monotonic() - quiet_since < quiet_s:
            for fd, events in self.epoll.poll(0.05):
                visitor = self.visitors[fd]
                if visitor.out and events & select.EPOLLOUT:
                    visitor.write()
                    if not visitor.out:
                        self.epoll.modify(fd, select.EPOLLIN)
                if events & select.EPOLLIN and visitor.is_served():
                    self.epoll.unregister(fd)
                    self.served.append(self.visitors.pop(fd))
                    quiet_since = time.monotonic()

    def leave(self):
        """Those who are served make room for the others; tells how many."""
        leaving = self.served[self.gone :]
        self.gone = len(self.served)
        for visitor in leaving:
            visitor.sock.close()
        return len(leaving)

    def close(self):
        for visitor in [*self.visitors.values(), *self.served]:
            visitor.sock.close()
        self.epoll.close()
