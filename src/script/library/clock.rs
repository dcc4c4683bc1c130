//! `now`, `now_ms` and `time`.

use jiff::fmt::strtime::{self, BrokenDownTime};
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use mlua::{Lua, Table};

use super::refuse;

pub(super) fn register(lua: &Lua, table: &Table) -> mlua::Result<()> {
    let now = |_: &Lua, ()| Ok(Timestamp::now().as_second());
    table.raw_set("now", lua.create_function(now)?)?;
    let now_ms = |_: &Lua, ()| Ok(Timestamp::now().as_millisecond());
    table.raw_set("now_ms", lua.create_function(now_ms)?)?;
    let format = |_: &Lua, (seconds, format, zone): (f64, Option<String>, Option<String>)| {
        let format = format.as_deref().unwrap_or(RFC_3339);
        time_text(seconds, format, zone.as_deref()).map_err(refuse)
    };
    table.raw_set("time_format", lua.create_function(format)?)?;
    let parse =
        |_: &Lua, (text, format, zone): (String, Option<String>, Option<String>)| match seconds(
            &text,
            format.as_deref(),
            zone.as_deref(),
        ) {
            Ok(seconds) => Ok((Some(seconds), None)),
            Err(Unread::Text) => Ok((None, Some("the text is no such time"))),
            Err(Unread::Arguments(message)) => Err(refuse(message)),
        };
    table.raw_set("time_parse", lua.create_function(parse)?)
}

const RFC_3339: &str = "%Y-%m-%dT%H:%M:%S%:z";

/// Formats are written by people; a long one is a mistake.
const LONGEST_FORMAT: usize = 256;

fn time_text(seconds: f64, format: &str, zone: Option<&str>) -> Result<String, String> {
    let at = moment(seconds)?.to_zoned(time_zone(zone)?);
    let format = checked(format)?;
    strtime::format(format, &at).map_err(|error| format!("bad argument #2 to 'format' ({error})"))
}

fn moment(seconds: f64) -> Result<Timestamp, String> {
    let millis = (seconds * 1000.0).round();
    // Casting saturates, and what is out of range is refused.
    Timestamp::from_millisecond(millis as i64)
        .ok()
        .filter(|_| millis.is_finite())
        .ok_or_else(|| "bad argument #1 to 'format' (Unix seconds are needed)".to_owned())
}

enum Unread {
    /// The text does not say a time in this format.
    Text,
    /// The call is wrong.
    Arguments(String),
}

/// Unix seconds; without a format the text is RFC 3339.
fn seconds(text: &str, format: Option<&str>, zone: Option<&str>) -> Result<i64, Unread> {
    let zone = time_zone(zone).map_err(Unread::Arguments)?;
    let Some(format) = format else {
        let at: Result<Timestamp, _> = text.parse();
        return at.map(Timestamp::as_second).map_err(|_unread| Unread::Text);
    };
    let format = checked(format).map_err(Unread::Arguments)?;
    let read = BrokenDownTime::parse(format, text).map_err(|_unread| Unread::Text)?;
    // A time that names its own offset or zone needs no other.
    let at = read.to_timestamp().or_else(|_local| {
        let date = read.to_date()?;
        let time = read.to_time().unwrap_or_default();
        date.to_datetime(time)
            .to_zoned(zone)
            .map(|zoned: Zoned| zoned.timestamp())
    });
    at.map(Timestamp::as_second).map_err(|_unread| Unread::Text)
}

fn checked(format: &str) -> Result<&str, String> {
    if format.len() > LONGEST_FORMAT {
        return Err(format!(
            "bad argument #2 (a format of at most {LONGEST_FORMAT} bytes is needed)"
        ));
    }
    Ok(format)
}

fn time_zone(name: Option<&str>) -> Result<TimeZone, String> {
    match name {
        None => Ok(TimeZone::UTC),
        Some(name) => TimeZone::get(name).map_err(|_unknown| {
            format!("bad argument #3 (unknown time zone {name:?}; known are names such as \"Europe/Berlin\")")
        }),
    }
}
