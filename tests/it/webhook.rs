//! A billing system: takes usage events by HTTP and keeps them.

use std::net::SocketAddr;

use serde_json::Value;

use crate::eventually;
use crate::upstream::{Call, Upstream};

/// Receives what the gateway reports.
#[derive(Debug)]
pub(crate) struct Webhook {
    receiver: Upstream,
}

impl Webhook {
    /// Acknowledges everything.
    pub(crate) fn start() -> Self {
        Self::answering(|call| call.json(200, "{}"))
    }

    /// Answers as scripted.
    pub(crate) fn answering(handler: impl Fn(&mut Call) + Send + Sync + 'static) -> Self {
        Self {
            receiver: Upstream::start(handler),
        }
    }

    /// The `usage_hook:` block that sends to this receiver.
    pub(crate) fn yaml(&self) -> String {
        hook_yaml(self.receiver.addr())
    }

    pub(crate) fn receiver(&self) -> &Upstream {
        &self.receiver
    }

    /// Waits for this many deliveries and returns all there are, in order of arrival.
    #[track_caller]
    pub(crate) fn events(&self, count: usize) -> Vec<Value> {
        let arrived = || {
            let whole = self
                .receiver
                .requests()
                .into_iter()
                .filter(|one| one.end.is_some());
            whole
                .map(|one| serde_json::from_slice(&one.body).unwrap())
                .collect::<Vec<Value>>()
        };
        eventually("usage events arrive at the webhook", || {
            arrived().len() >= count
        });
        arrived()
    }

    /// Waits for the event of this request.
    #[track_caller]
    pub(crate) fn event(&self, request_id: &str) -> Value {
        let mut found = None;
        eventually(
            "the usage event of one request arrives at the webhook",
            || {
                let events = self.events(0);
                found = events
                    .into_iter()
                    .find(|event| event["request_id"] == request_id);
                found.is_some()
            },
        );
        found.unwrap()
    }
}

/// The `usage_hook:` block that sends to `addr`.
pub(crate) fn hook_yaml(addr: SocketAddr) -> String {
    format!(
        "usage_hook:\n  enabled: true\n  reporters:\n    \
         - {{name: billing, type: webhook, enabled: true, url: \"http://{addr}/llm-usage\", timeout: 3s}}\n"
    )
}

/// `prompt, completion, total, cached, reasoning` of a usage event.
pub(crate) fn tokens(event: &Value) -> [u64; 5] {
    [
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cached_tokens",
        "reasoning_tokens",
    ]
    .map(|key| {
        event[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key} is no count in {event}"))
    })
}
