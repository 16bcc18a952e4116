//! Plan of a fan-out.

use super::stamp::Stamp;
use crate::driver::DriverFlag;
use crate::fault::Usage;
use crate::measure::{Filler, Payload, RateStage, Schedule};
use crate::source::Sources;
use crate::tls;
use picows_uring::{AutoPing, Deflate, Proxy};
use std::time::Duration;

/// Plan of a fan-out: target, publications, connections and times.
#[derive(Clone, Debug)]
pub(crate) struct FanOutPlan {
    pub(crate) url: String,
    pub(crate) publish_url: String,
    pub(crate) subscribers: usize,
    pub(crate) publishers: usize,
    pub(crate) threads: usize,
    pub(crate) size_bytes: usize,
    pub(crate) is_text: bool,
    pub(crate) filler: Filler,
    pub(crate) deflate: Option<Deflate>,
    /// Most publications in flight of each publisher, without a rate.
    pub(crate) pipeline: usize,
    /// Publications per second in total; `None` publishes the next one when all have the last.
    pub(crate) rate_per_s: Option<f64>,
    /// Stages of the rate, in their order; empty for one rate, or none.
    pub(crate) stages: Vec<RateStage>,
    pub(crate) are_gaps_allowed: bool,
    pub(crate) warmup: Duration,
    pub(crate) duration: Duration,
    /// How long to wait for deliveries that are missing at the end.
    pub(crate) drain: Duration,
    pub(crate) driver: DriverFlag,
    pub(crate) busy_poll: Duration,
    pub(crate) auto_ping: Option<AutoPing>,
    pub(crate) sources: Option<Sources>,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) tls: Option<tls::ClientSettings>,
    pub(crate) server_pid: Option<u32>,
}

impl FanOutPlan {
    /// Checks what no parser of a single flag can.
    pub(crate) fn check(self) -> Result<Self, Usage> {
        let stamp = Stamp::length(self.is_text);
        let fault = if self.size_bytes < stamp {
            format!("--size {}: a publication has a stamp of {stamp} bytes", self.size_bytes)
        } else if self.threads > self.subscribers {
            format!(
                "--threads {} for --subscribers {}: a thread without a subscriber does nothing",
                self.threads, self.subscribers
            )
        } else if self.pipeline > PIPELINE_MAX {
            format!("--pipeline {}: at most {PIPELINE_MAX} with --mode fan-out", self.pipeline)
        } else {
            return Ok(self);
        };
        Err(Usage(fault))
    }

    /// Whether publications are due at times of a schedule.
    pub(crate) fn is_open_loop(&self) -> bool {
        self.rate_per_s.is_some() || !self.stages.is_empty()
    }

    /// The schedule of an open loop that begins at `start_ns`, whose publications take turns on the publishers.
    pub(super) fn schedule(&self, start_ns: u64) -> Option<Schedule> {
        match self.rate_per_s {
            Some(rate) => Some(Schedule::new(start_ns, rate, self.publishers)),
            None if self.stages.is_empty() => None,
            None => Some(Schedule::staged(start_ns, &self.stages, self.publishers)),
        }
    }

    /// The stage of a publication that is due so long after the start of the schedule.
    pub(super) fn stage_at(&self, after_ns: u64) -> Option<usize> {
        let mut end = Duration::ZERO;
        self.stages.iter().position(|stage| {
            end += stage.duration;
            u128::from(after_ns) < end.as_nanos()
        })
    }

    /// A payload, whose start is for the stamp.
    pub(super) fn sample(&self) -> Vec<u8> {
        Payload::filled(self.size_bytes, self.is_text, self.filler).stamped(0, 0).to_vec()
    }
}

/// Most publications in flight of one publisher: fewer than the board has slots for.
const PIPELINE_MAX: usize = 4096;

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn plan() -> FanOutPlan {
        FanOutPlan {
            url: "ws://127.0.0.1:9001/topic/a".into(),
            publish_url: "ws://127.0.0.1:9001/topic/a".into(),
            subscribers: 10,
            publishers: 1,
            threads: 1,
            size_bytes: 64,
            is_text: false,
            filler: Filler::Random,
            deflate: None,
            pipeline: 1,
            rate_per_s: None,
            stages: Vec::new(),
            are_gaps_allowed: false,
            warmup: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            drain: Duration::from_secs(5),
            driver: DriverFlag::default(),
            busy_poll: Duration::ZERO,
            auto_ping: None,
            sources: None,
            proxy: None,
            tls: None,
            server_pid: None,
        }
    }

    #[test]
    fn publications_belong_to_the_stage_in_which_they_are_due() {
        let stage = |seconds| RateStage { duration: Duration::from_secs(seconds), rate_per_s: 1.0 };
        let staged = FanOutPlan { stages: vec![stage(1), stage(2)], ..plan() };
        for (after_ns, at) in
            [(0, Some(0)), (999_999_999, Some(0)), (1_000_000_000, Some(1)), (3_000_000_000, None)]
        {
            assert_eq!(staged.stage_at(after_ns), at, "{after_ns}");
        }
        assert_eq!(plan().stage_at(0), None);
        assert!(plan().schedule(0).is_none() && staged.schedule(0).is_some());
    }

    #[test]
    fn plans_that_cannot_be_are_refused_by_their_flag() {
        assert!(plan().check().is_ok());
        for (plan, flag) in [
            (FanOutPlan { size_bytes: 15, ..plan() }, "--size 15"),
            (FanOutPlan { size_bytes: 31, is_text: true, ..plan() }, "--size 31"),
            (FanOutPlan { threads: 11, ..plan() }, "--threads 11 for --subscribers 10"),
            (FanOutPlan { pipeline: 5000, ..plan() }, "--pipeline 5000"),
        ] {
            let Err(Usage(text)) = plan.check() else { panic!("{flag}") };
            assert!(text.contains(flag), "{text}");
        }
    }
}
