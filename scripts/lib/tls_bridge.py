#!/usr/bin/env python3
"""A bridge between `ws://` and `wss://`, for a peer that has no TLS of its own: OpenSSL, by Python's ssl.

Starts the server of the arguments and listens in front of it: on `ws://` if that speaks `wss://`, and on
`wss://` if it speaks `ws://`. Prints its own address as a server does, and what the server prints to
standard error; ends with it, or ends it.
"""

import argparse
import contextlib
import os
import select
import signal
import socket
import ssl
import sys
import threading
from pathlib import Path

sys.dont_write_bytecode = True

from server import ENDING, Failure, Server  # noqa: E402

CHUNK = 64 * 1024
# Connections that wait to be accepted.
BACKLOG = 256


class Plain:
    """The end of a connection without TLS."""

    def __init__(self, sock):
        self.sock = sock

    def read(self):
        return self.sock.recv(CHUNK)

    def write(self, data):
        self.sock.sendall(data)

    def end(self):
        """Nothing follows; the other direction stays open."""
        self.sock.shutdown(socket.SHUT_WR)


class Secure:
    """The end of a connection with TLS. One thread may read while another one writes."""

    def __init__(self, sock, context, is_server):
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        name = None if is_server else "localhost"
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=is_server, server_hostname=name)
        self.lock = threading.Lock()

    def shake_hands(self):
        is_done = False
        while not is_done:
            try:
                self.tls.do_handshake()
                is_done = True
            except ssl.SSLWantReadError:
                pass
            finally:
                self.sock.sendall(self.outgoing.read())
            if not is_done:
                self._receive()

    def _receive(self):
        part = self.sock.recv(CHUNK)
        with self.lock:
            if part:
                self.incoming.write(part)
            else:
                self.incoming.write_eof()

    def read(self):
        while True:
            with self.lock:
                try:
                    return self.tls.read(CHUNK)
                except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                    return b""
                except ssl.SSLWantReadError:
                    pass
            self._receive()

    def write(self, data):
        # Sealed under the lock, sent without it: the peer may want to be read before it takes more.
        with self.lock:
            self.tls.write(data)
            sealed = self.outgoing.read()
        self.sock.sendall(sealed)

    def end(self):
        """Sends close_notify; the other direction stays open."""
        with self.lock:
            # It wants to wait for that of the peer.
            with contextlib.suppress(ssl.SSLError):
                self.tls.unwrap()
            sealed = self.outgoing.read()
        self.sock.sendall(sealed)
        self.sock.shutdown(socket.SHUT_WR)


def carry(source, target):
    """Everything from one end to the other; what breaks ends both."""
    try:
        while data := source.read():
            target.write(data)
        target.end()
    except OSError:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.sock.shutdown(socket.SHUT_RDWR)


class Bridge:
    """Both sides of the bridge."""

    def __init__(self, endpoint, certificates):
        self.endpoint = endpoint
        self.is_server = endpoint.scheme == "ws"
        if self.is_server:
            self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.context.load_cert_chain(certificates / "server.crt", certificates / "server.key")
        else:
            self.context = ssl.create_default_context(cafile=str(certificates / "ca.pem"))

    @property
    def scheme(self):
        """The one that it listens with."""
        return "wss" if self.is_server else "ws"

    def serve(self, listener):
        while True:
            accepted, _ = listener.accept()
            threading.Thread(target=self.cross, args=(accepted,), daemon=True).start()

    def cross(self, accepted):
        with accepted, socket.create_connection(self.endpoint.address) as connected:
            for sock in (accepted, connected):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            outer, inner = accepted, connected
            secure = Secure(outer if self.is_server else inner, self.context, self.is_server)
            try:
                secure.shake_hands()
            except OSError as error:
                return print(f"tls_bridge: {error}", file=sys.stderr, flush=True)
            plain = Plain(inner if self.is_server else outer)
            back = threading.Thread(target=carry, args=(plain, secure), daemon=True)
            back.start()
            carry(secure, plain)
            back.join()


def arguments():
    parser = argparse.ArgumentParser(
        prog="scripts/lib/tls_bridge.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--certificates", type=Path, required=True, metavar="FOLDER", help="made by scripts/dev-cert")
    parser.add_argument("--address-on", choices=("stdout", "stderr"), default="stdout", help="(default: stdout)")
    parser.add_argument("command", nargs="+", metavar="COMMAND", help="the server, after --")
    return parser.parse_args()


def main():
    options = arguments()
    for number in ENDING:
        signal.signal(number, lambda received, _: sys.exit(128 + received))
    try:
        server = Server(options.command, address_on=options.address_on, log=sys.stderr)
    except Failure as failure:
        sys.exit(str(failure))
    try:
        bridge = Bridge(server.endpoint, options.certificates)
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        threading.Thread(target=bridge.serve, args=(listener,), daemon=True).start()
        print(f"listening on {bridge.scheme}://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
        select.select([os.pidfd_open(server.pid)], [], [])
    except SystemExit:
        pass  # The signal is for the server.
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        status = server.stop()
    return status if status >= 0 else 128 - status


if __name__ == "__main__":
    sys.exit(main())
