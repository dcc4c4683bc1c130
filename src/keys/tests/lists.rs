//! Many keys at a time.

use super::*;

stories![
    keys_are_listed_a_part_at_a_time_newest_first,
    a_filter_passes_what_fits_all_of_it,
];

async fn keys_are_listed_a_part_at_a_time_newest_first(place: Place) {
    let store = place.store().await;
    let empty = store.list(&Filter::default(), 0, 20).await.unwrap();
    assert_eq!((empty.items.len(), empty.total), (0, 0));
    let mut created = Vec::new();
    for _ in 0..7 {
        let new = store.create(NewKey::default(), "me").await.unwrap();
        created.push(new.stored);
    }
    // Those of the same millisecond in the order of their ids.
    created.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
    let mut listed = Vec::new();
    for offset in [0, 3, 6, 9] {
        let page = store.list(&Filter::default(), offset, 3).await.unwrap();
        assert_eq!(page.total, 7);
        listed.extend(page.items);
    }
    assert_eq!(listed, created);
    for (offset, limit, field) in [(0, 0, "limit"), (0, 101, "limit"), (u64::MAX, 1, "offset")] {
        let refused = store.list(&Filter::default(), offset, limit).await;
        assert!(
            matches!(&refused, Err(KeyError::Invalid { field: named, .. }) if named == field),
            "{refused:?}"
        );
    }
}

async fn a_filter_passes_what_fits_all_of_it(place: Place) {
    let store = place.store().await;
    for (id, name, user_id, status) in [
        ("a", "Ärzte Süd", "alice", "active"),
        ("b", "ärzte nord", "Alice", "disabled"),
        ("c", "100%_sure!", "bob", "active"),
        ("d", "", "bob", "expired"),
    ] {
        let new = json!({"id": id, "name": name, "user_id": user_id, "status": status});
        store.create(new_key(new), "me").await.unwrap();
    }
    let text = |text: &str| Some(text.to_owned());
    for (name, user_id, status, expected) in [
        (None, None, None, "abcd"),
        (text("ÄRZTE"), None, None, "ab"),
        (text("süd"), None, None, "a"),
        (text("%"), None, None, "c"),
        (text("0%_S"), None, None, "c"),
        (text("_"), None, None, "c"),
        (text("!"), None, None, "c"),
        (text(""), None, None, "abcd"),
        (None, text("alice"), None, "a"),
        (None, text("bob"), None, "cd"),
        (None, text("b"), None, ""),
        (None, None, Some(KeyStatus::Active), "ac"),
        (None, text("bob"), Some(KeyStatus::Expired), "d"),
        (text("ärzte"), text("Alice"), Some(KeyStatus::Disabled), "b"),
        (text("ärzte"), text("bob"), None, ""),
    ] {
        let filter = Filter {
            user_id,
            status,
            name,
        };
        let page = store.list(&filter, 0, 100).await.unwrap();
        assert_eq!(page.total, page.items.len() as u64);
        let mut ids: Vec<_> = page.items.into_iter().map(|key| key.id).collect();
        ids.sort();
        assert_eq!(ids.concat(), expected, "{filter:?}");
    }
    let long = "x".repeat(257);
    for bad in ["a\0b", "a\nb", &long] {
        let filter = Filter {
            name: text(bad),
            ..Filter::default()
        };
        let refused = store.list(&filter, 0, 100).await;
        assert!(
            matches!(refused, Err(KeyError::Invalid { .. })),
            "{refused:?}"
        );
    }
}
