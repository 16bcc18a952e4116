//! The start of a server: what it listens on, its admin address, and what it takes over, in order.
//!
//! All that can fail comes first; then a predecessor stops accepting, and the workers begin.

use super::builder::ServerBuilder;
use super::handle::ServerHandle;
use super::listen::Listen;
use super::probes::{self, Probes};
use super::takeover::Handover;
use super::threads::{self, Prepared, ServerPlan};
use crate::driver::Driver;
use crate::error::Error;
use crate::memory::MemoryBudget;
use crate::socket::{ListenOptions, Part};
use crate::upgrade::MakeFactory;
use std::sync::Arc;

/// The server of the admin address.
enum Admin {
    Running(ServerHandle),
    /// It waits until a predecessor accepts no more.
    Prepared(Prepared),
}

impl ServerBuilder {
    pub(super) fn start_made(mut self, make: Arc<MakeFactory>) -> Result<ServerHandle, Error> {
        self.check()?;
        let mut handover = self.takeover.take().map(|path| Handover::begin(&path)).transpose()?;
        let probes = Arc::default();
        let admin = match self.admin.take() {
            Some(address) => Some(Admin::start(&address, &probes, handover.as_mut())?),
            None => None,
        };
        let drain_timeout = self.drain_timeout;
        let address_check = self.address_check.take();
        let prepared = self.prepare(make, &probes, Part::Main, handover.as_mut());
        let prepared = prepared.map_err(|error| match &handover {
            Some(handover) => handover.explain(error),
            None => error,
        })?;
        address_check.map_or(Ok(()), |it| it.check(prepared.addresses()))?;
        if let Some(handover) = &mut handover {
            handover.commit()?;
        }
        let mut handle = prepared.begin();
        probes.watch(handle.monitor());
        handle.set_admin(admin.map(Admin::begin));
        if let Some(handover) = handover {
            handover.answer_for(&mut handle, drain_timeout);
        }
        Ok(handle)
    }

    /// Makes everything that can fail, but accepts nothing.
    pub(super) fn prepare(
        self,
        make: Arc<MakeFactory>,
        probes: &Arc<Probes>,
        part: Part,
        handover: Option<&mut Handover>,
    ) -> Result<Prepared, Error> {
        let workers = self.check()?;
        let driver = self.driver.map_or_else(Driver::from_environment, Ok)?;
        let options = self.listen_options(workers);
        let options = ListenOptions { part, keeps_copies: handover.is_some(), ..options };
        let (offer, predecessor) = handover.map(Handover::parts).unzip();
        let predecessor = predecessor.flatten();
        let mut listen = self.listen;
        // Behind what has settings of its own, and in place of the default.
        listen.extend(predecessor.iter().flat_map(|it| it.inherited(part)).map(Listen::taken));
        let is_own = listen.iter().all(Listen::is_own);
        let mut config = self.config;
        config.leaves_port = self.share_port && is_own;
        config.admission = Some(Arc::default());
        config.memory = MemoryBudget::of_another(&config.memory);
        config.probe = self.on_main.probe(probes);
        let config = Arc::new(config);
        let (listen, served) = super::builder::resolve(listen, self.has_address, &config)?;
        let plan = ServerPlan {
            listen,
            name: self.thread_name,
            served,
            options,
            may_be_fewer: self.workers.is_none(),
            pin: self.pin,
            driver,
            waiting: self.waiting,
            drain_timeout: self.drain_timeout,
            ready: self.ready,
            config,
            make,
            offer,
        };
        threads::prepare(plan, predecessor)
    }
}

impl Admin {
    /// Starts it first, so that it answers while the server starts; but not beside that of a predecessor.
    fn start(
        address: &str,
        probes: &Arc<Probes>,
        mut handover: Option<&mut Handover>,
    ) -> Result<Self, Error> {
        let (builder, make) = probes::admin_server(address, probes);
        let prepared = builder.prepare(make, probes, Part::Admin, handover.as_deref_mut())?;
        if handover.is_some_and(|it| it.has_predecessor()) {
            return Ok(Self::Prepared(prepared));
        }
        Ok(Self::Running(prepared.begin()))
    }

    fn begin(self) -> ServerHandle {
        match self {
            Self::Running(handle) => handle,
            Self::Prepared(prepared) => prepared.begin(),
        }
    }
}
