//! Many keys at a time.

use super::{Failure, KeyError, KeyStore};
use crate::config::KeyStatus;
use crate::db::{Fault, Transaction, Value};
use crate::keys::record::{self, StoredKey, searchable};

/// Which keys are listed: those of which all of this is true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Belongs to exactly this user.
    pub user_id: Option<String>,
    /// Has this status, whatever its times say.
    pub status: Option<KeyStatus>,
    /// Has this in its name, in whatever case.
    pub name: Option<String>,
}

/// A part of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// How many there are on all pages.
    pub total: u64,
}

// === impl KeyStore ===

impl KeyStore {
    /// Returns `limit` (1 to 100) keys that pass `filter`, newest first, without the first `offset`.
    ///
    /// # Errors
    ///
    /// [`KeyError::Invalid`] when `limit` or `offset` is out of range, [`KeyError::Unavailable`], also
    /// when one of the rows cannot be read.
    pub async fn list(
        &self,
        filter: &Filter,
        offset: u64,
        limit: u64,
    ) -> Result<Page<StoredKey>, KeyError> {
        let part = part(offset, limit)?;
        filter.check()?;
        let (clause, values) = filter.clause();
        let count_all = self
            .tables
            .sql(&format!("SELECT COUNT(*) FROM {{keys}} {clause}"));
        let columns = record::COLUMNS.join(", ");
        let keys = self.tables.sql(&format!(
            "SELECT {columns} FROM {{keys}} {clause} ORDER BY created_at DESC, id DESC {part}"
        ));
        let reading = || async {
            let mut transaction = self.pool.read().await?;
            let total = count(&mut transaction, count_all.clone(), values.clone()).await?;
            let rows = transaction.rows(keys.clone(), values.clone()).await?;
            transaction.commit().await?;
            let items = rows.iter().map(StoredKey::read).collect::<Result<_, _>>()?;
            Ok::<_, Failure>(Page { items, total })
        };
        self.attempt("listing keys", self.timeout, reading).await
    }
}

/// Returns the SQL that takes a part of a list.
pub(super) fn part(offset: u64, limit: u64) -> Result<String, KeyError> {
    if !(1..=LONGEST_PAGE).contains(&limit) {
        let message = format!("must be from 1 to {LONGEST_PAGE}");
        return Err(KeyError::invalid("limit", message));
    }
    match i64::try_from(offset) {
        Ok(_) => Ok(format!("LIMIT {limit} OFFSET {offset}")),
        Err(_too_large) => Err(KeyError::invalid("offset", "is too large")),
    }
}

/// Runs a query for one number.
pub(super) async fn count(
    transaction: &mut Transaction<'_>,
    sql: String,
    values: Vec<Value<'_>>,
) -> Result<u64, Fault> {
    let rows = transaction.rows(sql, values).await?;
    let count = rows.first().map_or(Ok(0), |row| row.count(0))?;
    Ok(u64::try_from(count).unwrap_or(0))
}

// === impl Filter ===

impl Filter {
    fn check(&self) -> Result<(), KeyError> {
        for (field, text) in [("user_id", &self.user_id), ("name", &self.name)] {
            let text = text.as_deref().unwrap_or_default();
            if text.len() > LONGEST_TEXT || text.contains(char::is_control) {
                let message =
                    format!("must have at most {LONGEST_TEXT} bytes and no control characters");
                return Err(KeyError::invalid(field, message));
            }
        }
        Ok(())
    }

    /// Returns the `WHERE` clause, if there is need for one, and its values.
    fn clause(&self) -> (String, Vec<Value<'static>>) {
        let text = |text: String| Value::Text(Some(text.into()));
        let mut conditions = Vec::new();
        let mut values = Vec::new();
        if let Some(user_id) = &self.user_id {
            conditions.push("user_id = ?");
            values.push(text(user_id.clone()));
        }
        if let Some(status) = self.status {
            conditions.push("status = ?");
            values.push(text(status.as_str().to_owned()));
        }
        if let Some(name) = self.name.as_ref().filter(|name| !name.is_empty()) {
            conditions.push("search_name LIKE ? ESCAPE '!'");
            values.push(text(pattern(&searchable(name))));
        }
        match conditions.is_empty() {
            true => (String::new(), values),
            false => (format!("WHERE {}", conditions.join(" AND ")), values),
        }
    }
}

/// Returns the pattern of texts that contain this one.
fn pattern(text: &str) -> String {
    let mut pattern = String::from("%");
    for c in text.chars() {
        if matches!(c, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(c);
    }
    pattern.push('%');
    pattern
}

/// What one answer can sensibly hold.
const LONGEST_PAGE: u64 = 100;

/// As long as a name can be.
const LONGEST_TEXT: usize = 256;
