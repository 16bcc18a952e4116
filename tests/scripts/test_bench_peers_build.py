"""The kits of the peers, built and not built."""

import tempfile
import unittest
from pathlib import Path

from bench_peers_case import ROOT  # noqa: F401  (puts the package on the path)
from bench_peers.build import Workshop
from server import Failure


class Kits(unittest.TestCase):
    def test_a_kit_that_lacks_a_program_leaves_the_others_alone(self):
        with tempfile.TemporaryDirectory() as folder:
            there = Path(folder, "there")
            there.write_text("")
            workshop = Workshop(Path(folder), is_built=True)
            workshop.make_lacking = lambda: workshop.programs.update(lost=Path(folder, "lost"))
            workshop.make_whole = lambda: workshop.programs.update(there=there)
            with self.assertRaisesRegex(Failure, "lost was not built"):
                workshop.make("lacking")
            workshop.make("whole")
            self.assertIn("there", workshop.programs)


if __name__ == "__main__":
    unittest.main()
