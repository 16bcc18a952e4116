"""Automatic pings, as clients that are not ours see them, and clients that do not answer."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import foreign_module, missing
from echo_server import run_to_end
from server import Server, binary
from wire import BINARY, CLOSE, PING, PONG, TEXT, Frame, Gone, Peer, close_payload, encode, eventually

foreign_module("websockets")
from websockets.asyncio.client import connect as websockets_connect  # noqa: E402
from websockets.asyncio.server import serve  # noqa: E402

LIMIT_S = 60
IDLE_S, REPLY_S = 1.0, 1.0
# What a busy machine may add to a deadline. The deadlines themselves are checked to the nanosecond
# with a virtual clock, in Rust.
GRACE_S = 30.0


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT_S))


def ends(server):
    """The lines of the log that tell how connections ended."""
    return [line for line in list(server.stderr_lines) if re.search(r"\bdisconnected\b", line)]


def expect_dropped(server, since):
    """One connection was given up, in time, and that was told once."""
    eventually(lambda: ends(server), lambda: f"no disconnect in {server.stderr}", IDLE_S + REPLY_S + GRACE_S)
    took = time.monotonic() - since
    assert took > IDLE_S + REPLY_S - 0.1, f"too early, after {took} s"
    server.stop()
    assert len(ends(server)) == 1, ends(server)
    assert "the peer did not answer a ping in time" in ends(server)[0]
    silent = [line for line in server.stderr_lines if "no pong within" in line]
    assert len(silent) == 1, silent


def auto_ping(idle=IDLE_S, reply=REPLY_S):
    return ("--auto-ping", f"{int(idle * 1000)}ms,{int(reply * 1000)}ms")


# Clients that answer


def test_a_client_of_the_websockets_package_lives_through_several_pings(start_server):
    server = start_server(*auto_ping(1.5, 1.5), "--auto-ping-strategy", "periodic", log="info,picows_uring=debug")

    def pings():
        return sum("pinging" in line for line in list(server.stderr_lines))

    async def live():
        async with websockets_connect(server.url, proxy=None, compression=None, ping_interval=None) as ws:
            while pings() < 3:
                await ws.send("still there?")
                assert await ws.recv() == "still there?"
                await asyncio.sleep(0.01)

    run(live())
    server.stop()
    assert not [line for line in server.stderr_lines if "no pong" in line]


def test_a_raw_client_that_answers_is_pinged_with_another_number_each_time(start_server):
    server = start_server(*auto_ping())
    with Peer(server.endpoint) as peer:
        peer.upgrade()
        numbers = set()
        for _ in range(3):
            frame = peer.receive()
            assert frame.opcode == PING and len(frame.payload) == 8
            numbers.add(frame.payload)
            peer.send_frame(PONG, frame.payload)
        assert len(numbers) == 3
        peer.send_frame(CLOSE, close_payload(1000))
        peer.expect_close(1000)


def test_data_keeps_a_client_from_being_pinged(start_server):
    server = start_server(*auto_ping(1.0, 1.0), log="info,picows_uring=debug")
    with Peer(server.endpoint) as peer:
        longest_pause, last = 0.0, time.monotonic()
        until = last + 2.5
        peer.upgrade()
        while last < until:
            peer.echo()
            longest_pause, last = max(longest_pause, time.monotonic() - last), time.monotonic()
    # Unless the machine was so busy that there was no data either.
    assert "pinging" not in server.stderr or longest_pause > 0.9


# Clients that do not


def test_a_client_that_does_not_answer_gets_a_ping_a_close_and_the_end(start_server):
    server = start_server(*auto_ping())
    with Peer(server.endpoint) as peer:
        since = time.monotonic()
        peer.upgrade()
        assert peer.receive().opcode == PING
        peer.expect_close(1001, "no pong within 1s")
        peer.expect_end_unaided()
        expect_dropped(server, since)


def test_a_pong_with_the_wrong_number_is_no_answer(start_server):
    server = start_server(*auto_ping())
    with Peer(server.endpoint) as peer:
        since = time.monotonic()
        peer.upgrade()
        frame = peer.receive()
        peer.send_frame(PONG, bytes(byte ^ 1 for byte in frame.payload))
        peer.send_frame(PONG, b"")
        peer.expect_close(1001)
        expect_dropped(server, since)


def test_a_client_that_stops_reading_is_dropped_with_all_that_is_queued_for_it(start_server):
    server = start_server(*auto_ping())
    with Peer(server.endpoint) as peer:
        peer.upgrade()
        # Echoes of 24 MB: more than the sockets hold, and less than the limit of the queue.
        since = time.monotonic()
        peer.send(encode(BINARY, bytes(8 << 20)) * 3)
        expect_dropped(server, since)
        with pytest.raises(Gone):
            while True:
                peer.receive()


SLEEPER = """
import socket, sys
from wire import Peer
from server import Endpoint
peer = Peer(Endpoint(socket.AF_INET, (sys.argv[1], int(sys.argv[2]))), timeout=None)
peer.upgrade().echo()
print("ready", flush=True)
peer.rest()
"""


def test_a_client_stopped_with_sigstop_is_dropped(start_server):
    server = start_server(*auto_ping())
    host, port = server.endpoint.address
    command = [sys.executable, "-c", SLEEPER, host, str(port)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    since = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as client:
        try:
            assert client.stdout.readline() == "ready\n"
            client.send_signal(signal.SIGSTOP)
            expect_dropped(server, since)
        finally:
            client.kill()


# Slowness that is no silence


def test_a_client_that_reads_slowly_is_not_dropped(start_server):
    """It sends nothing, and gets to the pings only behind 24 MB, of which it takes 4 MB a second.

    Of these the kernel holds up to 4 MB, and a busy machine makes it slower than that.
    """
    server = start_server(*auto_ping(2.5, 2.5))
    with Peer(server.endpoint) as peer:
        # What the kernel has taken for it is taken, as far as the server can know: a little.
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 17)
        peer.upgrade()
        message = encode(BINARY, bytes(8 << 20))
        peer.send(message * 3)
        missing_bytes = 3 * (10 + (8 << 20))
        while missing_bytes > 0:
            part = peer.sock.recv(min(missing_bytes, 1 << 17))
            assert part, f"dropped with {missing_bytes} bytes to go"
            missing_bytes -= len(part)
            time.sleep(len(part) / 4e6)
        peer.send_frame(TEXT, b"done")
        while (frame := peer.receive()).opcode == PING:
            peer.send_frame(PONG, frame.payload)
        assert frame == Frame(TEXT, b"done")
        assert not ends(server), ends(server)


def test_a_server_that_was_stopped_does_not_blame_its_clients(start_server):
    """All have answered while it slept; the kernel brings the answers a few at a time."""
    server = start_server(*auto_ping(2.0, 2.0), workers=1)
    peers = [Peer(server.endpoint).upgrade() for _ in range(100)]
    try:
        pings = [peer.receive() for peer in peers]
        server.signal(signal.SIGSTOP)
        for peer, ping in zip(peers, pings, strict=True):
            assert ping.opcode == PING
            peer.send_frame(PONG, ping.payload)
        time.sleep(2.5)
        server.signal(signal.SIGCONT)
        for number, peer in enumerate(peers):
            peer.send_frame(TEXT, b"still there?")
            while (frame := peer.receive()).opcode == PING:
                peer.send_frame(PONG, frame.payload)
            assert frame == Frame(TEXT, b"still there?"), f"{number}: {frame}"
        assert not ends(server), ends(server)
    finally:
        server.signal(signal.SIGCONT)
        for peer in peers:
            peer.sock.close()


# Examples


def example(name):
    path = Path(binary()).parent / "examples" / name
    if not path.is_file():
        missing(f"the example {name}", "run scripts/test, or `cargo build --release -p examples --examples`")
    return str(path)


def test_a_client_of_an_exchange_answers_text_with_text():
    command = [example("auto_ping_text"), "127.0.0.1:0", "1.5", "1.5"]
    with Server(command) as server:

        async def trade():
            async with websockets_connect(server.url, proxy=None, compression=None, ping_interval=None) as ws:
                for _ in range(2):
                    assert await ws.recv() == "ping"
                    await ws.send("pong")
                await ws.send("ping")
                assert await ws.recv() == "pong"
                await ws.send("buy 7")
                assert await ws.recv() == "buy 7"
                # And now no answer.
                assert await ws.recv() == "ping"
                await ws.wait_closed()
                assert ws.close_code == 1001 and ws.close_reason == "no pong within 1.5s"

        run(trade())


def test_a_feed_that_pings_in_json_is_answered_and_answers():
    async def feed():
        served = asyncio.get_running_loop().create_future()

        async def serve_one(ws):
            await ws.send(json.dumps({"op": "ping"}))
            heard = []
            while heard.count("ping") < 3:
                heard.append(json.loads(await ws.recv())["op"])
                if heard[-1] == "ping":
                    await ws.send(json.dumps({"op": "pong", "number": len(heard)}))
            await ws.close()
            served.set_result(heard)

        async with serve(serve_one, "127.0.0.1", 0, ping_interval=None) as server:
            port = server.sockets[0].getsockname()[1]
            url = f"ws://127.0.0.1:{port}/"
            client = await asyncio.create_subprocess_exec(
                example("auto_ping_json"), url, "1.5", "1.5", stdout=subprocess.PIPE
            )
            out, _ = await client.communicate()
            heard = await served
        assert heard.count("pong") == 1 and heard.count("ping") == 3
        lines = out.decode().splitlines()
        assert lines[:3] == ["pong 1", "pong 2", "pong 3"]
        assert lines[3] == "disconnected: the connection was closed"
        assert client.returncode == 0

    run(feed())


def test_round_trips_to_a_foreign_server_are_measured():
    async def serve_and_measure():
        async def read(ws):
            async for _ in ws:
                pass

        async with serve(read, "127.0.0.1", 0, ping_interval=None) as server:
            port = server.sockets[0].getsockname()[1]
            client = await asyncio.create_subprocess_exec(
                example("roundtrip_time"), f"ws://127.0.0.1:{port}/", "20", stdout=subprocess.PIPE
            )
            out, _ = await client.communicate()
        lines = out.decode().splitlines()
        assert client.returncode == 0 and len(lines) == 3, lines
        for name, line in zip(("shortest", "median", "longest"), lines, strict=True):
            assert re.fullmatch(rf"{name} of 20: [\d.]+(µs|ms|s)", line), line

    run(serve_and_measure())


# The command line


def test_a_reply_timeout_longer_than_the_idle_timeout_is_refused_with_both():
    done = run_to_end("echo", "--auto-ping", "1s,2s")
    assert done.returncode == 2
    assert "1s" in done.stderr and "2s" in done.stderr and "longer" in done.stderr


@pytest.mark.parametrize("value", ["1s", "soon,1s", "1s,1parsec", "0s,0s", "1s,1s,1s"])
def test_a_bad_auto_ping_is_named(value):
    done = run_to_end("echo", "--auto-ping", value)
    assert done.returncode == 2
    assert value in done.stderr
    assert done.stdout == ""


def test_a_strategy_wants_pings_and_a_name_it_knows():
    assert run_to_end("echo", "--auto-ping-strategy", "periodic").returncode == 2
    done = run_to_end("echo", "--auto-ping", "2s,1s", "--auto-ping-strategy", "now-and-then")
    assert done.returncode == 2
    assert "when-idle" in done.stderr and "periodic" in done.stderr
