//! Why a connection to a client is given up.

use crate::ledger::Outcome;

/// The connection to the client must be given up, without a proper end of the response.
#[derive(Debug)]
pub(in crate::proxy) struct Aborted {
    /// How the request ended.
    pub(in crate::proxy) outcome: Outcome,
    /// `phase` of `llmproxy_client_aborts_total`.
    pub(in crate::proxy) phase: &'static str,
    /// What a streaming client is told.
    pub(super) message: &'static str,
    /// Whether the backend is to blame.
    pub(super) blame: bool,
}

/// What a client is told of a backend that failed it.
const BROKE_OFF: &str = "the backend broke off in the middle of its answer";

impl Aborted {
    pub(in crate::proxy) fn by_client(phase: &'static str) -> Self {
        Self {
            outcome: Outcome::ClientAborted,
            phase,
            message: BROKE_OFF,
            blame: false,
        }
    }

    pub(super) fn by_upstream() -> Self {
        Self {
            outcome: Outcome::UpstreamFailed,
            phase: "response",
            message: BROKE_OFF,
            blame: true,
        }
    }

    /// `timeouts.total` is over: our own limit, not the backend's fault.
    pub(super) fn by_time() -> Self {
        Self {
            message: "the answer took longer than timeouts.total allows",
            blame: false,
            ..Self::by_upstream()
        }
    }

    /// The gateway itself goes away.
    pub(in crate::proxy) fn interrupted() -> Self {
        Self {
            outcome: Outcome::Interrupted,
            message: "the gateway is shutting down",
            blame: false,
            ..Self::by_upstream()
        }
    }

    /// Something that cannot happen with a request Pingora has accepted.
    pub(in crate::proxy) fn internal(error: &pingora::Error) -> Self {
        log::error!(error:% = error; "cannot build the upstream request");
        Self {
            phase: "request",
            blame: false,
            ..Self::by_upstream()
        }
    }
}
