//! The peer of a connection, as a test plays it.

use super::network::Network;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use picows_uring_proto::{
    ClientHandshake, CloseCode, CloseFrame, Frame, FrameHead, FrameRules, HeadFault, HeadLimits,
    HeadReceiver, MsgType, Receiver, ResponseError, ResponseHead, Role, UpgradeRequest,
    encode_switching_protocols,
};
use std::fmt;

/// The other end of a connection in memory: a client of a server under test, or a server of a client.
///
/// It answers pings and CLOSE, as any peer does, unless the test has it stay silent; it checks what it gets
/// by RFC 6455, and may itself send what breaks it.
///
/// ```
/// use picows_uring::testing::Network;
/// use picows_uring::{CloseCode, Connect, EchoListener, MsgType, Server, Upgrade};
///
/// let network = Network::serve(Server::builder(), |_| Upgrade::accept(EchoListener))?;
/// let peer = network.peer(Connect::new("ws://test/"));
/// peer.send(MsgType::Binary, [1, 2, 3]);
/// let frames = peer.frames();
/// assert_eq!((frames[0].msg_type, &frames[0].payload[..]), (MsgType::Binary, &[1, 2, 3][..]));
/// peer.send_raw([0xff; 8]); // No frame of RFC 6455.
/// assert_eq!(peer.close().map(|(code, _)| code), Some(CloseCode::PROTOCOL_ERROR));
/// # Ok::<(), picows_uring::Error>(())
/// ```
pub struct Peer {
    network: Network,
    index: usize,
}

/// A frame that the connection under test has sent; [`Peer`] has an example.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SentFrame {
    /// Its type.
    pub msg_type: MsgType,
    /// Whether it is the last fragment of its message.
    pub fin: bool,
    /// RSV bits: 4 is RSV1, 2 is RSV2, 1 is RSV3.
    pub rsv: u8,
    /// What it carries, unmasked.
    pub payload: Bytes,
}

impl SentFrame {
    /// The payload as text; what is not UTF-8 is replaced.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

impl fmt::Debug for SentFrame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}(fin={}, rsv={}, {:?})", self.msg_type, self.fin, self.rsv, self.text())
    }
}

impl Peer {
    pub(super) fn new(network: Network, index: usize) -> Self {
        Self { network, index }
    }

    /// The network of this peer, with its clock.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Frames that the connection has sent since this was last called, control frames included.
    #[must_use]
    pub fn frames(&self) -> Vec<SentFrame> {
        self.with(|state| std::mem::take(&mut state.frames))
    }

    /// The texts that the connection has sent since this or [`frames`](Self::frames) was last called.
    /// Frames of other types are dropped; fragments are not joined.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let frames = self.frames();
        let texts = frames.iter().filter(|frame| frame.msg_type == MsgType::Text);
        texts.map(SentFrame::text).collect()
    }

    /// Sends a message of one frame.
    pub fn send(&self, msg_type: MsgType, payload: impl AsRef<[u8]>) {
        self.send_frame(FrameHead::new(msg_type), payload);
    }

    /// Sends text.
    pub fn send_text(&self, text: impl AsRef<str>) {
        self.send(MsgType::Text, text.as_ref());
    }

    /// Sends a frame with FIN and RSV bits of the caller's choice. Nothing is checked.
    pub fn send_frame(&self, head: FrameHead, payload: impl AsRef<[u8]>) {
        self.with(|state| state.send(head, payload.as_ref()));
        self.network.settle();
    }

    /// Sends CLOSE with a code, or without.
    pub fn send_close(&self, code: impl Into<Option<CloseCode>>, reason: &str) {
        let close =
            code.into().map_or_else(CloseFrame::empty, |code| CloseFrame::new(code, reason));
        self.with(|state| state.send_close(&close));
        self.network.settle();
    }

    /// Sends bytes that are no frame.
    pub fn send_raw(&self, bytes: impl AsRef<[u8]>) {
        self.with(|state| state.unsent.extend_from_slice(bytes.as_ref()));
        self.network.settle();
    }

    /// Sends no more, and reads what comes: the end of the stream, without CLOSE.
    pub fn hang_up(&self) {
        self.with(|state| state.hangs_up = true);
        self.network.settle();
    }

    /// Breaks the connection, as where a machine has disappeared.
    pub fn reset(&self) {
        self.network.kernel().reset(self.index);
    }

    /// Whether it answers pings. Default: it does.
    pub fn answer_pings(&self, answers: bool) {
        self.with(|state| state.answers_pings = answers);
    }

    /// Whether it answers CLOSE. Default: it does.
    pub fn answer_close(&self, answers: bool) {
        self.with(|state| state.answers_close = answers);
    }

    /// Stops reading. The network between the two takes 64 KiB more, and then what is sent stays
    /// queued.
    pub fn pause_reading(&self) {
        self.with(|state| state.is_paused = true);
    }

    /// Reads on.
    pub fn resume_reading(&self) {
        self.with(|state| state.is_paused = false);
        self.network.settle();
    }

    /// Whether the connection has ended its stream, or was broken.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.with(|state| state.is_ended)
    }

    /// The code and reason of the CLOSE that the connection has sent; `None` before, and for a CLOSE
    /// without a code.
    #[must_use]
    pub fn close(&self) -> Option<(CloseCode, String)> {
        self.with(|state| state.close.clone())
    }

    /// What the connection has done wrong, by RFC 6455.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.with(|state| state.fault.clone())
    }

    /// The status of the server's answer, once it is there; `None` where this peer is the server.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        self.response().map(|response| response.status())
    }

    /// The server's answer to the request; `None` where this peer is the server.
    #[must_use]
    pub fn response(&self) -> Option<ResponseHead> {
        self.with(|state| match &state.side {
            Side::Client { response, refusal, .. } => {
                let refused = || Some(refusal.as_ref()?.response()?.head().clone());
                response.clone().or_else(refused)
            }
            Side::Server { .. } => None,
        })
    }

    /// The body of an answer that accepts no WebSocket.
    #[must_use]
    pub fn body(&self) -> Bytes {
        self.with(|state| match &state.side {
            Side::Client { refusal: Some(error), .. } => {
                error.response().map_or_else(Bytes::new, |it| Bytes::copy_from_slice(it.body()))
            }
            _ => Bytes::new(),
        })
    }

    /// The client's request; `None` where this peer is the client.
    #[must_use]
    pub fn request(&self) -> Option<UpgradeRequest> {
        self.with(|state| match &state.side {
            Side::Server { request, .. } => request.clone(),
            Side::Client { .. } => None,
        })
    }

    fn with<T>(&self, use_state: impl FnOnce(&mut PeerState) -> T) -> T {
        let mut kernel = self.network.kernel();
        kernel.settle();
        use_state(kernel.peer_mut(self.index))
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peer").field("index", &self.index).finish_non_exhaustive()
    }
}

/// The role that a peer plays, with its part of the handshake.
pub(super) enum Side {
    Client {
        handshake: Box<ClientHandshake>,
        head: Option<HeadReceiver<ResponseHead>>,
        response: Option<ResponseHead>,
        refusal: Option<ResponseError>,
    },
    Server {
        head: Option<HeadReceiver<UpgradeRequest>>,
        request: Option<UpgradeRequest>,
    },
}

/// What a peer has received, and what it has yet to send.
pub(super) struct PeerState {
    pub(super) side: Side,
    receiver: Receiver,
    frames: Vec<SentFrame>,
    pub(super) unsent: Vec<u8>,
    answers_pings: bool,
    answers_close: bool,
    is_close_sent: bool,
    is_paused: bool,
    hangs_up: bool,
    has_hung_up: bool,
    is_ended: bool,
    close: Option<(CloseCode, String)>,
    fault: Option<String>,
}

impl PeerState {
    /// A client, with its request on the way.
    pub(super) fn client(handshake: ClientHandshake) -> Self {
        let mut unsent = Vec::new();
        handshake.encode(&mut unsent);
        let side = Side::Client {
            handshake: Box::new(handshake),
            head: Some(HeadReceiver::of_response()),
            response: None,
            refusal: None,
        };
        Self { unsent, ..Self::new(side, Role::Client) }
    }

    /// A server that waits for a request.
    pub(super) fn server() -> Self {
        let side = Side::Server { head: Some(HeadReceiver::of_request()), request: None };
        Self::new(side, Role::Server)
    }

    fn new(side: Side, role: Role) -> Self {
        Self {
            side,
            receiver: Receiver::new(role),
            frames: Vec::new(),
            unsent: Vec::new(),
            answers_pings: true,
            answers_close: true,
            is_close_sent: false,
            is_paused: false,
            hangs_up: false,
            has_hung_up: false,
            is_ended: false,
            close: None,
            fault: None,
        }
    }

    /// Whether it reads now.
    pub(super) fn reads(&self) -> bool {
        !self.is_paused && !self.is_ended
    }

    /// Whether its stream ends here; once.
    pub(super) fn is_hanging_up(&mut self) -> bool {
        self.hangs_up && !std::mem::replace(&mut self.has_hung_up, true) && !self.is_ended
    }

    /// The stream of the connection has ended.
    pub(super) fn ended(&mut self) {
        self.is_ended = true;
        self.unsent.clear();
    }

    fn send(&mut self, head: FrameHead, payload: &[u8]) {
        let key = matches!(self.side, Side::Client { .. }).then_some(KEY);
        head.append(&mut self.unsent, payload, key);
    }

    fn send_close(&mut self, close: &CloseFrame) {
        let key = matches!(self.side, Side::Client { .. }).then_some(KEY);
        self.is_close_sent = true;
        close.append(&mut self.unsent, key);
    }

    /// Takes bytes of the connection.
    pub(super) fn receive(&mut self, bytes: &mut [u8]) {
        let used = self.receive_head(bytes);
        let mut consumed = used.unwrap_or(bytes.len());
        while self.fault.is_none() {
            let rules =
                FrameRules { payload_bytes_max: u64::MAX, rsv_allowed: 7, ..FrameRules::default() };
            match self.receiver.next(&rules, &mut bytes[consumed..]) {
                Ok(decoded) => {
                    consumed += decoded.consumed;
                    let Some(frame) = decoded.frame else { return };
                    let sent = sent_frame(&frame);
                    let close = frame
                        .close_code()
                        .map(|code| (code, frame.close_reason().unwrap_or_default().to_owned()));
                    self.handle(sent, close);
                }
                Err(error) => self.fault = Some(error.to_string()),
            }
        }
    }

    fn handle(&mut self, frame: SentFrame, close: Option<(CloseCode, String)>) {
        match frame.msg_type {
            MsgType::Ping if self.answers_pings => {
                self.send(FrameHead::new(MsgType::Pong), &frame.payload);
            }
            MsgType::Close => {
                self.close = close;
                if self.answers_close && !self.is_close_sent {
                    self.is_close_sent = true;
                    self.send(FrameHead::new(MsgType::Close), &frame.payload);
                }
                // The server ends the stream first (RFC 6455 §7.1.1).
                let is_server = matches!(self.side, Side::Server { .. });
                self.hangs_up |= is_server && self.is_close_sent;
            }
            _ => {}
        }
        self.frames.push(frame);
    }

    /// Takes bytes of the connection's part of the handshake, and returns how many those were; `None`
    /// when all of them are.
    fn receive_head(&mut self, bytes: &[u8]) -> Option<usize> {
        let limits = HeadLimits::default();
        match &mut self.side {
            Side::Client { handshake, head, response, refusal } => {
                let Some(receiver) = head else {
                    if let Some(rejected) = refusal.as_mut().and_then(ResponseError::response_mut) {
                        rejected.extend_body(bytes);
                        return None;
                    }
                    return Some(0);
                };
                match receiver.receive_response(handshake, bytes, &limits) {
                    Ok(None) => None,
                    Ok(Some((answer, used))) => {
                        (*head, *response) = (None, Some(answer));
                        Some(used)
                    }
                    Err(fault) => {
                        *head = None;
                        match fault {
                            HeadFault::Refused(error) => *refusal = Some(error),
                            HeadFault::OutOfMemory => self.fault = Some(fault.to_string()),
                        }
                        None
                    }
                }
            }
            Side::Server { head, request } => {
                let Some(receiver) = head else { return Some(0) };
                match receiver.receive_request(bytes, &limits) {
                    Ok(None) => None,
                    Ok(Some((received, used))) => {
                        *head = None;
                        match received.validate_upgrade() {
                            Ok(accept) => {
                                let name = received.subprotocols().next();
                                let (out, none) = (&mut self.unsent, HeaderMap::new());
                                encode_switching_protocols(out, &accept, name, &none);
                            }
                            Err(error) => self.fault = Some(error.to_string()),
                        }
                        *request = Some(received);
                        Some(used)
                    }
                    Err(fault) => {
                        self.fault = Some(fault.to_string());
                        None
                    }
                }
            }
        }
    }
}

fn sent_frame(frame: &Frame<'_>) -> SentFrame {
    SentFrame {
        msg_type: frame.msg_type(),
        fin: frame.fin(),
        rsv: frame.rsv(),
        payload: Bytes::copy_from_slice(frame.payload()),
    }
}

/// Any key does: nothing between the two could be fooled.
const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
