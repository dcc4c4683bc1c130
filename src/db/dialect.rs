//! The few things that databases spell differently and everybody who writes SQL needs.

use crate::config::Driver;

/// Returns `name` as it stands in SQL: any name may be a reserved word. It must have passed
/// [`crate::config::dsn::table_name`] or hold no quotes for another reason.
#[must_use]
pub fn quoted(driver: Driver, name: &str) -> String {
    match driver {
        Driver::Mysql => format!("`{name}`"),
        Driver::Sqlite | Driver::Postgres => format!("\"{name}\""),
    }
}

/// Returns what stands behind a table's or a text's definition: MySQL's default may be an encoding
/// that lacks most characters, and a collation in which `alice` and `Alice` are one.
#[must_use]
pub fn table_options(driver: Driver) -> &'static str {
    match driver {
        Driver::Mysql => " CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
        Driver::Sqlite | Driver::Postgres => "",
    }
}

/// Asks for the names of a table's columns, each a text; there are none when there is no such table.
/// The name must have passed [`crate::config::dsn::table_name`].
#[must_use]
pub fn columns(driver: Driver, table: &str) -> String {
    match driver {
        Driver::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
        Driver::Postgres => format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass('\"{table}\"') \
             AND attnum > 0 AND NOT attisdropped"
        ),
        Driver::Mysql => format!(
            "SELECT CAST(column_name AS CHAR) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND table_name = '{table}'"
        ),
    }
}

/// Returns SQL whose placeholders are written `?` as the database wants them; what stands in quotes
/// is left alone.
#[must_use]
pub fn placeholders(driver: Driver, sql: &str) -> String {
    if driver != Driver::Postgres {
        return sql.to_owned();
    }
    let mut numbered = String::with_capacity(sql.len() + 16);
    let mut nth = 0;
    let mut quote = None;
    for c in sql.chars() {
        match (c, quote) {
            ('?', None) => {
                nth += 1;
                numbered.push_str(&format!("${nth}"));
                continue;
            }
            ('\'' | '"', None) => quote = Some(c),
            (_, Some(open)) if open == c => quote = None,
            _ => {}
        }
        numbered.push(c);
    }
    numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_are_numbered_where_that_is_needed() {
        let sql = "SELECT \"a?\", '?', b FROM t WHERE c = ? AND d = '?' AND e IN (?, ?)";
        assert_eq!(placeholders(Driver::Sqlite, sql), sql);
        assert_eq!(placeholders(Driver::Mysql, sql), sql);
        assert_eq!(
            placeholders(Driver::Postgres, sql),
            "SELECT \"a?\", '?', b FROM t WHERE c = $1 AND d = '?' AND e IN ($2, $3)"
        );
    }
}
