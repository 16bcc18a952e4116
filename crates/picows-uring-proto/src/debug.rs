//! One way to show an error: `Debug` has the text of `Display`, with the cure.
//!
//! `fn main() -> Result<(), Error>`, `unwrap` and `expect` print `Debug`; its reader wants to know
//! what to do.

/// Implements `Debug` for an error: the name of the variant, or of the type, and its text.
#[doc(hidden)]
#[macro_export]
macro_rules! debug_with_text {
    ($type:ident) => {
        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::write!(f, "{}({self})", ::std::stringify!($type))
            }
        }
    };
    ($type:ident: $($variant:ident),+ $(,)?) => {
        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                let variant = match self {
                    $(Self::$variant { .. } => ::std::stringify!($variant),)+
                };
                ::std::write!(f, "{variant}({self})")
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use crate::{
        ApiMisuse, HandshakeMisuse, HeadError, PeerMisbehaved, RequestError, UpgradeError,
    };

    #[track_caller]
    fn shows_its_text(error: &(impl std::error::Error + ?Sized), variant: &str) {
        assert_eq!(format!("{error:?}"), format!("{variant}({error})"));
        assert!(!error.to_string().is_empty());
    }

    #[test]
    fn debug_of_every_error_has_its_text() {
        shows_its_text(&PeerMisbehaved::InvalidUtf8, "InvalidUtf8");
        shows_its_text(&ApiMisuse::ControlPayloadTooLong(126), "ControlPayloadTooLong");
        let name = String::from("a b");
        shows_its_text(&HandshakeMisuse::InvalidHeaderName { name }, "InvalidHeaderName");
        shows_its_text(&HeadError::TooLarge { head_bytes_max: 7 }, "TooLarge");
        shows_its_text(&RequestError::TlsClientHello, "TlsClientHello");
        shows_its_text(&UpgradeError::MissingUpgrade, "MissingUpgrade");
    }
}
