//! Byte stream of a peer, over its end of a simulated connection: as it is, or in records of TLS.
//!
//! Keys, signatures and certificates have one length each, and no session is resumed, so that what happens
//! over TLS depends on the seed alone, too.

use crate::testing::ring::sim::{PeerId, PeerRead, SimRing};
#[cfg(feature = "_tls")]
use records::Records;
#[cfg(feature = "_tls")]
pub(super) use records::{CallTls, server_settings};

/// One end of a connection, as its peer has it.
#[derive(Debug)]
pub(super) struct PeerStream {
    peer: PeerId,
    /// Layers of TLS, the outermost first.
    #[cfg(feature = "_tls")]
    layers: Vec<Records>,
    /// The innermost layer ends at the server.
    is_secure: bool,
    /// Its side ends when all is written.
    is_ending: bool,
    has_ended: bool,
}

impl PeerStream {
    /// The end of a client, or of a server, without TLS.
    pub(super) fn plain(peer: PeerId) -> Self {
        Self {
            peer,
            #[cfg(feature = "_tls")]
            layers: Vec::new(),
            is_secure: false,
            is_ending: false,
            has_ended: false,
        }
    }

    /// The end of a client.
    pub(super) fn client(peer: PeerId, is_secure: bool) -> Self {
        let mut stream = Self::plain(peer);
        stream.is_secure = is_secure;
        #[cfg(feature = "_tls")]
        stream.layers.extend(is_secure.then(Records::client));
        stream
    }

    pub(super) fn peer(&self) -> PeerId {
        self.peer
    }

    /// Whether it speaks TLS with the server, and not only with a proxy.
    pub(super) fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Whether reading would return something.
    pub(super) fn is_readable(&self, ring: &mut SimRing) -> bool {
        self.has_plain() || ring.peer(self.peer).is_readable()
    }

    /// Sends a part of `bytes`, and returns how many; `None` when the connection is broken. Of records at
    /// most `max` bytes are written at once.
    pub(super) fn write(&mut self, ring: &mut SimRing, bytes: &[u8], max: usize) -> Option<usize> {
        if !self.has_layers() {
            return ring.peer(self.peer).write(bytes);
        }
        if !self.flush(ring, max)? || bytes.is_empty() || !self.is_ready() {
            return Some(0);
        }
        self.seal(bytes);
        self.flush(ring, max)?;
        Some(bytes.len())
    }

    /// Reads at most `max` bytes; none of them where what was read is of TLS alone.
    pub(super) fn read(&mut self, ring: &mut SimRing, max: usize) -> PeerRead {
        if !self.has_layers() {
            return ring.peer(self.peer).read(max);
        }
        if !self.has_plain() || max == 0 {
            // A peer that reads nothing makes its handshake.
            let max = if self.is_ready() { max } else { max.max(HANDSHAKE_READ_MIN) };
            match ring.peer(self.peer).read(max) {
                PeerRead::Bytes(bytes) => self.open(bytes),
                other => return other,
            }
        }
        PeerRead::Bytes(self.take_plain(max))
    }

    /// Ends its side of the stream behind all that was sealed, which is still to be written.
    pub(super) fn shut_down(&mut self, ring: &mut SimRing) {
        self.is_ending = true;
        self.seal_end();
        // A connection that is broken is noticed with the next read.
        let _ = self.flush(ring, usize::MAX);
    }

    /// Writes what is sealed, as far as it goes, and returns whether that was all; `None` when the connection
    /// is broken.
    fn flush(&mut self, ring: &mut SimRing, max: usize) -> Option<bool> {
        let peer = self.peer;
        let has_ended = self.has_ended;
        let sealed = self.wire();
        if has_ended {
            // Such as the answer to a key update that came meanwhile: nothing follows the end.
            let count = sealed.len();
            self.advance(count);
        } else if !sealed.is_empty() {
            let max = max.min(sealed.len());
            let count = ring.peer(peer).write(&sealed[..max])?;
            self.advance(count);
        }
        let is_done = self.sealed() == 0;
        if is_done && self.is_ending && !self.has_ended {
            self.has_ended = true;
            ring.peer(peer).shut_down();
        }
        Some(is_done)
    }
}

#[cfg(feature = "_tls")]
impl PeerStream {
    /// The end of a server that our client calls, with the layers that `tls` gives it.
    pub(super) fn server(peer: PeerId, tls: &mut CallTls) -> Self {
        let mut stream = Self::plain(peer);
        stream.is_secure = tls.is_secure;
        stream.layers.extend(tls.proxy.take().map(Records::open));
        stream.layers.extend(stream.is_secure.then(Records::server));
        stream
    }

    /// Whether there is TLS to the server or to a proxy.
    pub(super) fn has_layers(&self) -> bool {
        !self.layers.is_empty()
    }

    /// Whether its handshakes of TLS are done, if there are any.
    pub(super) fn is_ready(&self) -> bool {
        self.layers.iter().all(Records::is_open)
    }

    /// Bytes of records that were not written.
    pub(super) fn sealed(&self) -> usize {
        self.layers.iter().map(|layer| layer.sealed.len()).sum()
    }

    /// Whether the worker has sent close_notify, where it has to before it ends the stream.
    pub(super) fn is_notified(&self) -> bool {
        self.layers.iter().all(|layer| layer.is_notified)
    }

    fn has_plain(&self) -> bool {
        self.layers.last().is_some_and(|layer| !layer.plain.is_empty())
    }

    fn take_plain(&mut self, max: usize) -> Vec<u8> {
        let Some(layer) = self.layers.last_mut() else { return Vec::new() };
        layer.plain.drain(..max.min(layer.plain.len())).collect()
    }

    /// Bytes for the wire, once each layer has sealed those of the next.
    fn wire(&mut self) -> &[u8] {
        for inner in (1..self.layers.len()).rev() {
            self.wrap(inner);
        }
        self.layers.first().map_or(&[], |layer| &layer.sealed)
    }

    fn wrap(&mut self, inner: usize) {
        let bytes = std::mem::take(&mut self.layers[inner].sealed);
        if !bytes.is_empty() {
            self.layers[inner - 1].seal(&bytes);
        }
    }

    fn advance(&mut self, count: usize) {
        if let Some(layer) = self.layers.first_mut() {
            layer.sealed.drain(..count);
        }
    }

    fn seal(&mut self, bytes: &[u8]) {
        if let Some(layer) = self.layers.last_mut() {
            layer.seal(bytes);
        }
    }

    fn seal_end(&mut self) {
        for inner in (0..self.layers.len()).rev() {
            self.layers[inner].seal_end();
            if inner > 0 {
                self.wrap(inner);
            }
        }
    }

    fn open(&mut self, mut bytes: Vec<u8>) {
        for layer in &mut self.layers {
            layer.receive(&mut bytes);
            bytes = std::mem::take(&mut layer.plain);
        }
        if let Some(layer) = self.layers.last_mut() {
            layer.plain = bytes;
        }
    }
}

/// Without TLS there is one stream.
#[cfg(not(feature = "_tls"))]
#[expect(clippy::unused_self, reason = "with TLS there are layers")]
impl PeerStream {
    pub(super) fn has_layers(&self) -> bool {
        false
    }

    pub(super) fn is_ready(&self) -> bool {
        true
    }

    pub(super) fn sealed(&self) -> usize {
        0
    }

    pub(super) fn is_notified(&self) -> bool {
        true
    }

    fn has_plain(&self) -> bool {
        false
    }

    fn take_plain(&mut self, _: usize) -> Vec<u8> {
        Vec::new()
    }

    fn wire(&mut self) -> &[u8] {
        &[]
    }

    fn advance(&mut self, _: usize) {}

    fn seal(&mut self, _: &[u8]) {}

    fn seal_end(&mut self) {}

    fn open(&mut self, _: Vec<u8>) {}
}

/// What a server sends in the handshake takes a few reads of that.
const HANDSHAKE_READ_MIN: usize = 1000;

#[cfg(feature = "_tls")]
mod records {
    use crate::client::{NewTls, ProxyTls};
    use crate::tls::{Certificate, ClientTls, Control, Handshake, Opened, Secure, ServerTls, Step};
    use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
    use std::sync::OnceLock;

    /// One layer of TLS of a peer.
    #[derive(Debug)]
    pub(super) struct Records {
        state: State,
        /// Received and not opened.
        received: Vec<u8>,
        /// Opened and not read.
        pub(super) plain: Vec<u8>,
        /// Sealed and not written.
        pub(super) sealed: Vec<u8>,
        /// Records so far: now and then there is a key update.
        count: usize,
        pub(super) is_notified: bool,
    }

    #[derive(Debug)]
    enum State {
        Handshake(Box<Handshake>),
        Open(Box<Secure>),
    }

    /// TLS of a call of our client.
    #[derive(Default)]
    pub(in crate::testing::simulation) struct CallTls {
        /// Ours, to the server.
        pub(in crate::testing::simulation) inner: Option<NewTls>,
        /// Ours, to a proxy, whose handshake is done.
        pub(in crate::testing::simulation) outer: Option<Box<ProxyTls>>,
        /// The proxy's end of that.
        pub(super) proxy: Option<Box<Secure>>,
        pub(super) is_secure: bool,
    }

    impl CallTls {
        /// One of the combinations of TLS to the server and to a proxy.
        pub(in crate::testing::simulation) fn of(id: u32) -> Self {
            let mut tls = Self::default();
            if !id.is_multiple_of(3) {
                (tls.inner, tls.is_secure) = (Some(start()), true);
            }
            if id % 3 != 1 {
                let (client, proxy) = pair();
                (tls.outer, tls.proxy) = (Some(ProxyTls::of_test(client)), Some(proxy));
            }
            tls
        }
    }

    impl Records {
        pub(super) fn client() -> Self {
            let NewTls { handshake, hello } = start();
            Self { sealed: hello, ..Self::new(State::Handshake(Box::new(handshake))) }
        }

        pub(super) fn server() -> Self {
            let handshake = Handshake::server(&settings().0).unwrap();
            Self::new(State::Handshake(Box::new(handshake)))
        }

        pub(super) fn open(secure: Box<Secure>) -> Self {
            Self::new(State::Open(secure))
        }

        fn new(state: State) -> Self {
            let (received, plain, sealed) = Default::default();
            Self { state, received, plain, sealed, count: 0, is_notified: false }
        }

        pub(super) fn is_open(&self) -> bool {
            matches!(self.state, State::Open(_))
        }

        pub(super) fn seal(&mut self, bytes: &[u8]) {
            let State::Open(secure) = &mut self.state else { panic!("data in the handshake") };
            self.count += 1;
            if self.count.is_multiple_of(RECORDS_PER_KEY) {
                secure.seal_key_update(true, &mut self.sealed).unwrap();
            }
            secure.seal_owed(&mut self.sealed).unwrap();
            secure.seal_from(bytes, &mut self.sealed).unwrap();
        }

        pub(super) fn seal_end(&mut self) {
            if let State::Open(secure) = &mut self.state {
                secure.seal_close_notify(&mut self.sealed).unwrap();
            }
        }

        pub(super) fn receive(&mut self, bytes: &mut [u8]) {
            if bytes.is_empty() {
                return;
            }
            let mut consumed = 0;
            if let State::Handshake(handshake) = &mut self.state {
                let step = handshake.advance(bytes, &mut self.sealed);
                match step.expect("the worker's handshake is good") {
                    Step::NeedsMore { .. } => return,
                    Step::Done { consumed: count, secure, .. } => {
                        consumed = count;
                        self.state = State::Open(secure);
                    }
                }
            }
            self.received.extend_from_slice(&bytes[consumed..]);
            while let State::Open(secure) = &mut self.state {
                let opened = secure.open_to(&self.received, &mut self.plain);
                let (consumed, control) = match opened.expect("the worker's records are good") {
                    Opened::Incomplete { .. } => return,
                    Opened::Data { consumed, .. } => (consumed, None),
                    Opened::Control { consumed, control } => (consumed, Some(control)),
                };
                assert!(!self.is_notified, "a record behind close_notify");
                self.received.drain(..consumed);
                match control {
                    Some(Control::CloseNotify) => self.is_notified = true,
                    Some(Control::Alert(alert)) => panic!("the worker sends {alert}"),
                    _ => {}
                }
            }
        }
    }

    /// The beginning of a client's handshake.
    fn start() -> NewTls {
        let mut handshake = Handshake::client(&settings().1, "sim.test").unwrap();
        let mut hello = Vec::new();
        handshake.advance(&mut [], &mut hello).unwrap();
        NewTls { handshake, hello }
    }

    /// Both ends of a connection whose handshake is done, the client's first.
    fn pair() -> (Box<Secure>, Box<Secure>) {
        let NewTls { handshake: mut client, hello: mut to_server } = start();
        let mut server = Handshake::server(&settings().0).unwrap();
        let mut to_client = Vec::new();
        server.advance(&mut to_server, &mut to_client).unwrap();
        to_server.clear();
        let Ok(Step::Done { secure: mut client, .. }) =
            client.advance(&mut to_client, &mut to_server)
        else {
            panic!("one round trip is enough")
        };
        to_client.clear();
        let Ok(Step::Done { secure: server, .. }) = server.advance(&mut to_server, &mut to_client)
        else {
            panic!("the client is done")
        };
        let mut start = 0;
        while let Opened::Control { consumed, .. } = client.next(&mut to_client[start..]).unwrap() {
            start += consumed;
        }
        (client, server)
    }

    /// Settings of the worker as a server.
    pub(in crate::testing::simulation) fn server_settings() -> ServerTls {
        settings().0.clone()
    }

    /// Settings of all servers and clients.
    fn settings() -> &'static (ServerTls, ClientTls) {
        static SETTINGS: OnceLock<(ServerTls, ClientTls)> = OnceLock::new();
        SETTINGS.get_or_init(|| {
            let key = KeyPair::generate_for(&PKCS_ED25519).unwrap();
            let mut params = CertificateParams::new(["sim.test".to_owned()]).unwrap();
            params.serial_number = Some(1_u64.into());
            let made = params.self_signed(&key).unwrap();
            let pair = Certificate::pem(made.pem(), key.serialize_pem());
            let client = ClientTls::builder().danger_accept_invalid_certificates().resumption(0);
            let server = ServerTls::builder().certificate(pair);
            (server.build().unwrap(), client.build().unwrap())
        })
    }

    /// Times that data is sealed between two key updates, each of which asks for one of the worker.
    const RECORDS_PER_KEY: usize = 7;
}
