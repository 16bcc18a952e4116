//! The application's word on addresses: whether a server may serve what it has bound, inherited or taken over.

use super::builder::ServerBuilder;
use crate::error::Error;
use crate::foreign::{self, Foreign};
use crate::socket::ListenAddress;
use std::fmt;
use std::sync::Arc;

/// A function of the application that refuses addresses.
#[derive(Clone)]
pub(super) struct AddressCheck(Arc<Foreign<Box<Check>>>);

type Check = dyn Fn(&ListenAddress) -> Result<(), String> + Send + Sync;

impl AddressCheck {
    /// # Errors
    ///
    /// The first address that is refused. A panic refuses it, too.
    pub(super) fn check(&self, addresses: &[ListenAddress]) -> Result<(), Error> {
        addresses.iter().try_for_each(|address| {
            let fault = match foreign::call(|| (self.0)(address)) {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(fault)) => fault,
                Err(panicked) => format!("the check of check_address failed: {panicked}"),
            };
            Err(Error::Address { address: address.to_string(), fault })
        })
    }
}

impl fmt::Debug for AddressCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AddressCheck")
    }
}

impl ServerBuilder {
    /// Asks the application whether the server may serve on an address: with an error of `check` it does not
    /// start, and the error is an [`Error::Address`] with that text.
    ///
    /// For rules that depend on where clients come from, as sockets that are inherited or
    /// [taken over](Self::takeover) have addresses that the program has not chosen. It is called for each address, its
    /// port known, before the server accepts anything, and before a server that it takes over from is stopped: that one
    /// serves on. The address of [`admin`](Self::admin) and those that are
    /// [added later](crate::ServerHandle::listen) are not asked about. Default: none.
    ///
    /// ```
    /// use picows_uring::{EchoListener, Error, ListenAddress, Server, Upgrade};
    ///
    /// let builder = Server::builder().listen("0.0.0.0:0").workers(1).check_address(|address| match address {
    ///     ListenAddress::Tcp(address) if !address.ip().is_loopback() => Err("only for this machine".into()),
    ///     _ => Ok(()),
    /// });
    /// let refused = builder.start(|_| Upgrade::accept(EchoListener));
    /// assert!(matches!(refused, Err(Error::Address { fault, .. }) if fault == "only for this machine"));
    /// ```
    pub fn check_address<F>(mut self, check: F) -> Self
    where
        F: Fn(&ListenAddress) -> Result<(), String> + Send + Sync + 'static,
    {
        self.address_check = Some(AddressCheck(Arc::new(Foreign::new(Box::new(check)))));
        self
    }
}
