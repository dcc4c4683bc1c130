//! Requests against scripted backends in virtual time.

use std::collections::BTreeMap;

use super::*;

/// What a backend does with a request.
#[derive(Clone, Copy)]
pub(super) enum Behaviour {
    /// First byte after some milliseconds, last byte some more later.
    Serve { first_byte: u64, stream: u64 },
    /// Fails after some milliseconds.
    Fail { after: u64, failure: Failure },
    /// Never answers.
    Hang,
}

/// What happens next to a request.
#[derive(Clone, Copy)]
enum Step {
    FirstByte { stream: u64 },
    LastByte,
    Fail(Failure),
}

pub(super) struct Simulation {
    pub(super) pool: Pool,
    pub(super) behaviours: Vec<Behaviour>,
    clock: Clock,
    now_ms: u64,
    sequence: u64,
    pending: BTreeMap<(u64, u64), (Ticket, Step)>,
    hanging: Vec<Ticket>,
}

impl Simulation {
    pub(super) fn new(strategy: Strategy, settings: Settings, behaviours: &[Behaviour]) -> Self {
        let clock = Clock::manual();
        let backends = backends(&clock, settings, &vec![1; behaviours.len()]);
        Self {
            pool: Pool::starting_at(backends, strategy, 0),
            behaviours: behaviours.to_vec(),
            clock,
            now_ms: 0,
            sequence: 0,
            pending: BTreeMap::new(),
            hanging: Vec::new(),
        }
    }

    /// Sends a request every `interval_ms` for some seconds; returns how many each backend got.
    pub(super) fn run(&mut self, seconds: u64, interval_ms: u64) -> Vec<usize> {
        let mut counts = vec![0; self.behaviours.len()];
        let end_ms = self.now_ms + seconds * 1_000;
        while self.now_ms < end_ms {
            self.arrive(&mut counts);
            self.proceed(self.now_ms + interval_ms);
        }
        counts
    }

    /// Lets everything that is going to end end; what hangs is given up.
    pub(super) fn finish(&mut self) {
        self.proceed(u64::MAX);
        self.hanging.clear();
    }

    fn arrive(&mut self, counts: &mut [usize]) {
        let Some(ticket) = self.pool.pick(&Tried::new()) else {
            return;
        };
        counts[ticket.index()] += 1;
        match self.behaviours[ticket.index()] {
            Behaviour::Serve { first_byte, stream } => {
                self.schedule(first_byte, ticket, Step::FirstByte { stream });
            }
            Behaviour::Fail { after, failure } => {
                self.schedule(after, ticket, Step::Fail(failure));
            }
            Behaviour::Hang => self.hanging.push(ticket),
        }
    }

    /// Moves the clock from event to event, up to and including a time.
    fn proceed(&mut self, until_ms: u64) {
        while let Some(entry) = self.pending.first_entry() {
            let at_ms = entry.key().0;
            if at_ms > until_ms {
                break;
            }
            let (ticket, step) = entry.remove();
            self.advance(at_ms);
            self.happen(ticket, step);
        }
        if until_ms < u64::MAX {
            self.advance(until_ms);
        }
    }

    fn happen(&mut self, mut ticket: Ticket, step: Step) {
        match step {
            Step::FirstByte { stream } => {
                ticket.first_byte();
                self.schedule(stream, ticket, Step::LastByte);
            }
            Step::LastByte => drop(ticket),
            Step::Fail(failure) => ticket.failed(failure, None),
        }
    }

    fn schedule(&mut self, delay_ms: u64, ticket: Ticket, step: Step) {
        self.sequence += 1;
        self.pending
            .insert((self.now_ms + delay_ms, self.sequence), (ticket, step));
    }

    fn advance(&mut self, to_ms: u64) {
        self.clock
            .advance(Duration::from_millis(to_ms - self.now_ms));
        self.now_ms = to_ms;
    }
}
