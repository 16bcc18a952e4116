//! Bodies of the fuzz targets, for bytes of a fuzzer or of a test with its seeds.
//!
//! Not part of the library: compiled for tests, and with the feature `fuzzing`, by the targets in
//! `fuzz/`, which call these. See also the module of the same name in `picows-uring-proto`.

/// A URL, and behind a line feed the location of a redirect.
pub fn url(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        crate::client::fuzz_url(text);
    }
}

/// A server on the simulated kernel, and what its peers, the kernel and the clock do.
pub fn session(data: &[u8]) {
    crate::testing::simulation::fuzz(data);
}

#[cfg(test)]
mod tests {
    /// Runs every seed, and every shorter one that ends at a multiple of `step`.
    fn replay(target: &str, step: usize, body: fn(&[u8])) {
        let seeds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/seeds");
        let mut count = 0;
        for entry in std::fs::read_dir(format!("{seeds}/{target}")).unwrap() {
            let path = entry.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            println!("{}", path.display());
            for end in (0..data.len()).step_by(step) {
                body(&data[..end]);
            }
            body(&data);
            count += 1;
        }
        assert!(count >= 3, "{target} has {count} seeds");
    }

    #[test]
    fn seeds() {
        replay("url", 1, super::url);
        replay("session", 7, super::session);
    }
}
