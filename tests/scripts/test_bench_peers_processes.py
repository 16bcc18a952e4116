"""Servers are started, told apart from those that fail, and never left behind."""

import os
import sys
import time
import unittest

from bench_peers_case import ROOT  # noqa: F401  (puts the package on the path)
from bench_peers import processes
from bench_peers.processes import Fleet
from server import Failure

SERVER = "import time; print('listening on ws://127.0.0.1:9', flush=True); time.sleep(60)"
MORTAL = "print('listening on ws://127.0.0.1:9', flush=True); raise SystemExit('out of luck')"


def python(text):
    return [sys.executable, "-c", text]


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@unittest.skipIf({0, 1} - os.sched_getaffinity(0), "needs the cores 0 and 1")
class Processes(unittest.TestCase):
    def setUp(self):
        self.fleet = Fleet()
        self.addCleanup(self.fleet.stop_all)

    def test_a_server_is_kept_and_ended(self):
        server = self.fleet.get("one", python(SERVER))
        self.assertEqual(server.authority, "127.0.0.1:9")
        self.assertIs(self.fleet.get("one", python(SERVER)), server)
        self.assertEqual(os.sched_getaffinity(server.pid), {processes.CORE_SERVER})
        self.fleet.stop_all()
        self.assertFalse(is_running(server.pid))

    def test_one_that_is_discarded_is_started_anew(self):
        server = self.fleet.get("one", python(SERVER))
        self.fleet.discard(server)
        self.assertFalse(is_running(server.pid))
        self.assertNotEqual(self.fleet.get("one", python(SERVER)).pid, server.pid)

    def test_one_that_does_not_start_tells_its_last_words(self):
        with self.assertRaisesRegex(Failure, "one does not start: .*no such library"):
            self.fleet.get("one", python("raise SystemExit('no such library')"))
        with self.assertRaisesRegex(Failure, "two does not start: it ended with 0: hello"):
            self.fleet.get("two", python("print('hello')"))

    def test_one_that_ended_by_itself_is_noticed(self):
        server = self.fleet.get("one", python(MORTAL))
        server.process.wait(30)
        with self.assertRaisesRegex(Failure, "one ended by itself with 1: out of luck"):
            self.fleet.get("one", python(MORTAL))

    def test_a_load_that_hangs_is_killed(self):
        since = time.monotonic()
        with self.assertRaisesRegex(Failure, "no end after"):
            processes.run_load(python("import time; time.sleep(60)"), 0.2)
        self.assertLess(time.monotonic() - since, 30)

    def test_a_load_that_fails_says_why(self):
        with self.assertRaisesRegex(Failure, "wrong echo"):
            processes.run_load(python("raise SystemExit('wrong echo')"), 30)
        self.assertEqual(processes.run_load(python("print(1); exit(1)"), 30, lambda status: status == 1), "1\n")


if __name__ == "__main__":
    unittest.main()
