//! Several gateways, many requests.

use futures_util::future::join_all;

use super::*;

const GATEWAYS: usize = 4;
const EACH: usize = 250;

/// Reserves from all gateways at once and returns how many each answer was given: granted, held,
/// exhausted.
async fn rush(quotas: &[Arc<SqliteQuota>], account: &Arc<Account>, amount: u64) -> [usize; 3] {
    let asks: Vec<_> = (0..EACH)
        .flat_map(|at| {
            quotas
                .iter()
                .enumerate()
                .map(move |(gateway, quota)| (at, gateway, quota))
        })
        .map(|(at, gateway, quota)| {
            let ask = ask(account, &format!("{gateway}-{at}"), tokens(amount));
            async move { quota.reserve(&ask).await.unwrap() }
        })
        .collect();
    let mut counts = [0; 3];
    for reserved in join_all(asks).await {
        counts[match reserved {
            Reserved::Granted { .. } => 0,
            Reserved::Held { .. } => 1,
            Reserved::Exhausted { .. } => 2,
        }] += 1;
    }
    counts
}

fn gateways(shop: &Shop) -> Vec<Arc<SqliteQuota>> {
    (0..GATEWAYS)
        .map(|number| shop.gateway(&number.to_string()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_share_a_file_never_grant_more_than_there_is_nor_less() {
    let shop = Shop::new();
    let quotas = gateways(&shop);
    // Room for 613 requests and a half.
    let account = account("key@ever", Some(6135), None);
    assert_eq!(rush(&quotas, &account, 10).await, [613, 387, 0]);
    let state = quotas[0].read("key@ever").await.unwrap();
    assert_eq!(short(state), (0, 6130, 613));

    // Those that were granted come to 3 each; the others released nothing.
    let settles = (0..EACH).flat_map(|at| {
        quotas
            .iter()
            .enumerate()
            .map(move |(gateway, quota)| async move {
                let id = format!("{gateway}-{at}");
                quota
                    .settle("key@ever", &id, tokens(3), false)
                    .await
                    .unwrap();
            })
    });
    join_all(settles).await;
    let state = quotas[1].read("key@ever").await.unwrap();
    assert_eq!(short(state), (613 * 3, 0, 0));
    let mut settled = 0;
    for number in 0..GATEWAYS {
        let by = quotas[2].settled_by("key@ever", &number.to_string()).await;
        settled += by.unwrap().unwrap().0.tokens;
    }
    assert_eq!(settled, 613 * 3);
    // 6135 - 1839 = 4296
    assert_eq!(rush(&quotas, &account, 4000).await, [1, 999, 0]);
    assert_eq!(rush(&quotas, &account, 4297).await, [1, 0, 999]);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_are_admitted_where_there_is_room_for_all() {
    let shop = Shop::new();
    let quotas = gateways(&shop);
    let account = account("key@ever", Some(10_000), None);
    assert_eq!(rush(&quotas, &account, 10).await, [1000, 0, 0]);
    let state = quotas[3].read("key@ever").await.unwrap();
    assert_eq!(short(state), (0, 10_000, 1000));
}

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_begin_together_make_one_file() {
    let shop = Shop::new();
    thread::scope(|scope| {
        for number in 0..8 {
            let shop = &shop;
            scope.spawn(move || shop.gateway(&number.to_string()));
        }
    });
    let quota = shop.gateway("a");
    assert_eq!(short(quota.read("key@ever").await.unwrap()), (0, 0, 0));
}
