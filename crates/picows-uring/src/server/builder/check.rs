//! Checks of the settings of a server: what makes no sense, and what does not apply where it is given.

use super::ServerBuilder;
use crate::config::{Config, WrongSetting};
use std::sync::Arc;

impl ServerBuilder {
    /// The settings of one address, as they were changed from those of a server.
    pub(in crate::server) fn config_of_address(
        self,
        base: &Config,
    ) -> Result<Config, WrongSetting> {
        let usual = Self::default();
        if !self.listen.is_empty() || self.share_port || self.backlog != usual.backlog {
            let fault = "an address is listened on as the server does: give it to the server";
            return Err(WrongSetting::new("listen", fault));
        }
        if let Some((setting, _)) = self.setting_of_worker(base) {
            let fault = "it is not of one listen address: give it to the server";
            return Err(WrongSetting::new(setting, fault));
        }
        self.config.check()?;
        Ok(self.config)
    }

    /// Refuses what an embedded worker does not take from a server: it has one thread, which is the
    /// caller's, and settings of its own.
    pub(super) fn refuse_settings_of_workers(&self) -> Result<(), WrongSetting> {
        let Some((setting, is_of_thread)) = self.setting_of_worker(&Self::default().config) else {
            return Ok(());
        };
        let fault = if is_of_thread {
            "an embedded worker runs on the thread of its loop, as that has it: leave it out"
        } else {
            "it is the worker's and not of one listen address: give it to Embedded::builder"
        };
        Err(WrongSetting::new(setting, fault))
    }

    /// A setting that is not about connections, and not as in `base`, and whether it is about threads.
    fn setting_of_worker(&self, base: &Config) -> Option<(&'static str, bool)> {
        let (usual, config) = (Self::default(), &self.config);
        let of_thread = [
            ("workers", self.workers.is_some()),
            ("pin", self.pin),
            ("admin", self.admin.is_some()),
            ("takeover", self.takeover.is_some()),
            ("health_on_main", self.on_main.health),
            ("metrics_on_main", self.on_main.metrics),
            ("ready_when", self.ready.is_some()),
        ];
        let of_worker = [
            ("driver", self.driver.is_some()),
            ("drain_timeout", self.drain_timeout != usual.drain_timeout),
            ("drain_spread", config.drain_spread != base.drain_spread),
            ("slow_callback", config.slow_callback != base.slow_callback),
            ("release_memory_after", config.memory_release != base.memory_release),
            ("memory_limit", !Arc::ptr_eq(&config.memory, &base.memory)),
            (
                "tls_handshakes_per_turn",
                config.tls_handshakes_per_turn != base.tls_handshakes_per_turn,
            ),
        ];
        let given = |settings: &[(&'static str, bool)], is_of_thread| {
            let given = settings.iter().find(|(_, is_given)| *is_given);
            given.map(|(setting, _)| (*setting, is_of_thread))
        };
        let of_waiting = self.waiting.first().map(|setting| (setting, true));
        given(&of_thread, true).or(of_waiting).or_else(|| given(&of_worker, false))
    }

    /// Checks the settings, and returns the number of workers.
    pub(in crate::server) fn check(&self) -> Result<usize, WrongSetting> {
        let wrong = |setting, fault: String| Err(WrongSetting::new(setting, fault));
        let workers = match self.workers {
            Some(0) => return wrong("workers", "0 workers serve no client: use 1 or more".into()),
            Some(count) if count > WORKERS_MAX => {
                return wrong("workers", format!("{count} are more than {WORKERS_MAX}: use fewer"));
            }
            Some(count) => count,
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        self.waiting.check()?;
        if self.config.tls_handshakes_per_turn == 0 {
            return wrong(
                "tls_handshakes_per_turn",
                "with 0 none is ever done: use 1 or more".into(),
            );
        }
        if self.backlog == 0 {
            return wrong("backlog", "0 lets no client in: use 1 or more".into());
        }
        let (spread, drain) = (self.config.drain_spread.unwrap_or_default(), self.drain_timeout);
        if spread > drain / 2 {
            let fault = format!(
                "{spread:?} is more than half of the drain timeout of {drain:?}: the last would \
                 have no time to answer; use {:?} or less",
                drain / 2
            );
            return wrong("drain_spread", fault);
        }
        self.config.check()?;
        Ok(workers)
    }
}

/// More than any machine has cores; a larger number is a slip.
const WORKERS_MAX: usize = 1024;
