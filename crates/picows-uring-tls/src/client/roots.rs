//! The system's roots: read once in a process, as that takes up to hundreds of milliseconds.

use std::sync::{Arc, Mutex, PoisonError};

use rustls::RootCertStore;

use crate::error::TlsError;

static NATIVE: Mutex<Option<Arc<RootCertStore>>> = Mutex::new(None);

/// Returns the system's roots. Only success is kept, so that a later attempt finds what was installed.
pub(super) fn native() -> Result<Arc<RootCertStore>, TlsError> {
    let mut kept = NATIVE.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(roots) = &*kept {
        return Ok(roots.clone());
    }
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    // Systems have some that cannot be parsed, and work without those.
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let errors = found.errors.iter().map(|error| format!(": {error}")).collect();
        return Err(TlsError::NoNativeRoots { errors });
    }
    let store = Arc::new(store);
    *kept = Some(store.clone());
    Ok(store)
}
