//! Copies of errors of connecting, whose [`io::Error`]s have no `Clone`.

use super::{ConnectError, ConnectFault};
use crate::client::ProxyFault;
use crate::error::copy;
use std::io;
use std::net::SocketAddr;

fn copies(attempts: &[(SocketAddr, io::Error)]) -> Vec<(SocketAddr, io::Error)> {
    attempts.iter().map(|(address, error)| (*address, copy(error))).collect()
}

impl Clone for ConnectError {
    fn clone(&self) -> Self {
        Self::new(self.url(), self.fault().clone())
    }
}

impl Clone for ConnectFault {
    fn clone(&self) -> Self {
        match self {
            Self::Url(fault) => Self::Url(fault.clone()),
            Self::Option(misuse) => Self::Option(misuse.clone()),
            Self::Setting { setting, fault } => Self::Setting { setting, fault: fault.clone() },
            Self::Request(error) => Self::Request(error.clone()),
            Self::TlsUnsupported => Self::TlsUnsupported,
            Self::TlsExpected => Self::TlsExpected,
            #[cfg(feature = "_tls")]
            Self::TlsSettings(error) => Self::TlsSettings(error.clone()),
            #[cfg(feature = "_tls")]
            Self::Tls(error) => Self::Tls(error.clone()),
            Self::NoRuntime => Self::NoRuntime,
            Self::Resolve { host, source } => {
                Self::Resolve { host: host.clone(), source: copy(source) }
            }
            Self::Unreachable { attempts } => Self::Unreachable { attempts: copies(attempts) },
            Self::UnixSocket { path, source } => {
                Self::UnixSocket { path: path.clone(), source: copy(source) }
            }
            Self::Proxy { proxy, variable, fault } => {
                Self::Proxy { proxy: proxy.clone(), variable: *variable, fault: fault.clone() }
            }
            Self::Socket(error) => Self::Socket(copy(error)),
            Self::Timeout { stage, limit } => Self::Timeout { stage: *stage, limit: *limit },
            Self::Response(error) => Self::Response(error.clone()),
            Self::Redirect { location, fault, response } => Self::Redirect {
                location: location.clone(),
                fault: fault.clone(),
                response: response.clone(),
            },
            Self::Listener(fault) => Self::Listener(fault.clone()),
            Self::Disconnected(error) => Self::Disconnected(error.as_ref().map(copy)),
        }
    }
}

impl Clone for ProxyFault {
    fn clone(&self) -> Self {
        match self {
            Self::Url(fault) => Self::Url(fault.clone()),
            Self::Option(misuse) => Self::Option(misuse.clone()),
            Self::Resolve { host, source } => {
                Self::Resolve { host: host.clone(), source: copy(source) }
            }
            Self::Unreachable { attempts } => Self::Unreachable { attempts: copies(attempts) },
            #[cfg(feature = "_tls")]
            Self::TlsSettings(error) => Self::TlsSettings(error.clone()),
            #[cfg(feature = "_tls")]
            Self::Tls(error) => Self::Tls(error.clone()),
            Self::Tunnel(error) => Self::Tunnel(error.clone()),
            Self::Io(error) => Self::Io(copy(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;

    #[test]
    fn a_copy_has_kind_number_and_text() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        for error in [
            io::Error::from_raw_os_error(libc::ECONNREFUSED),
            io::Error::new(io::ErrorKind::NotFound, "it has no address"),
            io::ErrorKind::TimedOut.into(),
        ] {
            let (kind, number) = (error.kind(), error.raw_os_error());
            let faults = [
                ConnectFault::Disconnected(Some(copy(&error))),
                ConnectFault::Socket(copy(&error)),
                ConnectFault::Proxy {
                    proxy: "http://proxy:1".to_owned(),
                    variable: None,
                    fault: ProxyFault::Io(copy(&error)),
                },
                ConnectFault::Unreachable { attempts: vec![(address, error)] },
            ];
            for fault in faults {
                let original = ConnectError::new("ws://a/", fault);
                let copied = original.clone();
                assert_eq!(copied.to_string(), original.to_string());
                assert_eq!(format!("{copied:?}"), format!("{original:?}"));
                if let ConnectFault::Unreachable { attempts } = copied.fault() {
                    assert_eq!(
                        (attempts[0].1.kind(), attempts[0].1.raw_os_error()),
                        (kind, number)
                    );
                }
            }
        }
        let original =
            Error::Listen { address: "a".into(), source: io::ErrorKind::AddrInUse.into() };
        assert_eq!(original.clone().to_string(), original.to_string());
    }
}
