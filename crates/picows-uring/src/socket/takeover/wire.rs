//! Messages between a process that serves and one that takes over from it.
//!
//! Each is one packet of text, with a version in front, so that processes of different versions can refuse
//! each other with a reason, and then the number of the sender's process. Descriptors go beside it; the channel is in `takeover.rs`.

use super::super::unix_path::Identity;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

/// A message of either process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Which listening sockets are there?
    Ask,
    /// Listening sockets of one address: their descriptors are beside it. More of them may follow.
    Sockets(GroupName, GroupKind),
    /// The socket by which the next process finds this one.
    Control(PathRecord),
    /// These were all.
    End,
    /// The new process is ready, and takes these.
    Take(Vec<GroupName>),
    /// The old process accepts no more from them.
    Taken,
    /// The reason why there is no takeover.
    Refused(String),
}

/// What the old process calls the listening sockets of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GroupName {
    pub(crate) part: Part,
    pub(crate) number: u32,
}

/// A server of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    #[default]
    Main,
    /// That of the admin address.
    Admin,
}

/// The kind of an address. Its port is the socket's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GroupKind {
    Tcp {
        /// The port was any free one.
        is_any_port: bool,
    },
    Unix(PathRecord),
    /// Of a parent process, which keeps it open: TCP or Unix, without a path that is to be removed.
    Inherited,
}

/// A path, and what is at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PathRecord {
    pub(super) path: PathBuf,
    pub(super) identity: Identity,
}

impl fmt::Display for GroupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Main => "main",
            Part::Admin => "admin",
        };
        write!(f, "{part}.{}", self.number)
    }
}

impl FromStr for GroupName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (part, number) = text.split_once('.').ok_or(())?;
        let part = match part {
            "main" => Part::Main,
            "admin" => Part::Admin,
            _ => return Err(()),
        };
        Ok(Self { part, number: number.parse().map_err(drop)? })
    }
}

impl Message {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{MAGIC} {VERSION} {} ", std::process::id()).into_bytes();
        match self {
            Self::Ask => bytes.extend(b"ask"),
            Self::Sockets(name, GroupKind::Tcp { is_any_port }) => {
                let kind = if *is_any_port { "any-port" } else { "tcp" };
                bytes.extend(format!("sockets {name} {kind}").as_bytes());
            }
            Self::Sockets(name, GroupKind::Inherited) => {
                bytes.extend(format!("sockets {name} inherited").as_bytes());
            }
            Self::Sockets(name, GroupKind::Unix(record)) => {
                bytes.extend(format!("sockets {name} unix ").as_bytes());
                record.add_to(&mut bytes);
            }
            Self::Control(record) => {
                bytes.extend(b"control ");
                record.add_to(&mut bytes);
            }
            Self::End => bytes.extend(b"end"),
            Self::Take(names) => {
                bytes.extend(b"take");
                for name in names {
                    bytes.extend(format!(" {name}").as_bytes());
                }
            }
            Self::Taken => bytes.extend(b"taken"),
            Self::Refused(reason) => bytes.extend(format!("refused {reason}").as_bytes()),
        }
        bytes
    }

    /// Reads a message, and the number of the sender's process.
    ///
    /// # Errors
    ///
    /// What is wrong, as a part of a sentence about the sender.
    pub(super) fn parse(bytes: &[u8]) -> Result<(u32, Self), String> {
        let foreign = || "it is another program".to_owned();
        let rest = bytes.strip_prefix(MAGIC.as_bytes()).and_then(|rest| rest.strip_prefix(b" "));
        let (version, rest) = split(rest.ok_or_else(foreign)?);
        if version != VERSION.as_bytes() {
            let version = String::from_utf8_lossy(version).into_owned();
            return Err(format!(
                "it speaks version {version} of the takeover, and this process version {VERSION}: stop \
                 it, and start the new one then"
            ));
        }
        let (process, rest) = split(rest);
        let process = std::str::from_utf8(process).ok().and_then(|text| text.parse().ok());
        process.zip(Self::parse_body(rest)).ok_or_else(|| "it sent what makes no sense".to_owned())
    }

    fn parse_body(bytes: &[u8]) -> Option<Self> {
        let (word, rest) = split(bytes);
        let text = || std::str::from_utf8(rest).ok();
        Some(match word {
            b"ask" => Self::Ask,
            b"end" => Self::End,
            b"taken" => Self::Taken,
            b"refused" => Self::Refused(String::from_utf8_lossy(rest).into_owned()),
            b"control" => Self::Control(PathRecord::parse(rest)?),
            b"take" => {
                let names = text()?.split_ascii_whitespace().map(GroupName::from_str);
                Self::Take(names.collect::<Result<_, _>>().ok()?)
            }
            b"sockets" => {
                let (name, rest) = split(rest);
                let name = std::str::from_utf8(name).ok()?.parse().ok()?;
                let (kind, rest) = split(rest);
                Self::Sockets(
                    name,
                    match kind {
                        b"tcp" => GroupKind::Tcp { is_any_port: false },
                        b"any-port" => GroupKind::Tcp { is_any_port: true },
                        b"unix" => GroupKind::Unix(PathRecord::parse(rest)?),
                        b"inherited" => GroupKind::Inherited,
                        _ => return None,
                    },
                )
            }
            _ => return None,
        })
    }
}

impl PathRecord {
    fn add_to(&self, bytes: &mut Vec<u8>) {
        let Identity { device, inode, made: (seconds, nanos) } = self.identity;
        bytes.extend(format!("{device} {inode} {seconds} {nanos} ").as_bytes());
        bytes.extend(self.path.as_os_str().as_bytes());
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        fn number<T: FromStr>(bytes: &[u8]) -> Option<(T, &[u8])> {
            let (number, rest) = split(bytes);
            Some((std::str::from_utf8(number).ok()?.parse().ok()?, rest))
        }
        let (device, rest) = number(bytes)?;
        let (inode, rest) = number(rest)?;
        let (seconds, rest) = number(rest)?;
        let (nanos, path) = number(rest)?;
        let identity = Identity { device, inode, made: (seconds, nanos) };
        Some(Self { path: PathBuf::from(OsStr::from_bytes(path)), identity })
    }
}

/// Splits at the first blank.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b' ') {
        Some(at) => (&bytes[..at], &bytes[at + 1..]),
        None => (bytes, &[]),
    }
}

const MAGIC: &str = "picows-takeover";
const VERSION: &str = "1";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_read_as_they_were_written() {
        let identity = Identity { device: 1, inode: u64::MAX, made: (-5, 7) };
        let path = PathBuf::from(OsStr::from_bytes(b"/run/a b\xff"));
        let record = PathRecord { path, identity };
        let name = |part, number| GroupName { part, number };
        for message in [
            Message::Ask,
            Message::Sockets(name(Part::Main, 0), GroupKind::Tcp { is_any_port: false }),
            Message::Sockets(name(Part::Admin, 7), GroupKind::Tcp { is_any_port: true }),
            Message::Sockets(name(Part::Main, 3), GroupKind::Unix(record.clone())),
            Message::Sockets(name(Part::Main, 4), GroupKind::Inherited),
            Message::Control(record),
            Message::End,
            Message::Take(vec![]),
            Message::Take(vec![name(Part::Main, 0), name(Part::Admin, 1)]),
            Message::Taken,
            Message::Refused("it is stopping: start again".into()),
        ] {
            let parsed = Message::parse(&message.to_bytes());
            assert_eq!(parsed, Ok((std::process::id(), message)));
        }
    }

    #[test]
    fn other_versions_and_other_programs_are_named() {
        for (bytes, reason) in [
            (
                &b"picows-takeover 2 ask"[..],
                "version 2 of the takeover, and this process version 1",
            ),
            (b"GET / HTTP/1.1", "another program"),
            (b"", "another program"),
            (b"picows-takeover", "another program"),
            (b"picows-takeover 1 ", "no sense"),
            (b"picows-takeover 1 me ask", "no sense"),
            (b"picows-takeover 1 9 take main", "no sense"),
            (b"picows-takeover 1 9 sockets main.0 udp", "no sense"),
            (b"picows-takeover 1 9 sockets other.0 tcp", "no sense"),
            (b"picows-takeover 1 9 control 1 2 3 /run/s", "no sense"),
        ] {
            let error = Message::parse(bytes).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
