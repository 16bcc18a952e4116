//! Places of pieces, whatever the order and the flags of the completions that name them.

use super::*;
use std::cell::Cell;

thread_local! {
    static IS_OLD: Cell<bool> = const { Cell::new(false) };
}

/// Rings of this thread are set up as on a kernel without incremental buffers.
pub(in super::super) fn be_old() {
    IS_OLD.set(true);
}

pub(super) fn register_unless_old(ring: &Uring, shape: Shape) -> io::Result<Group> {
    if IS_OLD.get() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Group::register(ring, shape)
}

const BYTES: u32 = 4096;

fn group(ring: &Uring, is_incremental: bool) -> Group {
    let shape =
        Shape { number: 0, is_incremental, buffer_bytes: BYTES, count_min: 1, count_max: 1 };
    let mut group = Group::register(ring, shape).unwrap();
    group.stock();
    group
}

#[test]
fn an_incremental_buffer_that_is_done_before_it_is_full_is_not_handed_out() {
    let ring = Uring::builder().build(8).unwrap();
    let mut group = group(&ring, true);
    let first = group.take(0, 100, false).unwrap();
    // The last two pieces, in each other's place.
    assert!(group.take(0, 500, true).is_err());
    assert!(group.take(0, BYTES - 600, false).is_err());
    group.release(first);
    // All of it has been accounted for, so that it could be described anew.
    assert_eq!(group.take(0, 10, false).unwrap().offset, 0);
}

#[test]
fn an_incremental_buffer_that_is_full_and_not_done_is_not_handed_out() {
    for (len, is_last) in [(BYTES, false), (BYTES + 1, true), (u32::MAX, false)] {
        let ring = Uring::builder().build(8).unwrap();
        let mut group = group(&ring, true);
        assert!(group.take(0, len, is_last).is_err(), "{len} {is_last}");
        assert_eq!(group.take(0, 10, false).unwrap().offset, 0, "it was described anew");
    }
}

/// Kernels leave out that there is more to come, at the end of some streams, and fill it on.
#[test]
fn a_completion_without_bytes_uses_up_nothing_of_an_incremental_buffer() {
    let ring = Uring::builder().build(8).unwrap();
    let mut group = group(&ring, true);
    let first = group.take(0, 100, false).unwrap();
    group.release(first);
    group.pass_over(0);
    assert_eq!(group.take(0, 10, false).unwrap().offset, 100);
}

#[test]
fn pieces_of_whole_buffers_lie_at_their_beginning_whatever_the_flags() {
    let ring = Uring::builder().build(8).unwrap();
    let mut group = group(&ring, false);
    for (len, is_last) in [(100, false), (BYTES, true), (1, true)] {
        let piece = group.take(0, len, is_last).unwrap();
        assert_eq!((piece.offset, piece.len), (0, len));
        group.release(piece);
        group.pass_over(0);
    }
}

/// A group that has grown from one buffer to four, of which one is in use, and whose memory has been
/// written to.
fn grown(ring: &Uring, is_incremental: bool) -> (Group, RecvBuffer) {
    let shape =
        Shape { number: 0, is_incremental, buffer_bytes: BYTES, count_min: 1, count_max: 4 };
    let mut group = Group::register(ring, shape).unwrap();
    group.stock();
    let pieces: Vec<_> = (0..4)
        .map(|id| {
            let piece = group.take(id, BYTES, true).unwrap();
            group.grow();
            piece
        })
        .collect();
    assert_eq!(group.count(), 4);
    for piece in pieces {
        group.bytes(&piece).fill(7);
        group.release(piece);
    }
    let piece = group.take(0, 100, false).unwrap();
    group.trim(true);
    (group, piece)
}

/// Which buffers have kept what was written to them.
fn kept(group: &Group) -> [bool; 4] {
    // SAFETY: the kernel of these tests receives nothing, and the buffers are there.
    #[expect(unsafe_code)]
    [0, 1, 2, 3].map(|id| unsafe { group.address(id).read() } == 7)
}

#[test]
fn buffers_that_a_trim_finds_too_many_lose_their_pages_unless_they_hold_something() {
    let ring = Uring::builder().build(8).unwrap();
    let (mut group, piece) = grown(&ring, true);
    assert_eq!(kept(&group), [true; 4], "they were needed until now");
    group.trim(false);
    assert_eq!(kept(&group), [true; 4], "there may be something in them");
    assert!(group.has_spare(), "to be looked at again");
    group.trim(true);
    assert_eq!(kept(&group), [true, false, false, false]);
    assert!(!group.has_spare());
    assert_eq!(group.bytes(&piece)[..100], [7; 100]);
    group.release(piece);
}

/// A kernel thread may write to those at any time.
#[test]
fn whole_buffers_keep_their_pages() {
    let ring = Uring::builder().build(8).unwrap();
    let (mut group, piece) = grown(&ring, false);
    group.trim(true);
    assert_eq!(kept(&group), [true; 4]);
    assert!(!group.has_spare());
    group.release(piece);
}

#[test]
fn single_receives_have_buffers_when_there_are_some() {
    let ring = Uring::builder().build(8).unwrap();
    let mut buffers = Buffers::register(&ring).unwrap();
    assert_eq!(buffers.count(), INCREMENTAL.count_min);
    assert_ne!(buffers.single_group(), buffers.multishot_group());
    assert_eq!(buffers.count(), INCREMENTAL.count_min + SINGLE.count_min);
    // The groups differ by what the kernel calls them.
    let piece = buffers.take(ENTRIES_MAX, 10, true).unwrap();
    assert_eq!(buffers.bytes(&piece).len(), 10);
    assert_eq!(buffers.take(0, 20, false).unwrap().offset, 0);
    buffers.release(piece);
}
