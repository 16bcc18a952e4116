//! Positions in a topic.

use super::error::InvalidPosition;
use std::fmt;
use std::str::FromStr;

/// The position of a publication in its topic.
///
/// Offsets of an epoch begin at 1 and are consecutive where the hub gives them; 0 is the position in
/// front of the first. A topic that is made anew has another epoch.
///
/// ```
/// use picows_uring::topics::Position;
///
/// let position = Position { epoch: 0xA1, offset: 12 };
/// assert_eq!(position.to_string(), "a1:c");
/// assert_eq!("a1:c".parse(), Ok(position));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Position {
    /// The life of the topic that the offset counts in.
    pub epoch: u64,
    /// The number of the publication.
    pub offset: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{:x}", self.epoch, self.offset)
    }
}

impl FromStr for Position {
    type Err = InvalidPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (epoch, offset) = text.split_once(':').ok_or(InvalidPosition)?;
        Ok(Self { epoch: number(epoch)?, offset: number(offset)? })
    }
}

/// A hexadecimal number without a sign.
fn number(text: &str) -> Result<u64, InvalidPosition> {
    let is_fine = (1..=16).contains(&text.len()) && text.bytes().all(|it| it.is_ascii_hexdigit());
    if !is_fine {
        return Err(InvalidPosition);
    }
    u64::from_str_radix(text, 16).map_err(|_| InvalidPosition)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_back() {
        for position in [
            Position::default(),
            Position { epoch: 1, offset: u64::MAX },
            Position { epoch: u64::MAX, offset: 7 },
        ] {
            assert_eq!(position.to_string().parse(), Ok(position));
        }
        assert_eq!("00A:0b".parse(), Ok(Position { epoch: 10, offset: 11 }));
        for bad in ["", ":", "1", "1:", ":1", "1:2:3", "+1:2", "1:-2", "x:1", "1: 2"] {
            assert_eq!(bad.parse::<Position>(), Err(InvalidPosition), "{bad}");
        }
        assert_eq!("00000000000000001:1".parse::<Position>(), Err(InvalidPosition), "17 digits");
    }
}
