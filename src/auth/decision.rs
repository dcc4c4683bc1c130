//! Whether a key that was found may be used here and now: the built-in rules, and a script's word.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;

use super::client_ip::within;
use crate::config::{ApiKey, KeyStatus, Refused};
use crate::script::{Decision, DecisionInput, Program, ScriptError};

/// A no, before it is put into the words of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Denial {
    pub(super) reason: Refused,
    /// What a script or a provider wants the client to see.
    pub(super) status: Option<u16>,
    pub(super) message: Option<String>,
}

/// What a script that allows adds to the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Additions {
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) user_id: Option<String>,
}

/// Decides in place of a person: a script, or in tests a closure.
pub(super) trait Judge: Send + Sync {
    fn judge(&self, input: &DecisionInput<'_>) -> Result<Decision, ScriptError>;
}

impl Judge for Program {
    fn judge(&self, input: &DecisionInput<'_>) -> Result<Decision, ScriptError> {
        self.decide(input)
    }
}

impl From<Refused> for Denial {
    fn from(reason: Refused) -> Self {
        Self {
            reason,
            status: None,
            message: None,
        }
    }
}

/// Applies the rules every key comes under, whoever found it.
///
/// `tolerated` says which reasons do not count.
pub(super) fn check(
    spec: &ApiKey,
    peer: IpAddr,
    now: Timestamp,
    tolerated: impl Fn(Refused) -> bool,
) -> Result<(), Refused> {
    let switched_off = match spec.status {
        KeyStatus::Disabled => Some(Refused::Disabled),
        KeyStatus::Expired => Some(Refused::Expired),
        KeyStatus::Active | KeyStatus::QuotaExceeded => None,
    };
    let over = spec.expires_at.is_some_and(|end| now >= end);
    let early = spec.starts_at.is_some_and(|start| now < start);
    let used_up = spec.status == KeyStatus::QuotaExceeded;
    let reasons = [
        switched_off,
        over.then_some(Refused::Expired),
        early.then_some(Refused::NotStarted),
        is_kept_out(spec, peer).then_some(Refused::IpDenied),
        used_up.then_some(Refused::QuotaExceeded),
    ];
    let standing = |reason: &Refused| !tolerated(*reason);
    reasons
        .into_iter()
        .flatten()
        .find(standing)
        .map_or(Ok(()), Err)
}

/// Whether the key's lists keep `peer` out; an unknown peer (`0.0.0.0`, `::`) is kept out by any list.
fn is_kept_out(spec: &ApiKey, peer: IpAddr) -> bool {
    let (allowed, denied) = (&spec.allowed_ips, &spec.denied_ips);
    if allowed.is_empty() && denied.is_empty() {
        return false;
    }
    peer.to_canonical().is_unspecified()
        || within(denied, peer)
        || (!allowed.is_empty() && !within(allowed, peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(peer: &str, change: impl FnOnce(&mut ApiKey)) -> Result<(), Refused> {
        let mut spec = ApiKey::default();
        change(&mut spec);
        check(&spec, peer.parse().unwrap(), at(100), |_| false)
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<ipnet::IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn every_status_but_active_refuses() {
        for (status, expected) in [
            (KeyStatus::Active, Ok(())),
            (KeyStatus::Disabled, Err(Refused::Disabled)),
            (KeyStatus::Expired, Err(Refused::Expired)),
            (KeyStatus::QuotaExceeded, Err(Refused::QuotaExceeded)),
        ] {
            assert_eq!(checked("192.0.2.7", |spec| spec.status = status), expected);
        }
    }

    #[test]
    fn a_key_is_good_from_its_start_to_just_before_its_end() {
        let used = |start, end| {
            checked("192.0.2.7", |spec| {
                spec.starts_at = Some(at(start));
                spec.expires_at = Some(at(end));
            })
        };
        assert_eq!(used(100, 101), Ok(()));
        assert_eq!(used(0, 100), Err(Refused::Expired));
        assert_eq!(used(101, 200), Err(Refused::NotStarted));
    }

    #[test]
    fn denied_addresses_are_refused_even_if_they_are_allowed_too() {
        let used = |peer| {
            checked(peer, |spec| {
                spec.allowed_ips = nets(&["192.0.2.0/24", "2001:db8::/32"]);
                spec.denied_ips = nets(&["192.0.2.66/32"]);
            })
        };
        assert_eq!(used("192.0.2.7"), Ok(()));
        assert_eq!(used("::ffff:192.0.2.7"), Ok(()));
        assert_eq!(used("2001:db8::9"), Ok(()));
        for peer in ["192.0.2.66", "::ffff:192.0.2.66", "198.51.100.1", "::1"] {
            assert_eq!(used(peer), Err(Refused::IpDenied), "{peer}");
        }
    }

    #[test]
    fn an_unknown_peer_is_refused_as_soon_as_there_is_a_list() {
        for peer in ["0.0.0.0", "::", "::ffff:0.0.0.0"] {
            assert_eq!(checked(peer, |_| {}), Ok(()));
            let denying = |spec: &mut ApiKey| spec.denied_ips = nets(&["192.0.2.0/24"]);
            let allowing = |spec: &mut ApiKey| spec.allowed_ips = nets(&["0.0.0.0/0", "::/0"]);
            assert_eq!(checked(peer, denying), Err(Refused::IpDenied));
            assert_eq!(checked(peer, allowing), Err(Refused::IpDenied));
        }
    }

    #[test]
    fn what_is_tolerated_hides_nothing_else() {
        let spec = ApiKey {
            status: KeyStatus::Disabled,
            denied_ips: nets(&["192.0.2.7/32"]),
            ..ApiKey::default()
        };
        let peer = "192.0.2.7".parse().unwrap();
        let disabled_is_fine = |reason| reason == Refused::Disabled;
        assert_eq!(
            check(&spec, peer, at(0), disabled_is_fine),
            Err(Refused::IpDenied)
        );
    }
}
