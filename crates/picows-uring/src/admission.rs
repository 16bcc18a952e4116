//! Numbers of connections in all workers together: open, in their handshake, and of each address.
//! Says whether there is room for one more.
//!
//! Touched when a connection comes, when its handshake is over, and when it goes.

use http::StatusCode;
use picows_uring_proto::UpgradeResponse;
use std::collections::HashMap;
use std::collections::hash_map::{Entry, RandomState};
use std::hash::BuildHasher;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Limits of an [`Admission`]; `None` for none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AdmissionLimits {
    pub(crate) connections_max: Option<usize>,
    pub(crate) connections_per_address_max: Option<usize>,
    pub(crate) handshakes_max: Option<usize>,
}

/// Counts with limits that are never passed.
#[derive(Debug, Default)]
pub(crate) struct Admission {
    connections: AtomicUsize,
    handshakes: AtomicUsize,
    /// By the hash of the address, so that workers seldom wait for each other. Empty unless there
    /// is a limit.
    origins: [Mutex<HashMap<Origin, u32>>; SHARDS],
    hasher: RandomState,
}

/// The clients that a limit of connections for each address counts as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Origin {
    V4(u32),
    /// The first 64 bits: the smallest network that a customer is given (RFC 6177), in which one
    /// machine can have any number of addresses.
    V6(u64),
}

impl Origin {
    fn of(peer: SocketAddr) -> Self {
        match peer.ip().to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => Self::V6((address.to_bits() >> 64) as u64),
        }
    }
}

/// The place where a connection is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdmissionState {
    /// Nowhere: it is ours, made as a client.
    Exempt,
    /// With those for which there is no room: a plain request is answered, an upgrade is refused.
    Refused(Refusal),
    /// With the open ones, and with those in their handshake.
    Handshaking,
    /// With the open ones, since its upgrade in this turn.
    Upgraded,
    /// With the open ones.
    Open,
}

/// The limit that leaves no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Connections,
    Address,
    Handshakes,
    Memory,
}

impl Refusal {
    /// The answer to the client. Without `Retry-After`: the server cannot know when there is room,
    /// and the same number for all would bring them back together.
    pub(crate) fn response(self) -> UpgradeResponse {
        let text = match self {
            Self::Connections => "too many connections\n",
            Self::Address => "too many connections from your address\n",
            Self::Handshakes => "too many handshakes in progress\n",
            Self::Memory => "too little memory\n",
        };
        UpgradeResponse::text(StatusCode::SERVICE_UNAVAILABLE, text)
    }

    /// The setting that is behind it.
    pub(crate) fn setting(self) -> &'static str {
        match self {
            Self::Connections => "max_connections",
            Self::Address => "max_per_address",
            Self::Handshakes => "max_handshakes",
            Self::Memory => "memory_limit",
        }
    }
}

impl Admission {
    /// Counts a new connection, which begins its handshake, unless that would pass a limit. Peers
    /// without an address, on Unix sockets, have no limit for each.
    pub(crate) fn admit(
        &self,
        limits: &AdmissionLimits,
        peer: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        if !acquire(&self.connections, limits.connections_max) {
            return Err(Refusal::Connections);
        }
        if !acquire(&self.handshakes, limits.handshakes_max) {
            release(&self.connections);
            return Err(Refusal::Handshakes);
        }
        self.admit_address(limits, peer).inspect_err(|_| {
            release(&self.handshakes);
            release(&self.connections);
        })
    }

    /// Counts a connection of an address, unless that would pass its limit.
    pub(crate) fn admit_address(
        &self,
        limits: &AdmissionLimits,
        peer: Option<SocketAddr>,
    ) -> Result<(), Refusal> {
        match (limits.connections_per_address_max, peer) {
            (Some(limit), Some(peer)) if !self.acquire_origin(Origin::of(peer), limit) => {
                Err(Refusal::Address)
            }
            _ => Ok(()),
        }
    }

    /// The limit that is reached, of those on all connections together.
    pub(crate) fn full(&self, limits: &AdmissionLimits) -> Option<Refusal> {
        let has_reached = |count: &AtomicUsize, limit: Option<usize>| {
            limit.is_some_and(|limit| count.load(Ordering::Relaxed) >= limit)
        };
        if has_reached(&self.connections, limits.connections_max) {
            return Some(Refusal::Connections);
        }
        has_reached(&self.handshakes, limits.handshakes_max).then_some(Refusal::Handshakes)
    }

    /// A handshake is over.
    pub(crate) fn handshake_ended(&self) {
        release(&self.handshakes);
    }

    /// A connection has gone, of which `state` says how it is counted.
    pub(crate) fn release(
        &self,
        limits: &AdmissionLimits,
        state: AdmissionState,
        peer: Option<SocketAddr>,
    ) {
        match state {
            AdmissionState::Exempt | AdmissionState::Refused(_) => return,
            AdmissionState::Handshaking => self.handshake_ended(),
            AdmissionState::Upgraded | AdmissionState::Open => {}
        }
        self.leave(limits, peer);
    }

    /// A connection that was admitted has gone.
    fn leave(&self, limits: &AdmissionLimits, peer: Option<SocketAddr>) {
        release(&self.connections);
        if let (Some(_), Some(peer)) = (limits.connections_per_address_max, peer) {
            self.release_origin(Origin::of(peer));
        }
    }

    /// Whether nothing is counted, and nothing kept.
    #[cfg(any(test, feature = "_fuzzing"))]
    pub(crate) fn is_empty(&self) -> bool {
        self.connections.load(Ordering::Relaxed) == 0
            && self.handshakes.load(Ordering::Relaxed) == 0
            && self.origins.iter().all(|origins| lock(origins).is_empty())
    }

    fn acquire_origin(&self, origin: Origin, limit: usize) -> bool {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        match self.shard(origin).entry(origin) {
            Entry::Occupied(mut entry) => {
                let has_room = *entry.get() < limit;
                *entry.get_mut() += u32::from(has_room);
                has_room
            }
            Entry::Vacant(entry) => {
                entry.insert(1);
                true
            }
        }
    }

    fn release_origin(&self, origin: Origin) {
        let mut origins = self.shard(origin);
        if let Entry::Occupied(mut entry) = origins.entry(origin) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        // A crowd that has gone leaves no memory behind.
        if origins.capacity() > ORIGINS_KEPT && origins.len() < origins.capacity() / 8 {
            origins.shrink_to(ORIGINS_KEPT);
        }
    }

    fn shard(&self, origin: Origin) -> MutexGuard<'_, HashMap<Origin, u32>> {
        lock(&self.origins[self.hasher.hash_one(origin) as usize % SHARDS])
    }
}

/// No code that can panic runs under the lock.
fn lock(origins: &Mutex<HashMap<Origin, u32>>) -> MutexGuard<'_, HashMap<Origin, u32>> {
    origins.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts one more, unless that would pass `limit`.
fn acquire(count: &AtomicUsize, limit: Option<usize>) -> bool {
    let limit = limit.unwrap_or(usize::MAX);
    count
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| {
            (count < limit).then_some(count + 1)
        })
        .is_ok()
}

/// Counts one less.
fn release(count: &AtomicUsize) {
    count.fetch_sub(1, Ordering::Relaxed);
}

/// Locks, far more than there are workers that accept in the same microsecond.
const SHARDS: usize = 16;
/// Addresses for which a shard keeps its memory.
const ORIGINS_KEPT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(change: impl FnOnce(&mut AdmissionLimits)) -> AdmissionLimits {
        let mut config = AdmissionLimits::default();
        change(&mut config);
        config
    }

    fn peer(text: &str) -> Option<SocketAddr> {
        Some(SocketAddr::new(text.parse().unwrap(), 1))
    }

    #[test]
    fn the_limit_of_connections_is_exact() {
        let admission = Admission::default();
        let limits = limits(|it| it.connections_max = Some(2));
        assert_eq!(
            [admission.admit(&limits, None), admission.admit(&limits, None)],
            [Ok(()), Ok(())]
        );
        assert_eq!(admission.admit(&limits, None), Err(Refusal::Connections));
        admission.leave(&limits, None);
        assert_eq!(admission.admit(&limits, None), Ok(()));
        assert_eq!(admission.admit(&limits, None), Err(Refusal::Connections));
        assert_eq!(admission.admit(&AdmissionLimits::default(), None), Ok(()));
    }

    #[test]
    fn an_address_is_a_host_or_a_network_of_64_bits() {
        let limits = limits(|it| it.connections_per_address_max = Some(1));
        for (one, other, is_same) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "::ffff:192.0.2.1", true),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", false),
            ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true),
            ("2001:db8:0:1::1", "2001:db8:0:2::1", false),
            ("::1", "192.0.2.1", false),
        ] {
            let admission = Admission::default();
            assert_eq!(admission.admit(&limits, peer(one)), Ok(()));
            let expected = if is_same { Err(Refusal::Address) } else { Ok(()) };
            assert_eq!(admission.admit(&limits, peer(other)), expected, "{one} and {other}");
        }
        let admission = Admission::default();
        for _ in 0..100 {
            assert_eq!(admission.admit(&limits, None), Ok(()), "Unix sockets have no address");
        }
    }

    #[test]
    fn a_refusal_counts_nothing() {
        let full = [
            (limits(|it| it.connections_max = Some(1)), Refusal::Connections),
            (limits(|it| it.handshakes_max = Some(1)), Refusal::Handshakes),
            (limits(|it| it.connections_per_address_max = Some(1)), Refusal::Address),
        ];
        for (limits, refusal) in full {
            let admission = Admission::default();
            assert_eq!(admission.admit(&limits, peer("192.0.2.1")), Ok(()));
            for _ in 0..3 {
                assert_eq!(admission.admit(&limits, peer("192.0.2.1")), Err(refusal));
            }
            admission.handshake_ended();
            admission.leave(&limits, peer("192.0.2.1"));
            assert!(admission.is_empty(), "{admission:?}");
        }
    }

    #[test]
    fn a_crowd_of_addresses_leaves_nothing_behind() {
        let admission = Admission::default();
        let limits = limits(|it| it.connections_per_address_max = Some(3));
        let crowd =
            || (0..20_000_u32).map(|bits| Some(SocketAddr::new(bits.to_be_bytes().into(), 1)));
        for peer in crowd().chain(crowd()) {
            assert_eq!(admission.admit(&limits, peer), Ok(()));
            admission.handshake_ended();
        }
        crowd().chain(crowd()).for_each(|peer| admission.leave(&limits, peer));
        assert!(admission.is_empty());
        let kept: usize = admission.origins.iter().map(|origins| lock(origins).capacity()).sum();
        assert!(kept <= SHARDS * 2 * ORIGINS_KEPT, "room for {kept} addresses is kept");
    }

    #[test]
    fn limits_are_exact_between_threads() {
        let admission = Admission::default();
        let limits = limits(|it| it.connections_per_address_max = Some(5));
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..2000 {
                        if admission.admit(&limits, peer("192.0.2.1")).is_ok() {
                            let count = inside.fetch_add(1, Ordering::SeqCst) + 1;
                            assert!(count <= 5, "{count} are inside");
                            inside.fetch_sub(1, Ordering::SeqCst);
                            admission.handshake_ended();
                            admission.leave(&limits, peer("192.0.2.1"));
                        }
                    }
                });
            }
        });
        assert!(admission.is_empty());
    }
}
