//! Connections and pools, on SQLite; `keys` tells its stories on the others, too.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::join_all;

use super::*;
use crate::config::dsn::Target;

/// Opens files of ours.
struct Own;

#[async_trait]
impl Open for Own {
    async fn open(&self, target: &Target, timeout: Duration) -> Result<Connection, Fault> {
        let mut connection = Connection::open(target, timeout).await?;
        let table = "CREATE TABLE IF NOT EXISTS t (n BIGINT UNIQUE, text TEXT)";
        connection.execute(table.to_owned()).await?;
        Ok(connection)
    }
}

fn file(dir: &Path) -> PathBuf {
    dir.join("a.db")
}

fn pool(dir: &Path, size: usize, timeout: u64) -> Pool {
    let timeout = Duration::from_millis(timeout);
    Pool::new(Target::Sqlite(file(dir)), size, timeout, Box::new(Own))
}

async fn insert(transaction: &mut Transaction<'_>, n: i64) -> Result<u64, Fault> {
    let values = vec![Value::count(n), Value::text("x")];
    let sql = "INSERT INTO t VALUES (?, ?)".to_owned();
    transaction.bound(sql, values).await
}

async fn count(pool: &Pool) -> i64 {
    let mut transaction = pool.read().await.unwrap();
    let sql = "SELECT count(*) FROM t".to_owned();
    let rows = transaction.rows(sql, Vec::new()).await.unwrap();
    transaction.commit().await.unwrap();
    rows[0].count(0).unwrap()
}

#[tokio::test]
async fn what_is_not_committed_is_undone() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool(dir.path(), 1, 10_000);
    let mut dropped = pool.write().await.unwrap();
    insert(&mut dropped, 1).await.unwrap();
    drop(dropped);
    let mut taken_back = pool.write().await.unwrap();
    insert(&mut taken_back, 1).await.unwrap();
    taken_back.roll_back().await;
    assert_eq!(count(&pool).await, 0);
    let mut done = pool.write().await.unwrap();
    insert(&mut done, 1).await.unwrap();
    done.commit().await.unwrap();
    assert_eq!(count(&pool).await, 1);
}

#[tokio::test]
async fn who_finds_no_connection_free_waits_for_one() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool(dir.path(), 1, 10_000);
    let first = pool.read().await.unwrap();
    let mut second = Box::pin(pool.read());
    let early = tokio::time::timeout(Duration::from_millis(20), &mut second).await;
    assert!(early.is_err(), "two connections where one may be");
    drop(first);
    second.await.unwrap();
}

#[tokio::test]
async fn the_queue_is_bounded_in_time_and_in_number() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool(dir.path(), 1, 300);
    let first = pool.read().await.unwrap();
    let waiting = join_all((0..1026).map(|_| pool.read())).await;
    let late = |one: &Result<_, _>| matches!(one, Err(Fault::Late { .. }));
    assert_eq!(waiting.iter().filter(|one| late(one)).count(), 1024);
    let refused = waiting.into_iter().filter(|one| !late(one));
    for refused in refused {
        let fault = refused.err().unwrap();
        assert_eq!(fault.to_string(), "too many requests wait for a connection");
    }
    drop(first);
    pool.read().await.unwrap();
}

#[tokio::test]
async fn errors_tell_what_kind_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool(dir.path(), 2, 100);
    let mut one = pool.write().await.unwrap();
    insert(&mut one, 1).await.unwrap();
    let duplicate = insert(&mut one, 1).await.unwrap_err();
    assert!(duplicate.is_duplicate() && !duplicate.is_conflict());
    let mut other = Connection::open(pool.target(), Duration::from_millis(10))
        .await
        .unwrap();
    let busy = other.begin().await.unwrap_err();
    assert!(busy.is_conflict() && !busy.is_duplicate(), "{busy}");
}

#[tokio::test]
async fn a_file_of_somebody_else_is_neither_made_nor_changed() {
    let dir = tempfile::tempdir().unwrap();
    let target = Target::Sqlite(file(dir.path()));
    let timeout = Duration::from_secs(10);
    let absent = Connection::open_to_read(&target, timeout).await;
    assert!(absent.is_err() && !file(dir.path()).exists());

    let own = pool(dir.path(), 1, 10_000);
    let mut transaction = own.write().await.unwrap();
    insert(&mut transaction, 7).await.unwrap();
    transaction.commit().await.unwrap();
    let foreign = Pool::new(target, 1, timeout, Box::new(ToRead));
    assert_eq!(count(&foreign).await, 1);
    let refused = foreign.write().await;
    let refused = match refused {
        Ok(mut transaction) => insert(&mut transaction, 8).await.unwrap_err(),
        Err(fault) => fault,
    };
    assert!(refused.to_string().contains("readonly"), "{refused}");
}

#[tokio::test]
async fn rows_are_read_as_what_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let pool = pool(dir.path(), 1, 10_000);
    let mut transaction = pool.read().await.unwrap();
    let sql = "SELECT 'ä', NULL, 5, NULL WHERE ? = 1".to_owned();
    let rows = transaction.rows(sql, vec![Value::count(1)]).await.unwrap();
    let row = &rows[0];
    assert_eq!(row.text(0).unwrap(), "ä");
    assert_eq!(row.maybe_text(1).unwrap(), None);
    assert_eq!(row.count(2).unwrap(), 5);
    assert_eq!(row.maybe_count(3).unwrap(), None);
    assert!(row.text(1).is_err(), "null is no text");
    assert!(row.text(9).is_err(), "there is no such column");
    assert!(row.count(0).is_err(), "a text is no number");
}
