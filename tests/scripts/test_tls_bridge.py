"""scripts/lib/tls_bridge.py: bytes, ends and halves of connections cross it both ways."""

import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from bench_peers_case import ROOT
from server import Server

BRIDGE = ROOT / "scripts/lib/tls_bridge.py"
LIMIT_S = 60
# Answers everything that it got when the peer has ended its half, and ends.
ECHO = """
import socket, ssl, sys
listener = socket.create_server(("127.0.0.1", 0))
scheme = "wss" if sys.argv[1:] else "ws"
print(f"listening on {scheme}://127.0.0.1:{listener.getsockname()[1]}/", flush=True)
if sys.argv[1:]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*sys.argv[1:])
    listener = context.wrap_socket(listener, server_side=True, suppress_ragged_eofs=False)
sock, _ = listener.accept()
while data := sock.recv(65536):
    sock.sendall(data)
if sys.argv[1:]:
    sock = sock.unwrap()
sock.close()
"""
DATA = bytes(range(256)) * 4096


@unittest.skipIf(shutil.which("openssl") is None, "openssl is not installed")
class Bridges(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        subprocess.run([ROOT / "scripts/dev-cert", cls.folder], check=True, capture_output=True)

    def bridge(self, *files):
        server = Server(
            [sys.executable, BRIDGE, "--certificates", self.folder, "--", sys.executable, "-c", ECHO, *files],
            name="the bridge",
        )
        self.addCleanup(server.kill)
        return server

    def exchange(self, sock):
        """Sends everything in one thread's time: the answer is as long, and is read between the parts."""
        answer = b""
        for at in range(0, len(DATA), 65536):
            sock.sendall(DATA[at : at + 65536])
            while len(answer) < at + 65536:
                answer += sock.recv(65536)
        self.assertEqual(answer, DATA)

    def test_a_client_without_tls_reaches_a_server_with_it(self):
        bridge = self.bridge(self.folder / "server.crt", self.folder / "server.key")
        self.assertEqual(bridge.endpoint.scheme, "ws")
        with socket.create_connection(bridge.endpoint.address, LIMIT_S) as sock:
            self.exchange(sock)
            sock.shutdown(socket.SHUT_WR)
            self.assertEqual(sock.recv(1), b"")
        # It ends with the server, and with its status.
        self.assertEqual(bridge.wait(), 0)

    def test_a_client_with_tls_reaches_a_server_without_it(self):
        bridge = self.bridge()
        self.assertEqual(bridge.endpoint.scheme, "wss")
        context = ssl.create_default_context(cafile=str(self.folder / "ca.pem"))
        raw = socket.create_connection(bridge.endpoint.address, LIMIT_S)
        with context.wrap_socket(raw, server_hostname="localhost", suppress_ragged_eofs=False) as sock:
            self.exchange(sock)
            # Waits for the answer to close_notify.
            sock.unwrap().close()
        self.assertEqual(bridge.wait(), 0)


if __name__ == "__main__":
    unittest.main()
