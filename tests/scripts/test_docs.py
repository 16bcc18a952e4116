"""Documentation: links lead somewhere, paths in it exist, and every page is in the summary."""

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "crates").glob("*/README.md"), ROOT / "examples/README.md"])
# Where a path such as `ring/loan.rs` may begin.
FOLDERS = [
    ROOT,
    ROOT / "crates",
    ROOT / "examples",
    *(path for crate in sorted((ROOT / "crates").iterdir()) for path in (crate, crate / "src")),
]
LINK = re.compile(r"\]\(([^)\s]+)\)")
SOURCE = re.compile(r"`([a-z_0-9-]+(?:/[a-z_0-9-]+)*\.rs)`")
# Names that explain how files are to be called.
EXAMPLES = {"foo.rs", "foo/mod.rs"}


def prose(text):
    """The text without code blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text):
    """The anchors of the headings, as GitHub and mdBook make them."""
    heads = re.findall(r"^#+ (.+)$", prose(text), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(page, text):
    """The links of a page to files or headings that do not exist."""
    for link in LINK.findall(prose(text)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path
        if not target.exists():
            yield f"{link}: no such file"
        elif anchor and anchor not in anchors(target.read_text(encoding="utf-8") if path else text):
            yield f"{link}: no such heading"


def missing_sources(text):
    """The source files that a text names and that do not exist."""
    for path in SOURCE.findall(prose(text)):
        is_there = any((folder / path).is_file() for folder in FOLDERS)
        # Some pages leave the module out where their subject is that module.
        is_below = any((ROOT / "crates").glob(f"*/src/**/{path}"))
        if not is_there and not is_below and path not in EXAMPLES:
            yield path


def missing_terms(text):
    """The paths of the glossary that do not exist."""
    for row in re.findall(r"^\| .* \|$", text, flags=re.MULTILINE):
        for path in re.findall(r"`([^`]+)`", row.split(" | ")[2]):
            part, _, name = path.rpartition(":")
            crate = f"picows-uring-{part}" if part else "picows-uring"
            if not (ROOT / "crates" / crate / "src" / name).exists():
                yield path


class Docs(unittest.TestCase):
    def test_links_lead_to_files_and_headings(self):
        for page in PAGES:
            with self.subTest(page=page.relative_to(ROOT)):
                self.assertEqual(list(broken_links(page, page.read_text(encoding="utf-8"))), [])

    def test_source_files_that_are_named_exist(self):
        for page in PAGES:
            # The changelog is about all versions.
            if page.name == "CHANGELOG.md":
                continue
            with self.subTest(page=page.relative_to(ROOT)):
                self.assertEqual(list(missing_sources(page.read_text(encoding="utf-8"))), [])

    def test_paths_of_the_glossary_exist(self):
        self.assertEqual(list(missing_terms((DOCS / "GLOSSARY.md").read_text(encoding="utf-8"))), [])

    def test_every_page_is_in_the_summary(self):
        summary = DOCS / "SUMMARY.md"
        named = {(DOCS / link).resolve() for link in LINK.findall(summary.read_text(encoding="utf-8"))}
        self.assertEqual(sorted(set(DOCS.rglob("*.md")) - named - {summary}), [])

    def test_what_is_wrong_is_found(self):
        page = DOCS / "page.md"
        text = "# A title\n[a](none.md) [b](#a-title) [c](#none) [d](STYLE.md#none) [e](https://x.y)\n"
        self.assertEqual(
            list(broken_links(page, text)),
            ["none.md: no such file", "#none: no such heading", "STYLE.md#none: no such heading"],
        )
        self.assertEqual(list(missing_sources("`worker.rs` `ring/none.rs`\n```rust\n// `a/b.rs`\n```\n")), ["ring/none.rs"])
        self.assertEqual(list(missing_terms("| a | b | `worker.rs`, `proto:none.rs` | – |\n")), ["proto:none.rs"])


if __name__ == "__main__":
    unittest.main()
