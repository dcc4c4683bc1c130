//! What scripts answer.

use redis::Value;

use crate::db::redis::RedisFault;
use crate::limit::types::{Amount, Reserved, State, StoreError};

/// An answer, read from its beginning to its end.
pub(super) struct Reply {
    values: std::vec::IntoIter<Value>,
    place: String,
}

/// What was found under a key that is not ours, or not any more.
struct Bad {
    /// Of a check, by its number.
    check: Option<usize>,
    role: String,
    cause: String,
}

/// What was decided about a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Admitted,
    Limited,
    Held,
    Exhausted,
}

/// Which limit is in the way.
pub(super) struct Obstacle {
    /// From 1 on; 0: none.
    pub(super) check: usize,
    /// Whether it is tokens that are too many.
    pub(super) of_tokens: bool,
    /// Milliseconds; `None`: for ever.
    pub(super) wait: Option<u64>,
}

// === impl Reply ===

impl Reply {
    /// Reads the head of an answer from `place`. `role` names what stands under the key of a check.
    pub(super) fn of(
        answer: Result<Value, RedisFault>,
        place: &str,
        role: impl Fn(usize) -> String,
    ) -> Result<Self, StoreError> {
        let values = match answer.map_err(|fault| trouble(&fault))? {
            Value::Array(values) => values,
            _ => Vec::new(),
        };
        let mut reply = Self {
            values: values.into_iter(),
            place: place.to_owned(),
        };
        // Every other word is read by whoever asked.
        let word = reply.values.as_slice().first();
        if !matches!(word, Some(Value::BulkString(word)) if word == b"bad") {
            return Ok(reply);
        }
        let bad = reply.bad()?;
        let role = bad.check.map_or_else(|| described(&bad.role), role);
        let cause = bad.cause;
        Err(StoreError::Broken(format!(
            "redis {place}: {role}: found {cause}; delete that key if it is not ours"
        )))
    }

    fn bad(&mut self) -> Result<Bad, StoreError> {
        let _bad = self.text()?;
        let (check, role) = match self.values.next() {
            Some(Value::Int(check)) => (usize::try_from(check).ok(), String::new()),
            Some(Value::BulkString(role)) => (None, String::from_utf8_lossy(&role).into_owned()),
            _ => return Err(self.nonsense()),
        };
        let cause = self.text()?;
        Ok(Bad { check, role, cause })
    }

    /// Reads that it was done.
    pub(super) fn done(&mut self) -> Result<(), StoreError> {
        match self.verdict()? {
            Verdict::Admitted => Ok(()),
            Verdict::Limited | Verdict::Held | Verdict::Exhausted => Err(self.nonsense()),
        }
    }

    pub(super) fn verdict(&mut self) -> Result<Verdict, StoreError> {
        match self.text()?.as_str() {
            "ok" => Ok(Verdict::Admitted),
            "limited" => Ok(Verdict::Limited),
            "held" => Ok(Verdict::Held),
            "exhausted" => Ok(Verdict::Exhausted),
            _ => Err(self.nonsense()),
        }
    }

    pub(super) fn obstacle(&mut self) -> Result<Obstacle, StoreError> {
        Ok(Obstacle {
            check: usize::try_from(self.count()?).map_err(|_too_large| self.nonsense())?,
            of_tokens: self.text()? == "k",
            wait: u64::try_from(self.number()?).ok(),
        })
    }

    pub(super) fn state(&mut self) -> Result<State, StoreError> {
        Ok(State {
            used: self.amount()?,
            reserved: self.amount()?,
            running: self.count()?,
        })
    }

    pub(super) fn amount(&mut self) -> Result<Amount, StoreError> {
        Ok(Amount {
            tokens: self.count()?,
            nanos: self.count()?,
        })
    }

    pub(super) fn count(&mut self) -> Result<u64, StoreError> {
        u64::try_from(self.number()?).map_err(|_negative| self.nonsense())
    }

    pub(super) fn number(&mut self) -> Result<i64, StoreError> {
        let number = match self.values.next() {
            Some(Value::Int(number)) => Some(number),
            Some(Value::BulkString(text)) => std::str::from_utf8(&text)
                .ok()
                .and_then(|text| text.parse().ok()),
            _ => None,
        };
        number.ok_or_else(|| self.nonsense())
    }

    pub(super) fn is_over(&self) -> bool {
        self.values.as_slice().is_empty()
    }

    fn text(&mut self) -> Result<String, StoreError> {
        match self.values.next() {
            Some(Value::BulkString(text)) => Ok(String::from_utf8_lossy(&text).into_owned()),
            _ => Err(self.nonsense()),
        }
    }

    pub(super) fn nonsense(&self) -> StoreError {
        StoreError::Broken(format!(
            "redis {}: a script's answer is not what it answers",
            self.place
        ))
    }
}

// === impl Verdict ===

impl Verdict {
    /// What it means for a reservation; `None`: nothing.
    pub(super) fn reserved(self, left: State) -> Option<Reserved> {
        match self {
            Self::Admitted => Some(Reserved::Granted { left }),
            Self::Held => Some(Reserved::Held { left }),
            Self::Exhausted => Some(Reserved::Exhausted { left }),
            Self::Limited => None,
        }
    }
}

/// Says what the scripts call so, and under which keys it is found.
fn described(role: &str) -> String {
    let key = match role {
        "record" => "rl:r:…",
        "running requests" => "rl:c:…",
        "account" => "q:a:…",
        "reservations" => "q:r:…",
        "leases" => "q:l:…",
        "notes" => "q:x:…",
        "times of notes" => "q:y:…",
        _ => return role.to_owned(),
    };
    format!("{role} ({key})")
}

/// Whether nobody gets an answer or only who asked this.
fn trouble(fault: &RedisFault) -> StoreError {
    let text = fault.to_string();
    match fault {
        RedisFault::Away(_) => StoreError::Away(text),
        RedisFault::Odd(_) => StoreError::Broken(text),
        // A script that stumbled says ERR. All else (LOADING, OOM, READONLY, NOPERM, …) is about the server.
        RedisFault::Refused { code, .. } if code == "ERR" => StoreError::Broken(text),
        RedisFault::Refused { .. } => StoreError::Away(text),
    }
}
