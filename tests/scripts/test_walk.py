"""scripts/walk: a record of lines as a tree of calls, and what is counted of it."""

import shutil
import sys
import tempfile
import unittest
from pathlib import Path

from bench_peers_case import program

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts" / "lib"))

import walk  # noqa: E402


def page(tree, numbers=""):
    return f"# Page\n\n{walk.BEGIN}{tree}{walk.END}\n{numbers}\n"


class WalkTest(unittest.TestCase):
    def test_changes_are_counted_as_the_list_is_read_and_borders_as_it_is_called(self):
        tree = "a.rs one\n  a.rs two\n    b.rs three\n    c.rs four\n  proto/d.rs five\n    a.rs six\n"
        listed = walk.stations(page(tree))
        self.assertEqual(walk.text(listed), tree)
        self.assertEqual(listed[4].path(), "crates/picows-uring-proto/src/d.rs")
        self.assertEqual(walk.counts(listed), (6, 4, 4, 1, 8))
        said = "So 6 stations in 4 files, 4 changes of file, 1 of\nthem returns, 8 borders crossed."
        self.assertEqual(walk.claimed(page(tree, said)), (6, 4, 4, 1, 8))
        self.assertIn(walk.numbers(listed), said.replace("\n", " "))

    def test_a_page_without_a_walk_has_none(self):
        self.assertEqual(walk.stations("# Page\n"), [])
        self.assertIsNone(walk.claimed("# Page\n"))

    def test_calls_nest_by_the_stack_and_closures_are_passed_over(self):
        module = program("walk")
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        module.ROOT = folder
        folder = folder / walk.FOLDERS[""]
        folder.mkdir(parents=True)
        (folder / "a.rs").write_text("fn outer() {\n    pass(|| {\n        inner();\n    });\n    other();\n}\n")
        (folder / "b.rs").write_text("fn pass(call: impl FnOnce()) {\n    call();\n}\n\nfn inner() {\n    x();\n}\n\nfn other() {\n    y();\n}\n")
        a, b = (f"/somewhere/{walk.FOLDERS['']}{name}.rs" for name in "ab")
        record = [
            [a, 1, 900, 1000], [a, 2, 900, 900],
            [b, 1, 800, 892], [b, 2, 800, 800],
            [a, 3, 700, 792],  # The closure, below `pass`.
            [b, 5, 600, 692], [b, 6, 600, 600], [b, 7, 600, 692],
            [a, 3, 700, 792],
            [b, 3, 800, 892],
            [a, 5, 900, 900],
            [b, 9, 800, 892], [b, 11, 800, 892],
            ["/rustc/library/core/option.rs", 1, 500, 500],
            [a, 6, 900, 1000],
        ]
        tree = module.tree_of(record, lambda _file, _function, _lines: True)
        self.assertEqual(walk.text(tree), "a.rs outer\n  b.rs pass\n    b.rs inner\n  b.rs other\n")
        self.assertEqual(walk.counts(tree), (4, 2, 1, 0, 4))
        chosen = module.tree_of(record, lambda _file, function, _lines: function in ("outer", "inner"))
        self.assertEqual(walk.text(chosen), "a.rs outer\n  b.rs inner\n")


if __name__ == "__main__":
    unittest.main()
