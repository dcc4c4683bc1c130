//! Amounts, as the file counts them.

use rusqlite::Row;

use crate::limit::types::Amount;

/// The tokens and nanos in two columns from `at` on.
pub(super) fn amount(row: &Row<'_>, at: usize) -> rusqlite::Result<Amount> {
    Ok(Amount {
        tokens: rust(row.get(at)?),
        nanos: rust(row.get(at + 1)?),
    })
}

pub(super) fn plus(one: Amount, other: Amount) -> Amount {
    Amount {
        tokens: one.tokens.saturating_add(other.tokens),
        nanos: one.nanos.saturating_add(other.nanos),
    }
}

pub(super) fn minus(one: Amount, other: Amount) -> Amount {
    Amount {
        tokens: one.tokens.saturating_sub(other.tokens),
        nanos: one.nanos.saturating_sub(other.nanos),
    }
}

/// As much of `wanted` as can be counted besides `others`.
pub(super) fn room(others: Amount, wanted: Amount) -> Amount {
    let most = Amount {
        tokens: MOST,
        nanos: MOST,
    };
    let left = minus(most, others);
    Amount {
        tokens: wanted.tokens.min(left.tokens),
        nanos: wanted.nanos.min(left.nanos),
    }
}

/// What of it can be counted.
pub(super) fn clamped(amount: Amount) -> Amount {
    room(Amount::default(), amount)
}

/// As SQLite has it.
pub(super) fn sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// As we have it; whatever somebody has written into the file.
pub(super) fn rust(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// SQLite counts no further; also the limit where there is none.
pub(super) const MOST: u64 = i64::MAX as u64;
