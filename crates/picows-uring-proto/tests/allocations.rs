//! Allocations that a peer can make us do, counted.

#![allow(clippy::unwrap_used, reason = "a test that fails is to stop there")]

use picows_uring_proto::{
    Assembled, Decoder, Frame, FrameHead, FrameRules, MessageAssembler, MsgType, PeerMisbehaved,
    Role, Stash,
};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Calls and bytes of this thread.
    static CALLS: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator, and a tally.
struct Counting;

fn count(bytes: usize) {
    CALLS.set(CALLS.get() + 1);
    BYTES.set(BYTES.get() + bytes);
}

// SAFETY: hands everything on to the system's allocator, as it came.
#[expect(unsafe_code, reason = "an allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: our caller keeps the rules of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: our caller keeps the rules of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: our caller keeps the rules of `realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often and how much `work` allocates.
fn allocations(work: impl FnOnce()) -> (usize, usize) {
    let before = (CALLS.get(), BYTES.get());
    work();
    (CALLS.get() - before.0, BYTES.get() - before.1)
}

fn fragment(msg_type: MsgType, payload: &[u8]) -> Frame<'_> {
    Frame::new(msg_type, payload).with_fin(false)
}

#[test]
fn fragments_over_the_limit_cost_no_more_than_the_limit() {
    const LIMIT: usize = 1 << 20;
    let payload = [b'x'; 1000];
    for first in [MsgType::Text, MsgType::Binary] {
        let mut assembler = MessageAssembler::new(LIMIT);
        let mut pushed = 0;
        let (calls, bytes) = allocations(|| {
            let mut msg_type = first;
            while let Ok(None) = assembler.push(&fragment(msg_type, &payload)) {
                (msg_type, pushed) = (MsgType::Continuation, pushed + payload.len());
            }
        });
        assert!(pushed <= LIMIT && pushed + payload.len() > LIMIT);
        // Doubling: from 1000 bytes to 2^20 in eleven steps, which add up to twice the last.
        assert!(calls <= 12 && bytes <= 4 * LIMIT, "{calls} allocations, {bytes} bytes");
        let error = assembler.push(&fragment(MsgType::Continuation, &payload)).unwrap_err();
        assert_eq!(error, PeerMisbehaved::MessageTooLarge);
    }
}

#[test]
fn millions_of_empty_fragments_cost_nothing() {
    let mut assembler = MessageAssembler::default();
    let (calls, _) = allocations(|| {
        assert!(assembler.push(&fragment(MsgType::Text, b"")).unwrap().is_none());
        for _ in 0..2_000_000 {
            assert!(assembler.push(&fragment(MsgType::Continuation, b"")).unwrap().is_none());
        }
    });
    assert_eq!(calls, 0);
}

#[test]
fn messages_of_one_frame_and_later_fragments_cost_nothing() {
    let mut assembler = MessageAssembler::default();
    let mut message = |first| {
        for frame in [fragment(first, &[b'a'; 500]), fragment(MsgType::Continuation, &[b'b'; 500])]
        {
            assert!(assembler.push(&frame).unwrap().is_none());
        }
        let last = Frame::new(MsgType::Continuation, b"c");
        assert!(matches!(assembler.push(&last).unwrap(), Some(Assembled::Message(_))));
        let whole = Frame::new(first, &[b'w'; 5000]);
        assert!(matches!(assembler.push(&whole).unwrap(), Some(Assembled::Message(_))));
        assembler.trim();
    };
    message(MsgType::Binary);
    let (calls, _) = allocations(|| {
        for first in [MsgType::Text, MsgType::Binary].into_iter().cycle().take(1000) {
            message(first);
        }
    });
    assert_eq!(calls, 0, "the memory of the first one is used again");
}

#[test]
fn frames_that_arrive_whole_cost_nothing() {
    for role in [Role::Server, Role::Client] {
        let key = (role == Role::Server).then_some([1, 2, 3, 4]);
        let mut bytes = Vec::new();
        for msg_type in [MsgType::Text, MsgType::Ping, MsgType::Binary] {
            FrameHead::new(msg_type).append(&mut bytes, &[b'x'; 100], key);
        }
        let mut bytes = bytes.repeat(1000);
        let rules = FrameRules { validate_text: true, ..FrameRules::default() };
        let (mut decoder, mut stash) = (Decoder::new(role), Stash::new());
        let mut count = 0;
        let (calls, _) = allocations(|| {
            let mut consumed = 0;
            loop {
                let input = &mut bytes[consumed..];
                let decoded = decoder.next_frame(&rules, &mut stash, input).unwrap();
                consumed += decoded.consumed;
                if decoded.frame.is_none() {
                    break;
                }
                count += 1;
            }
        });
        assert_eq!((count, calls), (3000, 0));
    }
}

#[test]
fn a_header_that_claims_much_costs_what_has_arrived() {
    let rules = FrameRules { payload_bytes_max: u64::MAX, ..FrameRules::default() };
    for claim in [1_u64 << 20, 1 << 30, 1 << 62] {
        let mut bytes = [&[0x82, 127][..], &claim.to_be_bytes(), &[7; 1000]].concat();
        let (mut decoder, mut stash) = (Decoder::new(Role::Client), Stash::new());
        let (_, taken) = allocations(|| {
            let decoded = decoder.next_frame(&rules, &mut stash, &mut bytes).unwrap();
            assert!(decoded.frame.is_none());
        });
        assert!(taken <= 2000, "{taken} bytes for a claim of {claim}");
    }
}

#[cfg(feature = "deflate")]
#[test]
fn compressed_messages_cost_nothing_once_the_history_is_full() {
    use picows_uring_proto::{
        Compressed, Compression, Deflate, Deflaters, Expansion, Inflaters, NegotiatedDeflate,
    };
    for takeover in [true, false] {
        let settings = Deflate::new().threshold(0).context_takeover(takeover);
        let request =
            b"GET / HTTP/1.1\r\nHost: a\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
        let limits = picows_uring_proto::HeadLimits::default();
        let request = picows_uring_proto::UpgradeRequest::parse(request, &limits);
        let (agreed, _) = settings.accept(&request.unwrap().unwrap().0).unwrap();
        // What one end sends, the other receives.
        let turned = |it: NegotiatedDeflate| {
            let mut turned = it;
            turned.peer_window_bits = it.window_bits;
            turned.peer_context_takeover = it.context_takeover;
            turned
        };
        let mut ends: Vec<_> = (0..3)
            .map(|_| {
                let expansion = Expansion::new(&settings, &turned(agreed));
                let receiver = picows_uring_proto::Receiver::new(Role::Client);
                (Compression::new(&settings, &agreed), expansion, receiver)
            })
            .collect();
        // Fewer states than connections: each message finds that of another one.
        let (mut deflaters, mut inflaters) = (Deflaters::new(2), Inflaters::new(2));
        let (mut wire, rules, mut number) = (Vec::new(), FrameRules::default(), 0_u32);
        let mut round = || {
            for (compression, expansion, receiver) in &mut ends {
                // The same texts again and again, so that each length was met before.
                number = number.wrapping_mul(1_664_525).wrapping_add(1) % (1 << 6);
                let mut text = [0; 1000];
                for (at, byte) in text.iter_mut().enumerate() {
                    *byte = b"{\"bid\":1234567,"[at % 15] ^ ((number >> (at % 24)) & 1) as u8;
                }
                wire.clear();
                let head = FrameHead::new(MsgType::Binary);
                match compression.compress(&mut deflaters, head, &text).unwrap() {
                    Compressed::Frame(head, payload) => head.append(&mut wire, payload, None),
                    Compressed::Plain => panic!("it shrinks"),
                }
                let next = receiver.next_expanded(&rules, expansion, &mut inflaters, &mut wire);
                assert_eq!(next.unwrap().0.frame.unwrap().payload(), text);
            }
        };
        (0..500).for_each(|_| round());
        let (calls, bytes) = allocations(|| (0..300).for_each(|_| round()));
        assert_eq!((calls, bytes), (0, 0), "takeover={takeover}");
    }
}
