"""The command line of scripts/bench-peers: which record and page, and how it goes on."""

import contextlib
import io
import shlex
import sys
import unittest
from unittest import mock

from bench_peers_case import program


class Command(unittest.TestCase):
    def setUp(self):
        self.script = program("bench-peers")

    def paths(self, line):
        record, page = self.script.paths_of(self.script.parse_args(line.split()))
        return record.name, page.name

    def test_the_record_of_the_repository_is_of_a_whole_session(self):
        for line, paths in {
            "": ("full.jsonl", "BENCHMARKS.md"),
            "--rounds 2": ("full.jsonl", "BENCHMARKS.md"),
            "--cells 1x1x256": ("part.jsonl", "part.md"),
            "--peers picows": ("part.jsonl", "part.md"),
            "--sections echo": ("part.jsonl", "part.md"),
            "--quick": ("quick.jsonl", "quick.md"),
            "--quick --peers picows": ("quick.jsonl", "quick.md"),
            "--record part --resume": ("part.jsonl", "part.md"),
            "--record full --peers picows": ("full.jsonl", "full.md"),
            "--record mine": ("mine.jsonl", "BENCHMARKS.md"),
            "--peers picows --page a.md": ("part.jsonl", "a.md"),
        }.items():
            with self.subTest(line):
                self.assertEqual(self.paths(line), paths)

    def interrupted(self, line):
        """What it says on Ctrl-C."""
        told = io.StringIO()
        with mock.patch.object(sys, "argv", ["bench-peers", *line.split()]), \
                mock.patch.object(self.script.signal, "signal"), \
                mock.patch.object(self.script, "measure", side_effect=KeyboardInterrupt), \
                contextlib.redirect_stderr(told), self.assertRaises(SystemExit) as ended:
            self.script.main()
        self.assertEqual(ended.exception.code, 130)
        return told.getvalue().strip()

    def test_what_was_interrupted_names_the_whole_command_to_go_on(self):
        for line in (
            "", "--quick", "--record x", "--record x --quick", "--cells 1x1x256", "--record x --cells 1x1x256",
            "--peers picows,epoll --no-build", "--page a.md", "--record full --sections echo",
        ):
            with self.subTest(line):
                command = self.interrupted(line).partition("go on with ")[2]
                script, *words = shlex.split(command)
                self.assertEqual(script, "scripts/bench-peers")
                before, after = self.script.parse_args(line.split()), self.script.parse_args(words)
                self.assertTrue(after.resume)
                self.assertEqual(self.script.paths_of(after), self.script.paths_of(before), command)
                self.assertEqual((after.peers, after.no_build), (before.peers, before.no_build), command)


if __name__ == "__main__":
    unittest.main()
