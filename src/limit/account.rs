//! Which account a key's quota is counted on, and how much that has.

use std::fmt::Write;
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use sha2::{Digest, Sha256};

use super::period::Period;
use super::types::{Account, Amount};
use crate::config::{ApiKey, Quota};
use crate::ledger::UsageEvent;

impl Account {
    /// Returns the account of the key named `id` in the period that `now` is in; `None` for a key
    /// without a quota.
    ///
    /// A reset needs nobody to do it: each period has an account of its own.
    #[must_use]
    pub fn of(id: &str, spec: &ApiKey, quota: &Quota, now: Timestamp) -> Option<Self> {
        // As it always was: a quota of 0 is none. A budget of 0 is no money.
        let total = spec.total_quota.filter(|total| *total > 0);
        let tokens = total.map(|total| total.saturating_sub(spec.used_quota));
        let nanos = spec.total_budget;
        if tokens.is_none() && nanos.is_none() {
            return None;
        }
        let reset = spec.quota_reset_period.unwrap_or_default();
        let period = Period::containing(reset, now, &quota.time_zone);
        Some(Self {
            name: format!("{}@{}", owner(id), period.name).into(),
            tokens,
            nanos,
            // Rounded up: not over before it is over.
            ends: period.end.map(|end| {
                let fraction = end.subsec_nanosecond() > 0;
                end.as_second() + i64::from(fraction)
            }),
        })
    }

    /// Returns the Unix second by which the period of the account named `name` is surely over;
    /// `None` if it never is.
    #[must_use]
    pub fn over_by(name: &str) -> Option<i64> {
        latest_end(name)
    }

    /// How [`UsageEvent::quota`] names it; `reserved` says whether anything was reserved on it.
    #[must_use]
    pub fn noted(name: &Arc<str>, reserved: bool) -> String {
        match reserved {
            true => name.to_string(),
            false => format!("{UNRESERVED}{name}"),
        }
    }
}

/// Where an event is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// The account's name.
    pub account: &'a str,
    /// The request was admitted without a reservation.
    pub unreserved: bool,
}

impl<'a> Counted<'a> {
    /// Reads [`UsageEvent::quota`]; `None` for an event without one.
    #[must_use]
    pub fn of(event: &'a UsageEvent) -> Option<Self> {
        let noted = event.quota.as_deref()?;
        let stripped = noted.strip_prefix(UNRESERVED);
        Some(Self {
            account: stripped.unwrap_or(noted),
            unreserved: stripped.is_some(),
        })
    }
}

impl Amount {
    /// Returns what a billed event takes from its quota.
    #[must_use]
    pub fn billed(event: &UsageEvent) -> Self {
        Self {
            tokens: event.total_tokens,
            nanos: event.cost_nanos.unwrap_or(0),
        }
    }
}

/// Returns the Unix second by which the period of the account named `name` is surely over, for who
/// knows only the name; `None` if it never is.
pub(super) fn latest_end(name: &str) -> Option<i64> {
    let (_, period) = name.rsplit_once('@')?;
    let first: Date = match period.len() {
        LENGTH_OF_MONTH => format!("{period}-01").parse().ok()?,
        _ => period.parse().ok()?,
    };
    let start = first.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(start.as_second() + LONGEST_PERIOD)
}

/// Of `2026-11`.
const LENGTH_OF_MONTH: usize = 7;

/// Seconds of a month of 31 days, and of a day for time zones.
const LONGEST_PERIOD: i64 = 32 * 86_400;

/// Before the account's name in an event whose request was admitted without a reservation.
const UNRESERVED: char = '!';

/// `id` as it stands in names of accounts: different for different ids, of bounded length, without
/// what means something there.
fn owner(id: &str) -> String {
    let mut name = String::with_capacity(id.len());
    for (at, c) in id.char_indices() {
        if c.is_control() || c == '%' || (at == 0 && c == UNRESERVED) {
            // Writing to a string cannot fail.
            let _done = write!(name, "%{:02x}", u32::from(c));
        } else {
            name.push(c);
        }
        if name.len() > LONGEST {
            return shortened(id);
        }
    }
    name
}

/// No other id is written so: a `%` is followed by a number everywhere else.
fn shortened(id: &str) -> String {
    let digest = Sha256::digest(id.as_bytes());
    let mut name = String::from("%%");
    for byte in digest {
        let _done = write!(name, "{byte:02x}");
    }
    name
}

/// Bytes of an id that is written out; ids that we give are 20 long.
const LONGEST: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::ResetPeriod;

    fn spec(tokens: Option<u64>, used: u64, nanos: Option<u64>) -> ApiKey {
        ApiKey {
            total_quota: tokens,
            used_quota: used,
            total_budget: nanos,
            ..ApiKey::default()
        }
    }

    fn of(id: &str, spec: &ApiKey) -> Option<Account> {
        let now = "2026-11-21T10:00:00Z".parse().unwrap();
        Account::of(id, spec, &Quota::default(), now)
    }

    #[test]
    fn each_period_has_an_account_of_its_own() {
        for (reset, name, ends) in [
            (None, "key_1@ever", None),
            (
                Some(ResetPeriod::Daily),
                "key_1@2026-11-21",
                Some("2026-11-22"),
            ),
            (
                Some(ResetPeriod::Weekly),
                "key_1@2026-11-16",
                Some("2026-11-23"),
            ),
            (
                Some(ResetPeriod::Monthly),
                "key_1@2026-11",
                Some("2026-12-01"),
            ),
        ] {
            let spec = ApiKey {
                quota_reset_period: reset,
                ..spec(Some(10), 0, None)
            };
            let account = of("key_1", &spec).unwrap();
            let ends = ends.map(|day| format!("{day}T00:00:00Z").parse::<Timestamp>().unwrap());
            assert_eq!(
                (&*account.name, account.ends),
                (name, ends.map(Timestamp::as_second))
            );
        }
    }

    #[test]
    fn what_was_used_elsewhere_is_not_there_any_more() {
        let limits = |spec| of("a", &spec).map(|account| (account.tokens, account.nanos));
        assert_eq!(
            limits(spec(Some(100), 30, Some(5))),
            Some((Some(70), Some(5)))
        );
        assert_eq!(limits(spec(Some(100), 200, None)), Some((Some(0), None)));
        assert_eq!(limits(spec(None, 30, Some(0))), Some((None, Some(0))));
    }

    #[test]
    fn a_key_without_a_quota_has_no_account() {
        assert_eq!(of("a", &spec(None, 7, None)), None);
        assert_eq!(of("a", &spec(Some(0), 7, None)), None);
    }

    #[test]
    fn an_event_tells_where_it_is_counted() {
        let noted = |quota: Option<&str>| UsageEvent {
            quota: quota.map(str::to_owned),
            ..UsageEvent::default()
        };
        assert_eq!(Counted::of(&noted(None)), None);
        for reserved in [true, false] {
            let account = of("!joe", &spec(Some(1), 0, None)).unwrap();
            let event = noted(Some(&Account::noted(&account.name, reserved)));
            let counted = Counted {
                account: &account.name,
                unreserved: !reserved,
            };
            assert_eq!(Counted::of(&event), Some(counted));
        }
    }

    #[test]
    fn a_name_tells_when_its_period_is_over_at_the_latest() {
        let second = |at: &str| Some(at.parse::<Timestamp>().unwrap().as_second());
        for (name, latest) in [
            ("a@2026-11", second("2026-12-03T00:00:00Z")),
            ("a@b@2026-11-16", second("2026-12-18T00:00:00Z")),
            ("a@ever", None),
            ("a@2026-13", None),
            ("2026-11", None),
            ("a@ключ", None),
        ] {
            assert_eq!(latest_end(name), latest, "{name}");
        }
    }

    #[test]
    fn an_id_may_hold_anything() {
        for (id, name) in [
            ("joe@example.com", "joe@example.com@ever"),
            ("!x!", "%21x!@ever"),
            ("50%", "50%25@ever"),
            ("a\nb\0", "a%0ab%00@ever"),
            ("", "@ever"),
            ("ключ", "ключ@ever"),
        ] {
            assert_eq!(&*of(id, &spec(Some(1), 0, None)).unwrap().name, name);
        }
        let long = of(&"x".repeat(1 << 20), &spec(Some(1), 0, None)).unwrap();
        assert!(long.name.len() < 80, "{}", long.name);
    }

    proptest! {
        #[test]
        fn different_ids_have_different_accounts(
            one in "(!|%|a|\\PC|\n){0,40}",
            other in "(!|%|a|\\PC|\n){0,40}",
        ) {
            prop_assert_eq!(owner(&one) == owner(&other), one == other);
            prop_assert!(!owner(&one).starts_with(UNRESERVED));
        }
    }
}
