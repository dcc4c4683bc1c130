//! What is measured.

use std::time::Duration;

use super::engine::{Answer, IN_STEP};
use super::load::Pace;

/// One load, the same for every gateway.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// What a reader of the tables is told.
    pub(crate) title: &'static str,
    /// Bytes of the request's body.
    pub(crate) prompt: usize,
    pub(crate) answer: Answer,
    pub(crate) pace: Pace,
    pub(crate) leave_after: Option<usize>,
    /// Too much for a gateway that handles a few hundred requests a second.
    pub(crate) heavy: bool,
    /// Longer than the others, because it has to get going.
    pub(crate) extra: Duration,
}

const MILLISECOND: u64 = 1_000_000;
const IDLE: Answer = Answer::Stream {
    groups: 1000,
    group: 1,
    interval: 20_000 * MILLISECOND,
};

fn whole(name: &'static str, title: &'static str, prompt: usize, body: usize) -> Scenario {
    Scenario {
        name,
        title,
        prompt,
        answer: Answer::Whole { body },
        pace: Pace::Closed { connections: 32 },
        leave_after: None,
        heavy: false,
        extra: Duration::ZERO,
    }
}

fn idle(name: &'static str, title: &'static str, streams: usize) -> Scenario {
    Scenario {
        answer: IDLE,
        pace: Pace::Hold {
            streams,
            per_second: 1000.0,
        },
        heavy: true,
        extra: Duration::from_secs_f64(streams as f64 / 1000.0 + 1.0),
        ..whole(name, title, 1024, 0)
    }
}

/// All of them, in the order of the tables.
pub(crate) fn all() -> Vec<Scenario> {
    let mut all = vec![
        whole("1k", "1 KiB requests, 32 connections", 1024, 1024),
        whole("32k", "32 KiB requests, 32 connections", 32 << 10, 1024),
        whole("300k", "300 KiB requests, 32 connections", 300 << 10, 1024),
        whole("2m", "2 MiB requests, 32 connections", 2 << 20, 1024),
        whole(
            "300k-answer",
            "1 KiB requests, 300 KiB answers, 32 connections",
            1024,
            300 << 10,
        ),
        Scenario {
            pace: Pace::Open { per_second: 1000.0 },
            heavy: true,
            ..whole("1k-open", "1 KiB requests, 1,000 a second", 1024, 1024)
        },
    ];
    all.extend(streams());
    all.extend([
        idle("idle-1000", "1,000 mostly idle streams", 1000),
        idle("idle-4000", "4,000 mostly idle streams", 4000),
        idle("idle-9000", "9,000 mostly idle streams", 9000),
    ]);
    all
}

fn streams() -> [Scenario; 4] {
    [
        Scenario {
            answer: Answer::Stream {
                groups: 100,
                group: 1,
                interval: 10 * MILLISECOND,
            },
            pace: Pace::Closed { connections: 100 },
            heavy: true,
            ..whole("paced", "100 streams of 100 events a second each", 1024, 0)
        },
        Scenario {
            answer: Answer::Stream {
                groups: 20,
                group: 64,
                interval: 20 * MILLISECOND,
            },
            pace: Pace::Closed { connections: 32 },
            heavy: true,
            ..whole(
                "burst",
                "32 streams of 64 events at once, 50 times a second",
                1024,
                0,
            )
        },
        Scenario {
            answer: Answer::Stream {
                groups: 4,
                group: 1,
                interval: 5 * MILLISECOND,
            },
            pace: Pace::Open { per_second: 200.0 },
            heavy: true,
            ..whole("ttft", "short streams, 200 a second", 1024, 0)
        },
        Scenario {
            answer: Answer::Stream {
                groups: 100,
                group: 1,
                interval: 5 * MILLISECOND,
            },
            pace: Pace::Closed { connections: 64 },
            leave_after: Some(10),
            heavy: true,
            ..whole("aborts", "64 clients that leave after 10 events", 1024, 0)
        },
    ]
}

/// What scripts/check-instructions.sh counts: requests one after the other, and streams whose events come one by one.
pub(crate) fn counted(name: &str, requests: usize) -> Option<Scenario> {
    let answer = match name {
        "request" => Answer::Whole { body: 1024 },
        "stream" => Answer::Stream {
            groups: 200,
            group: 1,
            interval: IN_STEP,
        },
        _ => return None,
    };
    Some(Scenario {
        answer,
        pace: Pace::Count { requests },
        ..whole("counted", "counted", 1024, 1024)
    })
}

/// Whether a gateway handles a few hundred requests a second at best.
pub(crate) fn is_slow(peer: &str) -> bool {
    matches!(peer, "litellm" | "portkey")
}

impl Scenario {
    /// Whether streams are opened and kept.
    pub(crate) fn holds(&self) -> bool {
        matches!(self.pace, Pace::Hold { .. })
    }

    /// Whether the answer is a stream.
    pub(crate) fn streams(&self) -> bool {
        self.events() > 0
    }

    /// Events of one answer.
    pub(crate) fn events(&self) -> usize {
        match self.answer {
            Answer::Whole { .. } => 0,
            Answer::Stream { groups, group, .. } => groups * group,
        }
    }

    /// The request, with the head a client would send.
    pub(crate) fn request(&self, headers: &str) -> Vec<u8> {
        let stream = if self.streams() {
            ",\"stream\":true"
        } else {
            ""
        };
        let start = "{\"messages\":[{\"role\":\"user\",\"content\":\"";
        let end =
            format!("\"}}],\"model\":\"bench\",\"max_tokens\":64,\"temperature\":0.7{stream}}}");
        let text = "Tell me, at some length, what a gateway costs. ";
        let room = self.prompt.saturating_sub(start.len() + end.len());
        let filler: String = text.chars().cycle().take(room).collect();
        let body = format!("{start}{filler}{end}");
        format!(
            "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway.example.com\r\naccept: application/json\r\naccept-encoding: identity\r\nuser-agent: bench/1\r\nauthorization: Bearer sk-bench-0123456789abcdef\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}
