//! Names in completions: of a connection, and of a listening socket.
//!
//! They mean nothing to the ring. Each packs into 60 bits, so that the ring can add what kind of
//! operation it was.

/// Names an owner of a slot. A slot that was given to another owner has another generation, so a
/// late completion cannot reach its next owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Token {
    pub(crate) slot: u32,
    /// 28 bits, counted up with each owner.
    pub(crate) generation: u32,
}

impl Token {
    /// Generations are counted modulo this.
    pub(crate) const GENERATIONS: u32 = 1 << 28;

    /// The token as 60 bits.
    pub(crate) fn pack(self) -> u64 {
        (u64::from(self.generation % Self::GENERATIONS) << 32) | u64::from(self.slot)
    }

    /// The token of 60 bits; the rest is ignored.
    pub(crate) fn unpack(bits: u64) -> Self {
        Self { slot: bits as u32, generation: (bits >> 32) as u32 % Self::GENERATIONS }
    }
}

/// Names a listening socket of a worker. One that takes the place of another has another
/// generation, so a late completion cannot reach it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ListenerId {
    pub(crate) index: u32,
    /// 28 bits, counted up with each socket in its place.
    pub(crate) generation: u32,
}

impl ListenerId {
    /// The id of the first socket in a place.
    pub(crate) fn first(index: u32) -> Self {
        Self { index, generation: 0 }
    }

    /// The id as 60 bits.
    pub(crate) fn pack(self) -> u64 {
        Token { slot: self.index, generation: self.generation }.pack()
    }

    /// The id of 60 bits; the rest is ignored.
    pub(crate) fn unpack(bits: u64) -> Self {
        let Token { slot, generation } = Token::unpack(bits);
        Self { index: slot, generation }
    }

    /// The id of the next socket in the same place.
    pub(crate) fn next(self) -> Self {
        Self { generation: (self.generation + 1) % Token::GENERATIONS, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_into_sixty_bits_and_back() {
        for slot in [0, 1, u32::MAX] {
            for generation in [0, 1, Token::GENERATIONS - 1] {
                let token = Token { slot, generation };
                assert!(token.pack() < 1 << 60);
                assert_eq!(Token::unpack(token.pack() | (0xF << 60)), token);
                let id = ListenerId { index: slot, generation };
                assert!(id.pack() < 1 << 60 && id.next() != id);
                assert_eq!(ListenerId::unpack(id.pack() | (0xF << 60)), id);
                assert_eq!(ListenerId::unpack(id.next().pack()), id.next());
            }
        }
    }
}
