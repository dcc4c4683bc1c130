//! Rows of somebody else's tables, whose columns may have any type.
//!
//! Numbers become numbers, but decimals of MySQL stay texts, which lose nothing; times become texts,
//! in UTC where the column has no zone; JSON is taken apart where the database says that it is JSON.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value};
use sqlx::mysql::MySqlRow;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Column as _, Row as _, TypeInfo as _, ValueRef as _};

use super::{Fault, Row};
use crate::config::Driver;

/// Returns the query `select` so that [`Row::fields`] can read its rows.
///
/// PostgreSQL writes them as JSON itself: it has more types than anybody could read otherwise.
#[must_use]
pub fn as_fields(driver: Driver, select: &str) -> String {
    match driver {
        Driver::Postgres => format!("SELECT row_to_json(r)::text FROM ({select}) AS r"),
        Driver::Sqlite | Driver::Mysql => select.to_owned(),
    }
}

impl Row {
    /// Returns all columns by their names, for a query made by [`as_fields`].
    ///
    /// # Errors
    ///
    /// When a value is not what its type says.
    pub fn fields(&self) -> Result<Map<String, Value>, Fault> {
        match self {
            Self::Sqlite(row) => of_sqlite(row).map_err(Fault::Sql),
            Self::Postgres(row) => of_postgres(row),
            Self::Mysql(row) => of_mysql(row).map_err(Fault::Sql),
        }
    }
}

fn of_postgres(row: &PgRow) -> Result<Map<String, Value>, Fault> {
    let json: String = row.try_get_unchecked(0).map_err(Fault::Sql)?;
    // Its text would repeat what was not understood.
    serde_json::from_str(&json)
        .map_err(|_repeats| Fault::Other("a row cannot be written as JSON".to_owned()))
}

fn of_sqlite(row: &SqliteRow) -> Result<Map<String, Value>, sqlx::Error> {
    let columns = row.columns().iter().enumerate();
    let field = |(nth, column): (usize, &sqlx::sqlite::SqliteColumn)| {
        let raw = row.try_get_raw(nth)?;
        let kind = (!raw.is_null()).then(|| raw.type_info().name().to_owned());
        // Each value has a type of its own, whatever the column was declared as.
        let value = match kind.as_deref() {
            None => Value::Null,
            Some("INTEGER") => row.try_get_unchecked::<i64, _>(nth)?.into(),
            Some("REAL") => real(row.try_get_unchecked(nth)?),
            _ => text(row.try_get_unchecked(nth)?),
        };
        Ok((column.name().to_owned(), value))
    };
    columns.map(field).collect()
}

fn of_mysql(row: &MySqlRow) -> Result<Map<String, Value>, sqlx::Error> {
    let columns = row.columns().iter().enumerate();
    let field = |(nth, column): (usize, &sqlx::mysql::MySqlColumn)| {
        let value = match row.try_get_raw(nth)?.is_null() {
            true => Value::Null,
            false => of_mysql_column(row, nth, column.type_info().name())?,
        };
        Ok((column.name().to_owned(), value))
    };
    columns.map(field).collect()
}

fn of_mysql_column(row: &MySqlRow, nth: usize, kind: &str) -> Result<Value, sqlx::Error> {
    Ok(match kind {
        // `BOOLEAN` is what a TINYINT(1) is called, which may hold 2.
        "BOOLEAN" | "TINYINT" | "SMALLINT" | "MEDIUMINT" | "INT" | "BIGINT" => {
            row.try_get_unchecked::<i64, _>(nth)?.into()
        }
        "YEAR" | "BIT" => row.try_get_unchecked::<u64, _>(nth)?.into(),
        unsigned if unsigned.ends_with(" UNSIGNED") => row.try_get_unchecked::<u64, _>(nth)?.into(),
        // By its text, in which it has no more digits than it really has.
        "FLOAT" => real(
            row.try_get_unchecked::<f32, _>(nth)?
                .to_string()
                .parse()
                .unwrap_or(f64::NAN),
        ),
        "DOUBLE" => real(row.try_get_unchecked(nth)?),
        "DATE" => match moment(row.try_get_unchecked(nth)?) {
            Value::String(moment) => moment.split(' ').next().into(),
            other => other,
        },
        "DATETIME" | "TIMESTAMP" => moment(row.try_get_unchecked(nth)?),
        "JSON" => {
            let json: Vec<u8> = row.try_get_unchecked(nth)?;
            serde_json::from_slice(&json).unwrap_or_else(|_not_json| text(json))
        }
        _ => text(row.try_get_unchecked(nth)?),
    })
}

/// Reads a date or time as MySQL sends it: a length, year, month, day, hour, minute, second and
/// millionths, of which zeros at the end are left out
/// (<https://mariadb.com/kb/en/resultset-row/#timestamp-binary-encoding>). Sessions are in UTC.
fn moment(bytes: Vec<u8>) -> Value {
    let (date, time, fraction) = match bytes[..] {
        [4, y, z, month, day] => ([y, z, month, day], [0; 3], [0; 4]),
        [7, y, z, month, day, h, m, s] => ([y, z, month, day], [h, m, s], [0; 4]),
        [11, y, z, month, day, h, m, s, a, b, c, d] => {
            ([y, z, month, day], [h, m, s], [a, b, c, d])
        }
        _ => return text(bytes),
    };
    let ([y, z, month, day], [hour, minute, second]) = (date, time);
    let year = u16::from_le_bytes([y, z]);
    let mut moment = format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}");
    let millionths = u32::from_le_bytes(fraction);
    if millionths > 0 {
        write!(moment, ".{millionths:06}").expect("a String takes everything");
    }
    moment.into()
}

/// JSON has no infinite numbers; as a text nobody takes it for one.
fn real(number: f64) -> Value {
    match Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None => number.to_string().into(),
    }
}

/// What is no text becomes one that nobody takes for anything else.
fn text(bytes: Vec<u8>) -> Value {
    match String::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(error) => {
            let mut hex = String::from("0x");
            for byte in error.as_bytes() {
                write!(hex, "{byte:02x}").expect("a String takes everything");
            }
            hex.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_mysql_are_read_in_each_of_their_lengths() {
        for (bytes, expected) in [
            (&[4, 0xea, 7, 12, 31][..], "2026-12-31 00:00:00"),
            (&[7, 0xea, 7, 12, 31, 12, 5, 9], "2026-12-31 12:05:09"),
            (
                &[11, 0xea, 7, 1, 2, 3, 4, 5, 64, 66, 15, 0],
                "2026-01-02 03:04:05.1000000",
            ),
            (
                &[11, 0xea, 7, 1, 2, 3, 4, 5, 1, 0, 0, 0],
                "2026-01-02 03:04:05.000001",
            ),
            (b"2026-12-31 12:05:09", "2026-12-31 12:05:09"),
            (&[7, 0xff, 0xff], "0x07ffff"),
        ] {
            assert_eq!(moment(bytes.to_vec()), expected);
        }
    }

    #[test]
    fn what_is_no_text_or_number_looks_like_none() {
        assert_eq!(text(vec![0xff, 0]), "0xff00");
        assert_eq!(text(b"active".to_vec()), "active");
        assert_eq!(real(f64::INFINITY), "inf");
        assert_eq!(real(0.5), 0.5);
    }
}
