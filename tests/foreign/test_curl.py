"""curl: what a plain HTTP client sees."""

import base64
import os
import subprocess

import pytest


def request(curl, url, *flags):
    """Status, headers (lower case) and body of the answer."""
    done = subprocess.run(
        [curl, "-sS", "-i", "--noproxy", "*", "--http1.1", "--max-time", "15", *flags, url],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    head, _, body = done.stdout.partition("\r\n\r\n") if "\r\n\r\n" in done.stdout else done.stdout.partition("\n\n")
    status_line, *lines = head.splitlines()
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(status_line.split()[1]), headers, body


def upgrade(**replace):
    fields = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
    }
    fields.update({name.replace("_", "-"): value for name, value in replace.items()})
    return [flag for name, value in fields.items() if value is not None for flag in ("-H", f"{name}: {value}")]


def test_health_page(curl, server):
    status, headers, _ = request(curl, server.endpoint.http + "/healthz")
    assert status == 200
    assert headers["connection"].lower() == "keep-alive"


@pytest.mark.parametrize(
    "fault, named",
    [
        ({"Sec_WebSocket_Key": None}, "key"),
        ({"Sec_WebSocket_Key": "c2hvcnQ="}, "key"),
        ({"Sec_WebSocket_Key": "!" * 24}, "key"),
        ({"Upgrade": "h2c"}, "upgrade"),
        ({"Connection": "close"}, "connection"),
    ],
    ids=["missing key", "short key", "key not base64", "another upgrade", "connection without upgrade"],
)
def test_a_bad_upgrade_gets_400_and_the_fault_by_name(curl, server, fault, named):
    status, headers, body = request(curl, server.endpoint.http + "/", *upgrade(**fault))
    assert status == 400
    assert headers["connection"].lower() == "close"
    assert "sec-websocket-accept" not in headers
    assert named in body.lower()


@pytest.mark.parametrize("version", ["8", "12", "14"])
def test_another_version_gets_426_and_the_one_we_speak(curl, server, version):
    status, headers, _ = request(curl, server.endpoint.http + "/", *upgrade(Sec_WebSocket_Version=version))
    assert status == 426
    assert headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize("flags", [["-X", "POST"], ["-d", "body=1"], ["-X", "PUT"], ["-X", "OPTIONS"]], ids=" ".join)
def test_only_get_and_head_are_served(curl, server, flags):
    for path, headers in (("/", upgrade()), ("/healthz", [])):
        status, answered, _ = request(curl, server.endpoint.http + path, *flags, *headers)
        assert status == 405
        assert answered["allow"] == "GET, HEAD"


@pytest.mark.parametrize("flags", [["--http1.1"], ["--http1.0"], ["-H", "Host: a:80"]], ids=" ".join)
@pytest.mark.parametrize("head", [False, True], ids=["GET", "HEAD"])
def test_health_checks_of_every_form(curl, server, flags, head):
    status, headers, body = request(curl, server.endpoint.http + "/healthz", *flags, *(["--head"] if head else []))
    assert (status, headers["connection"].lower()) == (200, "close" if "--http1.0" in flags else "keep-alive")
    assert headers["content-length"] in ("17", "20")
    assert body in ([""] if head else ["ok\ndriver: epoll\n", "ok\ndriver: io-uring\n"])


def test_a_body_is_refused(curl, server):
    status, headers, _ = request(curl, server.endpoint.http + "/healthz", "-X", "GET", "-d", "body")
    assert (status, headers["connection"].lower()) == (413, "close")
    flags = ["-X", "GET", "-d", "body", "-H", "Transfer-Encoding: chunked"]
    assert request(curl, server.endpoint.http + "/healthz", *flags)[0] == 411


@pytest.mark.parametrize("path", ["/elsewhere", "/nowhere", "/healthz/../etc/passwd", "/%00"])
def test_a_plain_get_elsewhere_is_refused(curl, server, path):
    status, _, _ = request(curl, server.endpoint.http + path, "--path-as-is")
    assert 400 <= status < 500


def test_health_page_over_a_unix_socket(curl, start_server, socket_path):
    start_server(listen=[f"unix:{socket_path}"])
    status, _, _ = request(curl, "http://localhost/healthz", "--unix-socket", str(socket_path))
    assert status == 200
