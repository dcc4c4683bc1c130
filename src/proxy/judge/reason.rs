//! Why an attempt failed, and what that means for the next one.

use crate::balance;

/// Why an attempt failed; also the `reason` label of retries and fallbacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::proxy) enum Reason {
    Connect,
    ConnectTimeout,
    Reset,
    FirstByteTimeout,
    Malformed,
    TooManyRequests,
    /// Likewise, to a client that showed a key of its own: it may be used up.
    ClientsLimit,
    ServerError(u16),
    TryAgain,
    ErrorEvent(u16),
    Empty,
    /// It is said not to know a model.
    ModelNotFound,
    /// It is said not to know the one that was asked for.
    UnknownModel,
    /// A status the operator listed.
    Status(u16),
    /// Our own credential is refused.
    Credential(u16),
    /// A text the operator listed.
    Pattern,
    /// Likewise, but the request has it too: it may be an echo.
    Echo,
}

impl Reason {
    pub(in crate::proxy) fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::ConnectTimeout => "connect_timeout",
            Self::Reset => "reset",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::Malformed => "malformed",
            Self::TooManyRequests | Self::ClientsLimit => "status_429",
            Self::ServerError(_) => "status_5xx",
            Self::TryAgain => "status_408",
            Self::ErrorEvent(_) => "error_event",
            Self::Empty => "empty",
            Self::ModelNotFound | Self::UnknownModel => "model_not_found",
            Self::Status(_) => "status_4xx",
            Self::Credential(_) => "credential",
            Self::Pattern | Self::Echo => "pattern",
        }
    }

    /// What the balancer is told; `None` when the backend is not to blame.
    pub(in crate::proxy) fn blame(self) -> Option<balance::Failure> {
        match self {
            Self::Connect | Self::ConnectTimeout => Some(balance::Failure::Connect),
            Self::Reset | Self::Malformed | Self::Empty => Some(balance::Failure::Broken),
            Self::FirstByteTimeout => Some(balance::Failure::Timeout),
            Self::ServerError(_) | Self::ErrorEvent(_) => Some(balance::Failure::Status),
            // The backend is there and answers; what it has to rest from is told to the route.
            Self::TooManyRequests
            | Self::TryAgain
            | Self::ModelNotFound
            | Self::UnknownModel
            | Self::ClientsLimit
            | Self::Status(_)
            | Self::Credential(_)
            | Self::Pattern
            | Self::Echo => None,
        }
    }

    /// Whether the backend cannot have acted on the request.
    pub(in crate::proxy) fn nothing_was_sent(self) -> bool {
        matches!(self, Self::Connect | Self::ConnectTimeout)
    }

    /// Further attempts this reason is good for: a request that breaks one engine (500) should not
    /// visit them all.
    pub(in crate::proxy) fn most_retries(self) -> u32 {
        match self {
            Self::TryAgain => 1,
            _ if self.may_be_the_requests() => 1,
            _ => u32::MAX,
        }
    }

    /// Whether the request itself may be what the backend stumbled over.
    pub(in crate::proxy) fn may_be_the_requests(self) -> bool {
        matches!(self, Self::ServerError(500) | Self::ErrorEvent(500))
    }

    /// Whether it may have to do with the request, so that the backend is to blame only if another one
    /// can serve it: a prompt may be too much for an engine, or kill it.
    pub(in crate::proxy) fn needs_proof(self) -> bool {
        let strange = matches!(
            self,
            Self::Reset
                | Self::Empty
                | Self::Malformed
                | Self::FirstByteTimeout
                | Self::UnknownModel
        );
        strange || self.may_be_the_requests()
    }

    /// Whether an answer that says so is one the caller should see, whatever others say after it.
    pub(in crate::proxy) fn is_callers(self) -> bool {
        matches!(self, Self::Status(_) | Self::Echo)
    }

    /// Whether trying the same backend again is pointless.
    pub(in crate::proxy) fn elsewhere_only(self) -> bool {
        matches!(
            self,
            Self::TooManyRequests
                | Self::ModelNotFound
                | Self::UnknownModel
                | Self::ClientsLimit
                | Self::Status(_)
                | Self::Credential(_)
                | Self::Pattern
                | Self::Echo
        )
    }
}
