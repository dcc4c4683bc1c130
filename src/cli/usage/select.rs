//! Which events are meant.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use super::Failure;
use crate::config::{self, UsageOutcome};
use crate::ledger::UsageEvent;
use crate::report::Filter;

/// What is asked of an event, as it is written on the command line.
#[derive(clap::Args, Clone, Debug, Default)]
pub(super) struct Selection {
    /// The id of the client's key (`key_id`); `*` stands for any text. May be repeated.
    #[arg(long, value_name = "GLOB")]
    key: Vec<String>,
    /// Who is billed; `*` stands for any text. May be repeated.
    #[arg(long, value_name = "GLOB")]
    user: Vec<String>,
    /// The model; `*` stands for any text. May be repeated.
    #[arg(long, value_name = "GLOB")]
    model: Vec<String>,
    /// How the request ended: `completed`, `client_aborted`, `upstream_failed`, `interrupted`;
    /// several with commas.
    #[arg(long, value_delimiter = ',', value_parser = outcome)]
    outcome: Vec<UsageOutcome>,
    /// From then on: `2h` or `3d` ago, a date (UTC), or RFC 3339.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Until before then, written like `--since`.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
}

/// Which events are meant: all that is asked must hold, and of a repeated option any.
#[derive(Clone, Debug)]
pub(super) struct Selected {
    filter: Filter,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl Selection {
    /// Whether anything is asked at all.
    pub(super) fn is_everything(&self) -> bool {
        let lists = [&self.key, &self.user, &self.model];
        lists.iter().all(|list| list.is_empty())
            && self.outcome.is_empty()
            && self.since.is_none()
            && self.until.is_none()
    }

    /// # Errors
    ///
    /// When no event could be meant.
    pub(super) fn build(&self) -> Result<Selected, Failure> {
        let (since, until) = (self.since, self.until);
        if since
            .zip(until)
            .is_some_and(|(since, until)| since >= until)
        {
            let upside_down = "--until is not after --since, so no event can be meant";
            return Err(Failure::BadInput(upside_down.to_owned()));
        }
        let filter = Filter::new(&config::Filter {
            models: self.model.clone(),
            keys: self.key.clone(),
            users: self.user.clone(),
            outcomes: self.outcome.clone(),
        });
        Ok(Selected {
            filter,
            since,
            until,
        })
    }
}

impl Selected {
    pub(super) fn takes(&self, event: &UsageEvent) -> bool {
        self.filter.wants(event) && self.is_within(event)
    }

    pub(super) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    /// An event whose time cannot be read belongs to no range, but to everything.
    fn is_within(&self, event: &UsageEvent) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        event.timestamp.parse::<Timestamp>().is_ok_and(|time| {
            self.since.is_none_or(|since| time >= since)
                && self.until.is_none_or(|until| time < until)
        })
    }
}

fn outcome(text: &str) -> Result<UsageOutcome, String> {
    let all = [
        UsageOutcome::Completed,
        UsageOutcome::ClientAborted,
        UsageOutcome::UpstreamFailed,
        UsageOutcome::Interrupted,
    ];
    let known = all.map(UsageOutcome::as_str).join(", ");
    all.into_iter()
        .find(|outcome| outcome.as_str() == text)
        .ok_or_else(|| format!("there is no outcome `{text}`; there are {known}"))
}

fn moment(text: &str) -> Result<Timestamp, String> {
    parse(text, Timestamp::now())
}

fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let invalid =
        || format!("`{text}` is no time; write `2h`, `3d`, `2026-01-31` or `2026-01-31T10:00:00Z`");
    if let Some(ago) = ago(text) {
        let ago = SignedDuration::try_from(ago).map_err(|_too_long| invalid())?;
        return now.checked_sub(ago).map_err(|_before_time| invalid());
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let civil = match text.parse::<Date>() {
        Ok(date) if text.len() == "2026-01-31".len() => date.to_datetime(jiff::civil::Time::MIN),
        Ok(_) | Err(_) => text.parse::<DateTime>().map_err(|_no_time| invalid())?,
    };
    let zoned = civil.to_zoned(TimeZone::UTC);
    zoned
        .map(|zoned| zoned.timestamp())
        .map_err(|_out_of_range| invalid())
}

/// Reads `90s`, `15m`, `2h`, `3d`, `1w` and what is put together from them.
fn ago(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let length = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            'w' => 604_800,
            _ => return None,
        };
        seconds = seconds.checked_add(count.checked_mul(length)?)?;
        rest = &rest[digits + 1..];
    }
    (!text.is_empty()).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-01-14T10:30:00Z".parse().unwrap()
    }

    #[test]
    fn times_are_relative_or_dates_or_exact() {
        for (text, time) in [
            ("2h", "2026-01-14T08:30:00Z"),
            ("3d", "2026-01-11T10:30:00Z"),
            ("1w", "2026-01-07T10:30:00Z"),
            ("1d12h", "2026-01-12T22:30:00Z"),
            ("90s", "2026-01-14T10:28:30Z"),
            ("0s", "2026-01-14T10:30:00Z"),
            ("2026-01-01", "2026-01-01T00:00:00Z"),
            ("2026-01-01T10:00", "2026-01-01T10:00:00Z"),
            ("2026-01-01T10:00:00+02:00", "2026-01-01T08:00:00Z"),
            ("2026-01-01T10:00:00.5Z", "2026-01-01T10:00:00.5Z"),
        ] {
            assert_eq!(parse(text, now()), Ok(time.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_named() {
        for text in [
            "",
            "h",
            "2",
            "2x",
            "h2",
            "-2h",
            "2 h",
            "2026-13-01",
            "yesterday",
            "ü2h",
            "2hü",
            "99999999999999999999h",
            "99999999999w",
            "18446744073709551615s",
        ] {
            let error = parse(text, now()).unwrap_err();
            assert!(error.contains(&format!("`{text}`")), "{error}");
        }
    }

    #[test]
    fn everything_asked_must_hold() {
        let event = UsageEvent {
            model: "llama-8b".into(),
            user_id: "ann".into(),
            key_id: "k1".into(),
            timestamp: "2026-01-14T10:30:00.000Z".into(),
            ..UsageEvent::default()
        };
        let time = |text: &str| Some(text.parse::<Timestamp>().unwrap());
        let list = |text: &str| vec!["nobody".to_owned(), text.to_owned()];
        let good = Selection {
            key: list("k*"),
            user: list("ann"),
            model: list("llama-*"),
            outcome: vec![UsageOutcome::Completed],
            since: time("2026-01-14T10:30:00Z"),
            until: time("2026-01-14T10:30:00.001Z"),
        };
        let takes = |selection: &Selection| selection.build().ok().unwrap().takes(&event);
        assert!(takes(&good) && takes(&Selection::default()));
        assert!(Selection::default().is_everything());
        let wrong: [fn(&mut Selection); 6] = [
            |s| s.key = vec!["k2".into()],
            |s| s.user = vec!["bob".into()],
            |s| s.model = vec!["llama".into()],
            |s| s.outcome = vec![UsageOutcome::Interrupted],
            |s| (s.since, s.until) = (s.until, None),
            |s| (s.since, s.until) = (None, s.since),
        ];
        for spoil in wrong {
            let mut selection = good.clone();
            spoil(&mut selection);
            assert!(!takes(&selection), "{selection:?}");
            assert!(!selection.is_everything());
        }
    }

    #[test]
    fn a_range_that_holds_nothing_is_refused() {
        let upside_down = Selection {
            since: Some(now()),
            until: Some(now()),
            ..Selection::default()
        };
        assert!(matches!(upside_down.build(), Err(Failure::BadInput(_))));
    }
}
