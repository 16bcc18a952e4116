"""Metrics as Prometheus reads them, and the probes of an orchestrator."""

import contextlib
import http.client
import signal

import pytest
from conftest import foreign_module
from wire import CLOSE, Peer, eventually

parser = foreign_module("prometheus_client.openmetrics.parser")
TIMEOUT_S = 30


def admin_authority(server):
    prefix = "admin on http://"

    def found():
        return [line[len(prefix) :] for line in server.stdout_lines if line.startswith(prefix)]

    eventually(found, lambda: f"a line with the admin address: {server.stdout_lines}")
    return found()[0]


def get(authority, path):
    with contextlib.closing(http.client.HTTPConnection(authority, timeout=TIMEOUT_S)) as asking:
        asking.request("GET", path)
        answer = asking.getresponse()
        return answer.status, answer.headers, answer.read().decode()


def families(authority):
    status, headers, text = get(authority, "/metrics")
    assert status == 200
    assert headers["Content-Type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    return {family.name: family for family in parser.text_string_to_metric_families(text)}


def value(family, suffix="", **labels):
    (found,) = [
        sample.value
        for sample in family.samples
        if sample.name == family.name + suffix and labels.items() <= sample.labels.items()
    ]
    return found


def test_prometheus_reads_every_family(start_server):
    server = start_server("--admin", "127.0.0.1:0")
    authority = admin_authority(server)
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()
        found = families(authority)
        assert value(found["picows_connections"]) == 1
        assert value(found["picows_connections_opened"], "_total") == 1
        assert value(found["picows_handshake_seconds"], "_count") == 1
        assert value(found["picows_build"], "_info") == 1
        assert found["picows_payload_bytes"].unit == "bytes" and found["picows_turn_seconds"].unit == "seconds"
        assert all(family.documentation for family in found.values())
        kinds = {family.type for family in found.values()}
        assert kinds == {"counter", "gauge", "histogram", "info"}
    eventually(
        lambda: value(families(authority)["picows_connections"]) == 0,
        "the connection has gone",
    )
    found = families(authority)
    closed = sum(sample.value for sample in found["picows_connections_closed"].samples)
    assert closed == value(found["picows_connections_opened"], "_total") == 1


def test_metrics_are_on_the_main_port_only_if_asked_for(start_server):
    server = start_server()
    # Every path of the echo server is a page or an upgrade.
    assert "# EOF" not in get(server.authority, "/metrics")[2]
    server = start_server("--metrics-on-main")
    assert value(families(server.authority)["picows_ready"]) == 1


def test_probes_of_a_full_server(start_server):
    server = start_server("--admin", "127.0.0.1:0", "--max-connections", "1")
    authority = admin_authority(server)
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()
        for at in (server.authority, authority):
            assert get(at, "/healthz")[0] == 200
            assert get(at, "/readyz")[0] == 503
    eventually(lambda: get(authority, "/readyz")[0] == 200, "there is room again")


def test_probes_of_a_server_that_drains(start_server):
    server = start_server("--admin", "127.0.0.1:0", "--drain-timeout", "30s", "--drain-spread", "0s")
    authority = admin_authority(server)
    with Peer(server.endpoint) as peer:
        peer.upgrade().echo()
        server.process.send_signal(signal.SIGTERM)
        # It has begun to stop once CLOSE comes.
        assert peer.receive().opcode == CLOSE
        for _ in range(3):
            assert get(authority, "/healthz")[0] == 200
            status, _, reason = get(authority, "/readyz")
            assert (status, reason) == (503, "the server is stopping\n")
    assert server.wait() == 0
    with pytest.raises(OSError):
        get(authority, "/healthz")
