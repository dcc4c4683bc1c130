//! Field by field: what is read, and what is refused.

use super::*;
use crate::config::{RateLimits, ResetPeriod};

#[test]
fn a_status_is_a_word_or_a_number_and_nothing_else() {
    for (written, expected) in [
        (json!("active"), KeyStatus::Active),
        (json!(" Enabled "), KeyStatus::Active),
        (json!(0), KeyStatus::Active),
        (json!("DISABLED"), KeyStatus::Disabled),
        (json!(1), KeyStatus::Disabled),
        (json!("1"), KeyStatus::Disabled),
        (json!("quota_exceeded"), KeyStatus::QuotaExceeded),
        (json!(3), KeyStatus::Expired),
    ] {
        assert_eq!(
            spec(json!({ "status": written })).status,
            expected,
            "{written}"
        );
    }
    for written in [
        json!("banned"),
        json!(""),
        json!(4),
        json!(-1),
        json!(true),
        json!([]),
        json!(0.5),
    ] {
        let what = refused(json!({ "status": written }));
        assert!(what.starts_with("status: "), "{what}");
    }
}

#[test]
fn who_has_nothing_left_has_exceeded_the_quota() {
    for (left, expected) in [
        (json!(0.01), KeyStatus::Active),
        (json!("1e-9"), KeyStatus::Active),
        (json!(0), KeyStatus::QuotaExceeded),
        (json!("0.00"), KeyStatus::QuotaExceeded),
        (json!("-3.5"), KeyStatus::QuotaExceeded),
    ] {
        assert_eq!(spec(json!({ "balance": left })).status, expected, "{left}");
    }
    let gone = spec(json!({"status": "expired", "balance": 0}));
    assert_eq!(gone.status, KeyStatus::Expired);
    for left in [
        json!("plenty"),
        json!(""),
        json!("NaN"),
        json!("inf"),
        json!(true),
        json!({}),
    ] {
        assert_eq!(
            refused(json!({ "balance": left })),
            "balance: must be a number"
        );
    }
}

#[test]
fn quotas_are_whole_numbers_and_none_is_zero() {
    assert_eq!(spec(json!({"total_quota": 0})).total_quota, None);
    assert_eq!(
        spec(json!({"total_quota": "1000.00"})).total_quota,
        Some(1000)
    );
    assert_eq!(
        spec(json!({"total_budget": "12.50"})).total_budget,
        Some(12_500_000_000)
    );
    let daily = spec(json!({"quota_reset_period": "Daily"})).quota_reset_period;
    assert_eq!(daily, Some(ResetPeriod::Daily));
    for (field, value) in [
        ("total_quota", json!("")),
        ("total_quota", json!("many")),
        ("total_quota", json!(-1)),
        ("total_quota", json!(0.5)),
        ("total_quota", json!([1])),
        ("total_quota", json!(1e30)),
        ("used_quota", json!("-5")),
        ("used_quota", json!(true)),
        ("total_budget", json!("0.0000000001")),
        ("quota_reset_period", json!("hourly")),
        ("quota_reset_period", json!(1)),
    ] {
        let what = refused(json!({ field: value }));
        assert!(what.starts_with(&format!("{field}: ")), "{what}");
    }
}

#[test]
fn times_are_read_as_every_database_and_program_writes_them() {
    let noon = 1_798_718_400;
    for written in [
        json!(noon),
        json!(1_798_718_400_000_i64),
        json!("1798718400"),
        json!(1_798_718_400.9),
        json!("2026-12-31T12:00:00Z"),
        json!("2026-12-31T13:00:00.000+01:00"),
        json!("2026-12-31T12:00:00+00:00"),
        json!("2026-12-31 12:00:00"),
        json!("2026-12-31T12:00:00"),
    ] {
        let spec = spec(json!({ "expires_at": written }));
        assert_eq!(
            spec.expires_at.map(|end| end.as_second()),
            Some(noon),
            "{written}"
        );
    }
    let start = spec(json!({"starts_at": 1_798_718_399.1})).starts_at;
    assert_eq!(start.unwrap().as_second(), noon);
    for written in [
        json!(0),
        json!("0"),
        json!(""),
        json!(null),
        json!("0001-01-01T00:00:00Z"),
    ] {
        assert_eq!(
            spec(json!({ "expired_at": written })).expires_at,
            None,
            "{written}"
        );
    }
    assert_eq!(spec(json!({"expires_at": "infinity"})).expires_at, None);
    for written in [
        json!("never"),
        json!(-1),
        json!(0.5),
        json!(true),
        json!("31.12.2026"),
        json!([]),
    ] {
        let what = refused(json!({ "expires_at": written }));
        assert!(what.starts_with("expires_at: "), "{what}");
    }
    assert!(
        key(json!({"starts_at": "infinity"})).is_err(),
        "it never starts"
    );
}

#[test]
fn lists_are_lists_or_json_or_texts_with_commas() {
    for written in [
        json!(["10.0.0.0/8", "::1"]),
        json!("10.0.0.0/8,::1"),
        json!(" 10.0.0.0/8 , ::1, "),
        json!(r#" ["10.0.0.0/8", "::1"]"#),
    ] {
        let spec = spec(json!({"allowed_ips": written, "denied_ips": written}));
        assert_eq!(
            (spec.allowed_ips.len(), spec.denied_ips.len()),
            (2, 2),
            "{written}"
        );
    }
    let models = spec(json!({"allowed_models": "gpt-*, qwen"})).allowed_models;
    assert_eq!(models, ["gpt-*", "qwen"]);
    for written in [json!([]), json!(""), json!("[]"), json!(null)] {
        assert!(
            spec(json!({ "allowed_ips": written }))
                .allowed_ips
                .is_empty()
        );
    }
    for written in [
        json!(","),
        json!("localhost"),
        json!([""]),
        json!([null]),
        json!([["::1"]]),
        json!({"0": "::1"}),
        json!("[\"::1\""),
        json!("{10.0.0.1}"),
        json!(7),
        json!(false),
    ] {
        let what = refused(json!({ "allowed_ips": written }));
        assert!(what.starts_with("allowed_ips: "), "{what}");
    }
}

#[test]
fn a_list_has_a_bound() {
    let many = |count: usize| vec!["192.0.2.7"; count];
    let spec = spec(json!({"denied_ips": many(1000)}));
    assert_eq!(spec.denied_ips.len(), 1000);
    assert!(key(json!({"denied_ips": many(1001)})).is_err());
}

#[test]
fn limits_stand_alone_or_together() {
    let expected = RateLimits {
        requests_per_second_milli: Some(500),
        burst_size: Some(3),
        tokens_per_minute: Some(10),
        ..RateLimits::default()
    };
    for written in [
        json!({"requests_per_second": 0.5, "burst": "3", "tokens_per_minute": "10"}),
        json!({"rate_limit": {"requests_per_second": 0.5, "burst": 3, "tokens_per_minute": 10}}),
        json!({"rate_limit": r#"{"requests_per_second":"0.5","burst_size":3,"tokens_per_minute":10}"#}),
        json!({"rate_limit": {"requests_per_second": 0.5, "burst": 3}, "tokens_per_minute": 10}),
        json!({"rate_limit": {"requests_per_second": 0.5, "burst": 3, "tokens_per_minute": null},
               "tokensPerMinute": 10, "burst_size": 3}),
        json!({"rate_limit": {"enabled": false}, "requests_per_second": 0.5, "burst": 3,
               "tokens_per_minute": 10}),
    ] {
        assert_eq!(
            spec(written.clone()).rate_limit,
            Some(expected.clone()),
            "{written}"
        );
    }
    for none in [
        json!({}),
        json!("{}"),
        json!(""),
        json!(null),
        json!({"burst": null}),
    ] {
        assert_eq!(
            spec(json!({ "rate_limit": none })).rate_limit,
            None,
            "{none}"
        );
    }
    let exempt = spec(json!({"rate_limit": {"enabled": false}})).rate_limit;
    assert_eq!(exempt, Some(RateLimits::default()));
}

#[test]
fn a_limit_that_cannot_be_read_is_not_no_limit() {
    for written in [
        json!({"requests_per_minute": "sixty"}),
        json!({"requests_per_minute": 0}),
        json!({"requests_per_minute": ""}),
        json!({"requests_per_minute": -1}),
        json!({"rate_limit": 60}),
        json!({"rate_limit": "60"}),
        json!({"rate_limit": [60]}),
        json!({"rate_limit": {"request_per_minute": 60}}),
        json!({"rate_limit": {"enabled": "no", "requests_per_minute": 60}}),
        json!({"rate_limit": {"requests_per_minute": 60}, "requests_per_minute": 61}),
        json!({"rate_limit": r#"{"requests_per_minute":60,"requests_per_minute":0}"#}),
        json!({"rate_limit": {"requests_per_second": 1, "burst": 9}, "burst_size": 8}),
        json!({"max_concurrent": {}}),
    ] {
        assert!(key(written.clone()).is_err(), "{written}");
    }
}

#[test]
fn metadata_becomes_text() {
    let spec =
        spec(json!({"metadata": {"team": "a", "seats": 3, "vip": true, "no": null, "x": [1]}}));
    let expected = [("seats", "3"), ("team", "a"), ("vip", "true"), ("x", "[1]")];
    let metadata: Vec<_> = spec.metadata.iter().map(|(k, v)| (&**k, &**v)).collect();
    assert_eq!(metadata, expected);
    assert_eq!(refused(json!({"metadata": "x"})), "metadata: is not JSON");
    assert_eq!(
        refused(json!({"metadata": [1]})),
        "metadata: must be an object"
    );
}

#[test]
fn an_id_is_a_short_name() {
    for (written, expected) in [
        (json!("team-a:7"), "team-a:7"),
        (json!(7), "7"),
        (json!("a".repeat(128)), &*"a".repeat(128)),
    ] {
        assert_eq!(key(json!({ "id": written })).unwrap().id, expected);
    }
    for written in [
        json!("a@b"),
        json!("!a"),
        json!("a b"),
        json!("a".repeat(129)),
        json!(1.5),
        json!([]),
    ] {
        let what = refused(json!({ "id": written }));
        assert!(what.starts_with("id: must be "), "{what}");
    }
}

#[test]
fn labels_are_texts_or_whole_numbers() {
    for written in [json!(true), json!(["ann"]), json!({}), json!(1.5)] {
        assert_eq!(
            refused(json!({ "user_id": written })),
            "user_id: must be a text"
        );
    }
    assert_eq!(spec(json!({"user_id": " "})).user_id, None);
    assert!(key(json!({"user_id": "ann\r\nX-Admin: 1"})).is_err());
}
