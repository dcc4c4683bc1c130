//! The second lock: what changes protected models takes the admin password besides the token.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Reply;
use crate::config::Secret;
use crate::keys::KeyHash;

/// Wrong passwords in [`WINDOW`], after which even the right one has to wait: a word that people can
/// remember does not stand up to a program that tries thousands.
const MOST_WRONG: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);

/// Asks for the password.
pub(super) struct Guard {
    /// `None`: there is none, and nobody can show it.
    password: Option<KeyHash>,
    wrong: Mutex<Wrong>,
}

/// The wrong passwords of the last window.
struct Wrong {
    since: Instant,
    count: u32,
}

impl Guard {
    pub(super) fn new(password: Option<&Secret>) -> Self {
        let wrong = Wrong {
            since: Instant::now(),
            count: 0,
        };
        Self {
            password: password.map(|password| KeyHash::of(password.expose())),
            wrong: Mutex::new(wrong),
        }
    }

    /// Makes sure that `shown` is the password; `actor` is who shows it, for the log.
    ///
    /// # Errors
    /// The refusal.
    pub(super) fn check(&self, shown: Option<&str>, actor: &str) -> Result<(), Reply> {
        self.check_at(shown, actor, Instant::now())
    }

    fn check_at(&self, shown: Option<&str>, actor: &str, now: Instant) -> Result<(), Reply> {
        let Some(password) = &self.password else {
            let message = "protected models can be changed here only where the configuration has `admin.password`";
            return Err(Reply::error(403, "no_password", message));
        };
        let Some(shown) = shown else {
            let message =
                "a protected model is concerned: show the admin password in `X-Admin-Password`";
            return Err(Reply::error(403, "missing_password", message));
        };
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = now.saturating_duration_since(wrong.since);
        if passed >= WINDOW {
            wrong.count = 0;
        } else if wrong.count >= MOST_WRONG {
            return Err(too_many(WINDOW - passed));
        }
        // In constant time, of hashes: nothing tells how much of it was right.
        if KeyHash::of(shown) == *password {
            return Ok(());
        }
        if wrong.count == 0 {
            wrong.since = now;
        }
        wrong.count += 1;
        drop(wrong);
        log::warn!(actor:? = actor; "a wrong admin password was shown");
        let message = "this is not the admin password";
        Err(Reply::error(403, "wrong_password", message))
    }
}

fn too_many(left: Duration) -> Reply {
    let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
    let message = format!("too many wrong passwords; try again in {seconds} s");
    let mut reply = Reply::error(429, "too_many_passwords", message);
    reply.retry_after = Some(seconds);
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(guard: &Guard, shown: &str, now: Instant) -> u16 {
        let checked = guard.check_at(Some(shown), "ann", now);
        checked.map_or_else(|reply| reply.status, |()| 200)
    }

    #[test]
    fn ten_wrong_passwords_a_minute_and_then_not_even_the_right_one() {
        let guard = Guard::new(Some(&Secret::new("open sesame")));
        let begin = Instant::now();
        for second in 0..10 {
            let now = begin + Duration::from_secs(second);
            assert_eq!(status(&guard, "open sesame", now), 200);
            assert_eq!(status(&guard, "open sesam", now), 403, "{second}");
        }
        let almost = begin + WINDOW - Duration::from_nanos(1);
        for now in [begin + Duration::from_secs(9), almost] {
            assert_eq!(status(&guard, "open sesame", now), 429);
            assert_eq!(status(&guard, "open sesam", now), 429);
        }
        let told = guard.check_at(Some("x"), "ann", almost).unwrap_err();
        assert_eq!(told.retry_after, Some(1));
        assert_eq!(told.body["error"]["code"], "too_many_passwords");
        assert_eq!(status(&guard, "open sesame", begin + WINDOW), 200);
        assert_eq!(status(&guard, "wrong again", begin + WINDOW), 403);
    }

    #[test]
    fn what_was_wrong_a_minute_ago_is_forgotten() {
        let guard = Guard::new(Some(&Secret::new("right")));
        let begin = Instant::now();
        for minute in 0..5 {
            for _ in 0..10 {
                assert_eq!(status(&guard, "left", begin + WINDOW * minute), 403);
            }
        }
    }

    #[test]
    fn no_password_and_none_configured_are_told_apart() {
        let code = |guard: &Guard, shown| {
            let refusal = guard.check(shown, "ann").unwrap_err();
            (refusal.status, refusal.body["error"]["code"].clone())
        };
        let guard = Guard::new(Some(&Secret::new("right")));
        assert_eq!(code(&guard, None), (403, "missing_password".into()));
        assert_eq!(code(&guard, Some("left")), (403, "wrong_password".into()));
        let none = Guard::new(None);
        assert_eq!(code(&none, Some("")), (403, "no_password".into()));
        assert_eq!(code(&none, None), (403, "no_password".into()));
    }
}
