//! The load generator: keep-alive connections that send one prepared request again and again, in a closed
//! or an open loop, in one thread with the mock engine, so that neither waits for the other to be woken.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use mio::{Events as Ready, Poll};

use super::clients::Run;
use super::clock::nanos;
use super::engine::Engine;
use super::wire::Fault;

/// When requests begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pace {
    /// So many connections, each sends its next request when it has the answer.
    Closed { connections: usize },
    /// So many requests a second, whatever becomes of those before.
    Open { per_second: f64 },
    /// So many requests, one after the other; only they end it.
    Count { requests: usize },
    /// So many streams are opened, so many a second, and kept.
    Hold { streams: usize, per_second: f64 },
}

/// What is sent, and for how long.
pub(crate) struct Load {
    pub(crate) target: SocketAddr,
    pub(crate) request: Vec<u8>,
    pub(crate) pace: Pace,
    /// Events an answer has; 0: it is no stream.
    pub(crate) events: usize,
    /// Leaves after so many events.
    pub(crate) leave_after: Option<usize>,
    pub(crate) warmup: Duration,
    pub(crate) measured: Duration,
}

/// Moments the caller wants to look at the process under load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    Begin,
    End,
}

/// What happened between the marks. Times are in nanoseconds.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) events: u64,
    pub(crate) seconds: f64,
    pub(crate) errors: BTreeMap<Fault, u64>,
    /// From the moment a request was due to the end of its answer.
    pub(crate) latency: Vec<u64>,
    /// From the moment a request was due to its first event.
    pub(crate) first_event: Vec<u64>,
    /// From an event's sending to its arrival.
    pub(crate) delay: Vec<u64>,
}

/// How long after the end of a run answers may still come.
const GRACE: u64 = 10_000_000_000;
/// The loop: one poll for both sides.
pub(crate) struct Bench {
    poll: Poll,
    ready: Ready,
    pub(crate) engine: Engine,
}

impl Bench {
    /// # Errors
    /// When there is no port for the engine.
    pub(crate) fn new() -> Result<Self> {
        let poll = Poll::new()?;
        let engine = Engine::new(poll.registry())?;
        Ok(Self {
            poll,
            ready: Ready::with_capacity(1024),
            engine,
        })
    }

    /// Serves as the engine alone for a while: for health checks and what else is asked between runs.
    ///
    /// # Errors
    /// When the system cannot poll.
    pub(crate) fn serve(&mut self, during: Duration) -> Result<()> {
        let until = nanos() + u64::try_from(during.as_nanos())?;
        while nanos() < until {
            self.turn(None)?;
        }
        Ok(())
    }

    /// Puts `load` on its target.
    ///
    /// # Errors
    /// When the system cannot poll, or `at` fails.
    pub(crate) fn run(
        &mut self,
        load: &Load,
        mut at: impl FnMut(Mark) -> Result<()>,
    ) -> Result<Outcome> {
        let start = nanos();
        let begin = start + u64::try_from(load.warmup.as_nanos())?;
        let end = begin + u64::try_from(load.measured.as_nanos())?;
        let mut run = Run::new(load, start);
        let mut began = begin;
        loop {
            let now = nanos();
            if !run.measuring && !run.over && now >= begin {
                at(Mark::Begin)?;
                began = nanos();
                run.measuring = true;
            }
            if run.measuring && now >= end {
                at(Mark::End)?;
                run.outcome.seconds = Duration::from_nanos(nanos() - began).as_secs_f64();
                run.measuring = false;
                run.over = true;
            }
            if run.counted_out() || run.over && (run.busy == 0 || now > end + GRACE || run.holds())
            {
                return Ok(run.finish());
            }
            run.begin_due(self.poll.registry(), now);
            self.turn(Some(&mut run))?;
        }
    }

    fn turn(&mut self, mut run: Option<&mut Run<'_>>) -> Result<()> {
        let now = nanos();
        self.engine.tick(now);
        // Never asleep: waking it would be charged to the gateway that writes to it.
        let wait = Duration::ZERO;
        match self.poll.poll(&mut self.ready, Some(wait)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error.into()),
            _ => (),
        }
        for event in &self.ready {
            if event.token().0 % 2 == 0 {
                let registry = self.poll.registry();
                self.engine
                    .ready(registry, event.token(), event.is_writable());
            } else if let Some(run) = run.as_deref_mut() {
                let before = run.read;
                run.ready(event.token().0 / 2, event.is_writable());
                if run.read > before {
                    self.engine.go_on();
                }
            }
        }
        Ok(())
    }
}
