//! Names of topics and subjects of subscriptions: their rules, and which match.
//!
//! Subjects are those of NATS: tokens divided by dots, `*` for any one token and a last `>` for one or
//! more.

use super::error::TopicError;

/// The rules of names: a place for their functions.
///
/// ```
/// use picows_uring::topics::TopicName;
///
/// TopicName::check("quotes.xetra.sap")?;
/// TopicName::check_pattern("quotes.*.sap")?;
/// assert!(TopicName::matches("quotes.>", "quotes.xetra.sap"));
/// let error = TopicName::check("quotes.*").unwrap_err();
/// assert!(error.to_string().contains("`*` and `>` are for subscriptions alone"));
/// # Ok::<(), picows_uring::topics::TopicError>(())
/// ```
#[derive(Debug)]
pub enum TopicName {}

impl TopicName {
    /// Checks the name of a topic.
    ///
    /// # Errors
    ///
    /// When it is empty or longer than 255 bytes, has an empty token or more than 16, or contains
    /// white space, a control character, `*` or `>`.
    pub fn check(name: &str) -> Result<(), TopicError> {
        let fault = fault_of(name).or_else(|| {
            name.contains(['*', '>']).then_some("`*` and `>` are for subscriptions alone")
        });
        match fault {
            None => Ok(()),
            Some(fault) => Err(TopicError::BadName { name: shortened(name), fault }),
        }
    }

    /// Checks the subject of a subscription: the name of a topic, or one with wildcards.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check), but that a token may be `*`, and the last one `>`.
    pub fn check_pattern(pattern: &str) -> Result<(), TopicError> {
        let fault = fault_of(pattern).or_else(|| {
            let mut tokens = pattern.split('.').peekable();
            while let Some(token) = tokens.next() {
                match token {
                    ">" if tokens.peek().is_some() => return Some("`>` is not its last token"),
                    "*" | ">" => {}
                    _ if token.contains(['*', '>']) => {
                        return Some("a wildcard is a whole token, between dots");
                    }
                    _ => {}
                }
            }
            None
        });
        match fault {
            None => Ok(()),
            Some(fault) => Err(TopicError::BadPattern { pattern: shortened(pattern), fault }),
        }
    }

    /// Whether the topic `name` matches `pattern`. Both are taken to be valid.
    #[must_use]
    pub fn matches(pattern: &str, name: &str) -> bool {
        let mut tokens = name.split('.');
        for wanted in pattern.split('.') {
            let token = tokens.next();
            match wanted {
                ">" => return token.is_some(),
                "*" if token.is_some() => {}
                _ if token == Some(wanted) => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

/// Whether a valid subject has wildcards.
pub(super) fn is_pattern(subject: &str) -> bool {
    subject.contains(['*', '>'])
}

fn fault_of(text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return Some("it is empty");
    }
    if text.len() > NAME_BYTES_MAX {
        return Some("it is longer than 255 bytes");
    }
    if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Some("it contains white space or a control character");
    }
    let mut tokens = 0;
    for token in text.split('.') {
        tokens += 1;
        if token.is_empty() {
            return Some("a token between dots is empty");
        }
    }
    (tokens > NAME_TOKENS_MAX).then_some("it has more than 16 tokens")
}

/// For an error, as the text may be a peer's and as long as a frame.
fn shortened(text: &str) -> String {
    text.chars().take(64).collect()
}

/// As long as NATS takes without a warning.
const NAME_BYTES_MAX: usize = 255;
/// Matching costs time for each token.
const NAME_TOKENS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_tokens_between_dots() {
        let long = "x".repeat(NAME_BYTES_MAX);
        let deep = ["t"; NAME_TOKENS_MAX].join(".");
        for name in ["a", "room.1", "größe.é", "a-b_c/d:e", &long, &deep] {
            assert_eq!(TopicName::check(name), Ok(()), "{name}");
            assert_eq!(TopicName::check_pattern(name), Ok(()), "{name}");
        }
        let (long, deep) = (format!("{long}x"), format!("{deep}.t"));
        for name in ["", ".", "a.", ".a", "a..b", "a b", "a\u{7}", "a\u{a0}b", &long, &deep] {
            assert!(TopicName::check(name).is_err(), "{name}");
            assert!(TopicName::check_pattern(name).is_err(), "{name}");
        }
        for name in ["*", ">", "a.*", "a*", "a.>b"] {
            assert!(TopicName::check(name).is_err(), "{name}");
        }
    }

    #[test]
    fn wildcards_are_whole_tokens_and_the_rest_comes_last() {
        for pattern in ["*", ">", "a.*", "*.b", "a.>", "*.*.>"] {
            assert_eq!(TopicName::check_pattern(pattern), Ok(()), "{pattern}");
        }
        for pattern in ["a*", "*a", ">.a", "a.>.b", "a.>>", "**"] {
            assert!(TopicName::check_pattern(pattern).is_err(), "{pattern}");
        }
    }

    #[test]
    fn patterns_match_as_in_nats() {
        let cases = [
            ("a", "a", true),
            ("a", "b", false),
            ("a", "a.b", false),
            ("a.b", "a", false),
            ("*", "a", true),
            ("*", "a.b", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            (">", "a", true),
            (">", "a.b.c", true),
            ("a.>", "a", false),
            ("a.>", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "b.c", false),
            ("*.>", "a", false),
            ("*.>", "a.b", true),
        ];
        for (pattern, name, matches) in cases {
            assert_eq!(TopicName::matches(pattern, name), matches, "{pattern} {name}");
        }
    }

    #[test]
    fn errors_quote_the_beginning_of_a_name_alone() {
        let error = TopicName::check(&"x".repeat(1_000_000)).unwrap_err();
        assert!(error.to_string().len() < 200, "{error}");
    }
}
