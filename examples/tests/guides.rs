//! The code in the guides is the code of the examples, which is compiled.
//!
//! A block that follows `<!-- from PATH -->` stands in that file, at some indentation.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use std::path::Path;

/// Lines without what they are indented by.
fn lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).collect()
}

#[test]
fn code_in_guides_is_that_of_the_examples() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut blocks = 0;
    for guide in std::fs::read_dir(root.join("docs/guides")).unwrap() {
        let guide = guide.unwrap().path();
        let text = std::fs::read_to_string(&guide).unwrap();
        for quote in text.split("<!-- from ").skip(1) {
            let (path, rest) = quote.split_once(" -->\n```").unwrap();
            let (_language, rest) = rest.split_once('\n').unwrap();
            let (code, _) = rest.split_once("\n```\n").unwrap();
            let source = std::fs::read_to_string(root.join(path)).unwrap();
            let (code, source) = (lines(code), lines(&source));
            let is_there = source.windows(code.len()).any(|window| window == code);
            assert!(is_there, "{}: not in {path}:\n{}", guide.display(), code.join("\n"));
            blocks += 1;
        }
    }
    assert!(blocks > 0);
}
