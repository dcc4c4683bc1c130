//! The clients: connections that send one prepared request again and again.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Token};

use super::clock::nanos;
use super::engine::write;
use super::load::{Load, Outcome, Pace};
use super::wire::{Events, Fault, Messages};

struct Connection {
    socket: TcpStream,
    connected: bool,
    /// When the request under way was due; `None` while idle.
    due: Option<u64>,
    unsent: usize,
    answer: Messages,
    events: Events,
    seen: usize,
}

/// Connections an open loop may have.
const MOST: usize = 2_000;

/// All clients of one run.
pub(crate) struct Run<'l> {
    load: &'l Load,
    connections: Vec<Option<Connection>>,
    idle: Vec<usize>,
    waiting: VecDeque<u64>,
    next: u64,
    opened: usize,
    pub(crate) busy: usize,
    pub(crate) measuring: bool,
    pub(crate) over: bool,
    pub(crate) outcome: Outcome,
    /// Events so far, measured or not.
    pub(crate) read: u64,
    buffer: Vec<u8>,
}

fn token(index: usize) -> Token {
    Token(index * 2 + 1)
}

impl<'l> Run<'l> {
    pub(crate) fn new(load: &'l Load, start: u64) -> Self {
        Self {
            load,
            connections: Vec::new(),
            idle: Vec::new(),
            waiting: VecDeque::new(),
            next: start,
            opened: 0,
            busy: 0,
            measuring: false,
            over: false,
            outcome: Outcome::default(),
            read: 0,
            buffer: vec![0; 256 * 1024],
        }
    }

    /// Whether a counted load has had its last answer.
    pub(crate) fn counted_out(&self) -> bool {
        matches!(self.load.pace, Pace::Count { requests } if self.opened == requests && self.busy == 0)
    }

    pub(crate) fn holds(&self) -> bool {
        matches!(self.load.pace, Pace::Hold { .. })
    }

    /// When the next request is to be begun.
    pub(crate) fn next_due(&self) -> u64 {
        match self.load.pace {
            _ if self.over => u64::MAX,
            Pace::Closed { connections } if self.opened >= connections => u64::MAX,
            Pace::Hold { streams, .. } if self.opened >= streams => u64::MAX,
            Pace::Count { requests }
                if self.opened >= requests || self.busy + self.waiting.len() > 0 =>
            {
                u64::MAX
            }
            _ => self.next,
        }
    }

    /// Begins what is due. In a closed loop connections are opened over a while, so that streams are not in step.
    pub(crate) fn begin_due(&mut self, registry: &mio::Registry, now: u64) {
        while self.next_due() <= now {
            let due = self.next;
            let gap = match self.load.pace {
                Pace::Closed { connections } => 0.2037 / connections as f64,
                Pace::Open { per_second } | Pace::Hold { per_second, .. } => 1.0 / per_second,
                Pace::Count { .. } => 0.0,
            };
            self.next += Duration::from_secs_f64(gap).as_nanos() as u64;
            self.opened += 1;
            self.waiting.push_back(due);
        }
        while let Some(due) = self.waiting.front().copied() {
            let index = match self.idle.pop() {
                Some(index) => index,
                None if self.busy < MOST || self.holds() => match self.connect(registry) {
                    Some(index) => index,
                    None => {
                        self.waiting.pop_front();
                        continue;
                    }
                },
                None => return,
            };
            self.waiting.pop_front();
            self.send(index, due);
        }
    }

    fn connect(&mut self, registry: &mio::Registry) -> Option<usize> {
        let Ok(mut socket) = TcpStream::connect(self.load.target) else {
            self.fault(Fault::Connect);
            return None;
        };
        drop(socket.set_nodelay(true));
        let index = match self.connections.iter().position(Option::is_none) {
            Some(index) if !self.holds() => index,
            _ => {
                self.connections.push(None);
                self.connections.len() - 1
            }
        };
        let both = Interest::READABLE | Interest::WRITABLE;
        if registry.register(&mut socket, token(index), both).is_err() {
            self.fault(Fault::Connect);
            return None;
        }
        self.connections[index] = Some(Connection {
            socket,
            connected: false,
            due: None,
            unsent: 0,
            answer: Messages::default(),
            events: Events::default(),
            seen: 0,
        });
        Some(index)
    }

    fn send(&mut self, index: usize, due: u64) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        self.busy += 1;
        connection.due = Some(due);
        connection.seen = 0;
        connection.unsent = self.load.request.len();
        if connection.connected && !connection.flush(&self.load.request) {
            self.lose(index, Fault::CutOff);
        }
    }

    pub(crate) fn ready(&mut self, index: usize, writable: bool) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        if writable && !connection.connected {
            match connection.socket.take_error() {
                Ok(None) if connection.socket.peer_addr().is_ok() => connection.connected = true,
                Ok(None) => return,
                _ => return self.lose(index, Fault::Connect),
            }
        }
        if writable && !connection.flush(&self.load.request) {
            return self.lose(index, Fault::CutOff);
        }
        self.read(index);
    }

    fn read(&mut self, index: usize) {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(index) else {
                return;
            };
            let count = match connection.socket.read(&mut self.buffer) {
                Ok(0) => return self.lose(index, Fault::CutOff),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.lose(index, Fault::CutOff),
            };
            if !self.take(index, count) || count < self.buffer.len() {
                return;
            }
        }
    }

    /// Takes what was read. Whether the connection is still there.
    fn take(&mut self, index: usize, count: usize) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return false;
        };
        let now = nanos();
        let (measuring, due) = (self.measuring, connection.due.unwrap_or(now));
        let (events, seen) = (&mut connection.events, &mut connection.seen);
        let (outcome, stream) = (&mut self.outcome, self.load.events > 0);
        let read = &mut self.read;
        let complete = connection.answer.feed(&self.buffer[..count], |body| {
            if stream {
                events.feed(body, |sent| {
                    *seen += 1;
                    *read += 1;
                    if measuring {
                        outcome.events += 1;
                        outcome.delay.push(now.saturating_sub(sent));
                        if *seen == 1 {
                            outcome.first_event.push(now.saturating_sub(due));
                        }
                    }
                });
            }
        });
        let seen = *seen;
        match complete {
            Err(fault) => {
                self.lose(index, fault);
                false
            }
            Ok(true) => {
                self.complete(index, now, seen);
                true
            }
            Ok(false) if self.load.leave_after.is_some_and(|most| seen >= most) => {
                self.leave(index);
                false
            }
            Ok(false) => true,
        }
    }

    fn complete(&mut self, index: usize, now: u64, seen: usize) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        let due = connection.due.take().unwrap_or(now);
        self.busy -= 1;
        if seen != self.load.events {
            self.fault(Fault::Events);
        } else if self.measuring {
            self.outcome.requests += 1;
            self.outcome.latency.push(now.saturating_sub(due));
        }
        match self.load.pace {
            Pace::Closed { .. } if !self.over => self.send(index, now),
            _ => self.idle.push(index),
        }
    }

    /// The client goes away in the middle of a stream, and another one comes.
    fn leave(&mut self, index: usize) {
        self.connections[index] = None;
        self.busy -= 1;
        self.outcome.requests += u64::from(self.measuring);
        self.again();
    }

    fn lose(&mut self, index: usize, fault: Fault) {
        let Some(connection) = self.connections.get_mut(index).and_then(Option::take) else {
            return;
        };
        self.idle.retain(|it| *it != index);
        if connection.due.is_none() {
            return;
        }
        self.busy -= 1;
        self.fault(fault);
        self.again();
    }

    fn again(&mut self) {
        if matches!(self.load.pace, Pace::Closed { .. }) && !self.over {
            self.waiting.push_back(nanos());
        }
    }

    fn fault(&mut self, fault: Fault) {
        *self.outcome.errors.entry(fault).or_default() += 1;
    }

    pub(crate) fn finish(mut self) -> Outcome {
        let stuck = if self.holds() {
            self.load_missing()
        } else {
            self.busy
        };
        if stuck > 0 {
            self.outcome.errors.insert(Fault::Stuck, stuck as u64);
        }
        self.outcome
    }

    /// Streams of a held load that never got their first event.
    fn load_missing(&self) -> usize {
        let open = self
            .connections
            .iter()
            .flatten()
            .filter(|it| it.seen > 0)
            .count();
        self.opened.saturating_sub(open)
    }
}

impl Connection {
    fn flush(&mut self, request: &[u8]) -> bool {
        if self.unsent == 0 || self.due.is_none() {
            return true;
        }
        let from = request.len() - self.unsent;
        match write(&mut self.socket, &request[from..]) {
            Some(sent) => {
                self.unsent -= sent;
                true
            }
            None => false,
        }
    }
}
