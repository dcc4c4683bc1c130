//! The scripts. What they share is put before each of them, because Redis scripts cannot include.

use std::sync::LazyLock;

use redis::Script;

macro_rules! script {
    ($($part:literal),+) => {
        LazyLock::new(|| {
            Script::new(concat!($(include_str!(concat!("lua/", $part, ".lua")), "\n"),+))
        })
    };
}

pub(super) static ADMIT: LazyLock<Script> =
    script!("common", "window", "bucket", "permits", "account", "admit");
pub(super) static FINISH: LazyLock<Script> = script!("common", "window", "bucket", "finish");
pub(super) static RENEW: LazyLock<Script> = script!("common", "renew");

pub(super) static UPDATE: LazyLock<Script> = script!("common", "account", "update");
pub(super) static SETTLE: LazyLock<Script> = script!("common", "account", "settle");
pub(super) static PROLONG: LazyLock<Script> = script!("common", "account", "prolong");
pub(super) static INSPECT: LazyLock<Script> = script!("common", "account", "inspect");
