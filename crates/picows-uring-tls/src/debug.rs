//! `Debug` of errors: the name of the variant and the text of `Display`, with the cure.

/// Implements `Debug` for an error: the name of the type, and its text.
macro_rules! debug_with_text {
    ($type:ident) => {
        impl ::std::fmt::Debug for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                ::std::write!(f, "{}({self})", ::std::stringify!($type))
            }
        }
    };
}

pub(crate) use debug_with_text;
