//! Rows into the table.

use std::sync::Arc;

use super::super::view::Includes;
use super::columns::Column;
use super::dialect::Table;
use super::migrations;
use crate::db::{Connection, Fault, Value};
use crate::ledger::UsageEvent;

/// Inserts all of `batch` or nothing.
pub(super) async fn insert(
    connection: &mut Connection,
    table: &Table,
    includes: Includes,
    batch: &[Arc<UsageEvent>],
) -> Result<(), Fault> {
    let columns: Vec<_> = migrations::columns().collect();
    connection.begin().await?;
    for statement in statements(batch, includes.body) {
        let sql = table.insert(&columns, statement.len());
        let values = values(&columns, statement, includes);
        connection.bound(sql, values).await?;
    }
    connection.commit().await
}

fn values<'a>(
    columns: &[&Column],
    rows: &'a [Arc<UsageEvent>],
    includes: Includes,
) -> Vec<Value<'a>> {
    let mut values = Vec::with_capacity(columns.len() * rows.len());
    for event in rows {
        values.extend(columns.iter().map(|column| column.value(event, includes)));
    }
    values
}

/// Splits a batch so that no statement has more than [`ROWS`] rows, nor more than [`BYTES`] of
/// prompts unless a single one is larger.
fn statements(batch: &[Arc<UsageEvent>], bodies: bool) -> Vec<&[Arc<UsageEvent>]> {
    let size = |event: &UsageEvent| match (&event.request_body, bodies) {
        (Some(body), true) => body.len(),
        _ => 0,
    };
    let mut statements = Vec::new();
    let mut rest = batch;
    while !rest.is_empty() {
        let mut bytes = 0;
        let fit = rest.iter().take(ROWS).take_while(|event| {
            bytes += size(event);
            bytes <= BYTES
        });
        let (statement, after) = rest.split_at(fit.count().max(1));
        statements.push(statement);
        rest = after;
    }
    statements
}

/// With 27 columns 13,500 placeholders; SQLite allows 32,766 and the others 65,535.
const ROWS: usize = 500;

/// A quarter of the smallest `max_allowed_packet` that MySQL and MariaDB have had for a decade.
const BYTES: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(batch: &[Arc<UsageEvent>], bodies: bool) -> Vec<usize> {
        let statements = statements(batch, bodies);
        assert_eq!(statements.concat(), batch);
        statements.iter().map(|rows| rows.len()).collect()
    }

    #[test]
    fn a_statement_is_bounded_in_rows_and_in_bytes() {
        let body = |length| UsageEvent {
            request_body: Some("x".repeat(length)),
            ..UsageEvent::default()
        };
        let plain: Vec<_> = (0..1001).map(|_| Arc::new(UsageEvent::default())).collect();
        assert_eq!(lengths(&plain, true), [500, 500, 1]);
        let large = [BYTES / 2, BYTES / 2, 1, 2 * BYTES, 1].map(|length| Arc::new(body(length)));
        assert_eq!(lengths(&large, true), [2, 1, 1, 1]);
        assert_eq!(lengths(&large, false), [5], "they are not written");
    }
}
