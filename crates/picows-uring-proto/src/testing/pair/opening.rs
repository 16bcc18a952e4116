//! The HTTP part of an [`End`](super::end::End), both roles.

use crate::endpoint::Outgoing;
use crate::frame::Role;
use crate::handshake::{
    ClientHandshake, HeadFault, HeadLimits, HeadReceiver, ResponseError, ResponseHead,
    UpgradeRequest, UpgradeResponse, encode_continue, encode_switching_protocols,
};

/// One side of an opening handshake, as far as it came.
pub(super) enum Opening {
    Request(HeadReceiver<UpgradeRequest>),
    Response(Box<ClientHandshake>, HeadReceiver<ResponseHead>),
}

/// The handshake is done.
pub(super) struct Opened {
    /// How many of the bytes were HTTP. Those behind them are frames.
    pub(super) head_bytes: usize,
}

impl Opening {
    /// Queues what is to be said first.
    pub(super) fn begin(role: Role, outgoing: &mut Outgoing) -> Self {
        if role == Role::Server {
            return Self::Request(HeadReceiver::of_request());
        }
        let nonce = *b"the sample nonce";
        let handshake = ClientHandshake::new("server.example.com", "/chat", nonce).unwrap();
        let mut request = Vec::new();
        handshake.encode(&mut request);
        outgoing.append_raw(&request);
        Self::Response(Box::new(handshake), HeadReceiver::of_response())
    }

    /// Takes the next bytes, and queues the answer that is owed for them.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        outgoing: &mut Outgoing,
    ) -> Result<Option<Opened>, String> {
        let limits = HeadLimits::default();
        let (head_bytes, answer) = match self {
            Self::Request(receiver) => match receiver.receive_request(bytes, &limits) {
                Ok(None) => return Ok(None),
                Ok(Some((request, head_bytes))) => (head_bytes, answer(&request)),
                Err(fault) => (0, Err(Box::new(refused(fault).into()))),
            },
            Self::Response(handshake, receiver) => {
                let received = receiver.receive_response(handshake, bytes, &limits);
                let opened = received.map_err(|fault| told(&refused(fault)))?;
                return Ok(opened.map(|(_, head_bytes)| Opened { head_bytes }));
            }
        };
        match answer {
            Ok(answer) => {
                outgoing.append_raw(&answer);
                Ok(Some(Opened { head_bytes }))
            }
            Err(refusal) => {
                let mut answer = Vec::new();
                refusal.encode(&mut answer);
                outgoing.append_raw(&answer);
                Err(String::from_utf8_lossy(&refusal.body).into_owned())
            }
        }
    }
}

fn answer(request: &UpgradeRequest) -> Result<Vec<u8>, Box<UpgradeResponse>> {
    let accept = request.validate_upgrade().map_err(|error| Box::new(error.into()))?;
    let mut out = Vec::new();
    if request.expects_continue() {
        encode_continue(&mut out);
    }
    encode_switching_protocols(&mut out, &accept, None, &http::HeaderMap::new());
    Ok(out)
}

fn refused<E>(fault: HeadFault<E>) -> E {
    match fault {
        HeadFault::Refused(error) => error,
        HeadFault::OutOfMemory => panic!("there is memory for a head"),
    }
}

/// Why there is no connection, whatever of the answer's body has arrived.
fn told(error: &ResponseError) -> String {
    match error {
        ResponseError::InvalidStatus(response) => {
            format!("the server answered {} instead of 101", response.head().status())
        }
        error => error.to_string(),
    }
}
