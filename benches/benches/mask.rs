//! Masking, by payload size: in place, while copying, and the loop over bytes that both replace.
//!
//! Every call takes the next of several buffers, and each lies as it would behind a frame header.
//! With one buffer, a call would wait for the stores of the call before, which no real payload
//! does.

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use picows_uring_proto::internal::mask;

/// Small frames, the hot case; then what a receive buffer holds; then large messages.
const SIZES: [usize; 10] = [7, 20, 32, 64, 100, 128, 256, 1_024, 16_384, 1 << 20];
/// The header of a masked frame of medium length, which decides how its payload is aligned.
const HEADER_BYTES: usize = 2 + 2 + 4;
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Buffers taken in turn: few enough for payloads of a KiB to stay in the first-level cache.
const BUFFERS: usize = 8;
/// Fixed, because a hiccup in the first sample would settle the number too low for calls of 5 ns.
const CALLS_PER_SAMPLE: u32 = 256;

fn main() {
    divan::main();
}

/// Buffers of a header and a payload, taken in turn.
struct Frames {
    frames: Vec<Vec<u8>>,
    taken: usize,
}

impl Frames {
    fn new(payload_bytes: usize) -> Self {
        let frames = vec![vec![0x5a; HEADER_BYTES + payload_bytes]; BUFFERS];
        Self { frames, taken: 0 }
    }

    fn next_payload(&mut self) -> &mut [u8] {
        self.taken = (self.taken + 1) % BUFFERS;
        black_box(&mut self.frames[self.taken][HEADER_BYTES..])
    }
}

#[divan::bench(args = SIZES, sample_size = CALLS_PER_SAMPLE)]
fn in_place(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let mut frames = Frames::new(payload_bytes);
    bencher
        .counter(BytesCount::new(payload_bytes))
        .bench_local(|| mask::apply(frames.next_payload(), black_box(KEY)));
}

#[divan::bench(args = SIZES)]
fn in_place_byte_by_byte(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let mut frames = Frames::new(payload_bytes);
    bencher.counter(BytesCount::new(payload_bytes)).bench_local(|| {
        let key = black_box(KEY);
        for (index, byte) in frames.next_payload().iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
    });
}

#[divan::bench(args = SIZES, sample_size = CALLS_PER_SAMPLE)]
fn while_copying(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let mut frames = Frames::new(payload_bytes);
    let mut copy = Vec::with_capacity(HEADER_BYTES + payload_bytes);
    bencher.counter(BytesCount::new(payload_bytes)).bench_local(|| {
        copy.clear();
        copy.extend_from_slice(&[0; HEADER_BYTES]);
        mask::copy_at(black_box(&mut copy), frames.next_payload(), black_box(KEY), 0);
    });
}

#[divan::bench(args = SIZES, sample_size = CALLS_PER_SAMPLE)]
fn after_copying(bencher: Bencher<'_, '_>, payload_bytes: usize) {
    let mut frames = Frames::new(payload_bytes);
    let mut copy = Vec::with_capacity(HEADER_BYTES + payload_bytes);
    bencher.counter(BytesCount::new(payload_bytes)).bench_local(|| {
        copy.clear();
        copy.extend_from_slice(&[0; HEADER_BYTES]);
        copy.extend_from_slice(frames.next_payload());
        mask::apply(black_box(&mut copy[HEADER_BYTES..]), black_box(KEY));
    });
}
