use std::future::{pending, ready};
use std::sync::atomic::AtomicUsize;

use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::auth::tests::key;

fn cache(ttl: Duration, negative_ttl: Duration, max_entries: u64) -> Cache {
    Cache::new(&AuthCache {
        ttl,
        negative_ttl,
        max_entries,
    })
}

fn lasting() -> Cache {
    cache(HOUR, HOUR, 1000)
}

const HOUR: Duration = Duration::from_secs(3600);

fn slot(cache: &Cache, text: &str) -> Slot {
    cache.slot(0, &KeyHash::of(text))
}

fn known(id: &str) -> Answer {
    Ok(Some(Arc::new(Known::new(Arc::new(key(id, |_| {}))))))
}

fn id(answer: &Answer) -> Option<String> {
    let known = answer.as_ref().unwrap().as_ref();
    known.map(|known| known.key.id.clone())
}

async fn learn(cache: &Cache, text: &str, answer: Answer) {
    cache.find(slot(cache, text), ready(answer)).await.ok();
}

fn outage() -> Answer {
    Err(SourceError::Unavailable("down".to_owned()))
}

fn is_idle(cache: &Cache) -> bool {
    cache.running().is_empty()
}

#[tokio::test]
async fn known_and_unknown_keys_are_remembered() {
    let cache = lasting();
    learn(&cache, "a", known("key_a")).await;
    learn(&cache, "b", Ok(None)).await;
    let denied = SourceError::Denied(Some("no".to_owned()));
    learn(&cache, "c", Err(denied.clone())).await;
    let get = |text| cache.get(&slot(&cache, text));
    assert_eq!(id(&get("a").unwrap()).as_deref(), Some("key_a"));
    assert_eq!(id(&get("b").unwrap()), None);
    assert_eq!(get("c").unwrap().unwrap_err(), denied);
    assert!(get("d").is_none());
    // Another provider's word is its own.
    assert!(cache.get(&cache.slot(1, &KeyHash::of("a"))).is_none());
    assert_eq!(cache.sweep(), 3);
    assert!(is_idle(&cache));
}

#[tokio::test]
async fn failures_are_not_remembered() {
    let cache = lasting();
    let senseless = SourceError::Invalid("status: 7".to_owned());
    learn(&cache, "a", outage()).await;
    learn(&cache, "b", Err(senseless)).await;
    assert!(cache.get(&slot(&cache, "a")).is_none());
    assert!(cache.get(&slot(&cache, "b")).is_none());
    assert_eq!(cache.sweep(), 0);
    assert!(is_idle(&cache));
}

#[tokio::test]
async fn what_shall_not_be_believed_at_all_is_not_remembered() {
    for cache in [
        cache(Duration::ZERO, Duration::ZERO, 1000),
        cache(HOUR, HOUR, 0),
    ] {
        learn(&cache, "a", known("key_a")).await;
        learn(&cache, "b", Ok(None)).await;
        assert!(cache.get(&slot(&cache, "a")).is_none());
        assert!(cache.get(&slot(&cache, "b")).is_none());
    }
}

#[tokio::test]
async fn however_long_an_answer_may_be_believed_it_is_remembered() {
    let cache = cache(Duration::MAX, Duration::MAX, u64::MAX);
    learn(&cache, "a", known("key_a")).await;
    learn(&cache, "b", Ok(None)).await;
    assert!(cache.get(&slot(&cache, "a")).is_some());
    assert!(cache.get(&slot(&cache, "b")).is_some());
}

#[tokio::test]
async fn an_answer_grows_old() {
    let brief = Duration::from_millis(1);
    let cache = cache(brief, brief, 1000);
    learn(&cache, "a", known("key_a")).await;
    learn(&cache, "b", Ok(None)).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(cache.get(&slot(&cache, "a")).is_none());
    assert!(cache.get(&slot(&cache, "b")).is_none());
    assert_eq!(cache.sweep(), 0);
}

#[tokio::test]
async fn many_who_ask_at_once_ask_once() {
    let cache = lasting();
    for answer in [known("key_a"), Ok(None), outage()] {
        let asked = AtomicUsize::new(0);
        let slot = slot(&cache, "a");
        let request = || {
            cache.find(slot, async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
                answer.clone()
            })
        };
        let answers = join_all((0..100).map(|_| request())).await;
        assert_eq!(asked.load(Ordering::Relaxed), 1);
        let as_expected = |it: &Answer| it.is_ok() == answer.is_ok();
        assert!(answers.iter().all(as_expected));
        assert!(is_idle(&cache));
        cache.forget(&slot);
    }
}

#[tokio::test]
async fn when_the_one_who_asks_leaves_another_asks() {
    let cache = lasting();
    let slot = slot(&cache, "a");
    let mut first = Box::pin(cache.find(slot, pending()));
    let mut second = Box::pin(cache.find(slot, ready(known("key_a"))));
    assert!(futures_util::poll!(&mut first).is_pending());
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(id(&second.await).as_deref(), Some("key_a"));
    assert!(is_idle(&cache));
}

#[tokio::test]
async fn lookups_that_everybody_has_left_take_no_memory() {
    let cache = lasting();
    let slot = slot(&cache, "a");
    let mut waiting: Vec<_> = (0..3)
        .map(|_| Box::pin(cache.find(slot, pending())))
        .collect();
    for one in &mut waiting {
        assert!(futures_util::poll!(one).is_pending());
    }
    assert_eq!(cache.running().len(), 1);
    drop(waiting);
    assert!(is_idle(&cache));
}

/// A lookup that is answered when told to, with what the store said before.
async fn slow(asked: &Notify, answered: oneshot::Receiver<()>, answer: Answer) -> Answer {
    asked.notify_one();
    answered.await.ok();
    answer
}

#[tokio::test]
async fn what_is_forgotten_while_it_is_looked_up_stays_forgotten() {
    type Forget = fn(&Cache);
    let ways: [Forget; 2] = [
        |cache| cache.forget(&slot(cache, "a")),
        |cache| cache.forget_all(),
    ];
    for forget in ways {
        let cache = lasting();
        let asked = Notify::new();
        let (answer, answered) = oneshot::channel();
        let old = cache.find(slot(&cache, "a"), slow(&asked, answered, known("key_old")));
        let change = async {
            asked.notified().await;
            forget(&cache);
            // Who comes now does not get the answer to a question asked before the change.
            let fresh = cache.find(slot(&cache, "a"), ready(known("key_new")));
            let fresh = fresh.now_or_never().expect("it waits for nobody");
            assert_eq!(id(&fresh).as_deref(), Some("key_new"));
            answer.send(()).unwrap();
        };
        let (old, ()) = tokio::join!(old, change);
        assert_eq!(id(&old).as_deref(), Some("key_old"));
        let remembered = cache.get(&slot(&cache, "a")).unwrap();
        assert_eq!(id(&remembered).as_deref(), Some("key_new"));
        assert!(is_idle(&cache));
    }
}

#[tokio::test]
async fn a_forgotten_lookup_that_ends_leaves_the_new_one_alone() {
    let cache = lasting();
    let slot = slot(&cache, "a");
    let asked = Notify::new();
    let (answer_old, old_answered) = oneshot::channel();
    let (answer_new, new_answered) = oneshot::channel();
    let mut old = Box::pin(cache.find(slot, slow(&asked, old_answered, known("key_old"))));
    assert!(futures_util::poll!(&mut old).is_pending());
    cache.forget(&slot);
    let mut new = Box::pin(cache.find(slot, slow(&asked, new_answered, known("key_new"))));
    assert!(futures_util::poll!(&mut new).is_pending());

    answer_old.send(()).unwrap();
    assert_eq!(id(&old.await).as_deref(), Some("key_old"));
    assert!(cache.get(&slot).is_none());
    let mut third = Box::pin(cache.find(slot, ready(Ok(None))));
    assert!(futures_util::poll!(&mut third).is_pending(), "it waits");
    answer_new.send(()).unwrap();
    assert_eq!(id(&new.await).as_deref(), Some("key_new"));
    assert_eq!(id(&third.await).as_deref(), Some("key_new"));
}

#[tokio::test]
async fn what_is_forgotten_is_asked_for_again() {
    let cache = lasting();
    for forget_all in [false, true] {
        learn(&cache, "a", known("key_a")).await;
        learn(&cache, "b", Ok(None)).await;
        if forget_all {
            cache.forget_all();
        } else {
            cache.forget(&slot(&cache, "a"));
            cache.forget(&slot(&cache, "b"));
        }
        assert!(cache.get(&slot(&cache, "a")).is_none());
        assert!(cache.get(&slot(&cache, "b")).is_none());
    }
}

#[tokio::test]
async fn the_cache_is_bounded() {
    let cache = cache(HOUR, HOUR, 80);
    for n in 0..2000 {
        learn(&cache, &format!("known {n}"), known("key_a")).await;
        learn(&cache, &format!("unknown {n}"), Ok(None)).await;
    }
    assert!(cache.sweep() <= 80 + 10, "{}", cache.sweep());
}

#[tokio::test]
async fn trying_keys_pushes_no_good_key_out() {
    let cache = cache(HOUR, HOUR, 80);
    let good: Vec<String> = (0..40).map(|n| format!("good {n}")).collect();
    for text in &good {
        learn(&cache, text, known("key_a")).await;
    }
    for n in 0..20_000 {
        learn(&cache, &format!("tried {n}"), Ok(None)).await;
    }
    cache.sweep();
    let kept = |text: &&String| cache.get(&slot(&cache, text)).is_some();
    assert_eq!(good.iter().filter(kept).count(), good.len());
}

#[tokio::test]
async fn keys_in_use_stay_when_a_script_lets_any_key_be_known() {
    let cache = cache(HOUR, HOUR, 80);
    let good: Vec<String> = (0..20).map(|n| format!("good {n}")).collect();
    for n in 0..5_000 {
        for text in &good {
            if cache.get(&slot(&cache, text)).is_none() {
                learn(&cache, text, known("key_a")).await;
            }
        }
        learn(&cache, &format!("tried {n}"), known("key_b")).await;
    }
    cache.sweep();
    let kept = |text: &&String| cache.get(&slot(&cache, text)).is_some();
    assert!(good.iter().filter(kept).count() > good.len() / 2);
}
