use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::*;
use crate::auth::tests::whole::built_over;
use crate::auth::tests::{KEY, enter, enter_with, refused};
use crate::config::{self, Database, Driver, ProviderKind, Refused, Secret};
use crate::keys::{Action, KeyHash, NewKey, Patch, Which};

fn change(seq: i64) -> Change {
    Change {
        seq,
        at: Timestamp::UNIX_EPOCH,
        actor: "test".to_owned(),
        action: Action::Update,
        key_id: "key_a".to_owned(),
        old: None,
        new: Some(KeyHash::of("a")),
    }
}

fn hears(follower: &mut Follower, latest: i64, seqs: &[i64]) -> Option<usize> {
    let changes: Vec<Change> = seqs.iter().map(|seq| change(*seq)).collect();
    match follower.heard(latest, &changes) {
        Heard::Of(changes) => Some(changes.len()),
        Heard::TooLittle => None,
    }
}

#[test]
fn whoever_begins_to_listen_believes_nothing_from_before() {
    let mut follower = Follower::default();
    assert_eq!(hears(&mut follower, 7, &[]), None);
    assert_eq!(follower.after, 7);
    assert_eq!(hears(&mut follower, 7, &[]), Some(0));
    assert_eq!(hears(&mut follower, 9, &[8, 9]), Some(2));
    assert_eq!(follower.after, 9);
}

#[test]
fn a_page_is_read_up_to_its_end() {
    let mut follower = Follower {
        after: 3,
        fails: false,
    };
    assert_eq!(hears(&mut follower, 100, &[4, 5]), Some(2));
    assert_eq!(follower.after, 5, "there is more to read");
    assert_eq!(hears(&mut follower, 100, &[]), Some(0));
    assert_eq!(follower.after, 100, "it is not asked for for ever");
}

#[test]
fn an_older_copy_and_a_flood_of_changes_make_everything_doubtful() {
    for latest in [2, 3 + WORTH_READING + 1] {
        let mut follower = Follower {
            after: 3,
            fails: false,
        };
        assert_eq!(hears(&mut follower, latest, &[4]), None);
        assert_eq!(follower.after, latest);
    }
}

/// One of several processes that share a store in `dir`.
async fn process(dir: &tempfile::TempDir) -> Arc<KeyStore> {
    let settings = settings(&dir.path().join("keys.db"));
    Arc::new(KeyStore::open(&settings).await.unwrap())
}

fn settings(file: &Path) -> config::KeyStore {
    config::KeyStore {
        database: Database {
            driver: Driver::Sqlite,
            dsn: Secret::new(file.to_str().unwrap()),
            table: "llmproxy_keys".to_owned(),
        },
        timeout: Duration::from_secs(30),
    }
}

fn gate(keys: &Arc<KeyStore>) -> Authenticator {
    built_over(Some(Arc::clone(keys)), |auth| {
        auth.pipeline[0].kind = ProviderKind::Builtin;
        auth.cache.ttl = Duration::from_secs(3600);
        auth.cache.negative_ttl = Duration::from_secs(3600);
    })
    .unwrap()
}

fn object(value: Value) -> Map<String, Value> {
    serde_json::from_value(value).unwrap()
}

#[tokio::test]
async fn what_another_process_does_to_keys_is_heard_of() {
    let dir = tempfile::tempdir().unwrap();
    let (ours, theirs) = (process(&dir).await, process(&dir).await);
    let gate = gate(&ours);
    let mut follower = Follower::default();
    let new = || NewKey {
        key: Some(Secret::new(KEY)),
        ..NewKey::default()
    };
    gate.read_on(&ours, &mut follower).await.unwrap();
    assert_eq!(refused(&gate).await, Refused::NotFound);

    let created = theirs.create(new(), "them").await.unwrap();
    assert_eq!(refused(&gate).await, Refused::NotFound, "remembered");
    gate.read_on(&ours, &mut follower).await.unwrap();
    assert_eq!(enter(&gate).await.unwrap().key.id, created.stored.id);

    let which = Which::Id(created.stored.id.clone());
    let off = Patch::read(object(json!({"status": "disabled"}))).unwrap();
    theirs.update(&which, &off, "them").await.unwrap();
    assert!(enter(&gate).await.is_ok(), "remembered");
    gate.read_on(&ours, &mut follower).await.unwrap();
    assert_eq!(refused(&gate).await, Refused::Disabled);

    let on = Patch::read(object(json!({"status": "active"}))).unwrap();
    theirs.update(&which, &on, "them").await.unwrap();
    let rotated = theirs.rotate(&which, "them").await.unwrap();
    gate.read_on(&ours, &mut follower).await.unwrap();
    assert_eq!(refused(&gate).await, Refused::NotFound);
    let key = rotated.key.unwrap();
    let principal = enter_with(&gate, key.expose()).await.unwrap();
    assert_eq!(principal.key.id, created.stored.id);
}

#[tokio::test]
async fn what_was_looked_up_before_anybody_listened_is_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let keys = process(&dir).await;
    let gate = gate(&keys);
    assert_eq!(refused(&gate).await, Refused::NotFound);
    let new = NewKey {
        key: Some(Secret::new(KEY)),
        ..NewKey::default()
    };
    keys.create(new, "them").await.unwrap();
    let mut follower = Follower::default();
    gate.read_on(&keys, &mut follower).await.unwrap();
    assert!(enter(&gate).await.is_ok());
}

#[tokio::test]
async fn a_store_that_cannot_be_read_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let keys = process(&dir).await;
    let new = NewKey {
        key: Some(Secret::new(KEY)),
        ..NewKey::default()
    };
    keys.create(new, "us").await.unwrap();
    let gate = gate(&keys);
    enter(&gate).await.unwrap();
    let nowhere = dir.path().join("keys.db").join("no directory");
    let broken = KeyStore::new(&settings(&nowhere)).unwrap();
    let mut follower = Follower::default();
    gate.follow(&broken, &mut follower).await;
    assert!(follower.fails && follower.after == i64::MAX);
    assert!(enter(&gate).await.is_ok(), "still believed");
}

#[tokio::test]
async fn watching_ends_when_it_is_told_to_or_nobody_can_tell_it() {
    let dir = tempfile::tempdir().unwrap();
    let gate = gate(&process(&dir).await);
    let (stop, shutdown) = watch::channel(true);
    gate.watch(shutdown).await;
    drop(stop);
    let (stop, shutdown) = watch::channel(false);
    tokio::join!(gate.watch(shutdown), async { drop(stop) });
}
