//! Names, and the certificates that TLS would trust.

use super::files::{Files, Surroundings};
use super::report::{Item, Level};
use serde_json::json;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

pub(super) fn items(surroundings: &Surroundings) -> Vec<Item> {
    vec![names(surroundings), tls_roots(surroundings)]
}

fn names(surroundings: &Surroundings) -> Item {
    let is_static = surroundings.is_static;
    let [hosts, resolv_conf] =
        ["/etc/hosts", "/etc/resolv.conf"].map(|path| surroundings.files.exists(path));
    let values = json!({ "static": is_static, "hosts": hosts, "resolv_conf": resolv_conf });
    let shown = |is_there| if is_there { "found" } else { "missing" };
    let found = format!("/etc/hosts {}, /etc/resolv.conf {}", shown(hosts), shown(resolv_conf));
    if !is_static {
        return Item::new("names", format!("resolved by the C library; {found}"), values);
    }
    let text = format!("resolved by these files alone, as the binary is static: {found}");
    let item = Item::new("names", text, values);
    if hosts && resolv_conf {
        return item;
    }
    let cure = "use addresses, provide these files, or take the dynamically linked binary";
    item.with(Level::Note, cure)
}

fn tls_roots(surroundings: &Surroundings) -> Item {
    let files = &surroundings.files;
    let [named_file, named_folder] = &surroundings.roots;
    let file = find(named_file.as_deref(), &FILES, |path| files.text(path).is_some());
    let folder = find(named_folder.as_deref(), &FOLDERS, |path| !files.names(path).is_empty());
    let count = file.as_ref().map(|path| certificates(files, path));
    let values = json!({
        "file": file.as_deref().map(Path::to_string_lossy),
        "certificates": count,
        "directory": folder.as_deref().map(Path::to_string_lossy),
    });
    let found = match (&file, &folder) {
        (Some(file), _) => format!("{}: {}", file.display(), count.unwrap_or(0)),
        (None, Some(folder)) => format!("{}", folder.display()),
        (None, None) => "none found".to_owned(),
    };
    let text = format!("{found} ({PURPOSE})");
    let item = Item::new("tls_roots", text, values);
    for (variable, named, is_found) in [
        ("SSL_CERT_FILE", named_file, file.is_some()),
        ("SSL_CERT_DIR", named_folder, folder.is_some()),
    ] {
        if named.is_some() && !is_found {
            let cure =
                format!("have {variable} name one that can be read and is not empty, or unset it");
            return item.with(Level::Note, cure);
        }
    }
    if file.is_none() && folder.is_none() {
        let cure = "install the package ca-certificates for wss://";
        return item.with(Level::Note, cure);
    }
    item
}

/// What a variable names, or else the first of the usual places.
fn find(
    named: Option<&OsStr>,
    usual: &[&str],
    is_there: impl Fn(&Path) -> bool,
) -> Option<PathBuf> {
    let places =
        named.map_or_else(|| usual.iter().map(PathBuf::from).collect(), |it| vec![it.into()]);
    places.into_iter().find(|path| is_there(path))
}

fn certificates(files: &Files, path: &Path) -> usize {
    files.text(path).map_or(0, |text| text.matches("-----BEGIN CERTIFICATE-----").count())
}

const PURPOSE: &str = if cfg!(feature = "tls") {
    "trusted by wss:// unless --tls-ca names others"
} else {
    "this build has no TLS: nothing uses them"
};
/// Debian, Fedora and RHEL (two places), openSUSE, Alpine.
const FILES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
const FOLDERS: [&str; 2] = ["/etc/ssl/certs", "/etc/pki/tls/certs"];
