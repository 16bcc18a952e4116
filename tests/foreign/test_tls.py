"""TLS: foreign clients over `wss://` against ours, and our client against foreign servers."""

import asyncio
import os
import shutil
import signal
import ssl
import subprocess
from pathlib import Path

import pytest
from conftest import foreign_module, missing
from echo_server import environment
from server import REPOSITORY, Server, binary
from test_client import SIZES, command_of, example
from test_curl import upgrade
from test_websocat import bytes_through, lines_through
from wire import eventually

foreign_module("websockets")
aiohttp = foreign_module("aiohttp")
from websockets.asyncio.client import connect  # noqa: E402
from websockets.exceptions import InvalidMessage  # noqa: E402

CLIENTS = Path(__file__).parent / "clients"
LIMIT_S = 60.0
MESSAGES = 200


class Certificates:
    """What scripts/dev-cert has made."""

    def __init__(self, folder):
        subprocess.run([REPOSITORY / "scripts/dev-cert", folder], check=True, capture_output=True)
        self.roots = str(folder / "ca.pem")
        self.server = [str(folder / "server.crt"), str(folder / "server.key")]
        self.client = [str(folder / "client.crt"), str(folder / "client.key")]

    @property
    def flags(self):
        """Of `picows echo`."""
        return ["--tls-cert", self.server[0], "--tls-key", self.server[1]]

    def context(self, version=None, client=False):
        """Of a client."""
        context = ssl.create_default_context(cafile=self.roots)
        if version is not None:
            context.minimum_version = context.maximum_version = version
        if client:
            context.load_cert_chain(*self.client)
        return context

    @property
    def environment(self):
        """For programs that trust the roots of the system: for them these are."""
        return {**environment("info"), "SSL_CERT_FILE": self.roots}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    if shutil.which("openssl") is None:
        missing("openssl", "install the system's package `openssl`")
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def wss(start_server, certificates):
    server = start_server(*certificates.flags)
    assert server.url.startswith("wss://")
    return server


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, LIMIT_S))


async def exchange(ws):
    """Messages of every size, many at once, and CLOSE, with websockets."""
    for size in SIZES:
        for message in (os.urandom(size), "z" * size):
            await ws.send(message)
            assert await ws.recv() == message

    async def send():
        for number in range(MESSAGES):
            await ws.send(f"message {number}")

    sending = asyncio.create_task(send())
    for number in range(MESSAGES):
        assert await ws.recv() == f"message {number}"
    await sending
    await ws.close(3000, "done")
    assert (ws.close_code, ws.close_reason) == (3000, "done")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_websockets(wss, certificates, version):
    async def session():
        context = certificates.context(version)
        async with connect(wss.url, ssl=context, max_size=None, proxy=None, compression=None) as ws:
            assert ws.transport.get_extra_info("ssl_object").version() == version.name.replace("v1_", "v1.")
            await exchange(ws)

    run(session())


def test_websockets_with_compression(start_server, certificates):
    server = start_server(*certificates.flags, "--deflate")

    async def session():
        async with connect(server.url, ssl=certificates.context(), max_size=None, proxy=None) as ws:
            assert "permessage-deflate" in ws.response.headers["Sec-WebSocket-Extensions"]
            await exchange(ws)

    run(session())


def test_a_certificate_of_the_client(start_server, certificates):
    server = start_server(*certificates.flags, "--tls-client-ca", certificates.roots)

    async def session(**options):
        context = certificates.context(**options)
        async with connect(server.url, ssl=context, proxy=None, compression=None) as ws:
            await ws.send("hello")
            assert await ws.recv() == "hello"

    run(session(client=True))
    # The alert comes behind the client's handshake, from TLS 1.3 on.
    with pytest.raises((InvalidMessage, OSError)):
        run(session())
    eventually(lambda: "the client sent no certificate" in server.stderr, "the cause is in the log")
    run(session(client=True))


def test_aiohttp(wss, certificates):
    async def session():
        url = wss.url.replace("wss:", "https:")
        async with aiohttp.ClientSession() as http:
            async with http.ws_connect(url, ssl=certificates.context(), max_msg_size=0) as ws:
                for size in SIZES:
                    message = os.urandom(size)
                    await ws.send_bytes(message)
                    assert await ws.receive_bytes() == message
                assert await ws.close(code=3000)
                assert ws.close_code == 3000

    run(session())


@pytest.mark.parametrize("library", ["ws", "undici"])
def test_clients_of_node(wss, certificates, library):
    modules = REPOSITORY / ".tools/node/node_modules"
    node = shutil.which("node")
    if node is None or not (modules / library).is_dir():
        missing(f"{library} of node", "run scripts/test, which installs it")
    done = subprocess.run(
        [node, CLIENTS / "echo_node.js", library, wss.url, certificates.roots, *map(str, SIZES)],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        env={**os.environ, "NODE_PATH": str(modules)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{2 * len(SIZES)} messages\n"


def curl_head(curl, *arguments):
    """The head of the answer; curl itself would stay on an upgraded connection."""
    # Into a pipe, curl writes a head when its buffer is full or the connection ends.
    unbuffered = ["stdbuf", "--output=0", curl]
    command = [*unbuffered, "-sS", "-i", "-N", "--noproxy", "*", "--http1.1", "--max-time", "30", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    lines = []
    try:
        for line in process.stdout:
            if not line.strip():
                break
            lines.append(line.strip())
    finally:
        process.kill()
        _, complaint = process.communicate()
    return lines, complaint


def test_curl(curl, wss, certificates):
    url = wss.endpoint.http
    lines, complaint = curl_head(curl, "--cacert", certificates.roots, url + "/healthz")
    assert lines and lines[0].startswith("HTTP/1.1 200"), complaint
    lines, complaint = curl_head(curl, "--cacert", certificates.roots, *upgrade(), url + "/")
    assert lines and lines[0].startswith("HTTP/1.1 101"), complaint
    # Its own roots do not know the authority.
    lines, complaint = curl_head(curl, url + "/healthz")
    assert not lines and "certificate" in complaint
    # In clear, the answer names the scheme of the port.
    lines, complaint = curl_head(curl, url.replace("https:", "http:") + "/healthz")
    assert lines and lines[0].startswith("HTTP/1.1 400"), complaint


def test_websocat(websocat, wss, certificates, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", certificates.roots)
    url = wss.url.replace("127.0.0.1", "localhost")
    lines = [f"line {number}" for number in range(1000)]
    assert lines_through(websocat, url, lines) == lines
    data = os.urandom(1 << 20)
    assert bytes_through(websocat, url, data) == data
    # It verifies: without the roots it does not connect.
    monkeypatch.delenv("SSL_CERT_FILE")
    done = subprocess.run([websocat, "-n1", url], input=b"x\n", capture_output=True, timeout=LIMIT_S)
    assert done.returncode != 0 and b"certificate" in done.stderr, done.stderr


@pytest.mark.parametrize("name", ["websockets", "aiohttp", "picows", "ws"])
def test_our_client(certificates, name):
    command, more = command_of(name)
    with Server([*command, *certificates.server], name=f"the server on {name}", env={**os.environ, **more}) as server:
        done = subprocess.run(
            [example("echo_client"), server.url, *map(str, SIZES)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            env=certificates.environment,
        )
        assert done.returncode == 0, done.stderr
        assert len(done.stdout.splitlines()) == 2 * len(SIZES) + 1
        # It verifies.
        refused = subprocess.run(
            [binary(), "connect", server.url], input="", capture_output=True, text=True, timeout=LIMIT_S,
            env={**environment("info"), "SSL_CERT_FILE": certificates.server[0]},
        )
        assert refused.returncode == 1, refused.stderr
        assert "certificate" in refused.stderr


def test_a_reload_cuts_no_connection(start_server, certificates):
    server = start_server(*certificates.flags)

    async def session():
        options = {"ssl": certificates.context(), "proxy": None, "compression": None}
        async with connect(server.url, **options) as ws:
            server.signal(signal.SIGHUP)
            eventually(lambda: "certificates read again" in server.stderr, lambda: server.stderr)
            await ws.send("still there")
            assert await ws.recv() == "still there"
            async with connect(server.url, **options) as other:
                await other.send("new")
                assert await other.recv() == "new"

    run(session())
