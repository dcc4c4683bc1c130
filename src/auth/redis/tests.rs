use super::*;
use crate::auth::record::testing::{HASHED, KEY, caller};
use crate::config::{KeyStatus, Redis};
use crate::db::redis::testing::{PrivateRedis, config};

const NAME: &str = "llmproxy:key:sk-story-0123456789";

fn keys_in(redis: Redis, pattern: &str) -> RedisSource {
    let provider = RedisProvider {
        redis,
        key_pattern: pattern.to_owned(),
    };
    RedisSource::new("vip", &provider).unwrap()
}

async fn find(keys: &RedisSource, presented: &str) -> Result<Option<Arc<Key>>, SourceError> {
    keys.find(presented, &KeyHash::of(presented), &caller())
        .await
}

/// A server, and a provider with the usual pattern.
async fn story() -> (PrivateRedis, RedisSource) {
    let redis = PrivateRedis::start().await;
    let keys = keys_in(redis.config(), "llmproxy:key:{api_key}");
    (redis, keys)
}

#[tokio::test]
async fn a_hash_is_a_key() {
    let (redis, keys) = story().await;
    let words = [
        "HSET", NAME, "status", "enabled", "user_id", "ann", "quota", "500", "used", "20",
    ];
    let () = redis.run(&words).await;
    let key = find(&keys, KEY).await.unwrap().unwrap();
    assert_eq!(key.spec.user_id.as_deref(), Some("ann"));
    assert_eq!((key.spec.total_quota, key.spec.used_quota), (Some(500), 20));
    assert_eq!(key.data["quota"], "500");
}

#[tokio::test]
async fn a_json_object_is_a_key() {
    let (redis, keys) = story().await;
    let json = r#"{"status": 1, "name": "Ann", "api_key": "sk-story-0123456789", "plan": [1]}"#;
    let () = redis.run(&["SET", NAME, json]).await;
    let key = find(&keys, KEY).await.unwrap().unwrap();
    assert_eq!(key.spec.status, KeyStatus::Disabled);
    assert_eq!(key.data.get("api_key"), None);
    assert_eq!(key.data["plan"][0], 1);
}

#[tokio::test]
async fn a_key_that_is_not_there_is_not_known() {
    let (redis, keys) = story().await;
    assert_eq!(find(&keys, KEY).await, Ok(None));
    let () = redis.run(&["HSET", NAME, "status", "active"]).await;
    let () = redis.run(&["HDEL", NAME, "status"]).await;
    assert_eq!(
        find(&keys, KEY).await,
        Ok(None),
        "Redis keeps no empty hash"
    );
}

#[tokio::test]
async fn data_of_another_type_or_without_sense_is_no_key() {
    let (redis, keys) = story().await;
    for (words, expected) in [
        (
            &["RPUSH", NAME, "active"][..],
            "record: is neither a hash nor a text with a JSON object",
        ),
        (
            &["SADD", NAME, "active"],
            "record: is neither a hash nor a text with a JSON object",
        ),
        (&["SET", NAME, "active"], "record: is not JSON"),
        (&["SET", NAME, ""], "record: is not JSON"),
        (&["SET", NAME, "[1]"], "record: is JSON, but not an object"),
        (
            &["SET", NAME, r#"{"status":1,"status":0}"#],
            "record: is JSON that has a name twice",
        ),
        (&["HSET", NAME, "status", ""], "status: unknown variant ``"),
        (
            &["HSET", NAME, "total_quota", "lots"],
            "total_quota: expected a whole number",
        ),
    ] {
        let () = redis.run(&["DEL", NAME]).await;
        let () = redis.run(words).await;
        match find(&keys, KEY).await {
            Err(SourceError::Invalid(what)) => assert!(what.starts_with(expected), "{what}"),
            other => panic!("{words:?}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn bytes_that_are_no_text_and_texts_without_end_are_refused() {
    let (redis, keys) = story().await;
    let link = redis.link();
    let mut set = redis::cmd("HSET");
    let () = link
        .run(set.arg(NAME).arg("name").arg(b"\xff"))
        .await
        .unwrap();
    let invalid = |what: &str| Err(SourceError::Invalid(what.to_owned()));
    assert_eq!(find(&keys, KEY).await, invalid("name: is not text"));
    let long = format!("{{\"note\":\"{}\"}}", "x".repeat(LARGEST));
    let () = redis.run(&["SET", NAME, &long]).await;
    assert_eq!(
        find(&keys, KEY).await,
        invalid("record: is larger than 65536 bytes")
    );
    let () = redis.run(&["DEL", NAME]).await;
    let () = redis.run(&["HSET", NAME, "note", &long]).await;
    assert_eq!(
        find(&keys, KEY).await,
        invalid("record: is larger than 65536 bytes")
    );
}

#[tokio::test]
async fn the_name_may_hold_the_hash_instead_of_the_key() {
    let redis = PrivateRedis::start().await;
    let keys = keys_in(redis.config(), "{tenant}:{key_hash}:{");
    let name = format!("{{tenant}}:{HASHED}:{{");
    let () = redis.run(&["HSET", &name, "name", "Ann"]).await;
    assert!(find(&keys, KEY).await.unwrap().is_some());
    assert_eq!(find(&keys, "sk-other").await, Ok(None));
}

#[tokio::test]
async fn keys_are_bytes_whatever_characters_they_have() {
    let (redis, keys) = story().await;
    let () = redis.run(&["HSET", NAME, "status", "active"]).await;
    for odd in [
        "*",
        "sk-story-*",
        "sk-story-012345678?",
        "\r\nDEL x\r\n",
        "a b",
        "\0",
        "{key_hash}",
        "é",
    ] {
        assert_eq!(find(&keys, odd).await, Ok(None), "{odd:?}");
        let () = redis
            .run(&["HSET", &format!("llmproxy:key:{odd}"), "name", odd])
            .await;
        let key = find(&keys, odd).await;
        assert!(
            matches!(key, Ok(Some(_))) || odd.contains(char::is_control),
            "{odd:?}: {key:?}"
        );
    }
    assert!(find(&keys, KEY).await.unwrap().is_some());
}

#[tokio::test]
async fn a_server_that_is_away_is_not_an_unknown_key() {
    let (mut redis, keys) = story().await;
    let () = redis.run(&["HSET", NAME, "status", "active"]).await;
    assert!(find(&keys, KEY).await.unwrap().is_some());
    redis.stop();
    let Err(SourceError::Unavailable(what)) = find(&keys, KEY).await else {
        panic!("it is away");
    };
    assert!(
        what.starts_with("redis ") && !what.contains("sk-"),
        "{what}"
    );
    let keys = keys_in(config("127.0.0.1:1"), "{api_key}");
    assert!(matches!(
        find(&keys, KEY).await,
        Err(SourceError::Unavailable(_))
    ));
}

#[tokio::test]
async fn a_user_who_may_read_is_enough_and_one_who_may_not_is_told() {
    let redis = PrivateRedis::start().await;
    let () = redis.run(&["HSET", NAME, "status", "active"]).await;
    let () = redis
        .run(&[
            "ACL",
            "SETUSER",
            "reader",
            "on",
            ">pw",
            "~llmproxy:key:*",
            "+hgetall",
            "+get",
        ])
        .await;
    let () = redis
        .run(&["ACL", "SETUSER", "nobody", "on", ">pw", "~*", "+ping"])
        .await;
    let as_user = |user: &str| {
        let url = format!("unix://{}?user={user}&pass=pw", redis.socket().display());
        keys_in(config(&url), "llmproxy:key:{api_key}")
    };
    assert!(find(&as_user("reader"), KEY).await.unwrap().is_some());
    let Err(SourceError::Unavailable(what)) = find(&as_user("nobody"), KEY).await else {
        panic!("it may not");
    };
    assert!(what.contains("NOPERM"), "{what}");
}

#[test]
fn a_pattern_is_taken_apart_once() {
    let hash = KeyHash::of("{key_hash}");
    let name = Pattern::new("a:{api_key}:{x}:{key_hash}").of("{key_hash}", &hash);
    let expected = format!("a:{{key_hash}}:{{x}}:{hash}");
    assert_eq!(String::from_utf8(name).unwrap(), expected);
}
