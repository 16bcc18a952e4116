//! Connections that were accepted elsewhere, handed over to a server.

use super::handle::ServerHandle;
use crate::command::{Adopted, Command};
use crate::error::Error;
use crate::socket;
use http::StatusCode;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, UPGRADE};
use picows_uring_proto::{AcceptKey, HeadLimits, UpgradeRequest};
use std::fmt::Write;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;

impl ServerHandle {
    /// Serves a connection that another server, or a program of its own, has accepted: as one of the
    /// server's own, with its settings, limits and factory. `received` is what was read from it so far,
    /// and comes first. Workers get such connections in turn.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] when it is not a connected stream socket; it is closed then.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Server, Upgrade};
    /// use std::net::{TcpListener, TcpStream};
    ///
    /// let builder = Server::builder().without_address().workers(1);
    /// let server = builder.start(|_| Upgrade::accept(EchoListener))?;
    /// let listener = TcpListener::bind("127.0.0.1:0")?;
    /// let client = TcpStream::connect(listener.local_addr()?)?;
    /// let (socket, _) = listener.accept()?;
    /// server.adopt(socket, "GET / HTTP/1.1\r\n")?;
    /// # drop(client);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn adopt(
        &self,
        socket: impl Into<OwnedFd>,
        received: impl Into<Vec<u8>>,
    ) -> Result<(), Error> {
        self.hand_over(socket.into(), received.into(), None)
    }

    /// Serves a connection that another server has upgraded: its 101 is sent, and `received` is what was
    /// read of the frames behind the request. The factory gets the request and accepts; the headers of its
    /// answer are not sent, nor can a subprotocol be agreed on any more. If it answers otherwise, the
    /// connection ends with CLOSE 1008, and for an error with 1011. Messages are not compressed.
    ///
    /// # Errors
    ///
    /// As those of [`adopt`](Self::adopt); and when the request is none that may be upgraded.
    pub fn adopt_upgraded<B>(
        &self,
        socket: impl Into<OwnedFd>,
        request: &http::Request<B>,
        received: impl Into<Vec<u8>>,
    ) -> Result<(), Error> {
        let (request, _) = plain_request(request)?;
        self.hand_over(socket.into(), received.into(), Some(Box::new(request)))
    }

    /// The 101 that another server sends before [`adopt_upgraded`](Self::adopt_upgraded), without extensions
    /// and subprotocol.
    ///
    /// # Errors
    ///
    /// [`Error::Socket`] when the request is none that may be upgraded; its text is fit for the client.
    ///
    /// ```
    /// use picows_uring::ServerHandle;
    ///
    /// let request = http::Request::get("/").header("Host", "a").body(())?;
    /// assert!(ServerHandle::switching_protocols(&request).is_err(), "it asks for no WebSocket");
    /// # Ok::<(), http::Error>(())
    /// ```
    pub fn switching_protocols<B>(request: &http::Request<B>) -> Result<http::Response<()>, Error> {
        let (_, key) = plain_request(request)?;
        let response = http::Response::builder()
            .status(StatusCode::SWITCHING_PROTOCOLS)
            .header(UPGRADE, "websocket")
            .header(CONNECTION, "Upgrade")
            .header(SEC_WEBSOCKET_ACCEPT, key.as_str());
        response.body(()).map_err(|error| Error::Socket { fault: error.to_string() })
    }

    fn hand_over(
        &self,
        socket: OwnedFd,
        received: Vec<u8>,
        upgraded: Option<Box<UpgradeRequest>>,
    ) -> Result<(), Error> {
        let socket = socket::connected(socket)?;
        let number = self.adopted.fetch_add(1, Ordering::Relaxed) % self.workers.len().max(1);
        let Some(worker) = self.workers.get(number) else {
            return Err(Error::Socket { fault: "the server has ended".to_owned() });
        };
        let adopted = Adopted { socket, received, upgraded };
        worker.mailbox.post(Command::Adopt(Box::new(adopted)));
        Ok(())
    }
}

/// The request as the factory sees it: written as it was on the wire, and read again by our own rules.
fn plain_request<B>(request: &http::Request<B>) -> Result<(UpgradeRequest, AcceptKey), Error> {
    let bad =
        |fault: String| Error::Socket { fault: format!("the request is none to upgrade: {fault}") };
    let target = request.uri().path_and_query().map_or("/", |it| it.as_str());
    let mut head = String::new();
    let _ = write!(head, "{} {target} HTTP/1.1\r\n", request.method());
    let mut head = head.into_bytes();
    for (name, value) in request.headers() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    let parsed = UpgradeRequest::parse(
        &head,
        &HeadLimits { headers_max: usize::MAX, ..HeadLimits::default() },
    );
    let parsed = parsed.map_err(|error| bad(error.to_string()))?;
    let (request, _) = parsed.ok_or_else(|| bad("it is not complete".to_owned()))?;
    let key = request.validate_upgrade().map_err(|error| bad(error.to_string()))?;
    Ok((request, key))
}
