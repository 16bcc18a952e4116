//! What is done with bytes that a fuzzer, or a test with its seeds, made up.
//!
//! Not part of the library: compiled for tests, and by `cargo fuzz`, whose targets in `fuzz/` call
//! these. See also the module of the same name in `picows-uring-proto`.

/// A URL, and behind a line feed the location of a redirect.
pub fn url(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        crate::client::fuzz_url(text);
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn seeds() {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds/url");
        let mut count = 0;
        for entry in std::fs::read_dir(seeds).unwrap() {
            let data = std::fs::read(entry.unwrap().path()).unwrap();
            for end in 0..=data.len() {
                super::url(&data[..end]);
            }
            count += 1;
        }
        assert!(count >= 3);
    }
}
