//! Stamp of a publication: its run, its publisher and its number, at the start of the payload.

/// Identity of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Chosen anew by each run, so that what a topic kept of an earlier one is not counted.
    pub(super) run: u32,
    pub(super) publisher: u32,
    pub(super) number: u64,
}

/// Number of the publications that only show that a subscriber is reached.
pub(super) const PROBE: u64 = u64::MAX;

impl Stamp {
    /// Length in a binary payload, or in text, where it is in hexadecimal digits.
    pub(super) const fn length(is_text: bool) -> usize {
        if is_text { 2 * BINARY_BYTES } else { BINARY_BYTES }
    }

    /// Writes the stamp to the start of `payload`, which is at least that long.
    pub(super) fn write(self, payload: &mut [u8], is_text: bool) {
        let value =
            u128::from(self.run) << 96 | u128::from(self.publisher) << 64 | u128::from(self.number);
        let place = &mut payload[..Self::length(is_text)];
        if is_text {
            place.copy_from_slice(format!("{value:032x}").as_bytes());
        } else {
            place.copy_from_slice(&value.to_be_bytes());
        }
    }

    /// Reads the stamp of `payload`; `None` if there is none.
    pub(super) fn read(payload: &[u8], is_text: bool) -> Option<Self> {
        let place = payload.get(..Self::length(is_text))?;
        let value = if is_text {
            if !place.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            u128::from_str_radix(str::from_utf8(place).ok()?, 16).ok()?
        } else {
            u128::from_be_bytes(place.try_into().ok()?)
        };
        Some(Self {
            run: (value >> 96) as u32,
            publisher: (value >> 64) as u32,
            number: value as u64,
        })
    }
}

const BINARY_BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for is_text in [false, true] {
            for number in [0, 1, 1 << 40, PROBE] {
                let stamp = Stamp { run: 0xdead_beef, publisher: 7, number };
                let mut payload = vec![b'.'; Stamp::length(is_text) + 3];
                stamp.write(&mut payload, is_text);
                assert_eq!(Stamp::read(&payload, is_text), Some(stamp));
                assert_eq!(&payload[Stamp::length(is_text)..], b"...");
                assert!(!is_text || payload.is_ascii());
            }
        }
        assert_eq!(Stamp::read(&[0; 15], false), None);
        assert_eq!(Stamp::read(b"+0000000000000000000000000000001", true), None);
    }
}
