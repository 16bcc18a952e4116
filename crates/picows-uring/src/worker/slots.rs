//! The connections of a worker, by token.

use crate::connection::Connection;
use crate::ring::Token;

/// Slots that are used again and again, each time under another generation.
#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    /// Slots that are free.
    free: Vec<u32>,
}

struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Slots {
    /// Puts the connection that `make` makes of its token into a free slot.
    pub(super) fn insert(&mut self, make: impl FnOnce(Token) -> Connection) -> Token {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: 0, connection: None });
            (self.slots.len() - 1) as u32
        });
        let entry = &mut self.slots[slot as usize];
        let token = Token { slot, generation: entry.generation };
        entry.connection = Some(make(token));
        token
    }

    /// The connection of `token`, unless it is gone.
    #[inline]
    pub(super) fn get_mut(&mut self, token: Token) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(token.slot as usize)?;
        if slot.generation != token.generation {
            return None;
        }
        slot.connection.as_mut()
    }

    /// Drops the connection of `token` and frees its slot. Nothing of it may be in flight.
    pub(super) fn free(&mut self, token: Token) {
        debug_assert!(
            self.get_mut(token).is_none_or(|it| !it.is_receiving && !it.is_sending),
            "freed with operations in flight"
        );
        let slot = &mut self.slots[token.slot as usize];
        if slot.generation == token.generation && slot.connection.take().is_some() {
            slot.generation = (slot.generation + 1) % Token::GENERATIONS;
            self.free.push(token.slot);
        }
    }

    /// How many slots are in use.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Connection> {
        self.slots.iter_mut().filter_map(|slot| slot.connection.as_mut())
    }
}
