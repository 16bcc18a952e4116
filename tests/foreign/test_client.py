"""Our client against servers of others: each echo, ping and goodbye is checked by the example."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import missing
from server import REPOSITORY, Server

SERVERS = Path(__file__).parent / "servers"
SIZES = [0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 8 << 20]
LIMIT_S = 60.0


def example(name):
    """The path of one of our examples."""
    named = os.environ.get("PICOWS_EXAMPLES")
    target = Path(os.environ.get("CARGO_TARGET_DIR", REPOSITORY / "target"))
    folders = [Path(named)] if named else [target / "release/examples", target / "debug/examples"]
    for folder in folders:
        if (folder / name).is_file():
            return str(folder / name)
    raise FileNotFoundError(
        f"no example {name} in {' or '.join(map(str, folders))}: "
        "run scripts/test, or `cargo build --release -p examples --examples`"
    )


def command_of(name):
    """How the server `name` is started, or a word on what is missing."""
    if name == "ws":
        modules = REPOSITORY / ".tools/node/node_modules"
        node = shutil.which("node")
        if node is None or not (modules / "ws").is_dir():
            missing("node ws", "run scripts/test, which installs it")
        return [node, str(SERVERS / "echo_ws.js")], {"NODE_PATH": str(modules)}
    probe = subprocess.run([sys.executable, "-c", f"import {name}"], capture_output=True, text=True, timeout=30)
    if probe.returncode != 0:
        missing(name, f"run scripts/test, which installs it ({probe.stderr.strip().splitlines()[-1]})")
    return [sys.executable, str(SERVERS / f"echo_{name}.py")], {}


@contextlib.contextmanager
def running(name):
    """A server of others, for as long as it is needed: its URL."""
    command, environment = command_of(name)
    server = Server(command, name=f"the server on {name}", env={**os.environ, **environment})
    try:
        yield server.url
        server.check_running()
    finally:
        server.kill()


@pytest.fixture(scope="module", params=["websockets", "aiohttp", "picows", "ws"])
def echo_url(request):
    with running(request.param) as url:
        yield url


def run_example(name, *arguments):
    command = [example(name), *map(str, arguments)]
    outcome = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
    assert outcome.returncode == 0, f"{command} ended with {outcome.returncode}:\n{outcome.stderr}"
    return outcome.stdout.splitlines()


def test_every_size_comes_back(echo_url):
    lines = run_example("echo_client", echo_url, *SIZES)
    assert len(lines) == 2 * len(SIZES) + 1
    assert all(line.endswith("as it was sent") for line in lines)


def test_one_connection_after_the_other(echo_url):
    for _ in range(20):
        run_example("echo_client", echo_url, 5)


@pytest.mark.parametrize("name", ["echo_client_async_iteration", "echo_client_tasks", "echo_client_threaded"])
def test_other_ways_to_write_a_client(echo_url, name):
    assert len(run_example(name, echo_url, 50)) == 50


def test_connecting_again(echo_url):
    lines = run_example("reconnecting_client", echo_url, 3)
    assert lines == [f"subscribe, connection {number}" for number in (1, 2, 3)]
