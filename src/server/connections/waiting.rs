//! Between requests: until the next one comes, or it takes too long, or the gateway stops.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use log::debug;
use pingora::server::ShutdownWatch;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::downstream::{Connection, Next};

/// What a connection waits with, as long as it lasts.
pub(super) struct Waiting {
    deadline: Instant,
    /// How long a head may take from its first byte.
    header_timeout: Duration,
    /// Whether its first byte is there, or was to be there at once.
    begun: bool,
    /// Set for an earlier time than that, mostly: it is cheaper to look again than to set it anew for each request.
    timer: Pin<Box<Sleep>>,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Waiting {
    /// A head may take so long, the first one from now on.
    pub(super) fn new(header_timeout: Duration, mut shutdown: ShutdownWatch) -> Self {
        let deadline = Instant::now() + header_timeout;
        Self {
            deadline,
            header_timeout,
            begun: true,
            timer: Box::pin(sleep_until(deadline)),
            stopping: Box::pin(async move {
                if shutdown.wait_for(|stopping| *stopping).await.is_err() {
                    debug!("nobody is left who could stop the gateway");
                }
            }),
        }
    }

    /// The next head is expected to begin `within` this time.
    pub(super) fn expect_within(&mut self, within: Duration) {
        self.begun = false;
        self.until(Instant::now() + within);
    }

    fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
    }

    /// What comes next on `connection`, however its bytes are spread.
    pub(super) async fn next(&mut self, connection: &mut Connection) -> Next {
        poll_fn(|context| {
            if let Poll::Ready(next) = connection.poll_next(context) {
                return Poll::Ready(next);
            }
            if self.stopping.as_mut().poll(context).is_ready() {
                return Poll::Ready(Next::End);
            }
            if !self.begun && connection.has_begun() {
                self.begun = true;
                self.until(Instant::now() + self.header_timeout);
            }
            while self.timer.as_mut().poll(context).is_ready() {
                if self.deadline <= Instant::now() {
                    debug!(begun = self.begun; "no request in time");
                    return Poll::Ready(Next::End);
                }
                self.timer.as_mut().reset(self.deadline);
            }
            Poll::Pending
        })
        .await
    }
}
