//! Proving that nothing is damaged or missing.

use std::fs;

use serde_json::{Value, json};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use super::{Story, configured, lines, text, usage};
use crate::gateway::{Gateway, backends};
use crate::shapes::vllm;
use crate::upstream::Upstream;
use crate::webhook::Webhook;

#[test]
fn verify_tells_a_sound_ledger_from_a_damaged_one() {
    let Story {
        gateway,
        webhook: _webhook,
        _upstream,
        dir,
    } = Story::start(Webhook::start());
    let data_dir = dir.path().join("data");
    let running = lines(&usage(&data_dir, "verify"));
    assert_eq!(running[0]["ledger"]["events"], json!({"completed": 3}));
    gateway.stop();
    let sound = text(&usage(&data_dir, "verify --format table"), 0);
    assert!(sound.ends_with("the ledger is sound\n"), "{sound}");
    assert!(sound.contains("billing"), "{sound}");

    let segment = fs::read_dir(data_dir.join("ledger"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "ledger"))
        .unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    bytes[100] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let number: u64 = segment
        .file_stem()
        .unwrap()
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    let damaged = text(&usage(&data_dir, "verify --format table"), 1);
    assert!(
        damaged.contains(&format!("damaged: segment {number}, ")),
        "{damaged}"
    );
    assert!(damaged.ends_with("the ledger is DAMAGED\n"), "{damaged}");
    let json = text(&usage(&data_dir, "verify"), 1);
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["sound"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_misses_a_row_that_somebody_deleted() {
    let (dir, upstream) = (tempfile::tempdir().unwrap(), Upstream::start(vllm));
    let file = dir.path().join("usage.db");
    let yaml = format!(
        "{}usage_hook:\n  reporters:\n    - {{name: db, type: database, \
         database: {{driver: sqlite, dsn: {}}}}}\n",
        backends(&upstream),
        file.display()
    );
    let gateway = Gateway::start_in(dir.path(), &yaml);
    for _ in 0..3 {
        assert_eq!(gateway.chat().status, 200);
    }
    // Delivers what is left.
    gateway.stop();
    let whole = text(&configured(dir.path(), "verify --database db"), 0);
    let whole: Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["database"]["present"], 3, "{whole}");

    let options = SqliteConnectOptions::new().filename(&file);
    let pool = SqlitePool::connect_with(options).await.unwrap();
    let (id,): (String,) = sqlx::query_as("SELECT min(event_id) FROM usage_records")
        .fetch_one(&pool)
        .await
        .unwrap();
    sqlx::query("DELETE FROM usage_records WHERE event_id = ?")
        .bind(&id)
        .execute(&pool)
        .await
        .unwrap();
    pool.close().await;
    let missing = text(
        &configured(dir.path(), "verify --database db --format table"),
        1,
    );
    assert!(missing.contains("2 of 3"), "{missing}");
    assert!(missing.contains(&format!("missing: {id}")), "{missing}");
    // Sending it again repairs it.
    text(&configured(dir.path(), "replay --reporter db"), 0);
    text(&configured(dir.path(), "verify --database db"), 0);
}
