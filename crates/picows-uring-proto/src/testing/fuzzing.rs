//! Bodies of the fuzz targets, for bytes of a fuzzer or of a test with its seeds.
//!
//! Not part of the library: compiled for tests, and by `cargo fuzz`, whose targets in `fuzz/` call
//! these. Each states what holds for every input, beside that nothing panics.

#[cfg(feature = "deflate")]
mod deflate;
mod proxy_header;

use crate::assembler::{Assembled, Message, MessageAssembler};
use crate::conversation::{ConversationRules, FrameAction};
use crate::encode::FrameHead;
use crate::endpoint::{Pieces, Received, Receiver, Sender};
use crate::error::PeerMisbehaved;
use crate::frame::{Frame, MsgType, Role};
use crate::handshake::{
    ClientHandshake, HeadFault, HeadLimits, HeadReceiver, ProxyCredentials, RequestError,
    ResponseError, Tunnel, TunnelError, TunnelMisuse, TunnelStep, UpgradeRequest, UpgradeResponse,
    encode_switching_protocols, is_head_request, select_subprotocol,
};
use crate::header::Header;
use crate::limits::{CONTROL_PAYLOAD_BYTES_MAX, FRAME_HEADER_BYTES_MAX, FrameRules};
use crate::tick::Tick;
#[cfg(feature = "deflate")]
pub use deflate::{deflate_messages, deflate_negotiation};
pub use proxy_header::proxy_header;

/// A request head, which arrives in pieces of a length that the first byte chooses.
pub fn server_handshake(data: &[u8]) {
    let Some((step, wire)) = data.split_first() else { return };
    let whole = UpgradeRequest::parse(wire, &LIMITS);
    let (mut receiver, mut pieced, mut passed) = (HeadReceiver::of_request(), Ok(None), 0);
    for end in ends(wire, *step) {
        let piece = &wire[passed..end];
        let received = receiver.receive_request(piece, &LIMITS).map_err(refused);
        pieced = received.map(|found| found.map(|(request, used)| (request, passed + used)));
        if pieced.is_err() {
            let is_head = is_head_request(wire);
            assert_eq!(receiver.is_head_request(piece), is_head, "nor to the form of the answer");
        }
        if pieced != Ok(None) {
            break;
        }
        passed = end;
    }
    assert_eq!(pieced, whole, "the length of the pieces makes no difference");
    let mut answer = Vec::new();
    match whole {
        Ok(None) => return,
        Ok(Some((request, len))) => {
            assert!(len <= wire.len() && request.path().starts_with('/'));
            assert_is_one_request(&wire[..len]);
            let subprotocol = select_subprotocol(&request, &["chat", "superchat"]);
            assert!(subprotocol.iter().all(|it| request.subprotocols().any(|offer| offer == it)));
            let _ = (request.to_http(), format!("{request:?}"), request.extensions().count());
            match request.validate_upgrade() {
                Ok(accept) => {
                    let none = http::HeaderMap::new();
                    encode_switching_protocols(&mut answer, &accept, subprotocol.as_deref(), &none);
                    assert!(answer.ends_with(b"\r\n\r\n"));
                }
                Err(error) => UpgradeResponse::from(error).encode(&mut answer),
            }
        }
        Err(error) => UpgradeResponse::from(error).encode(&mut answer),
    }
    assert_is_one_answer(&answer);
}

/// A request that reaches the application has one end and one host: judged here line by line,
/// without the parser.
fn assert_is_one_request(head: &[u8]) {
    let text = String::from_utf8_lossy(head);
    let text = text.strip_prefix("\r\n").unwrap_or(&text);
    assert!(text.ends_with("\r\n\r\n") && !text[..text.len() - 2].contains("\r\n\r\n"));
    let mut lines = text.trim_end_matches("\r\n").split("\r\n");
    let first: Vec<_> = lines.next().unwrap_or_default().split(' ').collect();
    let [method, target, version] = first[..] else { panic!("{first:?}") };
    assert!(["GET", "HEAD"].contains(&method) && ["HTTP/1.0", "HTTP/1.1"].contains(&version));
    assert!(!target.is_empty() && target.bytes().all(|byte| byte.is_ascii_graphic()));
    let headers: Vec<_> = lines.map(|line| line.split_once(':').expect("a colon")).collect();
    for (name, value) in &headers {
        assert!(!name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic()), "{name:?}");
        assert!(!value.contains(['\0', '\r', '\n', '\x1b', '\x7f']), "{value:?}");
    }
    let values = |wanted: &str| {
        let mine = headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
        mine.map(|(_, value)| value.trim_matches([' ', '\t'])).collect::<Vec<_>>()
    };
    let (hosts, lengths) = (values("host"), values("content-length"));
    assert!(hosts.len() == 1 || hosts.is_empty() && version == "HTTP/1.0", "{hosts:?}");
    assert!(hosts.iter().all(|host| !host.contains([' ', '/', '@', '?', '#'])), "{hosts:?}");
    assert!(values("transfer-encoding").is_empty());
    assert!(lengths.len() <= 1 && lengths.iter().all(|it| it.parse() == Ok(0)), "{lengths:?}");
}

/// A response head and the start of a body, which arrive in pieces of a length that the first byte
/// chooses; then the same bytes as host, path, header and subprotocol of a request.
pub fn client_handshake(data: &[u8]) {
    let Some((step, wire)) = data.split_first() else { return };
    let handshake = ClientHandshake::new("example.com", "/", *b"the sample nonce")
        .and_then(|it| it.with_subprotocols(["chat"]))
        .and_then(|it| it.with_extension("permessage-deflate"))
        .expect("a good handshake");
    let whole = handshake.parse_response(wire, &LIMITS);
    let (mut receiver, mut pieced, mut passed) = (HeadReceiver::of_response(), Ok(None), 0);
    let mut cut_status = None;
    for end in ends(wire, *step) {
        let received = receiver.receive_response(&handshake, &wire[passed..end], &LIMITS);
        let received = received.map_err(refused);
        pieced = received.map(|found| found.map(|(response, used)| (response, passed + used)));
        if pieced != Ok(None) {
            break;
        }
        passed = end;
        let cut = receiver.cut_response(&handshake, &LIMITS);
        let status = cut.as_ref().and_then(status_of);
        assert!(cut_status.is_none() || cut_status == status, "a status that is known stays");
        cut_status = status;
    }
    if let (Some(status), Ok(Some(_)) | Err(_)) = (cut_status, &pieced) {
        assert_eq!(pieced.as_ref().err().and_then(status_of), Some(status), "{pieced:?}");
    }
    match (&whole, &pieced) {
        (Ok(whole), Ok(pieced)) => assert_eq!(whole, pieced),
        // How much of a body came with the head is reported, and differs.
        (Err(whole), Err(pieced)) => {
            assert_eq!(std::mem::discriminant(whole), std::mem::discriminant(pieced));
            assert_eq!(status_of(whole), status_of(pieced));
            let _ = (whole.to_string(), format!("{pieced:?}"));
        }
        (whole, pieced) => panic!("{whole:?} and {pieced:?}"),
    }
    let parts: Vec<_> = wire.splitn(5, |byte| *byte == b'\n').collect();
    if let [host, target, name, value, subprotocol] = parts[..] {
        made_of(host, target, name, value, subprotocol);
    }
}

/// Why a head was refused; there is memory for one as long as a fuzzer makes it.
fn refused<E>(fault: HeadFault<E>) -> E {
    match fault {
        HeadFault::Refused(error) => error,
        HeadFault::OutOfMemory => panic!("out of memory"),
    }
}

/// The status of a refusal; and of a bad 101, if it could be read.
fn status_of(error: &ResponseError) -> Option<http::StatusCode> {
    match error {
        ResponseError::InvalidMessage(message) => message.status,
        error => error.response().map(|it| it.head().status()),
    }
}

/// A request of our client, made of anything, is refused, or read by our server as it was meant.
fn made_of(host: &[u8], target: &[u8], name: &[u8], value: &[u8], subprotocol: &[u8]) {
    let [host, target, name, subprotocol] =
        [host, target, name, subprotocol].map(String::from_utf8_lossy);
    let made = ClientHandshake::new(&host, &target, [7; 16])
        .and_then(|it| it.with_header(&name, value))
        .and_then(|it| it.with_subprotocols([&*subprotocol]));
    let Ok(handshake) = made else { return };
    let mut wire = Vec::new();
    handshake.encode(&mut wire);
    let limits = HeadLimits::default();
    if wire.len() > limits.head_bytes_max {
        return;
    }
    let parsed = match UpgradeRequest::parse(&wire, &limits) {
        // Who is spoken to and how is the caller's to say, and may be what a server refuses.
        Err(
            RequestError::InvalidHost
            | RequestError::RepeatedHost
            | RequestError::UnknownExpectation,
        ) => return,
        parsed => parsed.expect("we send no malformed request"),
    };
    let (request, len) = parsed.expect("we send whole requests");
    assert_eq!(len, wire.len(), "nothing that was given ends the head");
    assert_eq!(request.target(), target);
    assert!(request.subprotocols().eq([&*subprotocol]));
    // A host or a second offer of the caller's may be one that a server refuses.
    let _ = request.validate_upgrade();
}

/// Frames for a server or a client, cut wherever the input says, with rules that it chooses; and
/// with the rest of some put into the stash instead.
pub fn frames(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let whole = input.decode([input.stream]);
    assert_eq!(input.decode(input.pieces()), whole, "cuts make no difference");
    assert_eq!(input.decode(input.stream.chunks(1)), whole, "byte by byte, neither");
    assert_eq!(input.decode_filling(), whole, "nor what goes straight into the stash");
    assert_eq!(input.decode_in_pieces(), whole, "nor large frames in pieces");
    // What came out goes in again, and is the same. Valid text stays valid, and order stays order.
    let key = (input.role == Role::Server).then_some([0x37, 0xFA, 0x21, 0x3D]);
    let mut again = Vec::new();
    for (head, payload) in &whole.0 {
        assert_eq!(head.check(payload.len()), Ok(()));
        head.append(&mut again, payload, key);
    }
    assert_eq!(input.decode([&again[..]]).0, whole.0);
}

/// Frames joined into messages, of at most as many bytes as the input says.
pub fn messages(data: &[u8]) {
    let Some(input) = Input::read(data) else { return };
    let limit = input.rules.payload_bytes_max as usize;
    let rules = FrameRules { payload_bytes_max: 1 << 20, ..input.rules.clone() };
    let (frames, _) = Input { rules, ..input }.decode([input.stream]);
    let mut assembler = MessageAssembler::new(limit);
    // The plain way: keep all, look at the end.
    let (mut first, mut joined) = (MsgType::Continuation, Vec::new());
    for (head, payload) in &frames {
        let frame = Frame::new(head.msg_type, payload).with_fin(head.fin);
        if !head.msg_type.is_control() {
            if head.msg_type != MsgType::Continuation {
                (first, joined) = (head.msg_type, Vec::new());
            }
            joined.extend_from_slice(payload);
        }
        let so_far = std::str::from_utf8(&joined);
        let is_broken = first == MsgType::Text
            && so_far.is_err_and(|error| error.error_len().is_some() || head.fin)
            && !head.msg_type.is_control();
        match assembler.push(&frame) {
            Ok(Some(Assembled::Control(frame))) => assert_eq!(frame.payload(), payload),
            Ok(Some(Assembled::Message(message))) => {
                assert_eq!((message.msg_type(), message.payload()), (first, &joined[..]));
                assert!(matches!(message, Message::Binary(_)) || !is_broken);
                assert!(head.fin && joined.len() <= limit);
            }
            Ok(None) => assert!(!head.fin && !is_broken && joined.len() <= limit),
            Err(PeerMisbehaved::MessageTooLarge) => {
                assert!(joined.len() > limit);
                return;
            }
            Err(PeerMisbehaved::InvalidUtf8) => {
                assert!(is_broken);
                return;
            }
            Err(error) => panic!("the decoder has checked the order: {error}"),
        }
        assembler.trim();
    }
}

/// Type and payload of each frame, and what ended it.
type Outcome = (Vec<(FrameHead, Vec<u8>)>, Option<PeerMisbehaved>);

/// What the bytes of a fuzzer mean to the receiving half.
struct Input<'a> {
    role: Role,
    rules: FrameRules,
    /// Lengths of the pieces.
    cuts: &'a [u8],
    stream: &'a [u8],
}

impl<'a> Input<'a> {
    /// Two bytes of settings (role, text, RSV bits; limit; number of cuts), cuts, stream.
    fn read(data: &'a [u8]) -> Option<Self> {
        let ([settings, sizes], rest) = data.split_first_chunk::<2>()?;
        let (cuts, stream) = rest.split_at_checked(usize::from(sizes & 0x0F))?;
        let rules = FrameRules {
            payload_bytes_max: 16 << (sizes >> 4),
            rsv_allowed: (settings >> 2) & 7,
            validate_text: settings & 2 != 0,
            ..FrameRules::default()
        };
        let role = if settings & 1 == 0 { Role::Server } else { Role::Client };
        Some(Self { role, rules, cuts, stream })
    }

    fn pieces(&self) -> Vec<&'a [u8]> {
        let mut rest = self.stream;
        let mut pieces = Vec::new();
        for len in self.cuts {
            let (piece, behind) = rest.split_at(usize::from(*len).min(rest.len()));
            pieces.push(piece);
            rest = behind;
        }
        pieces.push(rest);
        pieces
    }

    fn decode<'b>(&self, pieces: impl IntoIterator<Item = &'b [u8]>) -> Outcome {
        let mut reading = Reading::new(self);
        let ended = pieces.into_iter().try_for_each(|piece| reading.feed(piece));
        (reading.frames, ended.err())
    }

    /// The same, where some of what is missing of a frame goes straight into the stash. The lengths
    /// of the pieces and of the gaps are drawn from the cuts, which also choose the way.
    fn decode_filling(&self) -> Outcome {
        let mut reading = Reading::new(self);
        let (mut rest, mut drawn) = (self.stream, self.cuts.iter().chain(&[13]).cycle());
        let mut draw = || drawn.next().copied().map_or(0, usize::from);
        while !rest.is_empty() {
            let (len, gap) = (draw().clamp(1, rest.len()), draw());
            let missing = reading.receiver.bytes_missing();
            let is_filled = missing > 0 && gap % 4 != 0;
            let most = if is_filled { missing.min(rest.len() as u64) as usize } else { rest.len() };
            let (piece, behind) = rest.split_at(len.min(most));
            let fed = if is_filled { reading.fill(piece, gap / 4) } else { reading.feed(piece) };
            if let Err(error) = fed {
                return (reading.frames, Some(error));
            }
            rest = behind;
        }
        (reading.frames, None)
    }

    /// The same with large frames in pieces, joined here.
    fn decode_in_pieces(&self) -> Outcome {
        let (mut receiver, mut pieces) = (Receiver::new(self.role), Pieces::of_frames_above(0));
        let (mut frames, mut open) = (Vec::new(), Vec::new());
        for part in self.pieces() {
            let (mut part, mut consumed) = (part.to_vec(), 0);
            loop {
                let rest = &mut part[consumed..];
                let (count, received) =
                    match receiver.next_in_pieces(&self.rules, &mut pieces, rest) {
                        Ok(received) => received,
                        Err(error) => return (frames, Some(error)),
                    };
                consumed += count;
                match received {
                    None => break,
                    Some(Received::Frame(frame)) => frames.push(kept(&frame)),
                    Some(Received::Piece(piece)) => {
                        assert_eq!(piece.offset(), open.len() as u64, "in their order");
                        open.extend_from_slice(piece.payload());
                        if piece.is_last() {
                            let head = FrameHead::new(piece.msg_type()).with_fin(piece.fin());
                            frames.push((head.with_rsv(piece.rsv()), std::mem::take(&mut open)));
                        }
                    }
                }
            }
            assert_eq!(consumed, part.len());
            let collected = receiver.stash().len();
            assert!(collected <= CONTROL_PAYLOAD_BYTES_MAX, "nothing large is collected");
        }
        (frames, None)
    }

    /// What holds for every frame that is delivered.
    fn check(&self, frame: &Frame<'_>, action: FrameAction, input_len: usize) {
        let is_ping = frame.msg_type() == MsgType::Ping;
        assert_eq!(action, if is_ping { FrameAction::AnswerPing } else { FrameAction::Deliver });
        let len = frame.payload().len();
        if frame.msg_type().is_control() {
            assert!(frame.fin() && len <= CONTROL_PAYLOAD_BYTES_MAX);
        } else {
            assert!(len as u64 <= self.rules.payload_bytes_max);
        }
        assert_eq!(frame.rsv() & !self.rules.rsv_allowed, 0);
        assert!(frame.tail_size() <= input_len);
        let _ = (frame.text(), frame.close_code(), frame.close_reason(), format!("{frame:?}"));
    }
}

/// A receiver, the sender it reports to, and what came out.
struct Reading<'a> {
    input: &'a Input<'a>,
    receiver: Receiver,
    sender: Sender,
    received: usize,
    frames: Vec<(FrameHead, Vec<u8>)>,
}

impl<'a> Reading<'a> {
    fn new(input: &'a Input<'a>) -> Self {
        let mut sender = Sender::new(input.role, &ConversationRules::default(), Tick::ZERO);
        sender.conversation_mut().opened();
        let receiver = Receiver::new(input.role);
        Self { input, receiver, sender, received: 0, frames: Vec::new() }
    }

    /// Hands in received bytes.
    fn feed(&mut self, piece: &[u8]) -> Result<(), PeerMisbehaved> {
        self.received += piece.len();
        let mut piece = piece.to_vec();
        let (mut consumed, conversation) = (0, ConversationRules::default());
        loop {
            let rest = &mut piece[consumed..];
            let rest_len = rest.len();
            let Self { input, receiver, sender, .. } = self;
            let decoded = match receiver.next(&input.rules, rest) {
                Ok(decoded) => decoded,
                Err(error) => return self.fail(error),
            };
            assert!(decoded.consumed <= rest_len);
            consumed += decoded.consumed;
            let Some(frame) = decoded.frame else { break };
            let action = sender.handle_frame(&conversation, &frame);
            input.check(&frame, action, rest_len);
            self.frames.push(kept(&frame));
        }
        assert_eq!(consumed, piece.len());
        assert!(self.receiver.stash().len() <= self.received, "memory grows with received bytes");
        assert!(self.receiver.is_collecting() || self.receiver.stash().is_empty());
        self.receiver.release_memory();
        Ok(())
    }

    /// Puts received bytes behind what is in the stash.
    fn fill(&mut self, piece: &[u8], gap: usize) -> Result<(), PeerMisbehaved> {
        self.received += piece.len();
        let bytes = self.receiver.stash_mut().bytes_mut();
        bytes.resize(bytes.len() + gap, 0xDD);
        bytes.extend_from_slice(piece);
        let conversation = ConversationRules::default();
        let Self { input, receiver, sender, .. } = self;
        match receiver.next_filled(&input.rules, gap, piece.len()) {
            Ok(None) => {}
            Ok(Some(frame)) => {
                let action = sender.handle_frame(&conversation, &frame);
                input.check(&frame, action, 0);
                self.frames.push(kept(&frame));
            }
            Err(error) => return self.fail(error),
        }
        self.feed(&[])
    }

    /// The error that ended it is returned again.
    fn fail(&mut self, error: PeerMisbehaved) -> Result<(), PeerMisbehaved> {
        let again = self.receiver.next(&self.input.rules, &mut []);
        assert!(again.is_err_and(|it| it == error), "it stays");
        Err(error)
    }
}

/// What the frame can be made of again.
fn kept(frame: &Frame<'_>) -> (FrameHead, Vec<u8>) {
    let head = FrameHead::new(frame.msg_type()).with_fin(frame.fin());
    (head.with_rsv(frame.rsv()), frame.payload().to_vec())
}

/// Bytes that a header is decoded from, and what is encoded from that.
pub fn header(data: &[u8]) {
    let rules = FrameRules { payload_bytes_max: u64::MAX, rsv_allowed: 7, ..Default::default() };
    for role in [Role::Server, Role::Client] {
        if let Ok(Some((header, len))) = Header::decode(data, role, &rules) {
            let (bytes, encoded_len) = header.encode();
            assert!(len <= FRAME_HEADER_BYTES_MAX);
            assert_eq!(bytes[..encoded_len], data[..len], "there is one way to write it");
        }
    }
}

/// The answers of a proxy, in pieces of a length that the first byte chooses, as it does the protocol.
pub fn tunnel(data: &[u8]) {
    let Some((choice, wire)) = data.split_first() else { return };
    let single = drive(*choice, wire, 0);
    let pieced = drive(*choice, wire, choice / TUNNELS);
    // With a piece that goes on behind an answer, it is known to go on.
    let goes_on = matches!(pieced, Err(TunnelError::ExtraBytes) | Ok(Some(TunnelStep::Reconnect)));
    if !goes_on && single != Ok(Some(TunnelStep::Reconnect)) {
        assert_eq!(pieced, single, "the length of the pieces makes no difference");
    }
}

/// Opens a tunnel of a kind with the answers in pieces, and checks what is sent and reported.
fn drive(choice: u8, wire: &[u8], step: u8) -> Result<Option<TunnelStep>, TunnelError> {
    let mut tunnel = tunnel_of(choice % TUNNELS).expect("a good tunnel");
    let (mut out, mut passed, mut sends) = (Vec::new(), 0, 0);
    let mut outcome = Ok(None);
    for end in ends(wire, step) {
        let before = out.len();
        tunnel.poll_transmit(&mut out);
        sends += usize::from(out.len() > before);
        outcome = tunnel.handle_input(&wire[passed..end]);
        passed = end;
        if outcome != Ok(None) {
            break;
        }
    }
    assert!(sends <= 3 && out.len() <= 512, "no proxy makes it send without end");
    let has = |bytes: &[u8], word: &[u8]| bytes.windows(word.len()).any(|it| it == word);
    let gives = [&b"SECRET"[..], b"VVNFUjpTRUNSRVQ="].iter().any(|word| has(&out, word));
    assert!(!gives || has(wire, b"407") || has(wire, b"\x05\x02"), "only when asked for");
    match &outcome {
        Ok(Some(TunnelStep::Open)) => {
            let opens = has(wire, b"HTTP/") || has(wire, b"\x05\0") || wire.starts_with(b"\0\x5a");
            assert!(opens, "{wire:?}");
        }
        Ok(Some(TunnelStep::Reconnect)) => {
            let mut again = Vec::new();
            tunnel.poll_transmit(&mut again);
            assert!(has(&again, b"VVNFUjpTRUNSRVQ="), "with credentials");
            assert!(tunnel.handle_end().is_err(), "once only");
        }
        Ok(None) => drop(tunnel.handle_end()),
        Err(error) => {
            let text = format!("{error} {error:?}");
            assert!(!text.contains("SECRET") || has(wire, b"SECRET"), "{text}");
        }
    }
    outcome
}

/// A tunnel of each kind.
fn tunnel_of(kind: u8) -> Result<Tunnel, TunnelMisuse> {
    let credentials = ProxyCredentials::new("USER", "SECRET");
    match kind {
        0 => Tunnel::http("feed.example", 443),
        1 => Tunnel::http("::1", 443)?.with_credentials(&credentials),
        2 => Tunnel::socks4a("feed.example", 80),
        3 => Tunnel::socks5("feed.example", 443),
        _ => Tunnel::socks5("10.5.5.5", 443)?.with_credentials(&credentials),
    }
}

/// Kinds of tunnels.
const TUNNELS: u8 = 5;

/// Where the pieces of `wire` end.
fn ends(wire: &[u8], step: u8) -> impl Iterator<Item = usize> {
    (0..wire.len()).step_by(usize::from(step) + 1).chain([wire.len()])
}

/// One head, and a body as long as the head says.
fn assert_is_one_answer(answer: &[u8]) {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8_lossy(&answer[..end]);
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.map_or(0, |length| length.parse().expect("a number"));
    assert_eq!(answer.len() - end, length, "{head}");
}

/// Small, so that a fuzzer meets them.
const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 1024, headers_max: 12 };

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::Path;

    /// Runs every seed, and every finding of the past, through the body of its target.
    fn replay(target: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/seeds").join(target);
        let mut count = 0;
        for entry in std::fs::read_dir(&folder).expect("the target has seeds") {
            let path = entry.unwrap().path();
            let data = std::fs::read(&path).unwrap();
            println!("{}", path.display());
            body(&data);
            // And every shorter one: what is cut is where mistakes are.
            for end in 0..data.len().min(300) {
                body(&data[..end]);
            }
            count += 1;
        }
        assert!(count >= 3, "{target} has {count} seeds");
    }

    #[test]
    fn seeds() {
        replay("server_handshake", server_handshake);
        replay("client_handshake", client_handshake);
        replay("frames", frames);
        replay("messages", messages);
        replay("header", header);
        replay("tunnel", tunnel);
        replay("proxy_header", proxy_header);
        #[cfg(feature = "deflate")]
        {
            replay("deflate_negotiation", deflate_negotiation);
            replay("deflate_messages", deflate_messages);
        }
    }

    proptest! {
        #[test]
        fn whatever_bytes(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            server_handshake(&data);
            client_handshake(&data);
            frames(&data);
            messages(&data);
            header(&data);
            tunnel(&data);
            proxy_header(&data);
            #[cfg(feature = "deflate")]
            {
                deflate_negotiation(&data);
                deflate_messages(&data);
            }
        }
    }
}
