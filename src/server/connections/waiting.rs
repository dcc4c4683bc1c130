//! Between requests: until the next one comes, or it takes too long, or the gateway stops.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use log::debug;
use pingora::server::ShutdownWatch;

use crate::downstream::{Connection, Next};
use crate::proxy::Alarm;

/// What a connection waits with, as long as it lasts.
pub(super) struct Waiting {
    alarm: Alarm,
    /// How long a head may take from its first byte.
    header_timeout: Duration,
    /// Whether its first byte is there, or was to be there at once.
    begun: bool,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Waiting {
    /// A head may take so long, the first one from now on.
    pub(super) fn new(header_timeout: Duration, mut shutdown: ShutdownWatch) -> Self {
        Self {
            alarm: Alarm::new(Instant::now(), header_timeout),
            header_timeout,
            begun: true,
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
        self.alarm.set(Instant::now(), within);
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
                self.alarm.set(Instant::now(), self.header_timeout);
            }
            self.alarm.poll(context).map(|()| {
                debug!(begun = self.begun; "no request in time");
                Next::End
            })
        })
        .await
    }
}
