//! What our keys are called.
//!
//! | key, after the prefix | what it holds |
//! |---|---|
//! | `rl:b:<subject>` | what is missing in a subject's bucket of requests per second |
//! | `rl:m:<subject>`, `rl:d:<subject>` | its last minute and its last day, in slots |
//! | `rl:c:<subject>` | its running requests and their leases |
//! | `rl:r:<request>` | that a request was counted, when and with how many tokens |
//! | `q:a:<account>` | a quota account: what is used and reserved |
//! | `q:r:<account>`, `q:l:<account>` | its reservations and their leases |
//! | `q:x:<account>`, `q:y:<account>` | what was charged without a reservation or after its lease, and when |
//!
//! A subject is `g` or `k:<key>`, `u:<user>`, `m:<model>`.

use std::fmt::Write;

use sha2::{Digest, Sha256};

use crate::db::redis::RedisLink;
use crate::limit::types::Subject;

/// Returns the key of one kind of counter of a subject.
pub(super) fn counter(link: &RedisLink, kind: &str, subject: &Subject) -> String {
    let (letter, name) = match subject {
        Subject::Global => return link.key(&format!("rl:{kind}:g")),
        Subject::Key(name) => ('k', name),
        Subject::User(name) => ('u', name),
        Subject::Model(name) => ('m', name),
    };
    link.key(&format!("rl:{kind}:{letter}:{}", bounded(name)))
}

/// Returns the key under which a request is recorded.
pub(super) fn record(link: &RedisLink, id: &str) -> String {
    link.key(&format!("rl:r:{}", bounded(id)))
}

/// Returns the keys of an account, in the order in which scripts take them.
pub(super) fn account(link: &RedisLink, name: &str) -> [String; 5] {
    let name = bounded(name);
    ["a", "r", "l", "x", "y"].map(|kind| link.key(&format!("q:{kind}:{name}")))
}

/// Returns a name that is different for different texts, short, and safe to type into a shell.
pub(super) fn bounded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:@/+=%!".contains(&byte);
    if text.len() <= LONGEST && text.bytes().all(plain) {
        return text.to_owned();
    }
    // No plain text begins so.
    let mut name = String::from("#");
    for byte in Sha256::digest(text.as_bytes()) {
        let _done = write!(name, "{byte:02x}");
    }
    name
}

/// More than our ids and the names of most models take.
const LONGEST: usize = 100;
