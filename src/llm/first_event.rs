//! Judges the first event of a stream before the client sees any of it.

use super::document::Document;
use super::endpoint::{Dialect, Endpoint};
use super::error_status;
use super::sse::{Piece, Splitter};
use super::tee::Name;

/// How much of an event is read before it is taken for good.
const PEEK: usize = 4096;

/// What a stream's beginning is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing but comments yet, or half an event.
    Undecided,
    /// An event that is no error.
    Good,
    /// An error that came as a `200`.
    Error {
        /// What the status should have been.
        status: u16,
    },
}

/// Reads a stream from its beginning up to a [`Verdict`].
#[derive(Debug, Clone)]
pub struct FirstEvent {
    splitter: Splitter,
    document: Document,
    name: Name,
    /// Bytes of the event's data.
    read: usize,
    /// The body is a bare JSON document, whatever its content type says.
    bare: bool,
    begun: bool,
    /// Events called `ping` are keep-alives.
    pings: bool,
    verdict: Verdict,
}

impl FirstEvent {
    /// Begins to read a stream of `endpoint`.
    #[must_use]
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            splitter: Splitter::new(),
            document: Document::new(),
            name: Name::default(),
            read: 0,
            bare: false,
            begun: false,
            pings: endpoint.dialect() == Dialect::Anthropic,
            verdict: Verdict::Undecided,
        }
    }

    /// Reads the next bytes; the first verdict stays.
    pub fn push(&mut self, chunk: &[u8]) -> Verdict {
        if self.verdict != Verdict::Undecided {
            return self.verdict;
        }
        if !self.begun
            && let Some(first) = chunk.trim_ascii_start().first()
        {
            self.begun = true;
            self.bare = *first == b'{';
        }
        if self.bare {
            self.data(chunk);
        } else {
            self.read(chunk);
        }
        self.verdict
    }

    fn read(&mut self, chunk: &[u8]) {
        let mut at = 0;
        while self.verdict == Verdict::Undecided {
            let Some(piece) = self.splitter.next(chunk, &mut at) else {
                return;
            };
            match piece {
                Piece::Data(bytes) => self.data(bytes),
                Piece::Name(bytes) => self.name.push(bytes),
                Piece::End { data } => {
                    if data && !self.is_ping() {
                        self.decide();
                    }
                    self.name = Name::default();
                    self.document.restart(false);
                    self.read = 0;
                }
            }
        }
    }

    fn data(&mut self, bytes: &[u8]) {
        let room = bytes.len().min(PEEK - self.read);
        self.read += room;
        self.document.push(&bytes[..room]);
        // The blank line may come much later, or never if the stream breaks.
        if !self.is_ping() && (self.document.over() || self.read == PEEK) {
            self.decide();
        }
    }

    fn is_ping(&self) -> bool {
        self.pings && self.name.is(b"ping")
    }

    fn decide(&mut self) {
        let status = error_status::status(self.document.facts(), self.name.is(b"error"));
        self.verdict = status.map_or(Verdict::Good, |status| Verdict::Error { status });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdict on `stream`, which must not depend on how it is cut.
    fn verdict(stream: &str) -> Verdict {
        let whole = FirstEvent::new(Endpoint::ChatCompletions).push(stream.as_bytes());
        for size in [1, 2, 3, 7] {
            let mut first = FirstEvent::new(Endpoint::ChatCompletions);
            let mut last = Verdict::Undecided;
            for chunk in stream.as_bytes().chunks(size) {
                last = first.push(chunk);
            }
            assert_eq!(last, whole, "chunks of {size}: {stream}");
        }
        whole
    }

    #[test]
    fn comments_and_half_events_decide_nothing() {
        for stream in [
            "",
            ": keep-alive\n\n:\n\n",
            "data: {\"error\":",
            "event: error\n",
            "\n\n",
        ] {
            assert_eq!(verdict(stream), Verdict::Undecided, "{stream}");
        }
    }

    #[test]
    fn ordinary_events_are_good() {
        for stream in [
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\"}}]}\n\n",
            ": hi\n\ndata: [DONE]\n\n",
            "event: response.created\ndata: {\"response\":{\"error\":null}}\n\n",
            "data:{\"index\":1,\"token\":{\"text\":\"error\"}}\n\ndata: {\"error\":\"late\"}\n\n",
        ] {
            assert_eq!(verdict(stream), Verdict::Good, "{stream}");
        }
    }

    #[test]
    fn errors_have_the_status_they_mean() {
        for (stream, status) in [
            (
                ":\n\ndata: {\"error\":{\"message\":\"x\",\"code\":500}}\n\ndata: [DONE]\n\n",
                500,
            ),
            (
                "data: {\"error\":\"Model is overloaded\",\"error_type\":\"overloaded\"}\n\n",
                429,
            ),
            (
                "event: error\r\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\r\n\r\n",
                529,
            ),
            ("event: error\ndata: {}\n\n", 500),
            ("{\"error\":{\"message\":\"x\",\"code\":503}}", 503),
            (
                "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"error\"}]}\n\n",
                503,
            ),
        ] {
            assert_eq!(verdict(stream), Verdict::Error { status }, "{stream}");
        }
    }

    #[test]
    fn anthropics_pings_decide_nothing() {
        let mut first = FirstEvent::new(Endpoint::Messages);
        assert_eq!(
            first.push(b"event: ping\ndata: {\"type\": \"ping\"}\n\n"),
            Verdict::Undecided
        );
        assert_eq!(
            first.push(b"event: error\ndata: {}\n\n"),
            Verdict::Error { status: 500 }
        );
    }

    #[test]
    fn an_error_needs_no_blank_line() {
        assert_eq!(
            verdict("data: {\"error\":{\"code\":503}}"),
            Verdict::Error { status: 503 }
        );
    }

    #[test]
    fn a_long_first_event_is_judged_by_its_beginning() {
        let text = "x".repeat(PEEK);
        assert_eq!(
            verdict(&format!("data: {{\"text\":\"{text}")),
            Verdict::Good
        );
        let error = format!("data: {{\"error\":{{\"code\":503,\"message\":\"{text}");
        assert_eq!(verdict(&error), Verdict::Error { status: 503 });
    }
}
