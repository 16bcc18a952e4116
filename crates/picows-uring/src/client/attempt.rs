//! A handshake whose outcome is a callback: for workers whose owner awaits nothing.
//!
//! The socket is connected already. The deadline is the conversation's, kept by the worker.

use super::connect::{Connect, GivenSocket, prepare};
use super::connecting::{ConnectOutcome, Connecting, MakeListener};
use super::error::{ConnectError, ConnectFault, ConnectStage};
use super::intake::{Intake, NewSocket, NewStream};
#[cfg(feature = "_tls")]
use super::secure::NewTls;
#[cfg(feature = "_tls")]
use super::target::Target;
use crate::foreign::Foreign;
use crate::local::Local;
#[cfg(feature = "_tls")]
use crate::tls::ClientTls;
use crate::transport::Transport;
use picows_uring_proto::{HeadReceiver, ResponseError};
use std::cell::Cell;
use std::fmt;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// A connection that an [`Embedded`](crate::Embedded) worker is making. Dropping it changes nothing.
pub struct Attempt(Rc<ConnectOutcome>);

impl Attempt {
    /// Gives the attempt up: its socket is closed in the next turn, and the outcome is not called. Once
    /// that was called, this does nothing: the connection is the caller's.
    pub fn abandon(self) {
        self.0.abandon();
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt").finish_non_exhaustive()
    }
}

/// The caller's function for the outcome.
type Report = Box<dyn FnOnce(Result<Transport, ConnectError>)>;

impl Connect {
    /// Begins the handshake on the socket that was given, and leaves it in the `intake` of the worker
    /// of `local`, if that has not failed.
    ///
    /// # Errors
    ///
    /// When there is nothing to begin with. `report` is not called.
    pub(crate) fn begin(
        self,
        local: &Local,
        intake: Option<&Intake>,
        make: MakeListener,
        report: Report,
    ) -> Result<Attempt, ConnectError> {
        let url = self.url.clone();
        let (make, report) = (Foreign::new(make), Foreign::new(report));
        self.try_begin(local, intake, make, report).map_err(|fault| ConnectError::new(&url, fault))
    }

    fn try_begin(
        mut self,
        local: &Local,
        intake: Option<&Intake>,
        make: Foreign<MakeListener>,
        report: Foreign<Report>,
    ) -> Result<Attempt, ConnectFault> {
        let intake = intake.ok_or(ConnectFault::NoRuntime)?;
        self.check()?;
        let target = self.target()?;
        #[cfg(not(feature = "_tls"))]
        if target.is_secure {
            return Err(ConnectFault::TlsUnsupported);
        }
        #[cfg(feature = "_tls")]
        let tls = self.begin_tls_now(local, &target)?;
        let handshake = self.handshake(local, &target)?;
        let request = Box::new(handshake.request()?);
        let carried = self.carried.take();
        if self.socket.is_none() && carried.is_none() {
            let fault = "an embedded worker dials no address: give a connected socket".to_owned();
            return Err(ConnectFault::Setting { setting: "socket", fault });
        }
        let socket = self.socket.take().map(GivenSocket::take).transpose()?;
        let limit = self.config.conversation.handshake_timeout;
        let url = std::mem::take(&mut self.url);
        let outcome = Rc::new(ConnectOutcome::with_callback(Box::new(move |result, is_late| {
            let result =
                result.map_err(|fault| ConnectError::new(&url, said(fault, is_late, limit)));
            let report = report.into_inner();
            report(result);
        })));
        #[cfg(feature = "_tls")]
        if tls.is_some() {
            outcome.begin_tls();
        }
        let connecting = Connecting {
            handshake,
            head: HeadReceiver::of_response(),
            request,
            make: Rc::new(Cell::new(Some(make))),
            outcome: Rc::clone(&outcome),
            follows_redirects: false,
            #[cfg(feature = "_tls")]
            tls,
            #[cfg(feature = "_tls")]
            proxy: None,
        };
        let config = Arc::new(self.config);
        intake.put(match (carried, socket) {
            (None, Some(socket)) => prepare(socket, &config, connecting)?,
            (carried, _) => {
                let Some(stream) = carried else { return Err(ConnectFault::NoRuntime) };
                let peer = local.streams.get().and_then(|streams| streams.peer_addr(stream));
                NewSocket { socket: NewStream::Carried(stream), peer, config, connecting }
            }
        });
        local.wake();
        Ok(Attempt(outcome))
    }
}

#[cfg(feature = "_tls")]
impl Connect {
    /// Begins the handshake of TLS, where the target wants it. Without settings of the caller's, the roots
    /// of the system are read here, once.
    fn begin_tls_now(
        &self,
        local: &Local,
        target: &Target,
    ) -> Result<Option<Box<NewTls>>, ConnectFault> {
        if !target.is_secure {
            return Ok(None);
        }
        let tls = self.tls.ready().unwrap_or_else(|| Ok(ClientTls::shared()?))?;
        self.tls.begin(local, &tls, target).map(|tls| Some(Box::new(tls)))
    }
}

/// What `fault` is for the caller. An answer of which only the end is missing says more than that the
/// time was over.
fn said(fault: ConnectFault, is_late: bool, limit: Option<Duration>) -> ConnectFault {
    match (fault, limit) {
        (ConnectFault::Disconnected(None), Some(limit)) if is_late => {
            ConnectFault::Timeout { stage: ConnectStage::Handshake, limit }
        }
        (ConnectFault::Response(ResponseError::Redirect { location, response }), _) => {
            let fault = "an embedded worker follows no redirects: connect to that URL".to_owned();
            ConnectFault::Redirect { location, fault, response }
        }
        (fault, _) => fault,
    }
}
