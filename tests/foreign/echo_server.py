"""`picows echo` as the server of the tests: its flags, and the checks at its end.

Builds nothing: PICOWS_BIN names the binary, or a build in the target folder is taken.
"""

import os
import resource
import signal
import subprocess

from server import STOP_S, Server, binary


def limit_descriptors(count):
    """For a process that is about to start: the kernel asks once when accepting begins."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, count))


def environment(log):
    return {**os.environ, "RUST_LOG": log, "NO_COLOR": "1"}


class EchoServer(Server):
    """A running `picows echo`."""

    def __init__(self, *flags, listen=("127.0.0.1:0",), workers=2, log="info", descriptors_max=None):
        command = [binary(), "echo"]
        for address in listen:
            command += ["--listen", address]
        command += ["--workers", str(workers), *map(str, flags)]
        super().__init__(
            command,
            name="picows echo",
            addresses=len(listen),
            env=environment(log),
            preexec_fn=descriptors_max and (lambda: limit_descriptors(descriptors_max)),
        )
        self.is_stopped = False

    def wait(self, seconds=STOP_S):
        code = super().wait(seconds)
        self.is_stopped = True
        return code

    def stop(self):
        """Ends it with SIGTERM and checks that it went well, all its life."""
        if self.is_stopped:
            return
        self.check_running()
        self.signal(signal.SIGTERM)
        code = self.wait()
        assert code == 0, f"{self.command} ended with {code} after SIGTERM:\n{self.stderr}"
        listening = [line for line in self.stdout_lines if not line.startswith("admin on ")]
        assert len(listening) == len(self.endpoints), (
            f"one line per address on standard output, not {self.stdout_lines}"
        )
        panics = [line for line in self.stderr_lines if "panicked at" in line]
        assert not panics, panics

    def kill(self):
        super().kill()
        self.is_stopped = True


def run_to_end(*arguments, timeout=30.0):
    """Runs `picows` with arguments that make it end by itself."""
    return subprocess.run(
        [binary(), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment("info"),
    )
