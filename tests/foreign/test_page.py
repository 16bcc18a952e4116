"""The page of the echo server, by its HTTP answer and in a browser.

The browser is Chromium without a window, steered over its debugging protocol. Where there is none, its tests are
skipped by name.
"""

import contextlib
import http.client
import itertools
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from conftest import foreign_module
from server import REPOSITORY
from wire import eventually

client = foreign_module("websockets.sync.client")
TIMEOUT_S = 60


def get(server, path="/", method="GET"):
    with contextlib.closing(http.client.HTTPConnection(server.authority, timeout=TIMEOUT_S)) as asking:
        asking.request(method, path)
        answer = asking.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def test_the_page_is_one_file_that_loads_nothing_from_elsewhere(server):
    status, headers, text = get(server)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert text.startswith("<!doctype html>") and len(text) < 16 * 1024
    assert "http://" not in text and "https://" not in text and "src=" not in text
    assert get(server, method="HEAD")[::2] == (200, "")
    assert get(server, "/?query")[0] == 200
    assert get(server, "/other")[0] == 400


def test_without_the_page_a_plain_request_is_refused(start_server):
    assert get(start_server("--no-page"))[0] == 400


@contextlib.contextmanager
def page(url):
    """Opens a page in a browser of its own; yields a function that evaluates an expression in it."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("Chromium is missing: install the package chromium-headless-shell")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                 "--ignore-certificate-errors", "--remote-debugging-port=0", f"--user-data-dir={profile}"]
        # A group of its own: the program may be a script, and what it starts outlives it.
        with subprocess.Popen(
            [program, *flags, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        ) as browser:
            try:
                port_file = Path(profile, "DevToolsActivePort")
                eventually(lambda: port_file.exists() and port_file.read_text().count("\n"), "the browser starts", TIMEOUT_S)
                port = port_file.read_text().split()[0]
                with contextlib.closing(http.client.HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT_S)) as asking:
                    asking.request("GET", "/json/list")
                    (target,) = [it for it in json.load(asking.getresponse()) if it["type"] == "page"]
                with client.connect(target["webSocketDebuggerUrl"], compression=None, max_size=None) as steering:
                    numbers = itertools.count(1)

                    def call(method, **parameters):
                        number = next(numbers)
                        steering.send(json.dumps({"id": number, "method": method, "params": parameters}))
                        while (answer := json.loads(steering.recv(TIMEOUT_S))).get("id") != number:
                            pass
                        return answer["result"]

                    def evaluate(expression):
                        return call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

                    call("Page.navigate", url=url)
                    yield evaluate
            finally:
                os.killpg(browser.pid, signal.SIGKILL)


def cell(evaluate, name):
    return evaluate(f"document.getElementById('{name}')?.textContent")


def expect_echoes(server, extensions):
    url = server.url.replace("ws", "http", 1)
    with page(url) as evaluate:
        eventually(lambda: int(cell(evaluate, "echoed") or 0) >= 5, lambda: f"echoes: {evaluate('document.body.innerText')}", TIMEOUT_S)
        assert cell(evaluate, "state") == "connected"
        assert cell(evaluate, "wrong") == "0"
        assert cell(evaluate, "address") == server.url.rstrip("/") + "/"
        assert extensions in cell(evaluate, "extensions")
        assert cell(evaluate, "last").endswith(" ms") and "," in cell(evaluate, "trips")
        assert evaluate("document.querySelector('#echoes li').textContent").startswith("hello")
        # A message of the visitor's.
        evaluate("at('auto').checked = false; at('text').value = 'mine <b>'; at('form').requestSubmit()")
        eventually(
            lambda: evaluate("document.querySelector('#echoes li').textContent") == "mine <b>",
            "the message comes back",
            TIMEOUT_S,
        )
        if extensions != "none":
            eventually(lambda: cell(evaluate, "connections").isdigit(), "the counters of the server come", TIMEOUT_S)
        return cell(evaluate, "connections")


def test_in_a_browser(start_server):
    assert "metrics" in expect_echoes(start_server(), "none")


def test_in_a_browser_with_compression_and_counters(start_server):
    server = start_server("--deflate", "--metrics-on-main")
    assert int(expect_echoes(server, "permessage-deflate")) >= 1


def test_in_a_browser_over_tls(start_server, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: install the package openssl")
    subprocess.run([REPOSITORY / "scripts/dev-cert", tmp_path], check=True, capture_output=True)
    files = ["--tls-cert", str(tmp_path / "server.crt"), "--tls-key", str(tmp_path / "server.key")]
    expect_echoes(start_server(*files), "none")
