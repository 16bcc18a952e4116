"""scripts/lib/server.py: servers start or say why not, are measured, and never outlive their owner."""

import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path

from bench_peers_case import ROOT
import server
from server import Endpoint, Failure, Server, parse_endpoint

PROGRAM = ROOT / "scripts/lib/server.py"
LIMIT_S = 60
LISTEN = "print('listening on ws://127.0.0.1:9', flush=True); "
REST = "import signal; signal.pause()"


def python(text):
    return [sys.executable, "-c", text]


def started(text, **how):
    return Server(python(text), name="one", **how)


class Endpoints(unittest.TestCase):
    def test_each_kind_of_address_is_read(self):
        for line, endpoint, url in (
            ("listening on ws://127.0.0.1:80", Endpoint(socket.AF_INET, ("127.0.0.1", 80)), "ws://127.0.0.1:80/"),
            ("listening on ws://a.example:1/", Endpoint(socket.AF_INET, ("a.example", 1)), "ws://a.example:1/"),
            ("listening on ws://[::1]:65535", Endpoint(socket.AF_INET6, ("::1", 65535)), "ws://[::1]:65535/"),
            ("listening on ws+unix:/tmp/a b", Endpoint(socket.AF_UNIX, "/tmp/a b"), "ws+unix:/tmp/a b"),
            ("suite listening on ws://[::]:9001", Endpoint(socket.AF_INET6, ("::", 9001)), "ws://[::]:9001/"),
            ("listening on wss://127.0.0.1:80", Endpoint(socket.AF_INET, ("127.0.0.1", 80), "wss"), "wss://127.0.0.1:80/"),
            ("listening on wss://[::1]:1/", Endpoint(socket.AF_INET6, ("::1", 1), "wss"), "wss://[::1]:1/"),
        ):
            with self.subTest(line):
                self.assertEqual(parse_endpoint(line), endpoint)
                self.assertEqual(endpoint.url, url)
        self.assertEqual(Endpoint(socket.AF_INET6, ("::1", 80)).http, "http://[::1]:80")
        self.assertEqual(Endpoint(socket.AF_INET, ("a", 80), "wss").http, "https://a:80")

    def test_other_lines_are_none(self):
        for line in ("", "listening", "listening on 127.0.0.1:80", "listening on ws://127.0.0.1:80/path",
                     "listening on ws://127.0.0.1", "unlistening on ws://127.0.0.1:80",
                     "listening on wsss://127.0.0.1:80", "listening on http://127.0.0.1:80"):
            with self.subTest(line):
                self.assertIsNone(parse_endpoint(line))

    def test_the_port_is_the_one_that_the_kernel_chose(self):
        with self.assertRaisesRegex(Failure, "names no port"):
            parse_endpoint("listening on ws://127.0.0.1:0")


class Starting(unittest.TestCase):
    def test_every_address_is_awaited(self):
        text = LISTEN + "print('a word'); print('listening on ws+unix:/x', flush=True); " + REST
        with started(text, addresses=2) as one:
            self.assertEqual([endpoint.url for endpoint in one.endpoints], ["ws://127.0.0.1:9/", "ws+unix:/x"])
            self.assertEqual((one.authority, one.url), ("127.0.0.1:9", "ws://127.0.0.1:9/"))
            self.assertTrue(one.is_running())
        self.assertFalse(one.is_running())

    def test_the_address_may_be_on_standard_error(self):
        text = "import sys; print('suite listening on ws://127.0.0.1:9', file=sys.stderr, flush=True); " + REST
        with started(text, address_on="stderr") as one:
            self.assertEqual(one.authority, "127.0.0.1:9")

    def test_a_program_that_is_missing_is_named(self):
        with self.assertRaisesRegex(Failure, "one cannot be started: .*'/no/such/program': build it"):
            Server(["/no/such/program"], name="one")

    def test_one_that_ends_shows_its_status_output_and_command(self):
        with self.assertRaisesRegex(Failure, r"(?s)one does not start: it ended with 3: no memory\n.*command: .*python"):
            started("import sys; print('no memory', file=sys.stderr); sys.exit(3)")
        with self.assertRaisesRegex(Failure, "it ended with 0: it printed nothing"):
            started("")

    def test_one_that_does_not_listen_in_time_is_ended(self):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "pid"
            text = f"import os; open({str(path)!r}, 'w').write(str(os.getpid())); print('soon', flush=True); " + REST
            with self.assertRaisesRegex(Failure, r"one does not say where it listens .* in 1 s: soon"):
                started(text, start_s=1)
            with self.assertRaises(ProcessLookupError):
                os.kill(int(path.read_text()), 0)


class Running(unittest.TestCase):
    def test_output_is_kept_with_its_times_and_stops_no_server(self):
        lines = 50_000
        text = LISTEN + f"import sys\nfor number in range({lines}):\n print(number); print(number, file=sys.stderr)"
        one = started(text)
        self.assertEqual(one.wait(LIMIT_S), 0)
        self.assertEqual(one.stdout_lines[1:], list(map(str, range(lines))))
        self.assertEqual(one.stderr_lines, list(map(str, range(lines))))
        self.assertEqual(one.stderr_times, sorted(one.stderr_times))
        self.assertEqual(len(one.stderr_times), lines)

    def test_output_goes_to_a_log_as_well(self):
        with tempfile.TemporaryFile("w+") as log:
            started(LISTEN + "print('a word')", log=log).wait(LIMIT_S)
            log.seek(0)
            self.assertEqual(log.read(), "listening on ws://127.0.0.1:9\na word\n")

    def test_one_that_ended_by_itself_is_noticed(self):
        one = started(LISTEN + "raise SystemExit('out of luck')")
        one.wait(LIMIT_S)
        with self.assertRaisesRegex(Failure, "one ended by itself with 1: out of luck"):
            one.check_running()

    def test_one_that_does_not_end_is_killed(self):
        one = started(LISTEN + REST)
        with self.assertRaisesRegex(Failure, "one still runs after 0.1 s"):
            one.wait(0.1)
        self.assertFalse(one.is_running())

    def test_a_stop_is_sigterm_then_sigkill(self):
        obeys = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
        self.assertEqual(started(obeys + LISTEN + REST).stop(), 7)
        refuses = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        one = started(refuses + LISTEN + REST)
        self.assertEqual(one.stop(0.1), -signal.SIGKILL)
        self.assertEqual(one.stop(), -signal.SIGKILL, "again")
        one.kill()


class Measuring(unittest.TestCase):
    def test_processor_time_is_that_of_all_threads(self):
        pid, over = os.getpid(), threading.Event()
        before = server.cpu_ns(pid)
        while server.cpu_ns(pid) == before:
            pass
        thread = threading.Thread(target=over.wait)
        thread.start()
        try:
            threads = server.thread_cpu_ns(pid)
            self.assertIn(thread.native_id, threads)
            self.assertGreaterEqual(threads[pid], before // 2)
            self.assertGreaterEqual(server.cpu_ns(pid), sum(threads.values()))
        finally:
            over.set()
            thread.join()

    def test_memory_counts_when_it_is_touched(self):
        mib = 1 << 20
        with started("import mmap; untouched = mmap.mmap(-1, 64 << 20); " + LISTEN + REST) as one:
            self.assertLess(one.resident_bytes(), 60 * mib)
            self.assertGreater(one.virtual_bytes(), one.resident_bytes() + 60 * mib)
        own, memory = server.resident_bytes(os.getpid()), bytearray(b"x") * (64 * mib)
        self.assertGreater(server.resident_bytes(os.getpid()) - own, 60 * mib)
        del memory

    def test_descriptors_are_counted(self):
        before = server.descriptors(os.getpid())
        with socket.socket():
            self.assertEqual(server.descriptors(os.getpid()), before + 1)


class ForShells(unittest.TestCase):
    """The program, and the functions of scripts/lib/foreign.sh that run it."""

    def run_program(self, text, *flags):
        program = subprocess.Popen(
            [sys.executable, PROGRAM, *flags, "--", *python(text)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        self.addCleanup(program.__exit__, None, None, None)
        self.addCleanup(program.kill)
        return program

    def test_the_end_of_its_input_and_sigterm_end_the_server(self):
        obeys = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
        for end in (lambda program: program.stdin.close(), lambda program: program.terminate()):
            program = self.run_program(obeys + LISTEN + REST)
            self.assertEqual(program.stdout.readline(), "ws://127.0.0.1:9/\n")
            end(program)
            self.assertEqual(program.wait(LIMIT_S), 7)

    def test_it_ends_with_the_server(self):
        with tempfile.NamedTemporaryFile("r") as log:
            program = self.run_program(LISTEN + "raise SystemExit('out of luck')", "--log", log.name)
            self.assertEqual(program.wait(LIMIT_S), 1)
            # Two streams, each with its reader: the lines come in either order.
            self.assertEqual(sorted(log.read().splitlines()), ["listening on ws://127.0.0.1:9", "out of luck"])
        self.assertEqual(self.run_program(LISTEN + "import os; os.abort()").wait(LIMIT_S), 128 + signal.SIGABRT)

    def test_a_server_that_does_not_start_is_an_error(self):
        program = self.run_program("raise SystemExit('no memory')")
        out, error = program.communicate(timeout=LIMIT_S)
        self.assertEqual((program.returncode, out), (1, ""))
        self.assertRegex(error, "does not start: it ended with 1: no memory")

    def shell(self, text, *words):
        return subprocess.Popen(
            ["bash", "-euc", ". scripts/lib/foreign.sh\n" + text, "bash", *words],
            cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )

    def test_a_script_starts_servers_one_after_the_other(self):
        text = """
            for _ in 1 2; do
                start_server /dev/null -- "$@" || echo failed
                echo "$server_url"
                stop_server || echo "status $?"
                stop_server
            done
            start_server /dev/null -- false 2>/dev/null || echo failed
            start_server /dev/null -- "${@:1:2}" "print('listening on ws://a:1')"
            await_server 600 && echo ended
            stop_server && echo well
        """
        obeys = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); "
        with self.shell(text, *python(obeys + LISTEN + REST)) as script:
            out, error = script.communicate(timeout=LIMIT_S)
        one = "ws://127.0.0.1:9\nstatus 7\n"
        self.assertEqual((out, error), (one + one + "failed\nended\nwell\n", ""))

    def test_no_server_outlives_a_script_that_is_killed(self):
        text = 'start_server "$1" -- "${@:2}"; cat "$1"; kill -KILL $$'
        says_pid = f"import os; print(os.getpid(), flush=True); {LISTEN}{REST}"
        with tempfile.NamedTemporaryFile("r") as log, self.shell(text, log.name, *python(says_pid)) as script:
            pid = int(script.stdout.readline())
            try:
                server_end = os.pidfd_open(pid)
            except ProcessLookupError:
                return
            with open(server_end, closefd=True) as end:
                self.assertTrue(select.select([end], [], [], LIMIT_S)[0], "the server runs on")


if __name__ == "__main__":
    unittest.main()
