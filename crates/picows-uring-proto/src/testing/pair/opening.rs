//! The HTTP part of an [`Endpoint`](super::endpoint::Endpoint), both roles.

use crate::frame::Role;
use crate::handshake::{
    ClientHandshake, HeadLimits, HeadScanner, ResponseError, ResponseScanner, UpgradeRequest,
    UpgradeResponse, encode_continue, encode_switching_protocols,
};

/// One side of an opening handshake, as far as it came.
pub(super) struct Opening {
    /// `None` on a server.
    request: Option<ClientHandshake>,
    scanner: HeadScanner,
    answer_scanner: ResponseScanner,
    arrived: Vec<u8>,
}

/// The handshake is done.
pub(super) struct Opened {
    /// The first bytes of the peer's frames, which came with its head.
    pub(super) rest: Vec<u8>,
}

impl Opening {
    /// Appends what is to be said first to `queue`.
    pub(super) fn begin(role: Role, queue: &mut Vec<u8>) -> Self {
        let request = (role == Role::Client).then(|| {
            let nonce = *b"the sample nonce";
            ClientHandshake::new("server.example.com", "/chat", nonce).unwrap()
        });
        if let Some(request) = &request {
            request.encode(queue);
        }
        let (scanner, answer_scanner) = (HeadScanner::new(), ResponseScanner::new());
        Self { request, scanner, answer_scanner, arrived: Vec::new() }
    }

    /// Takes the next bytes, and appends the answer that is owed for them to `queue`.
    pub(super) fn receive(
        &mut self,
        bytes: &[u8],
        queue: &mut Vec<u8>,
    ) -> Result<Option<Opened>, String> {
        self.arrived.extend_from_slice(bytes);
        let head_bytes = match &self.request {
            Some(request) => {
                let parsed = request.parse_response_with(
                    &mut self.answer_scanner,
                    &self.arrived,
                    &HeadLimits::default(),
                );
                parsed.map_err(|error| told(&error))?.map(|(_, head_bytes)| head_bytes)
            }
            None => self.accept(queue).map_err(|refusal| {
                refusal.encode(queue);
                String::from_utf8_lossy(&refusal.body).into_owned()
            })?,
        };
        Ok(head_bytes.map(|head_bytes| Opened { rest: self.arrived.split_off(head_bytes) }))
    }

    fn accept(&mut self, queue: &mut Vec<u8>) -> Result<Option<usize>, Box<UpgradeResponse>> {
        let refuse = |refusal: UpgradeResponse| Box::new(refusal);
        let limits = HeadLimits::default();
        let parsed = UpgradeRequest::parse_with(&mut self.scanner, &self.arrived, &limits)
            .map_err(|error| refuse(error.into()))?;
        let Some((request, head_bytes)) = parsed else {
            return Ok(None);
        };
        let accept = request.validate_upgrade().map_err(|error| refuse(error.into()))?;
        if request.expects_continue() {
            encode_continue(queue);
        }
        encode_switching_protocols(queue, &accept, None, &http::HeaderMap::new());
        Ok(Some(head_bytes))
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
