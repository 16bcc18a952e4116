//! Judgement of how a client was treated, when all is over.

use super::{Client, Facts};
use crate::testing::ring::sim::BrokenBy;
use crate::testing::simulation::journal::{Journal, Record, Seen};
use crate::testing::simulation::plan::ClientScript;
use crate::testing::simulation::script;
use crate::testing::simulation::stream::PeerStream;
use picows_uring_proto::{CloseCode, CloseFrame};
use std::time::Duration;

impl Client {
    /// Judges what it got, at its end.
    pub(in crate::testing::simulation) fn verdict(
        &self,
        facts: &Facts,
        journal: &Journal,
    ) -> Result<(), String> {
        if let Some(breach) = &self.breach {
            return Err(format!("{breach}: {self:?}"));
        }
        let record = journal.records.get(&self.id);
        if record.is_some_and(|record| record.dropped > 0) {
            // A fragment may be among them, and then nothing fits any more.
            return Ok(());
        }
        if let Some(record) = record.filter(|record| record.is_evicted) {
            let code = self.close_received.as_ref().and_then(CloseFrame::code);
            // Another CLOSE may have been sent before.
            let is_ended = record.is_ended_by_us || record.is_leaving;
            let had_close = is_ended || self.may_be_sent_away(facts);
            let is_told = had_close || code.is_none_or(|code| code == EVICTED);
            return if is_told { Ok(()) } else { Err(format!("evicted with {code:?}: {self:?}")) };
        }
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let is_cut_short = facts.stopped.is_some_and(|(at, _)| self.ended_at >= at);
        let is_waiting = matches!(self.plan, ClientScript::Idle | ClientScript::Silent);
        if self.is_excused(facts, record) || (is_cut_short && !is_waiting) {
            return Ok(());
        }
        let demand = |is_kept: bool, what: &str| {
            if is_kept { Ok(()) } else { Err(format!("{what}: {self:?}, {record:?}")) }
        };
        if let (Some(most), Some(opened)) = (self.lasts_at_most(facts), self.opened_at) {
            let has_lasted = self.ended_at.saturating_sub(opened);
            let most = self.silent_at_most(facts, opened).unwrap_or(most);
            demand(has_lasted <= most, "it should have been ended before")?;
        }
        let code = self.close_received.as_ref().map(|close| close.code().map(CloseCode::get));
        if code == Some(Some(1001)) && self.may_be_sent_away(facts) {
            return Ok(());
        }
        let status = self.status.unwrap_or(0);
        match self.plan {
            ClientScript::Http(index) => {
                return demand(script::REQUESTS[index].1.contains(&status), "the wrong status");
            }
            ClientScript::Drip => {
                let took = self.ended_at.saturating_sub(self.accepted_at.unwrap_or_default());
                let is_in_time = took + SLACK >= HANDSHAKE_TIMEOUT
                    && took < HANDSHAKE_TIMEOUT + SLACK + facts.stalled;
                return demand(status == 0 && is_in_time, "the handshake timeout is not kept");
            }
            ClientScript::Rubbish | ClientScript::Slow | ClientScript::Deaf => return Ok(()),
            _ => {}
        }
        if self.plan == ClientScript::Silent && facts.liveness.auto_ping.is_some() {
            // It is given little time to read its CLOSE.
            return Ok(());
        }
        if is_waiting {
            return self.verdict_of_idle(facts, &demand);
        }
        demand(status == 101, "no handshake")?;
        // After its end, a server that stops may still leave bytes unread.
        let was_over = facts.stopped.is_some() && self.has_read_end;
        demand(facts.broken.is_none() || was_over, "it was reset")?;
        let is_all_here = match record {
            Some(record) if !self.plan.is_echo() => record.sent.len() == self.arrived,
            // Only a peer that did not keep up is not owed each PONG.
            Some(record) if record.pauses > 0 => self.expected.iter().all(Seen::is_pong),
            _ => self.expected.is_empty(),
        };
        demand(is_all_here, "frames are lost")?;
        self.verdict_of_end(code, &demand)
    }

    /// Judges the end of a connection that nothing has cut.
    fn verdict_of_end(
        &self,
        code: Option<Option<u16>>,
        demand: &dyn Fn(bool, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let is_notified = self.stream.as_ref().is_none_or(PeerStream::is_notified);
        demand(is_notified || !self.has_read_end, "no close_notify")?;
        match self.plan {
            ClientScript::Break(index) => {
                let is_owed = code == Some(Some(script::VIOLATIONS[index].1));
                demand(is_owed, "the wrong close code")
            }
            ClientScript::Room if code == Some(Some(1008)) => Ok(()),
            _ => demand(self.close_received == self.close_sent, "the wrong close frame"),
        }
    }

    /// Whether nothing is owed to it, as it, the network or one of its kind has ended it.
    fn is_excused(&self, facts: &Facts, record: Option<&Record>) -> bool {
        let is_refused = facts.has_limit && self.status == Some(503);
        self.has_gone
            || is_refused
            || matches!(facts.broken, Some(BrokenBy::Network | BrokenBy::Peer))
            || record.is_some_and(|record| record.is_ended_by_us)
            // The cause of one that was ending is another, and no CLOSE follows its own.
            || (facts.has_evictions && self.close_received.is_none())
            || (is_long_stall(facts.stalled) && self.close_received.is_none())
    }

    /// How long a connection lasts at the most that the server does not stop.
    fn lasts_at_most(&self, facts: &Facts) -> Option<Duration> {
        let ping = facts.liveness.auto_ping.filter(|_| self.plan == ClientScript::Silent);
        let silence = ping.map(|ping| ping.idle_timeout + ping.reply_timeout);
        let idle = facts.liveness.idle_timeout.filter(|_| self.plan == ClientScript::Silent);
        // A slow one is still reading when the server has long let it go.
        let lifetime = facts.liveness.lifetime;
        let lifetime = lifetime.filter(|_| self.reads() && self.plan != ClientScript::Slow);
        let most = [silence, idle, lifetime].into_iter().flatten().min()?;
        Some(most + CLOSE_TIMEOUT + SLACK + facts.stalled)
    }

    /// How long one lasts at the most that answers no ping, where nothing else can end it before: it is not
    /// given the time to close that others have.
    fn silent_at_most(&self, facts: &Facts, opened: Duration) -> Option<Duration> {
        let ping = facts.liveness.auto_ping.filter(|_| self.plan == ClientScript::Silent)?;
        let silence = ping.idle_timeout + ping.reply_timeout + SLACK + facts.stalled;
        let has_other_end =
            facts.liveness.idle_timeout.is_some() || facts.liveness.lifetime.is_some();
        let is_stopped_before = facts.stopped.is_some_and(|(at, _)| at < opened + silence);
        (!has_other_end && !is_stopped_before).then_some(silence + SILENT_LINGER)
    }

    /// Whether it may be told to go, although it does nothing wrong.
    fn may_be_sent_away(&self, facts: &Facts) -> bool {
        let is_silent = self.plan == ClientScript::Silent && facts.liveness.auto_ping.is_some();
        is_silent || facts.liveness.lifetime.is_some() || facts.liveness.idle_timeout.is_some()
    }

    fn verdict_of_idle(
        &self,
        facts: &Facts,
        demand: &dyn Fn(bool, &str) -> Result<(), String>,
    ) -> Result<(), String> {
        let Some((at, drain)) = facts.stopped else { return Ok(()) };
        let was_open = self.opened_at.is_some_and(|opened| opened + SLACK < at);
        if was_open && drain > SLACK {
            let code = self.close_received.as_ref().and_then(CloseFrame::code);
            return demand(code == Some(CloseCode::GOING_AWAY), "no CLOSE 1001");
        }
        Ok(())
    }
}

/// Whether stalls may have taken all the time in which a handshake or an ending of ours, with what was
/// queued before it, was to leave. Their timeouts bound them as a whole.
pub(in crate::testing::simulation) fn is_long_stall(stalled: Duration) -> bool {
    stalled + SLACK >= CLOSE_TIMEOUT.min(HANDSHAKE_TIMEOUT)
}

/// As the simulation configures it.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// What a silent peer has for reading its CLOSE (`connection/liveness.rs`).
const SILENT_LINGER: Duration = Duration::from_millis(10);
/// What delays and paces may add up to.
const SLACK: Duration = Duration::from_millis(500);

/// The CLOSE of a connection that is ended for its memory.
const EVICTED: CloseCode = CloseCode::TRY_AGAIN_LATER;
