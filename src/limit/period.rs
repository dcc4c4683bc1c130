//! When a quota begins anew.

use jiff::civil::{Date, Time};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::config::ResetPeriod;

/// The day, week or month in which something is counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// What it is called: `2026-11-21` (a day, or a week that begins on it), `2026-11`, or `ever`.
    pub name: String,
    /// Its first instant.
    pub start: Timestamp,
    /// The first instant of the next one; `None`: it never ends.
    pub end: Option<Timestamp>,
}

impl Period {
    /// Returns the period that `now` is in. Days, weeks (from Monday on) and months begin at
    /// midnight in `zone`.
    ///
    /// Periods follow each other without gap or overlap, whatever the clocks there do: midnight is
    /// the first one where it comes twice, and where clocks leave it out, as much later as they are
    /// put forward.
    #[must_use]
    pub fn containing(reset: ResetPeriod, now: Timestamp, zone: &TimeZone) -> Self {
        let mut first = first_day(reset, zone.to_datetime(now).date());
        // Clocks put back over midnight show the last day again after the new one has begun.
        for _ in 0..MOST_STEPS {
            let next = next_period(reset, first);
            if now < begin(first, zone) {
                first = first_day(reset, first.yesterday().unwrap_or(Date::MIN));
            } else if let Some(next) = next.filter(|next| now >= begin(*next, zone)) {
                first = next;
            } else {
                break;
            }
        }
        let unending = reset == ResetPeriod::Never;
        Self {
            name: name(reset, first),
            start: if unending {
                Timestamp::MIN
            } else {
                begin(first, zone)
            },
            end: next_period(reset, first).map(|next| begin(next, zone)),
        }
    }
}

/// No clock was ever put by more than a day.
const MOST_STEPS: usize = 3;

/// The day on which the period begins that `date` is in.
fn first_day(reset: ResetPeriod, date: Date) -> Date {
    match reset {
        ResetPeriod::Daily => date,
        ResetPeriod::Weekly => {
            let since_monday = date.weekday().to_monday_zero_offset();
            date.saturating_sub(i32::from(since_monday).days())
        }
        ResetPeriod::Monthly => date.first_of_month(),
        ResetPeriod::Never => Date::MIN,
    }
}

/// The first day of the period after the one that begins on `first`.
fn next_period(reset: ResetPeriod, first: Date) -> Option<Date> {
    let length = match reset {
        ResetPeriod::Daily => 1.day(),
        ResetPeriod::Weekly => 7.days(),
        ResetPeriod::Monthly => 1.month(),
        ResetPeriod::Never => return None,
    };
    first.checked_add(length).ok()
}

/// Midnight at the beginning of `date`.
fn begin(date: Date, zone: &TimeZone) -> Timestamp {
    let midnight = date.to_datetime(Time::midnight());
    let limit = match date.year() < 0 {
        true => Timestamp::MIN,
        false => Timestamp::MAX,
    };
    // Only where the calendar ends.
    zone.to_timestamp(midnight).unwrap_or(limit)
}

fn name(reset: ResetPeriod, first: Date) -> String {
    match reset {
        ResetPeriod::Daily | ResetPeriod::Weekly => first.to_string(),
        ResetPeriod::Monthly => format!("{:04}-{:02}", first.year(), first.month()),
        ResetPeriod::Never => "ever".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [ResetPeriod; 3] = [
        ResetPeriod::Daily,
        ResetPeriod::Weekly,
        ResetPeriod::Monthly,
    ];

    fn zone(name: &str) -> TimeZone {
        TimeZone::get(name).unwrap()
    }

    fn period(reset: ResetPeriod, now: &str, zone_name: &str) -> (String, String, String) {
        let zone = zone(zone_name);
        let period = Period::containing(reset, now.parse().unwrap(), &zone);
        let local = |at: Timestamp| zone.to_datetime(at).to_string();
        (
            period.name,
            local(period.start),
            period.end.map(local).unwrap_or_default(),
        )
    }

    fn owned([name, start, end]: [&str; 3]) -> (String, String, String) {
        (name.to_owned(), start.to_owned(), end.to_owned())
    }

    #[test]
    fn a_week_begins_on_monday_and_a_day_at_midnight_in_the_zone() {
        // 23:30 UTC on Sunday is Monday in Berlin.
        let at = "2026-11-15T23:30:00Z";
        for (reset, name, expected) in [
            (
                ResetPeriod::Daily,
                "Europe/Berlin",
                ["2026-11-16", "2026-11-16T00:00:00", "2026-11-17T00:00:00"],
            ),
            (
                ResetPeriod::Weekly,
                "Europe/Berlin",
                ["2026-11-16", "2026-11-16T00:00:00", "2026-11-23T00:00:00"],
            ),
            (
                ResetPeriod::Weekly,
                "UTC",
                ["2026-11-09", "2026-11-09T00:00:00", "2026-11-16T00:00:00"],
            ),
            (
                ResetPeriod::Monthly,
                "Europe/Berlin",
                ["2026-11", "2026-11-01T00:00:00", "2026-12-01T00:00:00"],
            ),
        ] {
            assert_eq!(period(reset, at, name), owned(expected), "{reset:?} {name}");
        }
    }

    #[test]
    fn what_is_never_reset_has_no_end() {
        let period = Period::containing(ResetPeriod::Never, Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        assert_eq!((&*period.name, period.end), ("ever", None));
        assert_eq!(period.start, Timestamp::MIN);
    }

    #[test]
    fn a_day_whose_midnight_is_left_out_begins_when_clocks_are_put_forward() {
        // Cairo 2024-04-26: 00:00 becomes 01:00.
        let cairo = |at| period(ResetPeriod::Daily, at, "Africa/Cairo");
        let expected = ["2024-04-26", "2024-04-26T01:00:00", "2024-04-27T00:00:00"];
        assert_eq!(cairo("2024-04-25T22:00:00Z"), owned(expected));
        let before = ["2024-04-25", "2024-04-25T00:00:00", "2024-04-26T01:00:00"];
        assert_eq!(cairo("2024-04-25T21:59:59.999Z"), owned(before));
    }

    #[test]
    fn a_midnight_that_comes_twice_counts_once() {
        // Havana 2026-11-01: 01:00 becomes 00:00 again.
        let havana = |at| period(ResetPeriod::Daily, at, "America/Havana").0;
        assert_eq!(havana("2026-11-01T03:59:59Z"), "2026-10-31");
        assert_eq!(havana("2026-11-01T04:00:00Z"), "2026-11-01");
        assert_eq!(havana("2026-11-01T05:00:00Z"), "2026-11-01");
        // Goose Bay 2010-11-07: 00:01 becomes 23:01 of the day before; the new day goes on.
        let goose_bay = |at| period(ResetPeriod::Daily, at, "America/Goose_Bay").0;
        assert_eq!(goose_bay("2010-11-07T02:59:59Z"), "2010-11-06");
        assert_eq!(goose_bay("2010-11-07T03:00:30Z"), "2010-11-07");
        assert_eq!(goose_bay("2010-11-07T03:30:00Z"), "2010-11-07");
    }

    #[test]
    fn a_day_that_is_left_out_is_no_period() {
        // Samoa had no 30 December 2011.
        let samoa = |at| period(ResetPeriod::Daily, at, "Pacific/Apia");
        let last = ["2011-12-29", "2011-12-29T00:00:00", "2011-12-31T00:00:00"];
        assert_eq!(samoa("2011-12-30T09:59:59Z"), owned(last));
        assert_eq!(samoa("2011-12-30T10:00:00Z").0, "2011-12-31");
    }

    #[test]
    fn the_ends_of_the_calendar_are_no_panic() {
        for now in [Timestamp::MIN, Timestamp::MAX] {
            for reset in ALL {
                for name in ["UTC", "Pacific/Apia", "America/Adak"] {
                    let period = Period::containing(reset, now, &zone(name));
                    assert!(period.start <= now, "{reset:?} {name}");
                }
            }
        }
    }

    /// Some whose clocks do, or once did, unusual things at midnight.
    const ZONES: [&str; 14] = [
        "UTC",
        "Europe/Berlin",
        "America/New_York",
        "America/Havana",
        "America/Goose_Bay",
        "America/Sao_Paulo",
        "America/Toronto",
        "America/Juneau",
        "Africa/Cairo",
        "Asia/Beirut",
        "Asia/Manila",
        "Australia/Lord_Howe",
        "Pacific/Apia",
        "Pacific/Kwajalein",
    ];

    /// From 1860 to 2300.
    const SECONDS: std::ops::Range<i64> = -3_471_292_800..10_413_792_000;

    /// An instant, every other one within two days of a change of clocks.
    fn instants() -> impl Strategy<Value = (TimeZone, Timestamp)> {
        let near = -172_800..172_800_i64;
        (0..ZONES.len(), SECONDS, any::<bool>(), near).prop_map(|(at, second, snaps, near)| {
            let zone = zone(ZONES[at]);
            let now = Timestamp::from_second(second).unwrap();
            let change = zone.following(now).next().map(|next| next.timestamp());
            let now = match change.filter(|_| snaps) {
                Some(change) => Timestamp::from_second(change.as_second() + near).unwrap(),
                None => now,
            };
            (zone, now)
        })
    }

    proptest! {
        #[test]
        fn periods_tile_time((zone, now) in instants(), reset in 0..3usize) {
            let period = Period::containing(ALL[reset], now, &zone);
            let end = period.end.unwrap();
            prop_assert!(period.start <= now && now < end, "{period:?} at {now}");
            // Whoever asks within one is told the same one.
            for inside in [period.start, end - 1.nanosecond()] {
                prop_assert_eq!(&Period::containing(ALL[reset], inside, &zone), &period);
            }
            let next = Period::containing(ALL[reset], end, &zone);
            prop_assert_eq!(next.start, end);
            prop_assert!(next.name > period.name);
            let before = Period::containing(ALL[reset], period.start - 1.nanosecond(), &zone);
            prop_assert_eq!(before.end, Some(period.start));
        }
    }
}
