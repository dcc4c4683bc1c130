use super::*;
use crate::config::KeyStatus;

fn limits() -> RateLimits {
    RateLimits {
        requests_per_second_milli: Some(500),
        ..RateLimits::default()
    }
}

fn told(subject: Subject, limited: Limited, limit: u64, wait: Option<f64>) -> String {
    let refusal = RateRefusal {
        subject,
        limited,
        limit,
        retry_after: wait.map(Duration::from_secs_f64),
        standing: Standing::default(),
    };
    Refusal::of_rate(&refusal, Some(&limits()), 5_000).message
}

fn key() -> Subject {
    Subject::Key("key_of_zoe".into())
}

#[test]
fn a_limit_of_rate_says_its_value_whose_it_is_and_when_to_come_back() {
    use Limited::*;
    for (subject, limited, limit, wait, text) in [
        (
            key(),
            RequestsPerMinute,
            60,
            Some(11.2),
            "60 requests per minute are allowed for this key; try again in 12 s",
        ),
        (
            Subject::User("zoe".into()),
            RequestsPerDay,
            1,
            Some(7_300.0),
            "1 request per day is allowed for this user; try again in 3 h",
        ),
        (
            Subject::Global,
            RequestsPerSecond,
            500,
            Some(0.01),
            "0.5 requests per second are allowed for all clients together; try again in 1 s",
        ),
        (
            Subject::Model("gpt".into()),
            TokensPerMinute,
            9_000,
            Some(121.0),
            "9000 tokens per minute are allowed for this model, and this request may take 5000; try again in 3 min",
        ),
        (
            key(),
            TokensPerDay,
            4_000,
            None,
            "this request may take 5000 tokens, but only 4000 tokens per day are allowed for this key",
        ),
        (
            key(),
            Concurrent,
            4,
            Some(1.0),
            "4 requests at a time are allowed for this key; try again when one has ended",
        ),
        (
            key(),
            Concurrent,
            0,
            None,
            "0 requests at a time are allowed for this key",
        ),
    ] {
        assert_eq!(told(subject, limited, limit, wait), text);
    }
}

#[test]
fn codes_are_openai_s_where_it_has_one() {
    let refused = |limited| {
        let refusal = RateRefusal {
            subject: key(),
            limited,
            limit: 1,
            retry_after: None,
            standing: Standing::default(),
        };
        let refusal = Refusal::of_rate(&refusal, None, 0);
        (refusal.status, refusal.code)
    };
    assert_eq!(
        refused(Limited::RequestsPerSecond),
        (429, "rate_limit_exceeded")
    );
    assert_eq!(refused(Limited::TokensPerDay), (429, "rate_limit_exceeded"));
    assert_eq!(
        refused(Limited::Concurrent),
        (429, "concurrency_limit_exceeded")
    );
}

fn exhausted(account: &Account, spec: &ApiKey, asked: Amount, used: Amount) -> Box<Refusal> {
    let left = State {
        used,
        ..State::default()
    };
    let short = Short {
        account,
        spec,
        asked,
        left,
        now: "2026-11-30T23:59:00Z".parse().unwrap(),
    };
    Refusal::exhausted(&short, Standing::default())
}

fn monthly() -> (Account, ApiKey) {
    let account = Account {
        name: "key_of_zoe@2026-11".into(),
        tokens: Some(90_000),
        nanos: Some(12_500_000_000),
        ends: Some(
            "2026-12-01T00:00:00Z"
                .parse::<Timestamp>()
                .unwrap()
                .as_second(),
        ),
    };
    let spec = ApiKey {
        status: KeyStatus::Active,
        total_quota: Some(100_000),
        total_budget: Some(12_500_000_000),
        quota_reset_period: Some(ResetPeriod::Monthly),
        ..ApiKey::default()
    };
    (account, spec)
}

fn amount(tokens: u64, nanos: u64) -> Amount {
    Amount { tokens, nanos }
}

#[test]
fn a_quota_that_is_used_up_says_when_it_begins_anew() {
    let (account, spec) = monthly();
    let refusal = exhausted(&account, &spec, amount(5_000, 0), amount(90_000, 0));
    assert_eq!(
        refusal.message,
        "this key's quota of 100000 tokens per month is used up; it begins anew at 2026-12-01T00:00:00Z"
    );
    assert_eq!(refusal.retry_after, Some(Duration::from_secs(60)));
    assert_eq!((refusal.status, refusal.code), (429, "insufficient_quota"));
}

#[test]
fn a_request_that_is_too_large_for_the_rest_says_how_much_is_left() {
    let (account, spec) = monthly();
    let refusal = exhausted(&account, &spec, amount(5_000, 0), amount(88_800, 0));
    assert_eq!(
        refusal.message,
        "this request may take 5000 tokens, 1200 of this key's quota are left; it begins anew at 2026-12-01T00:00:00Z"
    );
    let refusal = exhausted(&account, &spec, amount(90_001, 0), amount(0, 0));
    assert_eq!(refusal.retry_after, None, "it never fits");
}

#[test]
fn money_is_told_as_money() {
    let (account, spec) = monthly();
    let used_up = exhausted(&account, &spec, amount(1, 1), amount(0, 12_500_000_000));
    assert_eq!(
        used_up.message,
        "this key's budget of 12.5 per month is used up; it begins anew at 2026-12-01T00:00:00Z"
    );
    let too_large = exhausted(
        &account,
        &spec,
        amount(1, 300_000_001),
        amount(0, 12_400_000_000),
    );
    assert!(
        too_large
            .message
            .starts_with("this request may take 0.300000001, 0.1 of this key's budget are left"),
        "{}",
        too_large.message
    );
}

#[test]
fn a_quota_for_ever_does_not_begin_anew() {
    let (mut account, mut spec) = monthly();
    account.ends = None;
    spec.quota_reset_period = None;
    let refusal = exhausted(&account, &spec, amount(1, 0), amount(u64::MAX, 0));
    assert_eq!(
        refusal.message,
        "this key's quota of 100000 tokens is used up"
    );
    assert_eq!(refusal.retry_after, None);
}

#[test]
fn nobody_is_named() {
    let (account, spec) = monthly();
    let texts = [
        told(Subject::User("zoe".into()), Limited::Concurrent, 1, None),
        exhausted(&account, &spec, amount(1, 0), amount(90_000, 0)).message,
        Refusal::held(Standing::default()).message,
        Refusal::unavailable("rate limits").message,
    ];
    for text in texts {
        assert!(!text.contains("zoe"), "{text}");
    }
}
