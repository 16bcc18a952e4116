//! Settings of TLS as objects, made once for many connections, and what TLS has agreed on.
//!
//! Without the feature `tls` the functions are there, and say that this build has none.

use crate::connection::{conn_at, pwu_conn};
use crate::error::{made, pwu_error};
use crate::status::{Failure, entry, pwu_status};
use crate::types::{Sized0, pwu_str, read_sized, write_sized};
use picows_uring::{Connect, ServerBuilder};
use std::ffi::c_char;
use std::ptr;

/// Settings of TLS, of servers or of clients. One object serves any number of listening sockets or
/// connections, of any threads; clients with the same one resume each other's sessions.
pub struct pwu_tls {
    inner: Inner,
}

/// Settings of one side.
enum Inner {
    #[cfg(feature = "tls")]
    Server(picows_uring::ServerTls),
    #[cfg(feature = "tls")]
    Client(picows_uring::ClientTls),
}

/// Certificate of a name.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_tls_named {
    /// Name that clients ask for, such as `api.example.com`; or `*.example.com`, for all names one label
    /// below it. An exact name goes before a wildcard.
    pub name: *const c_char,
    /// File of the certificate and, behind it, the intermediate ones (PEM).
    pub certificate: *const c_char,
    /// File of its key.
    pub key: *const c_char,
}

/// Files and switches of TLS, all as PEM; zero is the default of each.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_tls_options {
    /// sizeof(pwu_tls_options).
    pub size: usize,
    /// File of the certificate and, behind it, the intermediate ones. A server needs it; a client has it
    /// for servers that ask for one.
    pub certificate: *const c_char,
    /// File of its key.
    pub key: *const c_char,
    /// Server: file of the issuers that certificates of clients come from; NULL: clients are not asked.
    /// Client: file of the roots that are trusted; NULL: those of the system.
    pub roots: *const c_char,
    /// Server: 1: clients without a certificate are accepted as well.
    pub client_optional: u8,
    /// Client: 1: the roots of the system are trusted beside `roots`.
    pub native_roots: u8,
    /// Client: 1: any certificate is accepted, so that anyone on the way can read and change everything.
    /// For tests; the log warns of each connection.
    pub insecure: u8,
    /// 1: TLS 1.3 and later only. 0: TLS 1.2, too.
    pub tls13_only: u8,
    /// Client: sessions that are kept to be resumed. 0: 256.
    pub sessions: u32,
    /// Server: certificates by name. Clients that ask for another name get `certificate`; without one, their
    /// handshake is refused.
    pub named: *const pwu_tls_named,
    /// How many.
    pub named_count: usize,
}

// SAFETY: the size is first, and all fields are integers and pointers.
unsafe impl Sized0 for pwu_tls_options {
    const DEFAULT: Self = Self {
        size: 0,
        certificate: ptr::null(),
        key: ptr::null(),
        roots: ptr::null(),
        client_optional: 0,
        native_roots: 0,
        insecure: 0,
        tls13_only: 0,
        sessions: 0,
        named: ptr::null(),
        named_count: 0,
    };
}

/// Version, cipher and names that TLS has agreed on.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct pwu_tls_info {
    /// sizeof(pwu_tls_info), set by the caller.
    pub size: usize,
    /// 12 or 13 for TLS 1.2 or 1.3; 0 on a connection without TLS.
    pub version: u16,
    /// 1 if a session was resumed, and no certificate asked for therefore.
    pub resumed: u8,
    /// Name of the cipher suite, such as AES_128_GCM_SHA256.
    pub cipher: pwu_str,
    /// Server: name that the client asked for; empty for none.
    pub server_name: pwu_str,
    /// Certificate of the peer (DER); empty if it has sent none.
    pub peer_certificate: pwu_str,
}

// SAFETY: the size is first, and all fields are integers and pointers.
unsafe impl Sized0 for pwu_tls_info {
    const DEFAULT: Self = Self {
        size: 0,
        version: 0,
        resumed: 0,
        cipher: pwu_str::EMPTY,
        server_name: pwu_str::EMPTY,
        peer_certificate: pwu_str::EMPTY,
    };
}

/// Makes settings of TLS for servers, to be given to pwu_listen in pwu_options.tls. Reads and checks the
/// files. NULL with an error if it fails. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_tls_server(
    options: *const pwu_tls_options,
    error: *mut *mut pwu_error,
) -> *mut pwu_tls {
    let body = move || {
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        let options = unsafe { read_sized(options) }?;
        let options =
            options.ok_or_else(|| Failure::null("the options, which name a certificate"))?;
        // SAFETY: its texts are those of the caller.
        let inner = unsafe { build::server(&options) }?;
        Ok(Box::into_raw(Box::new(pwu_tls { inner })))
    };
    // SAFETY: NULL or to be written to, by the caller's word.
    unsafe { made(error, body) }
}

/// Makes settings of TLS for clients, to be given to pwu_connect in pwu_options.tls. Reads and checks the
/// files, or the roots of the system, which takes up to hundreds of milliseconds the first time. NULL
/// options are the defaults. NULL with an error if it fails. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_tls_client(
    options: *const pwu_tls_options,
    error: *mut *mut pwu_error,
) -> *mut pwu_tls {
    let body = move || {
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        let options = unsafe { read_sized(options) }?.unwrap_or(pwu_tls_options::DEFAULT);
        // SAFETY: its texts are those of the caller.
        let inner = unsafe { build::client(&options) }?;
        Ok(Box::into_raw(Box::new(pwu_tls { inner })))
    };
    // SAFETY: NULL or to be written to, by the caller's word.
    unsafe { made(error, body) }
}

/// Reads the files of a server's settings again: later connections get what they have now, open ones
/// keep what they began with. If it fails, the old ones stay. PWU_INVALID for those of clients. Any
/// thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_tls_reload(tls: *const pwu_tls) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, or made and not freed, by the caller's word.
        let tls = unsafe { tls.as_ref() }.ok_or_else(|| Failure::null("the settings of TLS"))?;
        build::reload(&tls.inner)?;
        Ok(pwu_status::PWU_OK)
    })
}

/// Frees settings of TLS. Servers and connections that were given them keep what they need. NULL is
/// nothing. Any thread.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_tls_free(tls: *mut pwu_tls) {
    if !tls.is_null() {
        // SAFETY: `pwu_tls_server` or `_client` made it, and it is freed once, by the caller's word.
        drop(unsafe { Box::from_raw(tls) });
    }
}

/// Fills `info` with what TLS has agreed on. Valid as long as the connection is. PWU_INVALID where it was
/// not kept (keep_request).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn pwu_get_tls_info(
    conn: *const pwu_conn,
    info: *mut pwu_tls_info,
) -> pwu_status {
    entry(|| {
        // SAFETY: NULL, lent or kept.
        let conn = unsafe { conn_at(conn) }?;
        let mut filled = pwu_tls_info::DEFAULT;
        if conn.transport.is_secure() {
            build::fill(&conn.transport, &mut filled)?;
        }
        // SAFETY: NULL, or a structure with its size, by the caller's word.
        unsafe { write_sized(info, &filled) }?;
        Ok(pwu_status::PWU_OK)
    })
}

/// `builder` with the settings `tls`, if it is not NULL.
///
/// # Safety
///
/// `tls` is NULL, or was made and not freed.
pub(crate) unsafe fn of_server(
    tls: *const pwu_tls,
    builder: ServerBuilder,
) -> Result<ServerBuilder, Failure> {
    // SAFETY: the caller's promise.
    match unsafe { tls.as_ref() } {
        Some(tls) => build::of_server(&tls.inner, builder),
        None => Ok(builder),
    }
}

/// `connect` with the settings `tls`, if it is not NULL, for a server of the name `server_name`, if that is
/// given.
///
/// # Safety
///
/// `tls` is NULL, or was made and not freed.
pub(crate) unsafe fn of_client(
    tls: *const pwu_tls,
    server_name: Option<String>,
    connect: Connect,
) -> Result<Connect, Failure> {
    let connect = match server_name {
        Some(name) => build::named(connect, name),
        None => connect,
    };
    // SAFETY: the caller's promise.
    match unsafe { tls.as_ref() } {
        Some(tls) => build::of_client(&tls.inner, connect),
        None => Ok(connect),
    }
}

#[cfg(feature = "tls")]
mod build {
    use super::{Inner, pwu_tls_info, pwu_tls_named, pwu_tls_options};
    use crate::error::{pwu_error, pwu_kind};
    use crate::server::text_at;
    use crate::status::{Failure, pwu_status};
    use crate::types::pwu_str;
    use picows_uring::{
        Certificate, ClientCertificates, ClientTls, Connect, ServerBuilder, ServerTls, TlsError,
        TlsVersion, Transport,
    };

    fn error(error: &TlsError) -> pwu_error {
        pwu_error::new(pwu_kind::PWU_ERROR_TLS, error)
    }

    fn invalid(text: &'static str) -> Failure {
        Failure::new(pwu_status::PWU_INVALID, text)
    }

    /// The certificate that is named, if one is.
    ///
    /// # Safety
    ///
    /// The texts of `options` are NULL or have a zero at their ends.
    unsafe fn certificate(options: &pwu_tls_options) -> Result<Option<Certificate>, Failure> {
        // SAFETY: the caller's promise.
        match unsafe { (text_at(options.certificate), text_at(options.key)) } {
            (Some(certificate), Some(key)) => Ok(Some(Certificate::files(certificate, key))),
            (None, None) => Ok(None),
            _ => Err(invalid("a certificate and its key belong together: set both, or none")),
        }
    }

    /// The name and the certificate of `named`.
    ///
    /// # Safety
    ///
    /// As [`certificate`].
    unsafe fn certificate_of(named: &pwu_tls_named) -> Result<(String, Certificate), Failure> {
        // SAFETY: the caller's promise.
        let texts =
            unsafe { (text_at(named.name), text_at(named.certificate), text_at(named.key)) };
        match texts {
            (Some(name), Some(certificate), Some(key)) => {
                Ok((name, Certificate::files(certificate, key)))
            }
            _ => Err(invalid(
                "a certificate of `named` needs its name, its file and that of its key",
            )),
        }
    }

    /// Settings of a server.
    ///
    /// # Safety
    ///
    /// As [`certificate`].
    pub(super) unsafe fn server(options: &pwu_tls_options) -> Result<Inner, pwu_error> {
        let mut builder = ServerTls::builder();
        let named = if options.named.is_null() {
            &[]
        } else {
            // SAFETY: there are `named_count` of them, by the caller's word.
            unsafe { std::slice::from_raw_parts(options.named, options.named_count) }
        };
        for named in named {
            // SAFETY: the caller's promise.
            let (name, certificate) = unsafe { certificate_of(named) }?;
            builder = builder.certificate_for(name, certificate);
        }
        // SAFETY: the caller's promise.
        let (certificate, roots) = unsafe { (certificate(options)?, text_at(options.roots)) };
        if let Some(certificate) = certificate {
            builder = builder.certificate(certificate);
        }
        if let Some(roots) = roots {
            builder = builder.client_certificates(if options.client_optional == 0 {
                ClientCertificates::required(roots)
            } else {
                ClientCertificates::optional(roots)
            });
        }
        if options.tls13_only != 0 {
            builder = builder.tls13_only();
        }
        builder.build().map(Inner::Server).map_err(|fault| error(&fault))
    }

    /// Settings of clients.
    ///
    /// # Safety
    ///
    /// As [`certificate`].
    pub(super) unsafe fn client(options: &pwu_tls_options) -> Result<Inner, pwu_error> {
        let mut builder = ClientTls::builder();
        if !options.named.is_null() {
            return Err(
                invalid("certificates by name are those of a server: use `certificate`").into()
            );
        }
        // SAFETY: the caller's promise.
        let (certificate, roots) = unsafe { (certificate(options)?, text_at(options.roots)) };
        if let Some(certificate) = certificate {
            builder = builder.certificate(certificate);
        }
        if let Some(roots) = roots {
            builder = builder.roots(roots);
        }
        if options.native_roots != 0 {
            builder = builder.native_roots();
        }
        if options.insecure != 0 {
            builder = builder.danger_accept_invalid_certificates();
        }
        if options.tls13_only != 0 {
            builder = builder.tls13_only();
        }
        if options.sessions > 0 {
            builder = builder.resumption(options.sessions as usize);
        }
        builder.build().map(Inner::Client).map_err(|fault| error(&fault))
    }

    pub(super) fn reload(inner: &Inner) -> Result<(), Failure> {
        match inner {
            Inner::Server(tls) => tls
                .reload()
                .map_err(|fault| Failure::new(pwu_status::PWU_SYSTEM, fault.to_string())),
            Inner::Client(_) => {
                Err(invalid("settings of clients are not read again: make new ones"))
            }
        }
    }

    pub(super) fn of_server(
        inner: &Inner,
        builder: ServerBuilder,
    ) -> Result<ServerBuilder, Failure> {
        match inner {
            Inner::Server(tls) => Ok(builder.tls(tls.clone())),
            Inner::Client(_) => {
                Err(invalid("these settings of TLS are for clients: use pwu_tls_server"))
            }
        }
    }

    pub(super) fn of_client(inner: &Inner, connect: Connect) -> Result<Connect, Failure> {
        match inner {
            Inner::Client(tls) => Ok(connect.tls(tls)),
            Inner::Server(_) => {
                Err(invalid("these settings of TLS are for servers: use pwu_tls_client"))
            }
        }
    }

    pub(super) fn named(connect: Connect, name: String) -> Connect {
        connect.tls_server_name(name)
    }

    pub(super) fn fill(transport: &Transport, filled: &mut pwu_tls_info) -> Result<(), Failure> {
        let text = "the connection has not kept what TLS agreed on: set keep_request";
        let info = transport.tls_info().ok_or_else(|| invalid(text))?;
        filled.version = if info.version == TlsVersion::Tls12 { 12 } else { 13 };
        filled.resumed = info.resumed.into();
        filled.cipher = pwu_str::of(info.cipher.as_bytes());
        if let Some(name) = &info.sni {
            filled.server_name = pwu_str::of(name.as_bytes());
        }
        if let Some(certificate) = transport.peer_certificates().first() {
            filled.peer_certificate = pwu_str::of(certificate);
        }
        Ok(())
    }
}

#[cfg(not(feature = "tls"))]
mod build {
    use super::{Inner, pwu_tls_info, pwu_tls_options};
    use crate::error::{pwu_error, pwu_kind};
    use crate::status::{Failure, pwu_status};
    use picows_uring::{Connect, ConnectFault, ServerBuilder, Transport};

    /// Settings of a server, of which there are none.
    ///
    /// # Safety
    ///
    /// None is needed.
    pub(super) unsafe fn server(_: &pwu_tls_options) -> Result<Inner, pwu_error> {
        Err(none())
    }

    /// Settings of clients, of which there are none.
    ///
    /// # Safety
    ///
    /// None is needed.
    pub(super) unsafe fn client(_: &pwu_tls_options) -> Result<Inner, pwu_error> {
        Err(none())
    }

    fn none() -> pwu_error {
        pwu_error::new(pwu_kind::PWU_ERROR_TLS, &ConnectFault::TlsUnsupported)
    }

    pub(super) fn reload(inner: &Inner) -> Result<(), Failure> {
        match *inner {}
    }

    pub(super) fn of_server(inner: &Inner, _: ServerBuilder) -> Result<ServerBuilder, Failure> {
        match *inner {}
    }

    pub(super) fn of_client(inner: &Inner, _: Connect) -> Result<Connect, Failure> {
        match *inner {}
    }

    pub(super) fn named(connect: Connect, _: String) -> Connect {
        connect
    }

    pub(super) fn fill(_: &Transport, _: &mut pwu_tls_info) -> Result<(), Failure> {
        Err(Failure::fixed(pwu_status::PWU_INVALID))
    }
}
