//! What one receiver may see of a usage event.
//!
//! The ledger holds the client's key and the request's body when any reporter wants them. Everything
//! that leaves the process goes through [`view`], so that only those reporters get them.

use std::borrow::Cow;

use serde::Serialize;

use crate::ledger::{Shown, UsageEvent};

/// The parts of an event that are secret and left out unless asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Includes {
    /// `api_key` is the key itself instead of its masked form, where the ledger knows it.
    pub key: bool,
    /// `request_body` is there, where the ledger knows it.
    pub body: bool,
}

/// A usage event as one receiver gets it: serializes to the event's flat JSON object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub(crate) struct View<'a>(Cow<'a, UsageEvent>);

/// Returns `event` with what `includes` allows. `raw_key` is never among it: it becomes `api_key`; nor is
/// `quota`, the ledger's own note.
pub(crate) fn view(event: &UsageEvent, includes: Includes) -> View<'_> {
    let hides_body = event.request_body.is_some() && !includes.body;
    if event.raw_key.is_none() && event.quota.is_none() && !hides_body {
        return View(Cow::Borrowed(event));
    }
    let mut shown = event.clone();
    shown.quota = None;
    if let Some(key) = shown.raw_key.take().filter(|_| includes.key) {
        shown.api_key = key;
    }
    if hides_body {
        shown.request_body = None;
    }
    View(Cow::Owned(shown))
}

/// Appends the JSON of [`view`] to `out`.
pub(crate) fn write(event: &UsageEvent, includes: Includes, out: &mut Vec<u8>) {
    let raw_key = event.raw_key.as_deref().filter(|_| includes.key);
    let request_body = event.request_body.as_deref();
    let shown = Shown {
        api_key: raw_key.unwrap_or(&event.api_key),
        raw_key: None,
        quota: None,
        request_body: request_body.filter(|_| includes.body),
    };
    event.write_shown(shown, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Includes = Includes {
        key: false,
        body: false,
    };

    fn stored() -> UsageEvent {
        UsageEvent {
            api_key: "sk-…1234".into(),
            raw_key: Some("sk-llmproxy-dev-1234".into()),
            quota: Some("key_1@2026-11".into()),
            request_body: Some("{\"prompt\":\"secret\"}".into()),
            ..UsageEvent::default()
        }
    }

    fn json(event: &UsageEvent, includes: Includes) -> serde_json::Value {
        serde_json::to_value(view(event, includes)).unwrap()
    }

    #[test]
    fn what_is_written_is_what_is_viewed() {
        let bare = UsageEvent::default();
        for includes in [(false, false), (false, true), (true, false), (true, true)] {
            let (key, body) = includes;
            for event in [&stored(), &bare] {
                let includes = Includes { key, body };
                let mut written = Vec::new();
                write(event, includes, &mut written);
                let viewed = serde_json::to_vec(&view(event, includes)).unwrap();
                assert_eq!(written, viewed, "{includes:?}");
            }
        }
    }

    #[test]
    fn neither_key_nor_body_is_shown_unless_asked_for() {
        let shown = json(&stored(), NOTHING);
        assert_eq!(shown["api_key"], "sk-…1234");
        assert!(!shown.to_string().contains("secret"), "{shown}");
        assert!(!shown.to_string().contains("dev-1234"), "{shown}");
        assert_eq!(shown.as_object().unwrap().len(), 25, "only the flat event");
    }

    #[test]
    fn the_key_takes_the_place_of_its_masked_form() {
        let shown = json(
            &stored(),
            Includes {
                key: true,
                body: false,
            },
        );
        assert_eq!(shown["api_key"], "sk-llmproxy-dev-1234");
        assert!(shown.get("raw_key").is_none() && shown.get("request_body").is_none());
    }

    #[test]
    fn the_body_comes_without_the_key() {
        let shown = json(
            &stored(),
            Includes {
                key: false,
                body: true,
            },
        );
        assert_eq!(shown["api_key"], "sk-…1234");
        assert_eq!(shown["request_body"], "{\"prompt\":\"secret\"}");
        assert!(shown.get("raw_key").is_none());
    }

    #[test]
    fn a_key_nobody_kept_stays_masked() {
        let event = UsageEvent {
            raw_key: None,
            ..stored()
        };
        let everything = Includes {
            key: true,
            body: true,
        };
        assert_eq!(json(&event, everything)["api_key"], "sk-…1234");
    }

    #[test]
    fn an_event_without_secrets_is_shown_without_copying_it() {
        let event = UsageEvent::default();
        assert_eq!(view(&event, NOTHING), View(Cow::Borrowed(&event)));
        assert!(matches!(view(&event, NOTHING).0, Cow::Borrowed(_)));
    }
}
