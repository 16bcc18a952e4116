use super::*;
use crate::ring::Segment;
use bytes::Bytes;

#[test]
fn buffers_come_back_empty_and_odd_ones_do_not() {
    let pool = Pool::default();
    let mut buffer = pool.buffer(1);
    buffer.push(1);
    let address = buffer.as_ptr();
    pool.put_buffer(buffer);
    pool.put_buffer(Vec::new());
    let again = pool.buffer(BUFFER_BYTES);
    assert!(again.is_empty() && again.as_ptr() == address);
    assert_eq!(pool.buffers.len(), 0);
}

/// A queue with `bytes` in the one buffer that it has.
fn filled(pool: &Pool, bytes: &[u8]) -> Box<SendBatch> {
    let mut batch = pool.batch_with_buffer();
    assert!(batch.append_pair(*b"0123", 4, bytes, || ()));
    batch
}

#[test]
fn a_queue_keeps_the_buffer_whose_bytes_have_left_for_the_next_one() {
    let pool = Pool::default();
    let mut batch = filled(&pool, b"first");
    let address = batch.segments().next().unwrap().as_ptr();
    assert_eq!((pool.queued(), pool.bytes()), (BUFFER_BYTES, 0));
    pool.advance(&mut batch, 4);
    assert!(!batch.has_kept(), "a part of it is left");
    pool.advance(&mut batch, 5);
    assert!(batch.has_kept());
    pool.put_batch(batch);
    let mut batch = filled(&pool, b"second");
    assert_eq!(batch.segments().next().unwrap().as_ptr(), address);
    pool.advance(&mut batch, 10);
    assert!(batch.has_kept() && batch.is_empty());
    assert_eq!((pool.queued(), batch.memory()), (0, 0), "nothing waits");
    pool.put_batch(batch);
    assert_eq!((pool.ready.len(), pool.batches.len(), pool.buffers.len()), (1, 0, 0));
    assert!(pool.bytes() > BUFFER_BYTES, "it counts as kept");
    let batch = filled(&pool, b"third");
    assert_eq!(batch.segments().collect::<Vec<_>>(), [b"0123third"]);
    assert_eq!((batch.segments().next().unwrap().as_ptr(), pool.bytes()), (address, 0));
    drop(batch);
    assert_eq!(pool.queued(), 0);
}

#[test]
fn a_queue_for_other_bytes_has_no_buffer_of_an_earlier_one() {
    let pool = Pool::default();
    let mut batch = filled(&pool, b"first");
    pool.advance(&mut batch, 9);
    pool.put_batch(batch);
    let mut batch = pool.batch();
    assert!(!batch.has_kept() && pool.buffers.len() == 1);
    batch.push(Segment::shared(Bytes::from_static(b"by reference")));
    assert_eq!(batch.segments().len(), 1);
    pool.advance(&mut batch, 12);
    pool.put_batch(batch);
    assert!(!pool.batch().has_kept(), "only buffers are kept");
}

#[test]
fn what_has_left_is_used_again_by_either_way() {
    let pool = Pool::default();
    for round in 0..100 {
        // As an answer over HTTP, and as a message.
        let mut batch = pool.batch();
        batch.append(5, || pool.buffer(5), |bytes| bytes.extend_from_slice(b"bytes"));
        pool.advance(&mut batch, 5);
        pool.put_batch(batch);
        let mut batch = filled(&pool, b"bytes");
        let aside = pool.buffer(1);
        pool.advance(&mut batch, 9);
        pool.put_batch(batch);
        pool.put_buffer(aside);
        let kept = pool.ready.len() + pool.buffers.len();
        assert!(kept <= 2 && pool.ready.len() + pool.batches.len() <= 2, "round {round}: {kept}");
    }
}

#[test]
fn buffers_in_queues_and_beside_them_are_bounded_together() {
    let pool = Pool::default();
    let mut batches: Vec<_> = (0..400).map(|_| filled(&pool, b"bytes")).collect();
    let buffers: Vec<_> = (0..400).map(|_| pool.buffer(1)).collect();
    for mut batch in batches.drain(..200) {
        pool.advance(&mut batch, 9);
        pool.put_batch(batch);
    }
    buffers.into_iter().for_each(|buffer| pool.put_buffer(buffer));
    for mut batch in batches {
        pool.advance(&mut batch, 9);
        pool.put_batch(batch);
    }
    assert_eq!((pool.ready.len(), pool.batches.len()), (200, 200), "then there were so many");
    let all = pool.ready.bytes() + pool.buffers.bytes();
    assert!((BUFFERS_KEPT_BYTES..BUFFERS_KEPT_BYTES + BUFFER_BYTES + 1024).contains(&all), "{all}");
    pool.give_up();
    // Queues that once were long, and take as much memory by themselves.
    for _ in 0..BATCHES_MAX {
        let mut long = pool.new_batch();
        (0..BATCH_SEGMENTS_MAX).for_each(|_| long.push(Segment::short(b"a")));
        pool.put_batch(long);
    }
    assert!(pool.batches.bytes() > BUFFERS_KEPT_BYTES);
    pool.put_buffer(pool.buffer(1));
    assert_eq!(pool.buffers.len(), 1, "they leave room for buffers");
    pool.give_up();
    assert_eq!(pool.bytes(), 0);
}

#[test]
fn large_buffers_are_used_again_if_they_are_large_enough() {
    let pool = Pool::default();
    let buffer = pool.buffer(100_000);
    let address = buffer.as_ptr();
    pool.put_buffer(buffer);
    let larger = pool.buffer(200_000);
    assert_ne!(larger.as_ptr(), address);
    let again = pool.buffer(90_000);
    assert_eq!(again.as_ptr(), address);
    pool.put_buffer(Vec::with_capacity(LARGE_BYTES_MAX + 1));
    assert_eq!(pool.large.len(), 0);
    assert!(pool.buffer(BUFFER_BYTES + 1).capacity() > BUFFER_BYTES);
}

#[test]
fn what_is_kept_is_bounded_by_its_bytes() {
    let pool = Pool::default();
    for round in 0..2 {
        let held: Vec<_> = (0..200).map(|_| pool.buffer(100_000)).collect();
        assert_eq!(pool.large.bytes(), 0, "all that was kept is in use again, round {round}");
        held.into_iter().for_each(|buffer| pool.put_buffer(buffer));
        assert_eq!(pool.large.bytes(), LARGE_KEPT_BYTES);
        let each = pool.large.bytes() / pool.large.len();
        assert!((100_000..200_000).contains(&each), "{each}");
    }
    let put_stashes = |bytes| {
        for _ in 0..2000 {
            pool.put_stash(Stash::with_memory(Rc::new(Vec::with_capacity(bytes))));
        }
        pool.stashes.len()
    };
    let count = put_stashes(STASH_BYTES_MAX);
    assert!(pool.stashes.bytes() <= STASHES_KEPT_BYTES);
    assert!(pool.stashes.bytes() > STASHES_KEPT_BYTES - 2 * STASH_BYTES_MAX, "{count}");
    while pool.stashes.take().is_some() {}
    assert_eq!(put_stashes(1024), shelf::SEARCHED_MAX);
}

/// As many of each kind as `count`, all in use at once, and back.
fn burst(pool: &Pool, count: usize) {
    let buffers: Vec<_> = (0..count).map(|_| pool.buffer(1)).collect();
    let large: Vec<_> = (0..count).map(|_| pool.buffer(100_000)).collect();
    let batches: Vec<_> = (0..count).map(|_| pool.batch()).collect();
    let stashes: Vec<_> = (0..count).map(|_| pool.stash()).collect();
    buffers.into_iter().chain(large).for_each(|buffer| pool.put_buffer(buffer));
    batches.into_iter().for_each(|batch| pool.put_batch(batch));
    for mut stash in stashes {
        stash.bytes_mut().reserve_exact(100_000);
        pool.put_stash(stash);
    }
}

#[test]
fn what_a_burst_needed_goes_after_a_calm_period_and_not_before() {
    let pool = Pool::default();
    assert!(!pool.has_spare());
    burst(&pool, 100);
    let most = pool.bytes();
    assert!(most > 100 * BUFFER_BYTES && pool.has_spare());
    // All of it was needed since the last trim, so nothing goes.
    pool.trim();
    assert_eq!(pool.bytes(), most);
    // In the next period, two of each are needed.
    burst(&pool, 2);
    pool.trim();
    assert!(pool.bytes() < most / 4, "{}", pool.bytes());
    assert!(pool.buffers.len() >= 2 && pool.large.len() == 2);
    pool.trim();
    assert!(!pool.has_spare() && pool.bytes() > 0, "{}", pool.bytes());
    let few = pool.bytes();
    pool.trim();
    assert_eq!(pool.bytes(), few, "what a quiet worker needs stays");
}

#[test]
fn the_bytes_of_queues_are_counted_until_they_are_gone() {
    let pool = Pool::default();
    let mut batch = pool.batch();
    batch.append(1, || pool.buffer(1), |bytes| bytes.push(1));
    assert_eq!(pool.queued(), BUFFER_BYTES);
    batch.push(Segment::shared(Bytes::from(vec![1; 3000])));
    batch.push(Segment::Owned { bytes: Vec::with_capacity(500), start: 0 });
    assert_eq!(pool.queued(), BUFFER_BYTES + 3000, "an empty segment is dropped");
    batch.advance(1001, |segment| pool.put_segment(segment));
    assert_eq!(pool.queued(), 2000);
    let mut first = pool.batch();
    first.append(1, || pool.buffer(1), |bytes| bytes.push(1));
    first.extend(&mut batch);
    assert_eq!(pool.queued(), BUFFER_BYTES + 2000);
    pool.put_batch(batch);
    drop(first);
    assert_eq!(pool.queued(), 0);
}

#[test]
fn stashes_that_are_mostly_empty_are_cut_only_where_they_are_many() {
    let pool = Pool::default();
    let large = |bytes: &[u8]| {
        let mut memory = Vec::with_capacity(STASH_BYTES_MAX);
        memory.push(0);
        let mut stash = Stash::with_memory(Rc::new(memory));
        stash.bytes_mut().extend_from_slice(bytes);
        stash
    };
    let mut held = Vec::new();
    for _ in 0..1000 {
        let mut stash = large(b"little");
        pool.hold(&mut stash);
        assert_eq!(stash.bytes_mut(), b"little");
        held.push(stash);
    }
    assert_eq!(held[0].capacity(), STASH_BYTES_MAX);
    assert!(pool.stashed() <= STASHED_SLACK_MAX + 1000 * STASH_BYTES_MIN, "{}", pool.stashed());
    // One that is in use is left alone.
    let mut full = large(&vec![1; STASH_BYTES_MAX / 2]);
    pool.hold(&mut full);
    assert_eq!(full.capacity(), STASH_BYTES_MAX);
    held.push(full);
    held.iter().for_each(|stash| pool.unhold(stash));
    assert_eq!(pool.stashed(), 0);
}

#[test]
fn a_stash_is_lent_held_while_it_is_needed_and_taken_back() {
    let pool = Pool::default();
    pool.put_stash(Stash::with_memory(Rc::new(Vec::with_capacity(4096))));
    let mut stash = Stash::new();
    pool.lend(&mut stash);
    assert_eq!((stash.capacity(), pool.stashes.len(), pool.stashed()), (4096, 0, 0));
    stash.try_extend(b"part").unwrap();
    pool.hold_or_take(&mut stash, true);
    assert_eq!((stash.bytes(), pool.stashed()), (&b"part"[..], 4096));
    pool.lend(&mut stash);
    assert_eq!((stash.bytes(), pool.stashed()), (&b"part"[..], 0));
    pool.hold_or_take(&mut stash, false);
    assert_eq!((stash.capacity(), pool.stashes.len(), pool.stashed()), (0, 1, 0));
}
