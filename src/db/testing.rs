//! Database servers for unit tests: the private ones of `tests/it`.

use std::time::{Duration, Instant};

pub(crate) use it::databases::{MariaDb, Postgres, Server};

#[path = "../../tests/it"]
mod it {
    use super::eventually;

    #[expect(dead_code, reason = "the integration tests use more of them")]
    #[expect(unused_imports, reason = "the integration tests use more of them")]
    pub(crate) mod databases;
}

/// Waits until `condition` holds.
#[track_caller]
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "waited {PATIENCE:?} in vain: {what}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A machine that does something else besides takes long to start a database server.
const PATIENCE: Duration = Duration::from_secs(60);
