"""The scripts in Python can be loaded: what they take from each other is there."""

import contextlib
import io
import subprocess
import sys
import unittest
from unittest import mock

from bench_peers_case import ROOT, program


def programs():
    for path in sorted((ROOT / "scripts").iterdir()):
        if path.is_file() and path.read_bytes().startswith(b"#!/usr/bin/env python3"):
            yield path


class Programs(unittest.TestCase):
    def test_each_tells_what_it_is_for(self):
        for path in programs():
            with self.subTest(path.name):
                told = subprocess.run([path, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                      text=True, check=False)
                self.assertEqual(told.returncode, 0, told.stdout)
                self.assertIn("usage", told.stdout.lower())

    def test_flamegraph_finds_what_it_takes_from_bench(self):
        bench = program("flamegraph").load_bench()
        self.addCleanup(sys.modules.pop, "bench")
        for name in ("build", "choose_servers", "running"):
            self.assertTrue(callable(getattr(bench, name, None)), name)

    def test_flamegraph_names_a_cell_that_is_none(self):
        told = io.StringIO()
        with mock.patch.object(sys, "argv", ["flamegraph", "--cells", "1x1x256,foo"]), \
                contextlib.redirect_stderr(told), self.assertRaises(SystemExit) as ended:
            program("flamegraph").parse_args(None)
        self.assertEqual(ended.exception.code, 2)
        self.assertRegex(told.getvalue(), "error: --cells: .*foo")

    def test_time_is_told_by_the_part_of_the_way(self):
        told = program("flamegraph").by_part("\n".join((
            "epoll_echo;main;epoll_echo::Server::run 10",
            "epoll_echo;main;do_syscall_64;do_epoll_wait;ep_poll 20",
            "epoll_echo;main;do_syscall_64;do_epoll_wait;schedule;finish_task_switch 30",
            "epoll_echo;main;do_syscall_64;tcp_sendmsg;tcp_v4_rcv 25",
            "epoll_echo;main;do_syscall_64;tcp_sendmsg;_copy_from_iter 15",
        )), cpu_us=50)
        shares = {part: numbers for *numbers, part in
                  (line.split(maxsplit=3) for line in told.splitlines())}
        self.assertEqual(shares, {
            "waking others, falling asleep": ["30.0%", "15.00", "us"],
            "copying between sockets and memory": ["15.0%", "7.50", "us"],
            "TCP and loopback, sending": ["25.0%", "12.50", "us"],
            "epoll": ["20.0%", "10.00", "us"],
            "user space": ["10.0%", "5.00", "us"],
        }, told)


if __name__ == "__main__":
    unittest.main()
