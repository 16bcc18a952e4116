"""`picows connect` through the proxy of Python's pproxy."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import foreign_module
from echo_server import environment
from server import Server, binary
from test_tls import certificates  # noqa: F401 (a fixture)

SERVERS = Path(__file__).parent / "servers"
USER = "USER:SECRET"

foreign_module("pproxy")


@contextlib.contextmanager
def proxy(*user):
    """A proxy for as long as it is needed: HOST:PORT."""
    command = [sys.executable, str(SERVERS / "proxy_pproxy.py"), *user]
    started = Server(command, name="the proxy pproxy")
    try:
        yield started.endpoints[0].authority
        started.check_running()
    finally:
        started.kill()


def connect(url, *arguments, text="hello\n", **variables):
    """What `picows connect` wrote and how it ended; it never shows a password."""
    outcome = subprocess.run(
        [binary(), "connect", url, *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60.0,
        env={**environment("trace"), **variables},
    )
    assert "SECRET" not in outcome.stdout + outcome.stderr
    return outcome


def echoes(url, *arguments, **variables):
    text = "".join(f"line {number}\n" for number in range(500))
    outcome = connect(url, *arguments, text=text, **variables)
    assert outcome.returncode == 0, outcome.stderr
    assert outcome.stdout == text


@pytest.mark.parametrize("scheme", ["http", "socks4", "socks5", "socks5h"])
def test_every_scheme_leads_to_the_server(server, scheme):
    with proxy() as gate:
        echoes(server.url, "--proxy", f"{scheme}://{gate}")
        port = server.endpoints[0].address[1]
        echoes(f"ws://localhost:{port}/", "--proxy", f"{scheme}://{gate}")


@pytest.mark.parametrize("scheme", ["http", "socks5h"])
def test_a_password_is_given_when_it_is_asked_for(server, scheme):
    with proxy(USER) as gate:
        for credentials in ("", "USER:WRONG-SECRET@"):
            refused = connect(server.url, "--proxy", f"{scheme}://{credentials}{gate}")
            assert refused.returncode == 1, refused.stderr
            assert f"the proxy {scheme}://{gate}: " in refused.stderr
            assert "user and password" in refused.stderr
        echoes(server.url, "--proxy", f"{scheme}://{USER}@{gate}")


def test_the_environment_names_the_proxy(server):
    with proxy(USER) as gate:
        echoes(server.url, http_proxy=f"http://{USER}@{gate}")
        echoes(server.url, ALL_PROXY=f"{USER}@{gate}", no_proxy="example.com")
    # It is gone.
    outcome = connect(server.url, http_proxy=f"http://{USER}@{gate}")
    assert outcome.returncode == 1
    assert f"the proxy http://{gate} of the variable http_proxy: no address answered" in outcome.stderr
    echoes(server.url, http_proxy=f"http://{USER}@{gate}", NO_PROXY="127.0.0.0/8")
    echoes(server.url, https_proxy=f"http://{USER}@{gate}")


def test_a_proxy_in_tls(server, start_server, certificates):  # noqa: F811
    secure = start_server(*certificates.flags)
    with proxy("--tls", *certificates.server) as gate:
        gate = gate.replace("127.0.0.1", "localhost")
        trust = ["--proxy-ca", certificates.roots]
        echoes(server.url, "--proxy", f"https://{gate}", *trust)
        echoes(secure.url, "--proxy", f"https://{gate}", *trust, "--tls-ca", certificates.roots)
        echoes(secure.url, *trust, "--tls-ca", certificates.roots, https_proxy=f"https://{gate}")
        refused = connect(server.url, "--proxy", f"https://{gate}")
        assert refused.returncode == 1
        assert f"the proxy https://{gate}: " in refused.stderr and "--proxy-ca" in refused.stderr
    with proxy(USER, "--tls", *certificates.server) as gate:
        gate = gate.replace("127.0.0.1", "localhost")
        echoes(server.url, "--proxy", f"https://{USER}@{gate}", *trust)
