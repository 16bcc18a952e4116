"""Loops, and a server and a client that tests have in common."""

import asyncio
import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import uvloop

import picows_uring as picows

PACKAGE = Path(picows.__file__).resolve().parent.parent
PATIENCE_S = 20


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine in a loop of its own, and ends that."""

    def run(coroutine):
        runner = asyncio.run if request.param == "asyncio" else uvloop.run
        return runner(asyncio.wait_for(coroutine, PATIENCE_S))

    return run


@pytest.fixture
def run_script(tmp_path):
    """Runs Python code in a process of its own; asserts its exit status and returns what it printed."""

    def run_script(code, status=0, arguments=()):
        script = tmp_path / "script.py"
        script.write_text(HEAD + textwrap.dedent(code))
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", str(script), *arguments],
            env={"PYTHONPATH": str(PACKAGE), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        assert done.returncode == status, f"status {done.returncode}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    return run_script


HEAD = """
import asyncio, os, sys
import picows_uring as picows


class Echo(picows.WSListener):
    def on_ws_frame(self, transport, frame):
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_bytes())


async def serve(factory=lambda request: Echo()):
    server = await picows.ws_create_server(factory, "127.0.0.1", 0)
    return server, f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


"""


class Echo(picows.WSListener):
    """Sends frames back, and answers CLOSE."""

    def on_ws_frame(self, transport, frame):
        if frame.msg_type == picows.WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview(), frame.fin)


class Collector(picows.WSListener):
    """Collects payloads in a queue."""

    def __init__(self):
        self.queue = asyncio.Queue()
        self.calls = []

    def on_ws_connected(self, transport):
        self.calls.append("connected")
        self.transport = transport

    def on_ws_frame(self, transport, frame):
        self.calls.append("frame")
        self.queue.put_nowait((frame.msg_type, frame.get_payload_as_bytes()))

    def on_ws_disconnected(self, transport):
        self.calls.append("disconnected")


@contextlib.asynccontextmanager
async def served(factory=lambda request: Echo(), **settings):
    """A server; yields its URL."""
    server = await picows.ws_create_server(factory, "127.0.0.1", 0, **settings)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def connected(url, factory=Collector, **settings):
    """A client; yields its transport and listener."""
    transport, listener = await picows.ws_connect(factory, url, **settings)
    try:
        yield transport, listener
    finally:
        transport.disconnect(False)
        with contextlib.suppress(Exception):
            await transport.wait_disconnected()
