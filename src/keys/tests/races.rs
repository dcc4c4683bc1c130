//! Four gateways at once.

use super::*;

stories![
    gateways_that_start_at_once_make_one_set_of_tables,
    one_of_many_creates_the_key,
    changes_of_different_fields_are_all_made,
    one_of_many_rotates_the_secret,
    who_follows_the_feed_misses_nothing,
];

async fn gateways_that_start_at_once_make_one_set_of_tables(place: Place) {
    let stores = place.stores().await;
    let created = join_all(
        stores
            .iter()
            .map(|store| store.create(NewKey::default(), "me")),
    );
    for created in created.await {
        created.unwrap();
    }
    assert_eq!(feed(&stores[0]).await.len(), 4);
}

async fn one_of_many_creates_the_key(place: Place) {
    let stores = place.stores().await;
    for nth in 0..5 {
        let key = || new_key(json!({"key": format!("sk-the-same-{nth}")}));
        let created = join_all(stores.iter().map(|store| store.create(key(), "me"))).await;
        let lucky = created.iter().filter(|one| one.is_ok()).count();
        let others = created.iter().filter(|one| **one == Err(KeyError::Exists));
        assert_eq!((lucky, others.count()), (1, 3), "{created:?}");
    }
    assert_eq!(feed(&stores[0]).await.len(), 5);
}

async fn changes_of_different_fields_are_all_made(place: Place) {
    let stores = place.stores().await;
    let created = stores[0].create(NewKey::default(), "me").await.unwrap();
    let which = id(&created.stored.id);
    let changes = [
        patch(json!({"name": "n"})),
        patch(json!({"user_id": "u"})),
        patch(json!({"total_quota": 7})),
        patch(json!({"status": "disabled"})),
    ];
    let updates = stores.iter().zip(&changes);
    let updates = updates.map(|(store, change)| store.update(&which, change, "me"));
    for updated in join_all(updates).await {
        updated.unwrap();
    }
    let spec = stores[0].get(&which).await.unwrap().unwrap().spec;
    let expected = ApiKey {
        name: Some("n".into()),
        user_id: Some("u".into()),
        total_quota: Some(7),
        status: KeyStatus::Disabled,
        ..ApiKey::default()
    };
    assert_eq!(spec, expected);
}

async fn one_of_many_rotates_the_secret(place: Place) {
    let stores = place.stores().await;
    let created = stores[0].create(NewKey::default(), "me").await.unwrap();
    let which = Which::Hash(created.stored.hash);
    let rotated = join_all(stores.iter().map(|store| store.rotate(&which, "me"))).await;
    let lucky: Vec<_> = rotated.iter().flatten().collect();
    let others = rotated
        .iter()
        .filter(|one| **one == Err(KeyError::NotFound));
    assert_eq!((lucky.len(), others.count()), (1, 3), "{rotated:?}");
    let now = stores[1].get(&id(&created.stored.id)).await.unwrap();
    assert_eq!(now.as_ref(), Some(&lucky[0].stored));
}

async fn who_follows_the_feed_misses_nothing(place: Place) {
    let stores = place.stores().await;
    let writing = stores.iter().map(|store| async move {
        for nth in 0..10 {
            let created = store.create(NewKey::default(), "me").await.unwrap();
            let which = id(&created.stored.id);
            store.rotate(&which, "me").await.unwrap();
            // Some that come to nothing.
            let again = new_key(json!({"id": created.stored.id}));
            assert_eq!(store.create(again, "me").await, Err(KeyError::Exists));
            if nth % 2 == 0 {
                store.delete(&which, "me").await.unwrap();
            }
        }
    });
    let reader = place.store().await;
    let following = async {
        let mut last = 0;
        while last < 100 {
            for change in reader.changes_since(last, 5).await.unwrap().changes {
                assert_eq!(change.seq, last + 1, "a change came too late or not at all");
                last = change.seq;
            }
        }
    };
    tokio::join!(join_all(writing), following);
    assert_eq!(feed(&reader).await.len(), 100);
}
