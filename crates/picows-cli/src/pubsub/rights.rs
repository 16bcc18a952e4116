//! The rule of who may publish, and the comparison of tokens.

use crate::fault::{Fault, Usage};
use crate::stdio::note;
use picows_uring::UpgradeRequest;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

/// Who may publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Publish {
    /// No client
    None,
    /// Every client
    All,
    /// Clients with a token of --publish-token-file
    Token,
}

/// The rule that a server goes by.
#[derive(Debug)]
pub(super) enum Rights {
    None,
    All,
    /// One of these tokens.
    Tokens(Tokens),
}

/// The tokens of a file, which can be read again.
#[derive(Debug)]
pub(super) struct Tokens {
    file: PathBuf,
    /// Locked for the time of a comparison.
    all: RwLock<Vec<Vec<u8>>>,
}

/// What one client may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Right {
    Publish,
    /// It may not, for this reason.
    Subscribe(&'static str),
}

impl Rights {
    /// The rule that the flags describe.
    ///
    /// # Errors
    ///
    /// When the flags contradict each other, or the file cannot be used.
    pub(super) fn new(publish: Publish, file: Option<&Path>) -> Result<Self, Fault> {
        match (publish, file) {
            (Publish::Token, Some(file)) => Ok(Self::Tokens(Tokens::read(file)?)),
            (Publish::Token, None) => {
                Err(Usage("--publish token: --publish-token-file FILE is missing".into()).into())
            }
            (_, Some(_)) => {
                Err(Usage("--publish-token-file: it is for --publish token".into()).into())
            }
            (Publish::All, None) => Ok(Self::All),
            (Publish::None, None) => Ok(Self::None),
        }
    }

    /// What a client may do that sent this request, with `query` as its token if the URL has one.
    pub(super) fn of(&self, request: &UpgradeRequest, query: Option<&[u8]>) -> Right {
        match self {
            Self::All => Right::Publish,
            Self::None => Right::Subscribe("this server takes no publications of clients"),
            Self::Tokens(tokens) => match bearer(request).or(query) {
                Some(given) if tokens.contains(given) => Right::Publish,
                Some(_) => Right::Subscribe("the token is wrong"),
                None => Right::Subscribe(
                    "a token is missing: send Authorization: Bearer TOKEN, or ?token=TOKEN",
                ),
            },
        }
    }

    /// The tokens that can be read again.
    pub(super) fn tokens(&self) -> Option<&Tokens> {
        match self {
            Self::Tokens(tokens) => Some(tokens),
            Self::None | Self::All => None,
        }
    }

    /// Formats it for the line at the start.
    pub(super) fn describe(&self) -> &'static str {
        match self {
            Self::None => "none: clients only subscribe",
            Self::All => "all: every client may publish",
            Self::Tokens(_) => "token: clients with a token may publish",
        }
    }
}

impl Tokens {
    fn read(file: &Path) -> Result<Self, Fault> {
        Ok(Self { all: RwLock::new(read_tokens(file)?), file: file.to_owned() })
    }

    fn contains(&self, given: &[u8]) -> bool {
        is_among(&self.all.read().unwrap_or_else(PoisonError::into_inner), given)
    }

    /// Reads the file again, and notes the outcome. Clients that are connected keep what they may do.
    pub(super) fn reload(&self) {
        match read_tokens(&self.file) {
            Ok(tokens) => {
                *self.all.write().unwrap_or_else(PoisonError::into_inner) = tokens;
                note(format_args!("tokens read again: new connections go by them"));
            }
            Err(fault) => note(format_args!("tokens not read again, the old ones stay: {fault}")),
        }
    }
}

/// Returns the token of `Authorization: Bearer TOKEN`.
fn bearer(request: &UpgradeRequest) -> Option<&[u8]> {
    let value = request.header("authorization")?;
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then(|| token.trim_ascii())
}

/// Compares with each token, to the end: the time depends on what was given alone.
fn is_among(tokens: &[Vec<u8>], given: &[u8]) -> bool {
    tokens.iter().fold(false, |found, token| found | is_same(token, given))
}

/// Whether both are the same, in a time that depends on `given` alone.
fn is_same(token: &[u8], given: &[u8]) -> bool {
    let mut difference = token.len() ^ given.len();
    for (index, byte) in given.iter().enumerate() {
        let wanted = token[index % token.len()];
        difference |= black_box(usize::from(wanted ^ byte));
    }
    black_box(difference) == 0
}

/// Reads the tokens of a file, one on each line. None is empty.
fn read_tokens(file: &Path) -> Result<Vec<Vec<u8>>, Fault> {
    let fault = |what: String| Usage(format!("--publish-token-file {}: {what}", file.display()));
    let bytes = std::fs::read(file).map_err(|error| fault(error.to_string()))?;
    let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let tokens: Vec<_> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    if tokens.is_empty() {
        return Err(fault("there is no token in it: write one on a line".to_owned()).into());
    }
    Ok(tokens)
}

const SCHEME: &[u8] = b"bearer ";

#[cfg(test)]
mod tests {
    use super::*;
    use picows_uring::UpgradeRequest;

    fn request(headers: &str) -> UpgradeRequest {
        let text = format!(
            "GET /topic/a HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n{headers}\r\n"
        );
        super::super::request::tests::parse_request(&text)
    }

    #[test]
    fn tokens_are_taken_from_the_header_first() {
        let all = RwLock::new(vec![b"old".to_vec(), b"sesame".to_vec()]);
        let rights = Rights::Tokens(Tokens { file: PathBuf::new(), all });
        let right = |headers: &str, query: Option<&str>| {
            rights.of(&request(headers), query.map(str::as_bytes))
        };
        for (headers, query) in [
            ("Authorization: Bearer sesame\r\n", None),
            ("authorization: bEARER   sesame \r\n", Some("wrong")),
            ("", Some("sesame")),
            ("", Some("old")),
            ("Authorization: Basic c2VzYW1l\r\n", Some("sesame")),
        ] {
            assert_eq!(right(headers, query), Right::Publish, "{headers} {query:?}");
        }
        for (headers, query, reason) in [
            ("", None, "missing"),
            ("Authorization: Bearer sesam\r\n", None, "wrong"),
            ("Authorization: Bearer sesamee\r\n", Some("sesame"), "wrong"),
            ("Authorization: Bearer \r\n", None, "missing"),
            ("", Some(""), "wrong"),
            ("", Some("sesamesesame"), "wrong"),
        ] {
            let Right::Subscribe(text) = right(headers, query) else {
                panic!("{headers} {query:?}")
            };
            assert!(text.contains(reason), "{text}");
        }
    }

    #[test]
    fn without_tokens_all_or_none_may_publish() {
        assert_eq!(Rights::All.of(&request(""), None), Right::Publish);
        assert!(matches!(Rights::None.of(&request(""), Some(b"x")), Right::Subscribe(_)));
    }

    #[test]
    fn a_token_file_that_cannot_be_used_is_named() {
        let folder = std::env::temp_dir().join(format!("picows-tokens-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (empty, full) = (folder.join("empty"), folder.join("full"));
        std::fs::write(&empty, " \n\n").unwrap();
        std::fs::write(&full, "one\r\n\ntwo").unwrap();
        for (publish, file, part) in [
            (Publish::Token, None, "--publish-token-file FILE is missing"),
            (Publish::All, Some(&*full), "it is for --publish token"),
            (Publish::Token, Some(&*empty), "there is no token in it"),
            (Publish::Token, Some(Path::new("/nowhere")), "/nowhere: No such file"),
        ] {
            let error = Rights::new(publish, file).unwrap_err();
            assert!(error.is::<Usage>() && error.to_string().contains(part), "{error}");
        }
        let Rights::Tokens(tokens) = Rights::new(Publish::Token, Some(&full)).unwrap() else {
            panic!("no tokens")
        };
        assert_eq!(*tokens.all.read().unwrap(), [b"one", b"two"]);
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
