//! What one request knows of itself, from its head to its log line.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::bill::Bill;
use super::hooks::Seen;
use super::opaque::OpaqueCall;
use crate::auth::Principal;
use crate::ledger::Outcome;
use crate::limit::Permit;
use crate::llm::{self, Estimate, Summary};
use crate::metrics::PathLabel;
use crate::route::Group;
use crate::runtime::Runtime;
use crate::runtime::lifecycle::Running;
use crate::upstream::Upstream;

/// One request. The parts come into being whole: `asked` when the head has been looked at,
/// `access` when it has been admitted, `served` as the answer takes shape, `bill` when the ledger has
/// opened it.
pub struct Ctx {
    pub(super) id: String,
    /// What was configured when it began; it holds to its end.
    pub(super) runtime: Arc<Runtime>,
    pub(super) started: Instant,
    pub(super) asked: Asked,
    pub(super) served: Served,
    pub(super) access: Access,
    pub(super) bill: Bill,
    /// What scripts are shown of it.
    pub(super) seen: Option<Box<Seen>>,
    /// On the heap: most requests are model calls, and copied once.
    pub(super) opaque: Option<Box<OpaqueCall>>,
    _running: Running,
}

/// Who asks, and what was granted.
pub(super) struct Access {
    /// The client's address, behind proxies that are trusted.
    pub(super) client: Option<IpAddr>,
    /// The owner of the key; `None` where nobody needs to be known.
    pub(super) principal: Option<Arc<Principal>>,
    /// What it holds of limits and quotas until it is dropped.
    pub(super) permit: Option<Permit>,
    /// Names the request in the ledger and in the quota's store.
    pub(super) event_id: String,
}

/// What the client wants.
pub(super) struct Asked {
    pub(super) path: PathLabel,
    /// Where it was asked for.
    pub(super) group: Group,
    /// The length of that group's prefix of the path, which backends do not see.
    pub(super) prefix: usize,
    pub(super) stream: bool,
    pub(super) model: Option<String>,
    pub(super) prompt_bytes: u64,
    /// Tokens it can be at most, if the request says how long its answer may be.
    pub(super) most: Option<Estimate>,
    /// Whether the engine reads more than these: a conversation it remembers.
    pub(super) remembered: bool,
    /// The key the client presented, where nobody authenticates it; hashed or masked wherever it is
    /// shown.
    pub(super) key: Option<String>,
}

/// What it got.
pub(super) struct Served {
    /// The backend of the last attempt.
    pub(super) upstream: Option<Arc<Upstream>>,
    /// The status sent to the client; 0 when it left before one could be sent.
    pub(super) status: u16,
    pub(super) attempts: u32,
    /// From the request's head to the first byte of the answer's body.
    pub(super) first_byte: Option<Duration>,
    /// How it ended.
    pub(super) outcome: Outcome,
    /// What the tee saw.
    pub(super) summary: Option<Summary>,
    /// Whether a backend was sent the request, so that it may have worked on it.
    pub(super) sent: bool,
    /// Whether the answer, though a 200, only told of a failure.
    pub(super) failed: bool,
    /// The usage that was asked for by us, to be hidden again from who did not ask.
    pub(super) asked: llm::Asked,
    /// Time spent waiting for the client's body.
    pub(super) waited: Duration,
    /// The gateway's own time so far.
    pub(super) own_time: Duration,
}

impl Ctx {
    pub(super) fn new(runtime: Arc<Runtime>, running: Running) -> Self {
        Self {
            id: String::new(),
            runtime,
            started: Instant::now(),
            asked: Asked {
                path: PathLabel::Other,
                group: Group::ROOT,
                prefix: 0,
                stream: false,
                model: None,
                prompt_bytes: 0,
                most: None,
                remembered: false,
                key: None,
            },
            served: Served {
                upstream: None,
                status: 0,
                attempts: 0,
                first_byte: None,
                outcome: Outcome::Completed,
                summary: None,
                sent: false,
                failed: false,
                asked: llm::Asked::Nothing,
                waited: Duration::ZERO,
                own_time: Duration::ZERO,
            },
            access: Access {
                client: None,
                principal: None,
                permit: None,
                event_id: String::new(),
            },
            bill: Bill::Unopened,
            seen: None,
            opaque: None,
            _running: running,
        }
    }

    /// The status as told: nginx's 499 for a client that left before it could be answered.
    pub(super) fn status(&self) -> u16 {
        match self.served.status {
            0 => 499,
            status => status,
        }
    }
}
