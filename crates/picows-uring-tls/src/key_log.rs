//! The key log: secrets of connections in a file, for tools that read recordings.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::TlsError;

/// A file of lines `LABEL RANDOM SECRET`, as other libraries write to SSLKEYLOGFILE.
pub(crate) struct KeyLog {
    file: Mutex<File>,
}

impl KeyLog {
    /// Opens the file to append, and makes it, for its owner alone, if it is not there.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, TlsError> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = file.map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })?;
        Ok(Arc::new(Self { file: Mutex::new(file) }))
    }
}

impl rustls::KeyLog for KeyLog {
    fn log(&self, label: &str, client_random: &[u8], secret: &[u8]) {
        let mut line = format!("{label} ");
        for (bytes, end) in [(client_random, ' '), (secret, '\n')] {
            for byte in bytes {
                // A `String` takes everything.
                let _ = write!(line, "{byte:02x}");
            }
            line.push(end);
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        // A full disk does not end connections. One write, so that lines of several processes stay whole.
        let _ = file.write_all(line.as_bytes());
    }
}

impl std::fmt::Debug for KeyLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyLog").finish_non_exhaustive()
    }
}
