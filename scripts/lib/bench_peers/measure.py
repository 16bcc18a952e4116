"""One run of each kind: starts what it needs, loads it, and gives figures with units in their names."""

import json
import os
import shutil
import signal
import socket
import ssl
import statistics
import struct
import subprocess
import tempfile
import time

from server import Failure

from . import deflate, machine, peers, restart
from .plan import Cell
from .processes import CORE_LOAD, CORE_SERVER, CORES_ALL, pinned, run_load, start, stop

ANSWER_S = 30
OPEN_CELL = Cell(64, 1, 256)
DEFLATE_CELL = Cell(4, 1, 1024)
WARM_UP_CONNECTIONS = 256
# What programs tell of their settings: the case says it.
IN_CASE = {"connections", "pipeline", "size_bytes", "subscribers", "window_s"}


class Meter:
    def __init__(self, settings, programs, fleet, record):
        self.settings = settings
        self.programs = programs
        self.fleet = fleet
        self.record = record

    def measure(self, run):
        """The figures of a run, and what was stolen meanwhile."""
        before = machine.read_stat()
        figures = getattr(self, "measure_" + run.section.replace("-", "_"))(run)
        steal = machine.steal_share(before, machine.read_stat())
        # The load knows better: it reads at the edges of its window.
        steal = figures.pop("steal_share_of_worst_core", steal)
        return {name: concise(value) for name, value in figures.items() if name not in IN_CASE}, steal

    # Servers

    def echo_argv(self, name, cell):
        argv = peers.fill(peers.server(name).echo, self.programs)
        if name == peers.FLOOR:
            argv += ["--bytes-in", str(cell.request_bytes()), "--payload", str(cell.size_bytes)]
        return argv

    def tls_argv(self, name):
        return peers.fill(peers.server(name).tls, self.programs)

    def loaded(self, name, argv, load, cores=CORE_SERVER):
        """Runs a load on a server that is kept, and gives what it printed."""
        server = self.fleet.get(name, argv, cores)
        try:
            out = load(server)
        except Failure:
            # Whatever state it is in, nobody should meet it.
            self.fleet.discard(server)
            raise
        machine.settle(server.pid)
        return out

    def window(self, times=1):
        milliseconds = round(self.settings.duration_s * 1000 * times)
        return ["--duration", f"{milliseconds}ms", "--warmup", f"{round(self.settings.warmup_s * 1000)}ms"]

    def timeout_s(self):
        return self.settings.duration_s + self.settings.warmup_s + ANSWER_S

    def load_argv(self, server, name, cell):
        argv = [
            self.programs["load"], "--json", "--url-addr", server.authority, "--server-pid", server.pid,
            "--connections", cell.connections, "--pipeline", cell.pipeline, "--size", cell.size_bytes,
        ]
        return argv + ["--headers-only"] if name == peers.FLOOR else argv

    # Sections

    def measure_echo(self, run):
        return self.echo(run, self.echo_argv(run.peer, Cell.parse(run.case)))

    def measure_more(self, run, cores=CORE_SERVER):
        """As `echo`, with the command of its section."""
        return self.echo(run, peers.fill(peers.server(run.peer).more[run.section], self.programs), cores)

    measure_driver_epoll = measure_embedded = measure_python = measure_more

    def measure_multi_worker(self, run):
        # The load takes its part of a core: what the workers used is counted all the same.
        return self.measure_more(run, CORES_ALL)

    def echo(self, run, argv, cores=CORE_SERVER):
        cell = Cell.parse(run.case)

        def load(server):
            argv = self.load_argv(server, run.peer, cell) + self.window()
            return json.loads(run_load(argv, self.timeout_s()))

        figures = self.loaded(run.peer, argv, load, cores)
        if not figures.get("messages"):
            raise Failure(f"no message in {self.settings.duration_s} s")
        return figures

    def measure_syscalls(self, run):
        cell = Cell.parse(run.case)

        def count(server, times):
            milliseconds = round(self.settings.duration_s * 1000 * times)
            window = ["--duration", f"{milliseconds}ms", "--warmup", "0ms"]
            return count_syscalls(server.pid, self.load_argv(server, run.peer, cell) + window, self.timeout_s())

        def load(server):
            # What opening and closing the connections takes is in both counts, and in no difference.
            short, long = count(server, 1), count(server, 4)
            messages = long["messages"] - short["messages"]
            if messages <= 0:
                raise Failure("the longer run had no more messages than the shorter")
            each = (long["syscalls"] - short["syscalls"]) / messages
            return {"syscalls_per_message": each, "counted_by": long["counted_by"]}

        return self.loaded(run.peer, self.echo_argv(run.peer, cell), load)

    def picows_load(self, run, times, *more):
        def load(server):
            argv = [
                self.programs["picows"], "load", f"ws://{server.authority}/", "--server-pid", server.pid,
                "--connections", OPEN_CELL.connections, "--size", OPEN_CELL.size_bytes,
                *self.window(times), "--drain-timeout", "2s", "--json", "-", *more,
            ]
            # 1 says that echoes are missing: then the figures say so as well.
            found = json.loads(run_load(argv, self.timeout_s() + 5, lambda status: status in (0, 1)))
            return {
                "messages_per_s": found["rate_per_s"],
                "client_cpu_share_of_core": found.get("client_cpu_share"),
                "server_cpu_us_per_message": found.get("server_cpu_us_per_message"),
                "unsent": found.get("unsent") or 0,
                "errors": found.get("errors", 0),
                "send_delay_p99.9_us": (found.get("send_delay_us") or {}).get("p99.9"),
            } | {f"latency_{name}_us": found["latency_us"][name] for name in ("p50", "p99", "p99.9")}

        return self.loaded(run.peer, self.echo_argv(run.peer, OPEN_CELL), load)

    def measure_deflate(self, run):
        argv = peers.fill(peers.server(run.peer).deflate[run.case], self.programs)
        if run.case.startswith("fan-out"):
            flags = ["--deflate"] if run.case == "fan-out" else []
            return self.fan_out(run.peer, argv, self.settings.subscribers, DEFLATE_CELL.size_bytes, *flags)
        # With --deflate-no-context there is a second offer to fall back on, which not all servers can read.
        imposes = peers.server(run.peer).imposes_no_context
        flags = ["--deflate", *(["--deflate-no-context"] if run.case == "no-context" and not imposes else [])]

        def load(server):
            command = [
                self.programs["picows"], "load", f"ws://{server.authority}/", "--server-pid", server.pid,
                "--connections", DEFLATE_CELL.connections, "--size", DEFLATE_CELL.size_bytes, "--payload", "json",
                *flags, *self.window(), "--drain-timeout", "2s", "--json", "-",
            ]
            found = json.loads(run_load(command, self.timeout_s() + 5))
            if not found["messages"]:
                raise Failure(f"no message in {self.settings.duration_s} s")
            plain = next((warning for warning in found["warnings"] if "not compressed" in warning), None)
            if plain:
                raise Failure(plain)
            return {
                "messages_per_s": found["rate_per_s"],
                "server_cpu_us_per_message": found["server_cpu_us_per_message"],
                "wire_bytes_per_message": deflate.wire_bytes(server.authority, run.case == "context"),
            }

        return self.loaded(run.peer, argv, load)

    def measure_peak(self, run):
        return self.picows_load(run, 1)

    def measure_open(self, run):
        highest = highest_rate(self.record)
        if highest is None:
            raise Failure("no highest rate is known: the section `peak` has to run before")
        rate = highest * int(run.case) / 100
        return self.picows_load(run, 2, "--rate", f"{rate:.0f}") | {"asked_per_s": round(rate)}

    def measure_rtt(self, run):
        size, way = run.case.split("-")
        client = peers.client(run.peer)
        argv = ["{picows}", "echo", "--workers", "1", *peers.LISTEN]
        if way == "spinning":
            argv += ["--busy-poll", "always"]
        # A server that spins would take its core from all others, so none is kept.
        server = start("picows echo", peers.fill(argv, self.programs))
        try:
            target = [f"ws://{server.authority}/"] if client.is_ours else ["--url-addr", server.authority]
            command = [*peers.fill(client.argv, self.programs), *target, "--size", size, *self.window()]
            if client.is_ours:
                command += ["--json", "-"]
            found = json.loads(run_load(command, self.timeout_s()))
        finally:
            stop(server)
        return {"round_trips_per_s": found["rate_per_s"]} | {
            f"latency_{name}_us": found["latency_us"][name] for name in ("p50", "p99", "p99.9")
        }

    def measure_fan_out(self, run):
        argv = peers.fill(peers.server(run.peer).fan_out, self.programs)
        return self.fan_out(run.peer, argv, *run.case.split("x"))

    def fan_out(self, name, argv, subscribers, size, *flags):
        def load(server):
            return json.loads(run_load([
                self.programs["fan_out_load"], "--url-addr", server.authority, "--server-pid", server.pid,
                "--subscribers", subscribers, "--size", size, *flags, *self.window(),
            ], self.timeout_s()))

        return self.loaded(name, argv, load)

    def measure_topics(self, run):
        cell = Cell.parse(run.case)
        peer = peers.server(run.peer)

        def load(server):
            command = [
                self.programs["picows"], "load", f"ws://{server.authority}/topic/bench", "--mode", "fan-out",
                "--subscribers", cell.connections, "--pipeline", cell.pipeline, "--size", cell.size_bytes,
                "--server-pid", server.pid, *self.window(2), "--drain-timeout", "2s", "--json", "-",
            ]
            # 1 says that there were gaps or errors: then the figures say so as well.
            found = json.loads(run_load(command, self.timeout_s() + 5, lambda status: status in (0, 1)))
            if not found["deliveries"]:
                raise Failure(found.get("first_error") or "no delivery")
            return {
                "server_cpu_us_per_delivery": found["server_cpu_us_per_delivery"],
                "deliveries_per_s": found["deliveries_per_s"],
                "half_p50_us": found["latency_half_us"]["p50"],
                "all_p50_us": found["latency_all_us"]["p50"],
                "gaps": found["gaps"],
                "errors": found["errors"],
            }

        return self.loaded(run.peer, peers.fill(peer.topics or peer.fan_out, self.programs), load)

    def measure_topics_cost(self, run):
        what, subscribers = run.case.split("-")
        argv = peers.fill(peers.server(run.peer).topics_cost, self.programs)
        # It has two workers of its own, and the load's core for all of it.
        command = [*argv, "--what", what, "--subscribers", subscribers]
        return json.loads(run_load(command, self.timeout_s() + 180))

    def measure_connect(self, run):
        def load(server):
            return json.loads(run_load([
                self.programs["handshake_load"], "--url-addr", server.authority, "--server-pid", server.pid,
                "--at-a-time", run.case, *self.window(),
            ], self.timeout_s()))

        return self.loaded(run.peer, self.echo_argv(run.peer, OPEN_CELL), load)

    def measure_restart(self, run):
        def argv(address):
            return [address if word == peers.LISTEN[1] else word for word in self.echo_argv(run.peer, OPEN_CELL)]

        return restart.measure(
            run.case, run.peer, argv, self.programs["picows"], self.window(4), self.settings.warmup_s, self.timeout_s() + 5
        )

    def measure_tls(self, run):
        cell, packing = run.case.split("-")
        cell = Cell.parse(cell)

        def load(server):
            argv = self.load_argv(server, run.peer, cell) + self.window() + ["--tls"]
            argv += ["--record-each"] if packing == "each" else []
            return json.loads(run_load(argv, self.timeout_s()))

        figures = self.loaded(run.peer, self.tls_argv(run.peer), load)
        if not figures.get("messages"):
            raise Failure(f"no message in {self.settings.duration_s} s")
        return figures

    def measure_tls_connect(self, run):
        def load(server):
            return json.loads(run_load([
                self.programs["handshake_load"], "--url-addr", server.authority, "--server-pid", server.pid,
                "--at-a-time", run.case, "--tls", *self.window(),
            ], self.timeout_s()))

        return self.loaded(run.peer, self.tls_argv(run.peer), load)

    def measure_tls_idle(self, run):
        return self.measure_idle(run, self.tls_argv(run.peer), open_idle_secure)

    def measure_idle(self, run, argv=None, open_idle=None):
        open_idle = open_idle or open_idle_plain
        server = start(run.peer, argv or self.echo_argv(run.peer, OPEN_CELL))
        try:
            close_all(open_idle(server.authority, WARM_UP_CONNECTIONS))
            machine.settle(server.pid)
            before = server.resident_bytes()
            held = open_idle(server.authority, int(run.case))
            try:
                machine.settle(server.pid)
                after = server.resident_bytes()
            finally:
                close_all(held)
        finally:
            stop(server)
        return {
            "bytes_per_connection": (after - before) / int(run.case),
            "resident_before_bytes": float(before),
        }


def concise(value):
    """Five digits are more than any of these figures is good for."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def highest_rate(record):
    """Of all servers, each with the median of its rounds."""
    rates = (record.values("peak", "64x1x256", name, "messages_per_s") for name in record.peers("peak"))
    return max((statistics.median(some) for some in rates if some), default=None)


def count_syscalls(pid, load, timeout_s):
    """System calls of a process while a load runs: counted by perf, or by strace, which slows it down."""
    with tempfile.NamedTemporaryFile("r") as counted:
        if shutil.which("perf"):
            command = ["perf", "stat", "-x", ",", "-e", "raw_syscalls:sys_enter", "-p", str(pid), "-o", counted.name]
            figures = json.loads(run_load([*command, "--", *pinned(CORE_LOAD, load)], timeout_s))
            lines = [line.split(",") for line in counted.read().splitlines()]
            count = next((int(line[0]) for line in lines if line[0].isdigit()), None)
            if count is not None:
                return {"syscalls": count, "messages": figures["messages"], "counted_by": "perf"}
        if not shutil.which("strace"):
            raise Failure("neither perf nor strace can count system calls here")
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", counted.name, "-p", str(pid)], stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.3)  # It does not say when it has attached.
            figures = json.loads(run_load(load, timeout_s))
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait()
        count = parse_strace(counted.read())
        return {"syscalls": count, "messages": figures["messages"], "counted_by": "strace"}


def parse_strace(text):
    """The number of calls in the last line of `strace -c`."""
    for line in reversed(text.splitlines()):
        fields = line.split()
        if fields and fields[-1] == "total":
            return int(fields[3])
    raise Failure("strace counted nothing")


UPGRADE = (
    "GET / HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# A masked binary frame of 32 bytes (the key is zero), and its echo.
MESSAGE = bytes([0x82, 0x80 | 32, 0, 0, 0, 0]) + bytes(range(32))
ECHO = bytes([0x82, 32]) + bytes(range(32))


def open_idle_plain(address, count):
    return open_idle(address, count, lambda connection: connection)


def open_idle_secure(address, count):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return open_idle(address, count, context.wrap_socket)


def open_idle(address, count, wrap):
    """Connections that have said one thing each and will not say more."""
    host, port = address.split(":")
    request = UPGRADE.format(address).encode()
    held = []
    try:
        for _ in range(count):
            connection = socket.create_connection((host, int(port)), timeout=5)
            held.append(connection)
            # Reset when closed: no port is left waiting.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection = held[-1] = wrap(connection)
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                part = connection.recv(4096)
                if not part:
                    raise Failure(f"the handshake of connection {len(held)} failed: {answer[:100]!r}")
                answer += part
            connection.sendall(MESSAGE)
            echo = b""
            while len(echo) < len(ECHO):
                part = connection.recv(4096)
                if not part:
                    raise Failure(f"connection {len(held)} got no echo")
                echo += part
            if echo != ECHO:
                raise Failure(f"connection {len(held)} got a wrong echo: {echo!r}")
    except (OSError, Failure) as error:
        close_all(held)
        raise Failure(f"after {len(held)} connections: {error}") from None
    return held


def close_all(connections):
    for connection in connections:
        connection.close()


def has_flag(program, command, flag):
    """Whether a client knows a flag and does not refuse it."""
    done = subprocess.run(
        [program, command, "--help"], capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "300"}
    )
    lines = done.stdout.split(flag, 1)
    return len(lines) == 2 and "Refused" not in lines[1][:60]
