"""scripts/book: which links of a built book lead nowhere; and scripts/crate-guides: the guides of the crate."""

import tempfile
import unittest
from pathlib import Path

from bench_peers_case import program

PAGES = {
    "index.html": '<a href="guides/a.html#one"></a><a href="https://x.y/none"></a><h1 id="top"></h1><a href="#top"></a>',
    "guides/a.html": '<h2 id="one"></h2><a href="../index.html"></a><img src="b%20c.svg">',
    "guides/b c.svg": "",
    "404.html": '<a href="/none.css"></a>',
}


class Book(unittest.TestCase):
    def broken(self, pages):
        with tempfile.TemporaryDirectory() as folder:
            for name, text in pages.items():
                path = Path(folder) / name
                path.parent.mkdir(exist_ok=True)
                path.write_text(text, encoding="utf-8")
            return [(str(page), link, fault) for page, link, fault in program("book").broken(Path(folder))]

    def test_links_that_lead_somewhere_are_passed(self):
        self.assertEqual(self.broken(PAGES), [])

    def test_links_that_lead_nowhere_are_named(self):
        bad = '<a href="none.html"></a><a href="../index.html#none"></a><a href="../../etc/passwd"></a><a href="#x"></a>'
        self.assertEqual(self.broken(PAGES | {"guides/bad.html": bad}), [
            ("guides/bad.html", "none.html", "there is no such file"),
            ("guides/bad.html", "../index.html#none", "there is no such heading"),
            ("guides/bad.html", "../../etc/passwd", "it leaves the book"),
            ("guides/bad.html", "#x", "there is no such heading"),
        ])


class CrateGuides(unittest.TestCase):
    def test_they_are_those_of_the_book(self):
        guides = program("crate-guides")
        different = [str(path.relative_to(guides.ROOT)) for path in guides.differences()]
        self.assertEqual(different, [], f"run {guides.RENEW}")

    def test_links_are_those_of_rustdoc(self):
        linked = program("crate-guides").linked
        text = "[a](one-two.md) [b](one-two.md#c-d) [e](../KERNEL.md#f) [g](https://h.i) [j](#k)"
        self.assertEqual(
            linked(text, ["one-two"]),
            "[a](crate::guides::one_two) [b](crate::guides::one_two#c-d) e [g](https://h.i) [j](#k)",
        )

    def test_the_crate_page_names_each(self):
        guides = program("crate-guides")
        page = (guides.CRATE / "src" / "lib.rs").read_text(encoding="utf-8")
        missing = [name for name in guides.names() if f"(guides::{guides.module(name)})" not in page]
        self.assertEqual(missing, [])


if __name__ == "__main__":
    unittest.main()
