//! Files that are damaged, full, gone or none of ours.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rusqlite::Connection;

use super::*;

fn refused(path: &Path) -> String {
    match SqliteQuota::open(path, LEASE, "a") {
        Err(StoreError::Away(why)) => {
            assert!(why.contains(&*path.to_string_lossy()), "{why}");
            why
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("{} was opened", path.display()),
    }
}

#[tokio::test]
async fn the_file_is_not_for_everybody() {
    let shop = Shop::new();
    let path = shop.dir.path().join("not/there/yet/quota.db");
    let quota = SqliteQuota::open(&path, LEASE, "a").unwrap();
    quota
        .settle("key@ever", "1", tokens(1), true)
        .await
        .unwrap();
    for name in ["quota.db", "quota.db-wal", "quota.db-shm"] {
        let file = fs::metadata(path.with_file_name(name)).unwrap();
        let mode = file.permissions().mode() & 0o777;
        assert_eq!(mode & !0o640, 0, "{name}: {mode:o}");
    }
}

#[test]
fn what_is_no_quota_file_is_left_alone() {
    let shop = Shop::new();
    let text = shop.dir.path().join("notes.txt");
    fs::write(&text, "to do: ".repeat(1000)).unwrap();
    assert!(refused(&text).contains("not a database"));
    assert_eq!(fs::read_to_string(&text).unwrap(), "to do: ".repeat(1000));

    let foreign = shop.dir.path().join("keys.db");
    let connection = Connection::open(&foreign).unwrap();
    connection
        .execute_batch("CREATE TABLE llmproxy_keys (id TEXT)")
        .unwrap();
    assert!(refused(&foreign).contains("something else"));

    assert!(refused(shop.dir.path()).contains("unable to open"));
    assert!(refused(&text.join("quota.db")).contains("cannot make"));

    let later = shop.path();
    drop(shop.gateway("a"));
    let connection = Connection::open(&later).unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    assert!(refused(&later).contains("version 7"));
}

#[test]
fn a_name_that_means_something_to_sqlite_is_a_name() {
    let shop = Shop::new();
    let path = shop.dir.path().join("file::memory:?mode=memory");
    drop(SqliteQuota::open(&path, LEASE, "a").unwrap());
    assert!(path.is_file());
}

#[tokio::test]
async fn damage_is_found_at_the_start() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    for at in 0..200 {
        let name = format!("key-{at}@ever");
        quota.settle(&name, "1", tokens(1), true).await.unwrap();
    }
    let checkpoint = |books: &Books<'_>| {
        // Not within a transaction.
        books
            .connection
            .execute_batch("COMMIT; PRAGMA wal_checkpoint(TRUNCATE); BEGIN")?;
        Ok(())
    };
    quota.ask(checkpoint).await.unwrap();
    drop(quota);
    let mut bytes = fs::read(shop.path()).unwrap();
    let page = bytes.len() / 4096 / 2 * 4096;
    bytes[page..page + 4096].fill(0xa5);
    fs::write(shop.path(), bytes).unwrap();
    let why = refused(&shop.path());
    assert!(
        why.contains("damaged") || why.contains("malformed"),
        "{why}"
    );
}

#[tokio::test]
async fn a_question_that_cannot_be_answered_spoils_no_other() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let account = account("key@ever", Some(100), None);
    let bad = |books: &Books<'_>| -> Result<(), Fault> {
        books.settle("key@ever", "half", tokens(50), true)?;
        books.connection.execute(
            "INSERT INTO accounts (name, since) VALUES ('key@ever', 0)",
            [],
        )?;
        Ok(())
    };
    // Asked before any is answered, so that all are in one transaction.
    let (one, two) = (
        ask(&account, "1", tokens(10)),
        ask(&account, "2", tokens(20)),
    );
    let (first, failed, second) =
        tokio::join!(quota.reserve(&one), quota.ask(bad), quota.reserve(&two));
    assert_eq!(first, Ok(granted(0, 10, 1)));
    assert!(matches!(failed, Err(StoreError::Broken(_))), "{failed:?}");
    assert_eq!(second, Ok(granted(0, 30, 2)));
}

#[tokio::test]
async fn a_full_disk_is_an_answer_and_passes() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    let limit_pages = |most: i64| {
        quota.ask(move |books| {
            let is: i64 =
                books
                    .connection
                    .pragma_update_and_check(None, "max_page_count", most, |row| row.get(0))?;
            Ok(is)
        })
    };
    let pages = limit_pages(1).await.unwrap();
    limit_pages(pages).await.unwrap();
    let mut refusal = None;
    let mut counted = 0;
    for at in 0..10_000 {
        match quota
            .settle("key@ever", &at.to_string(), tokens(1), true)
            .await
        {
            Ok(()) => counted += 1,
            Err(error) => {
                refusal = Some(error);
                break;
            }
        }
    }
    assert!(
        matches!(&refusal, Some(StoreError::Away(why)) if why.contains("full")),
        "{refusal:?}"
    );
    assert_eq!(quota.read("key@ever").await.unwrap().used, tokens(counted));
    limit_pages(1_000_000).await.unwrap();
    quota
        .settle("key@ever", "last", tokens(1), true)
        .await
        .unwrap();
    assert_eq!(
        quota.read("key@ever").await.unwrap().used,
        tokens(counted + 1)
    );
}

#[tokio::test]
async fn a_file_that_fails_is_opened_anew() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    quota
        .settle("key@ever", "1", tokens(7), true)
        .await
        .unwrap();
    let break_it = |to: &'static str| {
        let path = shop.path();
        move || {
            let connection = Connection::open(path).unwrap();
            connection
                .execute_batch(&format!("ALTER TABLE {to}"))
                .unwrap();
        }
    };
    break_it("accounts RENAME TO lost")();
    let error = quota.read("key@ever").await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Away(why) if why.contains("accounts")),
        "{error}"
    );
    break_it("lost RENAME TO accounts")();
    // It rests for a moment, and answers the same meanwhile.
    let state = loop {
        match quota.read("key@ever").await {
            Ok(state) => break state,
            Err(again) => assert_eq!(again, error),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(short(state), (7, 0, 0));
}

#[tokio::test]
async fn a_file_that_was_removed_is_made_again() {
    let shop = Shop::new();
    let quota = shop.gateway("a");
    quota
        .settle("key@ever", "1", tokens(7), true)
        .await
        .unwrap();
    for end in ["", "-wal", "-shm"] {
        fs::remove_file(shop.dir.path().join(format!("quota.db{end}"))).unwrap();
    }
    // Noticed within a second, whether or not anybody asks.
    while !shop.path().exists() {
        drop(quota.read("key@ever").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let account = account("key@ever", Some(100), None);
    let reserved = quota.reserve(&ask(&account, "2", tokens(10))).await;
    assert_eq!(reserved, Ok(granted(0, 10, 1)));
    assert_eq!(
        short(shop.gateway("b").read("key@ever").await.unwrap()),
        (0, 10, 1)
    );
}

#[tokio::test]
async fn a_reader_changes_nothing_and_makes_no_file() {
    let shop = Shop::new();
    let missing = SqliteQuota::open_read_only(&shop.path()).err();
    assert!(matches!(missing, Some(StoreError::Away(_))), "{missing:?}");
    assert!(!shop.path().exists());

    let quota = shop.gateway("a");
    let account = account("key@ever", Some(100), None);
    quota
        .reserve(&ask(&account, "1", tokens(10)))
        .await
        .unwrap();
    let reader = SqliteQuota::open_read_only(&shop.path()).unwrap();
    assert_eq!(short(reader.read("key@ever").await.unwrap()), (0, 10, 1));
    let settled = reader.settled_by("key@ever", "a").await.unwrap();
    assert_eq!(settled, Some((tokens(0), START)));
    let refused = reader.settle("key@ever", "1", tokens(1), false).await;
    assert!(refused.is_err(), "{refused:?}");
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 10, 1));
}
