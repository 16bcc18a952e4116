"""Restarts under load: connects that come while one process ends and the next begins."""

import concurrent.futures
import json
import os
import signal
import tempfile
import time

from server import Failure

from .processes import run_load, start, stop

# Of connects, each with one echo.
RATE_PER_S = 1000
CONNECTIONS = 64
PATIENCE_S = 15


def measure(case, name, argv, picows, window, warmup_s, timeout_s):
    """What clients of a server see of a restart in the middle of their load."""
    with tempfile.TemporaryDirectory() as folder:
        takeover = ["--takeover", os.path.join(folder, "t")] if case == "takeover" else []
        servers = [start(name, [*argv("127.0.0.1:0"), *takeover])]
        try:
            authority = servers[0].authority
            command = [
                picows, "load", f"ws://{authority}/", "--mode", "churn", "--connections", CONNECTIONS,
                "--rate", RATE_PER_S, *window, "--json", "-",
            ]
            with concurrent.futures.ThreadPoolExecutor(1) as pool:
                # 1 says that connects failed: that is what is measured.
                load = pool.submit(run_load, command, timeout_s, lambda status: status in (0, 1))
                # No event of the other processes says that the middle has come; too early is no fault, but measures less.
                time.sleep(warmup_s + 0.4)
                took_s = restart(case, name, [*argv(authority), *takeover], servers)
                found = json.loads(load.result())
        finally:
            for server in servers:
                stop(server)
    errors = found["errors_by_kind"]
    return {
        "connections_per_s": found["rate_per_s"],
        "failed_connections": errors["failed_connections"],
        # Most by CLOSE 1001 of the process that ends.
        "closed_before_echo": errors["lost_connections"] + errors["missing"],
        "latency_p50_us": found["latency_us"]["p50"],
        "latency_p99_us": found["latency_us"]["p99"],
        "latency_max_us": found["latency_us"]["max"],
        **({} if took_s is None else {"restart_ms": took_s * 1000}),
    }


def restart(case, name, argv, servers):
    """Has the next process serve; how long it took from its start, or from the signal to the old one."""
    if case == "still":
        return None
    since = time.monotonic()
    if case == "stop-start":
        servers[0].signal(signal.SIGTERM)
        servers[0].wait(PATIENCE_S)
    servers.append(start(name, argv))
    took_s = time.monotonic() - since
    if case == "takeover":
        servers[0].wait(PATIENCE_S)
    if servers[1].authority != servers[0].authority:
        raise Failure(f"the next process listens on {servers[1].authority}, not on {servers[0].authority}")
    return took_s
