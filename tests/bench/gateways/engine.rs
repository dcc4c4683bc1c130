//! A mock engine that costs next to nothing: every answer is made before the run, and only the time is
//! put into events when they are sent.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;

use anyhow::{Context, Result};
use mio::net::{TcpListener, TcpStream};
use mio::{Interest, Registry, Token};

use super::clock::nanos;
use super::wire::{Messages, STAMP};

/// What the engine answers to a model call.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// All at once; the length of the body in bytes.
    Whole { body: usize },
    /// `groups` times `group` events, one group each `interval` nanoseconds, the first at once; with
    /// [`IN_STEP`] each when the client has read the one before.
    Stream {
        groups: usize,
        group: usize,
        interval: u64,
    },
}

/// An interval that is no time.
pub(crate) const IN_STEP: u64 = u64::MAX;

const HEAD: &str = "HTTP/1.1 200 OK\r\ndate: Sat, 21 Nov 2026 12:00:00 GMT\r\nserver: uvicorn\r\n";

/// An answer in bytes.
struct Prepared {
    head: Vec<u8>,
    /// One group of events, as the chunks vLLM would send.
    group: Vec<u8>,
    /// Where times stand in it.
    stamps: Vec<usize>,
    tail: Vec<u8>,
    groups: usize,
    interval: u64,
}

fn chunk(into: &mut Vec<u8>, data: &str) {
    into.extend_from_slice(format!("{:x}\r\n{data}\r\n", data.len()).as_bytes());
}

fn event(choices: &str, usage: &str) -> String {
    format!(
        "data: {{\"id\":\"chatcmpl-5f0a1b2c3d4e5f60718293a4b5c6d7e8\",\"object\":\"chat.completion.chunk\",\"created\":1763726400,\"model\":\"bench\",\"choices\":[{choices}]{usage}}}\n\n"
    )
}

impl Prepared {
    fn new(answer: &Answer) -> Self {
        match answer {
            Answer::Whole { body } => Self::whole(*body),
            Answer::Stream {
                groups,
                group,
                interval,
            } => Self::stream(*groups, *group, *interval),
        }
    }

    fn whole(length: usize) -> Self {
        let start = "{\"id\":\"chatcmpl-5f0a1b2c3d4e5f60718293a4b5c6d7e8\",\"object\":\"chat.completion\",\"created\":1763726400,\"model\":\"bench\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"";
        let end = "\",\"refusal\":null,\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":200,\"total_tokens\":264,\"completion_tokens\":64,\"prompt_tokens_details\":null}}";
        let text = "All work and no play makes a dull benchmark. ";
        let filler: String = text
            .chars()
            .cycle()
            .take(length.saturating_sub(start.len() + end.len()))
            .collect();
        let body = format!("{start}{filler}{end}");
        let head = format!(
            "{HEAD}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            head: head.into_bytes(),
            group: Vec::new(),
            stamps: Vec::new(),
            tail: Vec::new(),
            groups: 0,
            interval: 0,
        }
    }

    fn stream(groups: usize, count: usize, interval: u64) -> Self {
        let head = format!(
            "{HEAD}content-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let token = event(
            "{\"index\":0,\"delta\":{\"content\":\" @t=0000000000000000\"},\"logprobs\":null,\"finish_reason\":null}",
            "",
        );
        let (mut group, mut stamps) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let from = group.len();
            chunk(&mut group, &token);
            stamps.extend(
                memchr::memmem::find(&group[from..], STAMP).map(|at| from + at + STAMP.len()),
            );
        }
        let mut tail = Vec::new();
        let stop = "{\"index\":0,\"delta\":{\"content\":\"\"},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}";
        chunk(&mut tail, &event(stop, ""));
        let tokens = groups * count;
        let usage = format!(
            ",\"usage\":{{\"prompt_tokens\":200,\"total_tokens\":{},\"completion_tokens\":{tokens}}}",
            200 + tokens
        );
        chunk(&mut tail, &event("", &usage));
        chunk(&mut tail, "data: [DONE]\n\n");
        tail.extend_from_slice(b"0\r\n\r\n");
        Self {
            head: head.into_bytes(),
            group,
            stamps,
            tail,
            groups,
            interval,
        }
    }

    /// A group of events that says it is sent now.
    fn stamped(&mut self) -> &[u8] {
        let digits = format!("{:016x}", nanos());
        for at in &self.stamps {
            self.group[*at..*at + digits.len()].copy_from_slice(digits.as_bytes());
        }
        &self.group
    }
}

struct Connection {
    socket: TcpStream,
    requests: Messages,
    /// What the socket did not take yet.
    unsent: Vec<u8>,
    /// Groups of events still to send.
    left: usize,
    model_call: bool,
}

/// The engine's half of the loop.
pub(crate) struct Engine {
    listener: TcpListener,
    pub(crate) address: SocketAddr,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    due: BinaryHeap<Reverse<(u64, usize)>>,
    /// The connection whose client is to read before more is sent.
    in_step: Option<usize>,
    answer: Prepared,
    buffer: Vec<u8>,
    /// Model calls answered, or begun to be.
    pub(crate) requests: u64,
    /// Streams whose reader went away before the end.
    pub(crate) abandoned: u64,
}

/// The listener's number among the engine's tokens, which are even.
const LISTENER: usize = usize::MAX / 4;

fn token(index: usize) -> Token {
    Token(index * 2)
}

impl Engine {
    /// # Errors
    /// When no port can be listened on.
    pub(crate) fn new(registry: &Registry) -> Result<Self> {
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).context("mock engine")?;
        registry.register(&mut listener, token(LISTENER), Interest::READABLE)?;
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            connections: Vec::new(),
            free: Vec::new(),
            due: BinaryHeap::new(),
            in_step: None,
            answer: Prepared::new(&Answer::Whole { body: 1024 }),
            buffer: vec![0; 256 * 1024],
            requests: 0,
            abandoned: 0,
        })
    }

    /// What model calls are answered from now on.
    pub(crate) fn answer(&mut self, answer: &Answer) {
        self.answer = Prepared::new(answer);
    }

    /// Sends the events whose time has come.
    pub(crate) fn tick(&mut self, now: u64) {
        while let Some(Reverse((at, index))) = self.due.peek().copied() {
            if at > now {
                return;
            }
            self.due.pop();
            self.group(index, at);
        }
    }

    /// The client has read what was sent.
    pub(crate) fn go_on(&mut self) {
        if let Some(index) = self.in_step.take() {
            self.group(index, nanos());
        }
    }

    fn group(&mut self, index: usize, at: u64) {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return;
        };
        if connection.left == 0 {
            return;
        }
        connection.left -= 1;
        let group = self.answer.stamped();
        let mut alive = connection.send(group);
        if connection.left == 0 {
            alive = alive && connection.send(&self.answer.tail);
        } else if self.answer.interval == IN_STEP {
            self.in_step = Some(index);
        } else {
            self.due.push(Reverse((at + self.answer.interval, index)));
        }
        if !alive {
            self.close(index);
        }
    }

    /// Handles what happened to one of the engine's sockets.
    pub(crate) fn ready(&mut self, registry: &Registry, token: Token, writable: bool) {
        let index = token.0 / 2;
        if index == LISTENER {
            self.accept(registry);
            return;
        }
        if let Some(Some(connection)) = self.connections.get_mut(index)
            && writable
            && !connection.flush()
        {
            self.close(index);
            return;
        }
        if !self.read(index) {
            self.close(index);
        }
    }

    fn accept(&mut self, registry: &Registry) {
        while let Ok((mut socket, _)) = self.listener.accept() {
            let index = self.free.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            let both = Interest::READABLE | Interest::WRITABLE;
            if registry.register(&mut socket, token(index), both).is_err() {
                self.free.push(index);
                continue;
            }
            // Like every engine: an event is not to wait for the next one.
            drop(socket.set_nodelay(true));
            self.connections[index] = Some(Connection {
                socket,
                requests: Messages::default(),
                unsent: Vec::new(),
                left: 0,
                model_call: false,
            });
        }
    }

    /// Whether the connection is still there.
    fn read(&mut self, index: usize) -> bool {
        loop {
            let Some(Some(connection)) = self.connections.get_mut(index) else {
                return true;
            };
            let count = match connection.socket.read(&mut self.buffer) {
                Ok(0) => return false,
                Ok(count) => count,
                Err(error) => return error.kind() == ErrorKind::WouldBlock,
            };
            let bytes = &self.buffer[..count];
            if !connection.requests.inside() {
                connection.model_call = bytes.starts_with(b"POST /v1/chat");
            }
            let Ok(complete) = connection.requests.feed(bytes, |_| ()) else {
                return false;
            };
            if complete && !self.reply(index) {
                return false;
            }
            if count < self.buffer.len() {
                return true;
            }
        }
    }

    fn reply(&mut self, index: usize) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(index) else {
            return true;
        };
        if !connection.model_call {
            // Health checks, lists of models, usage webhooks.
            let body = "{\"status\":\"ok\",\"object\":\"list\",\"data\":[{\"id\":\"bench\",\"object\":\"model\",\"owned_by\":\"bench\"}]}";
            return connection.send(
                format!(
                    "{HEAD}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                )
                .as_bytes(),
            );
        }
        self.requests += 1;
        let alive = connection.send(&self.answer.head);
        connection.left = self.answer.groups;
        if connection.left > 0 && alive {
            self.group(index, nanos());
        }
        alive
    }

    fn close(&mut self, index: usize) {
        if let Some(connection) = self.connections.get_mut(index).and_then(Option::take) {
            self.abandoned += u64::from(connection.left > 0);
            self.free.push(index);
        }
        self.due.retain(|Reverse((_, it))| *it != index);
    }
}

impl Connection {
    /// Sends, or keeps what the socket does not take. Whether the connection is still there.
    fn send(&mut self, bytes: &[u8]) -> bool {
        if !self.unsent.is_empty() {
            self.unsent.extend_from_slice(bytes);
            return true;
        }
        match write(&mut self.socket, bytes) {
            Some(sent) => {
                self.unsent.extend_from_slice(&bytes[sent..]);
                true
            }
            None => false,
        }
    }

    fn flush(&mut self) -> bool {
        if self.unsent.is_empty() {
            return true;
        }
        match write(&mut self.socket, &self.unsent) {
            Some(sent) => {
                self.unsent.drain(..sent);
                true
            }
            None => false,
        }
    }
}

/// Writes until the socket takes no more; how much it took, or `None` when it is gone.
pub(crate) fn write(socket: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match socket.write(&bytes[sent..]) {
            Ok(0) => return None,
            Ok(count) => sent += count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => (),
            Err(_) => return None,
        }
    }
    Some(sent)
}
