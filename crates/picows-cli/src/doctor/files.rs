//! Files of the system below a root, which is another folder in tests.

use picows_uring::internal::preflight::DRIVER_VARIABLE;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Everything that is known before a driver is tried.
pub(super) struct Surroundings {
    pub(super) files: Files,
    /// `/proc/self/limits` as this process began.
    pub(super) limits: String,
    /// Who asked for a driver: `flag`, `environment` or `default`.
    pub(super) asked_by: &'static str,
    /// Workers of a server unless it is given a number.
    pub(super) workers: usize,
    /// A static binary, which has its own way to resolve names.
    pub(super) is_static: bool,
    /// `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    pub(super) roots: [Option<OsString>; 2],
}

impl Surroundings {
    /// Those of this process; `is_given` if a flag asks for a driver.
    pub(super) fn of_this_process(is_given: bool) -> Self {
        let files = Files::below("/");
        let is_named = std::env::var_os(DRIVER_VARIABLE).is_some();
        Self {
            limits: files.text("/proc/self/limits").unwrap_or_default(),
            files,
            asked_by: match (is_given, is_named) {
                (true, _) => "flag",
                (false, true) => "environment",
                (false, false) => "default",
            },
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            is_static: cfg!(target_feature = "crt-static"),
            roots: ["SSL_CERT_FILE", "SSL_CERT_DIR"].map(std::env::var_os),
        }
    }
}

/// Files below a root.
#[derive(Debug)]
pub(super) struct Files(PathBuf);

impl Files {
    pub(super) fn below(root: impl Into<PathBuf>) -> Self {
        Self(root.into())
    }

    /// Where an absolute path is.
    fn path(&self, path: &Path) -> PathBuf {
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The text of a file, `None` if it cannot be read.
    pub(super) fn text(&self, path: impl AsRef<Path>) -> Option<String> {
        let bytes = std::fs::read(self.path(path.as_ref())).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The first number of a file.
    pub(super) fn number(&self, path: &str) -> Option<i64> {
        self.text(path)?.split_whitespace().next()?.parse().ok()
    }

    /// A field of `/proc/self/status`.
    pub(super) fn status(&self, name: &str) -> Option<String> {
        field(&self.text("/proc/self/status")?, name).map(str::to_owned)
    }

    pub(super) fn exists(&self, path: impl AsRef<Path>) -> bool {
        self.path(path.as_ref()).exists()
    }

    /// Names in a folder; none if it cannot be read.
    pub(super) fn names(&self, path: impl AsRef<Path>) -> Vec<OsString> {
        let entries = std::fs::read_dir(self.path(path.as_ref())).into_iter().flatten();
        entries.flatten().map(|entry| entry.file_name()).collect()
    }
}

/// The value of `NAME:` at the beginning of a line.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// A set such as `0-3,8`: how many numbers are in it.
pub(super) fn count_of_set(text: &str) -> Option<u64> {
    let ranges = text.trim().split(',');
    let counts = ranges.map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        last.checked_sub(first)?.checked_add(1)
    });
    counts.sum()
}
