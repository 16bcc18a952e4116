"""scripts/programs: what counts as a line, and that ours are not longer than their counterparts."""

import contextlib
import io
import unittest

from bench_peers_case import program


class Counterparts(unittest.TestCase):
    def test_lines_of_code_are_counted(self):
        text = '//! A program.\n\n#![allow(clippy::print_stdout, reason = "a program")]\n\nuse a; // Used.\n    // Why.\n/// What.\nfn b() {}\n'
        self.assertEqual(program("programs").code_lines(text), 2)

    def test_none_of_ours_is_too_long(self):
        programs = program("programs")
        self.assertEqual(len(list(programs.pairs())), 8)
        with contextlib.redirect_stdout(io.StringIO()) as table:
            self.assertEqual(programs.compare(), [], table.getvalue())


if __name__ == "__main__":
    unittest.main()
