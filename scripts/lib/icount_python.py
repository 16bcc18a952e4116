"""Instructions of a Python process per message, in user mode and on what the native engine runs on here: of
the package as it was built last (scripts/test-python --release), and of picows.

The other end is in this process, in lockstep: it sends a batch in one piece and waits for all of its
answers. The process that is counted is stepped through (count_steps.c), as callgrind knows nothing of
io_uring. What the kernel does is not counted. Callbacks take so long meanwhile that a turn of this package
ends before its batch does: the turns of a burst count more often than they are taken.
"""

import base64
import bisect
import hashlib
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PYTHON = ROOT / ".tools" / "python-venv" / "bin" / "python"
BURSTS = ROOT / ".tools" / "bench-picows"
SIZE = 256
# Batches before those that are counted, and those.
WARM_UP, COUNTED = 10, 3
STEPPER = ROOT / ".tools" / "count_steps"
RUN_S = 900

# Name, side of the process that is counted, listener, messages of a batch.
CASES = (
    ("client/lone", "client", "python", 1),
    ("client/burst-64", "client", "python", 64),
    ("client/burst-64/cython", "client", "cython", 64),
    ("server/burst-16", "server", "python", 16),
)

RUNNER = r"""
import asyncio, importlib, json, sys
paths, name, side, kind, in_flight, size, port = json.loads(sys.argv[1])
sys.path[:0] = paths
import uvloop
picows = importlib.import_module(name)
ended = None


class Server(picows.WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())

    def on_ws_disconnected(self, transport):
        ended.set_result(None)


class Client(picows.WSListener):
    count = 0
    message = b"x" * size

    def on_ws_connected(self, transport):
        for _ in range(in_flight):
            transport.send(picows.WSMsgType.BINARY, self.message)

    def on_ws_frame(self, transport, frame):
        Client.count += 1
        transport.send(picows.WSMsgType.BINARY, self.message)


async def main():
    global ended
    ended = asyncio.get_running_loop().create_future()
    if side == "server":
        server = await picows.ws_create_server(lambda request: Server(), "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await ended
        return
    factory = Client
    if kind == "cython":
        burst = importlib.import_module(f"burst_{name}").Burst
        factory = lambda: burst(in_flight, Client.message)
    transport, _ = await picows.ws_connect(factory, f"ws://127.0.0.1:{port}/")
    await transport.wait_disconnected()


uvloop.run(main())
"""


class Peer:
    """The other end of a connection, as a socket that blocks."""

    def __init__(self, stream):
        stream.settimeout(RUN_S)
        self.stream = stream

    def read(self, size):
        """So many bytes, which are thrown away."""
        while size:
            part = len(self.stream.recv(min(size, 1 << 20)))
            if not part:
                raise SystemExit("icount: the process that is counted has gone")
            size -= part

    def read_head(self):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            part = self.stream.recv(1)
            if not part:
                raise SystemExit("icount: the process that is counted has gone")
            head += part
        return head

    def exchange(self, process, frames, answer):
        """Has batches answered, and counted after the first."""
        for number in range(WARM_UP + COUNTED):
            if number == WARM_UP:
                # It waits for this batch, and does nothing else.
                stepper = subprocess.Popen(
                    [str(STEPPER), str(process.pid)], stdout=subprocess.PIPE, text=True)
                symbols = Symbols(process.pid)
                stepper.stdout.readline()
            self.stream.sendall(frames)
            self.read(answer)
        # Until it waits for the next, which takes no more steps.
        time.sleep(0.5)
        stepper.terminate()
        counted = stepper.communicate(timeout=RUN_S)[0]
        self.stream.close()
        return symbols.functions(counted)


def serve(process, listener, in_flight):
    """Answers a client: what it has sent first, and then each batch when all of it is here."""
    peer = Peer(listener.accept()[0])
    key = re.search(rb"(?i)sec-websocket-key: *(\S+)", peer.read_head())[1]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    peer.stream.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    length = struct.pack("!BBH", 0x82, 126, SIZE)
    masked = len(length) + 4 + SIZE
    peer.read(in_flight * masked)
    return peer.exchange(process, (length + b"y" * SIZE) * in_flight, in_flight * masked)


def call(process, in_flight):
    """Sends batches to a server that echoes them."""
    port = int(process.stdout.readline())
    peer = Peer(socket.create_connection(("127.0.0.1", port)))
    peer.stream.sendall(
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    peer.read_head()
    frame = struct.pack("!BBHI", 0x82, 0x80 | 126, SIZE, 0x01020304) + b"y" * SIZE
    return peer.exchange(process, frame * in_flight, in_flight * (4 + SIZE))


def count(name, side, kind, in_flight, package):
    """Instructions of all batches, by function."""
    listener = socket.create_server(("127.0.0.1", 0))
    paths = [str(package), str(BURSTS)]
    argument = json.dumps([paths, name, side, kind, in_flight, SIZE, listener.getsockname()[1]])
    process = subprocess.Popen(
        [str(PYTHON), "-c", RUNNER, argument], env={**os.environ, "PYTHONHASHSEED": "0"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        counted = call(process, in_flight) if side == "server" else serve(process, listener, in_flight)
    finally:
        # In the middle of a step, it cannot go on by itself.
        process.kill()
        process.communicate()
        listener.close()
    return counted


class Symbols:
    """What addresses of a process belong to."""

    def __init__(self, pid):
        self.maps = []
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            span, mode, offset, _, _, *path = line.split(maxsplit=5)
            if "x" in mode and path:
                begin, end = (int(it, 16) for it in span.split("-"))
                self.maps.append((begin, end, begin - int(offset, 16), path[0]))
        self.known = {}

    def functions(self, counted):
        """Instructions of each function."""
        costs = {}
        for line in counted.splitlines():
            address, number = line.split()
            name = self.name_of(int(address, 16))
            costs[name] = costs.get(name, 0) + int(number)
        return costs

    def name_of(self, address):
        for begin, end, base, path in self.maps:
            if begin <= address < end:
                addresses, names = self.symbols_of(path)
                at = bisect.bisect_right(addresses, address - base) - 1
                return f"{Path(path).name}: {names[at] if at >= 0 else '?'}"
        return "?"

    def symbols_of(self, path):
        if path not in self.known:
            # Where code lies in the file, as far as that is where it is loaded.
            pairs = []
            for option in ([], ["-D"]):
                listed = subprocess.run(["nm", "-n", "-C", *option, path], capture_output=True, text=True).stdout
                pairs += re.findall(r"^([0-9a-f]+) [tTwWi] (.*)$", listed, re.MULTILINE)
            shift = self.shift_of(path)
            pairs = sorted((int(address, 16) - shift, name) for address, name in pairs)
            self.known[path] = [it for it, _ in pairs], [it for _, it in pairs]
        return self.known[path]

    def shift_of(self, path):
        """Virtual address of the code less its offset in the file."""
        listed = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True).stdout
        for offset, virtual in re.findall(r"LOAD\s+0x(\w+)\s+0x(\w+).*R E ", listed):
            return int(virtual, 16) - int(offset, 16)
        return 0


def run(wanted, shown, packages):
    """Prints a table of the cases whose name contains `wanted`, and with `shown` their dearest functions."""
    source = ROOT / "scripts" / "lib" / "count_steps.c"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", STEPPER, source], check=True)
    print(f"{'instructions a message':30}" + "".join(f"{name:>16}" for name, _ in packages))
    for case, side, kind, in_flight in CASES:
        if wanted not in case:
            continue
        if kind == "cython" and not BURSTS.is_dir():
            print(f"{case}: its listener is built by scripts/bench-picows")
            continue
        row, details = "", ""
        for name, package in packages:
            counted = count(name, side, kind, in_flight, package)
            costs = {it: cost / (COUNTED * in_flight) for it, cost in counted.items()}
            row += f"{sum(costs.values()):16,.1f}"
            dearest = sorted(costs.items(), key=lambda it: -it[1])[:shown]
            details += "".join(f"  {name:14}{cost:10,.1f}  {where}\n" for where, cost in dearest)
        print(f"{case:30}{row}\n{details}", end="", flush=True)


if __name__ == "__main__":
    # FILTER FUNCTIONS PACKAGE-FOLDER…: of several builds of the package, one beside the other
    _, wanted, shown, *folders = sys.argv
    packages = [("picows_uring", Path(it)) for it in folders]
    run(wanted, int(shown), packages or [("picows", ROOT), ("picows_uring", ROOT / "python")])
