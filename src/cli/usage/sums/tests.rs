use super::*;

fn event(model: &str, time: &str, tokens: u64, cost: Option<(u64, &str)>) -> UsageEvent {
    UsageEvent {
        model: model.into(),
        timestamp: time.into(),
        prompt_tokens: tokens,
        cached_tokens: 1,
        completion_tokens: 2,
        total_tokens: tokens + 2,
        usage_source: "final".into(),
        cost_nanos: cost.map(|(nanos, _)| nanos),
        currency: cost.map(|(_, currency)| currency.to_owned()),
        ..UsageEvent::default()
    }
}

fn groups(by: &[Dimension]) -> Groups {
    let mut groups = Groups::new(by);
    let guessed = UsageEvent {
        usage_source: "estimated".into(),
        ..event("small", "2026-01-14T11:00:00.000Z", 1, None)
    };
    for event in [
        event(
            "large",
            "2026-01-14T10:00:00.000Z",
            1000,
            Some((u64::MAX, "USD")),
        ),
        event("large", "2026-01-14T10:59:59.999Z", 200, Some((1, "USD"))),
        event(
            "small",
            "2026-01-15T10:00:00.000Z",
            30,
            Some((1_500_000_000, "EUR")),
        ),
        guessed,
    ] {
        assert!(groups.add(&event).is_ok());
    }
    groups
}

#[test]
fn sums_are_exact() {
    let groups = groups(&[Dimension::Model]);
    let large = &groups.sums[&vec!["large".to_owned()]];
    let expected = Sums {
        requests: 2,
        tokens: [1200, 2, 4, 0, 1204],
        estimated: 0,
        unpriced: 0,
        cost: [("USD".to_owned(), 1 << 64)].into(),
    };
    assert_eq!(large, &expected);
    assert_eq!((groups.total.requests, groups.total.estimated), (4, 1));
}

#[test]
fn json_tells_each_group_with_its_cost_as_text() {
    let text = groups(&[Dimension::Model]).json(None);
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0]["cost"], json!({"USD": "18446744073.709551616"}));
    assert_eq!(
        lines[1],
        json!({
            "model": "small", "requests": 2, "prompt_tokens": 31, "cached_tokens": 2,
            "completion_tokens": 4, "reasoning_tokens": 0, "total_tokens": 35,
            "estimated": 1, "estimated_share": 0.5, "unpriced": 1, "cost": {"EUR": "1.50"},
        })
    );
}

#[test]
fn csv_has_a_column_per_currency() {
    let expected = "\
day,model,requests,prompt_tokens,cached_tokens,completion_tokens,reasoning_tokens,total_tokens,estimated,unpriced,cost_EUR,cost_USD
2026-01-14,large,2,1200,2,4,0,1204,0,0,,18446744073.709551616
2026-01-14,small,1,1,1,2,0,3,1,1,,
2026-01-15,small,1,30,1,2,0,32,0,0,1.50,
";
    let by = [Dimension::Day, Dimension::Model];
    assert_eq!(groups(&by).csv(None).ok().unwrap(), expected);
}

#[test]
fn groups_of_time_stand_in_its_order_and_others_by_size() {
    let names = |by: Dimension, limit| {
        let groups = groups(&[by]);
        let shown = groups.shown(limit);
        let names = shown.groups.iter().map(|(name, _)| name[0].clone());
        (names.collect::<Vec<_>>(), shown.left_out)
    };
    let hours = [
        "2026-01-14T10:00Z",
        "2026-01-14T11:00Z",
        "2026-01-15T10:00Z",
    ];
    assert_eq!(
        names(Dimension::Hour, None),
        (hours.map(str::to_owned).into(), 0)
    );
    assert_eq!(
        names(Dimension::Model, Some(1)),
        (vec!["large".to_owned()], 1)
    );
}

#[test]
fn a_table_aligns_numbers_and_counts_what_it_leaves_out() {
    let text = groups(&[Dimension::Model]).table(Some(1));
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    assert!(
        lines.iter().all(|line| line.chars().count() <= 120),
        "{text}"
    );
    let at = |word: &str| lines.iter().position(|line| line.contains(word)).unwrap();
    let end = |word: &str| lines[at(word)].len();
    assert_eq!(end("large"), end("total"), "{text}");
    assert!(lines[at("total")].contains("1,231"), "{text}");
    assert!(lines[at("total")].contains("25.0%"), "{text}");
    assert!(
        text.ends_with("and 1 more, counted in the total\n"),
        "{text}"
    );
}

#[test]
fn all_dimensions_at_once_still_fit_the_page() {
    use clap::ValueEnum;
    let text = groups(Dimension::value_variants()).table(None);
    assert!(
        text.lines().all(|line| line.chars().count() <= 120),
        "{text}"
    );
}
