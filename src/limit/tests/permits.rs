use std::panic::{AssertUnwindSafe, catch_unwind};

use super::*;

#[tokio::test]
async fn a_permit_that_is_dropped_gives_everything_back() {
    let gateway = Gateway::new("rate_limit: {per_key: {max_concurrent: 1, tokens_per_minute: 10}}");
    let key = quota(10);
    let permit = gateway.admit("a", Some(&key)).await.unwrap();
    drop(permit);
    gateway.background(Duration::ZERO).await;
    assert_eq!((gateway.store.used(), gateway.store.reserved()), (0, 0));
    assert!(gateway.admit("b", Some(&key)).await.is_ok());
}

#[tokio::test]
async fn a_panic_gives_everything_back() {
    let gateway = Gateway::new("rate_limit: {per_key: {max_concurrent: 1}}");
    let key = quota(10);
    let permit = gateway.admit("a", Some(&key)).await.unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _permit = permit;
        panic!("as a request might");
    }));
    panicked.unwrap_err();
    gateway.background(Duration::ZERO).await;
    assert_eq!((gateway.store.used(), gateway.store.reserved()), (0, 0));
    assert!(gateway.admit("b", Some(&key)).await.is_ok());
}

#[tokio::test]
async fn what_was_settled_is_not_released() {
    let gateway = Gateway::new("rate_limit: {per_key: {tokens_per_minute: 15}}");
    let key = quota(100);
    let mut permit = gateway.admit("a", Some(&key)).await.unwrap();
    permit.settle(tokens(5));
    drop(permit);
    gateway.background(Duration::ZERO).await;
    assert_eq!(gateway.store.used(), 5);
    let left = gateway.admit("b", Some(&key)).await.unwrap();
    assert_eq!(left.standing().tokens.map(|level| level.remaining), Some(0));
}
