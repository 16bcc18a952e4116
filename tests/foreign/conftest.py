"""Fixtures: servers, connections to them, and the foreign clients that are programs.

A missing client fails where CI=true and is skipped, by name, elsewhere.
"""

import contextlib
import importlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from echo_server import EchoServer
from server import REPOSITORY
from wire import Peer


SERVERS = []

# Clients obey these; a test that wants one sets it.
for variable in ("ws_proxy", "wss_proxy", "http_proxy", "https_proxy", "all_proxy", "no_proxy"):
    os.environ.pop(variable, None)
    os.environ.pop(variable.upper(), None)


def missing(client, cure):
    word = f"{client} cannot be had: {cure}"
    if os.environ.get("CI") == "true":
        pytest.fail(word, pytrace=False)
    pytest.skip(word)


def foreign_module(name):
    """A Python client; a whole file of tests is skipped where it is missing."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        word = f"{name} cannot be had ({error}): run scripts/test, which installs it"
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(word, allow_module_level=True)


def node(package):
    """The command of Node, and its environment, where it has the package."""
    command, modules = shutil.which("node"), REPOSITORY / ".tools/node/node_modules"
    if command is None or not (modules / package).is_dir():
        missing(f"node {package}", "run scripts/test, which installs it")
    return command, {**os.environ, "NODE_PATH": str(modules)}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item):
    """Shows the last words of the servers a failed test used."""
    report = yield
    if report.failed:
        for running in SERVERS:
            title = f"standard error of {' '.join(running.command)}"
            report.sections.append((title, "\n".join(running.stderr_lines[-30:])))
    return report


@pytest.fixture(scope="session")
def server():
    """The server most tests share: defaults, two workers."""
    running = EchoServer()
    SERVERS.append(running)
    yield running
    running.stop()


@pytest.fixture
def start_server():
    """Starts servers with flags of a test's own, and ends them with it."""
    with contextlib.ExitStack() as ending:

        def start(*flags, **how):
            running = EchoServer(*flags, **how)
            SERVERS.append(running)
            ending.callback(SERVERS.remove, running)
            ending.callback(running.stop)
            return running

        yield start


@pytest.fixture
def connect(server):
    """Opens plain connections to the shared server, and closes them with the test."""
    opened = []

    def open_one(to=None):
        peer = Peer((to or server).endpoint)
        opened.append(peer)
        return peer

    yield open_one
    for peer in opened:
        peer.sock.close()


@pytest.fixture
def peer(connect):
    """An upgraded connection to the shared server."""
    return connect().upgrade()


@pytest.fixture(scope="session")
def websocat():
    """The path of websocat 1.x."""
    own = REPOSITORY / ".tools/bin/websocat"
    found = str(own) if own.is_file() else shutil.which("websocat")
    if found is None:
        missing("websocat", "run scripts/test, which installs it")
    version = subprocess.run([found, "--version"], capture_output=True, text=True, timeout=30).stdout
    assert version.startswith("websocat 1."), f"these tests speak websocat 1.x, not {version.strip()}"
    return found


@pytest.fixture(scope="session")
def curl():
    found = shutil.which("curl")
    if found is None:
        missing("curl", "install the system's package `curl`")
    return found


@pytest.fixture
def socket_path(tmp_path_factory):
    """A path short enough for sun_path (108 bytes)."""
    path = Path(tmp_path_factory.mktemp("s")) / "p.sock"
    assert len(str(path)) < 100, f"set TMPDIR to a shorter path than {path}"
    return path
