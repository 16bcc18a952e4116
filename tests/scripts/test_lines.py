"""scripts/lines: what counts as product, as tests, and apart."""

import unittest

from bench_peers_case import program

SOURCES = {
    "crates/one/src/lib.rs": """//! A crate.

mod product;
#[cfg(any(test, feature = "_fuzzing"))]
pub mod play;
#[cfg(not(test))]
mod real;
pub fn one() {} // Code.
#[cfg(test)]
mod checks {
    fn check() {}
}
pub fn two() {}
""",
    "crates/one/src/product.rs": "/// Documented.\npub fn f() {}\n\n#[cfg(test)]\n#[rustfmt::skip]\nmod own;\n",
    "crates/one/src/product/own.rs": "fn test() {}\n",
    "crates/one/src/play.rs": "mod more;\n",
    "crates/one/src/play/more.rs": "fn a() {}\nfn b() {}\n",
    "crates/one/src/real.rs": "fn real() {}\n",
    "crates/one/tests/kernel.rs": "fn kernel() {}\n",
    "crates/one/src/testing/pair.rs": "fn pair() {}\n",
    "benches/src/load.rs": "// A benchmark.\nfn load() {}\n",
}


class Lines(unittest.TestCase):
    def test_modules_for_tests_are_tests_wherever_they_lie(self):
        result = program("lines").measure(SOURCES)
        # 8 lines of lib.rs, the attributes of modules in other files among them; 4, 1.
        self.assertEqual(result["one", "product"], (8 + 5 + 1, 7 + 4 + 1))
        # 4 in lib.rs, and one file a line or two: own, play, more, kernel, pair.
        self.assertEqual(result["one", "tests"], (4 + 1 + 1 + 2 + 1 + 1,) * 2)
        self.assertEqual(result["benches", "apart"], (2, 1))

    def test_a_commit_is_counted_like_the_tree(self):
        lines = program("lines")
        result = lines.measure(lines.sources("HEAD"))
        self.assertGreater(result["picows-uring-proto", "product"][0], 1000)
        self.assertGreater(result["picows-uring-proto", "tests"][0], 1000)


if __name__ == "__main__":
    unittest.main()
