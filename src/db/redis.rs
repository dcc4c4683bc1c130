//! One connection to a Redis or Valkey server, shared by all who ask it something.
//!
//! It is opened when it is first needed, so that the gateway starts without the server, and opened
//! anew after it broke or did not answer. While the server is away requests fail at once: one of them
//! tries to connect, and after a failure nobody does for a moment that doubles up to a second.
//!
//! This is not the `ConnectionManager` of the `redis` crate, which holds up requests while it tries
//! again, keeps a connection on which nothing is answered, gives up for ever after a refused password
//! and has to be made inside a runtime.

mod ask;
mod fault;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, FromRedisValue, IntoConnectionInfo};

pub use self::ask::Ask;
pub use self::fault::RedisFault;
use crate::config;

/// A server and the connection to it.
pub struct RedisLink {
    client: Client,
    /// What messages may say of the server: host and port, or the socket.
    place: String,
    key_prefix: String,
    /// Time connecting may take, with TLS and login.
    connect_timeout: Duration,
    /// Time an answer may take.
    timeout: Duration,
    state: Mutex<State>,
    /// Held by whoever connects.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    connection: Option<Lent>,
    /// Connections made so far.
    made: u64,
    /// Attempts to connect that failed since the last that did not.
    failures: u32,
    /// Until when nobody tries to connect, and why.
    rest: Option<(Instant, RedisFault)>,
}

/// The connection as one request has it. A clone is the same connection.
#[derive(Clone)]
struct Lent {
    connection: MultiplexedConnection,
    /// Which of those made; another may have taken its place meanwhile.
    number: u64,
    since: Instant,
}

/// One try to connect. Dropped before its end, it notes that nobody had the patience for it.
struct Attempt<'a> {
    link: &'a RedisLink,
    since: Instant,
    ended: bool,
}

// === impl RedisLink ===

impl RedisLink {
    /// Reads where the server is. Nothing is opened, and no runtime is needed.
    ///
    /// # Errors
    ///
    /// When `url` is none of Redis; the text does not repeat it.
    pub fn new(config: &config::Redis) -> Result<Self, RedisFault> {
        let url = config.url.expose();
        let url = match url.contains("://") {
            true => url.to_owned(),
            false => format!("redis://{url}"),
        };
        let wrong = |_| RedisFault::Away(format!("redis: url is not one of Redis; {FORMS}"));
        let info = url.into_connection_info().map_err(wrong)?;
        let place = info.addr().to_string();
        // Requests are small and many share the connection: waiting to fill a packet only delays.
        let info = info.set_tcp_settings(TcpSettings::default().set_nodelay(true));
        Ok(Self {
            client: Client::open(info).map_err(wrong)?,
            place,
            key_prefix: config.key_prefix.clone(),
            connect_timeout: config.connect_timeout,
            timeout: config.timeout,
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        })
    }

    /// Returns the server as messages name it.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Returns the name under which we keep `name`: behind the prefix of the configuration.
    #[must_use]
    pub fn key(&self, name: &str) -> String {
        format!("{}{name}", self.key_prefix)
    }

    /// Asks at most once: whether the server did what it was asked is not known after
    /// [`RedisFault::Away`].
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, does not answer in time, refuses, or answers what is no `T`.
    pub async fn run<T: FromRedisValue>(&self, ask: impl Into<Ask<'_>>) -> Result<T, RedisFault> {
        let ask = ask.into();
        Box::pin(self.once(&ask))
            .await
            .map_err(|trouble| trouble.fault)
    }

    /// Asks what may be asked twice: once more on a new connection when the old one had broken, as
    /// it does when the server is restarted or hangs up on those who were silent.
    ///
    /// # Errors
    ///
    /// As for [`RedisLink::run`].
    pub async fn read<T: FromRedisValue>(&self, ask: impl Into<Ask<'_>>) -> Result<T, RedisFault> {
        let ask = ask.into();
        match Box::pin(self.once(&ask)).await {
            Err(Trouble { broke: true, .. }) => Box::pin(self.once(&ask)).await,
            answer => answer,
        }
        .map_err(|trouble| trouble.fault)
    }

    async fn once<T: FromRedisValue>(&self, ask: &Ask<'_>) -> Result<T, Trouble> {
        let mut lent = self.connection().await?;
        let answer = tokio::time::timeout(self.timeout, ask.send(&mut lent.connection)).await;
        let Ok(answer) = answer else {
            // A connection that lost its way to the server looks like this for a quarter of an hour.
            self.give_up(lent.number);
            let late = format!("no answer within {:?}", self.timeout);
            return Err(self.away(&late).into());
        };
        answer.map_err(|error| {
            let broke = error.is_io_error();
            let fault = fault::of(&self.place, &error);
            if broke || error.is_unrecoverable_error() || is_replaced(&fault, &lent) {
                self.give_up(lent.number);
            }
            Trouble { fault, broke }
        })
    }

    /// Returns the open connection, or opens it.
    async fn connection(&self) -> Result<Lent, RedisFault> {
        if let Some(lent) = self.at_hand()? {
            return Ok(lent);
        }
        let _turn = self.connecting.lock().await;
        // Whoever had the turn before may have done it, or may have learned that it is not possible.
        if let Some(lent) = self.at_hand()? {
            return Ok(lent);
        }
        let attempt = Attempt {
            link: self,
            since: Instant::now(),
            ended: false,
        };
        // Time is kept here, for all steps together.
        let options = AsyncConnectionConfig::new()
            .set_connection_timeout(None)
            .set_response_timeout(None);
        let opening = self
            .client
            .get_multiplexed_async_connection_with_config(&options);
        let opened = match tokio::time::timeout(self.connect_timeout, Box::pin(opening)).await {
            Ok(opened) => {
                opened.map_err(|error| self.away(&format!("connecting: {}", fault::told(&error))))
            }
            Err(_elapsed) => {
                let limit = self.connect_timeout;
                Err(self.away(&format!("connecting took longer than {limit:?}")))
            }
        };
        attempt.end(opened)
    }

    /// Returns the connection if there is one.
    ///
    /// # Errors
    ///
    /// Why there is none, if that was found out a moment ago.
    fn at_hand(&self) -> Result<Option<Lent>, RedisFault> {
        let state = self.state();
        match (&state.connection, &state.rest) {
            (Some(lent), _) => Ok(Some(lent.clone())),
            (None, Some((until, why))) if Instant::now() < *until => Err(why.clone()),
            (None, _) => Ok(None),
        }
    }

    /// Makes nobody use this connection any more.
    fn give_up(&self, number: u64) {
        let mut state = self.state();
        if state
            .connection
            .as_ref()
            .is_some_and(|lent| lent.number == number)
        {
            state.connection = None;
        }
    }

    fn away(&self, what: &str) -> RedisFault {
        RedisFault::Away(format!("redis {}: {what}", self.place))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for RedisLink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "RedisLink({})", self.place)
    }
}

// === impl State ===

impl State {
    fn opened(&mut self, connection: MultiplexedConnection) -> Lent {
        self.made += 1;
        self.failures = 0;
        self.rest = None;
        let lent = Lent {
            connection,
            number: self.made,
            since: Instant::now(),
        };
        self.connection = Some(lent.clone());
        lent
    }

    fn failed(&mut self, why: RedisFault, now: Instant) {
        let rest = FIRST_REST * 2u32.pow(self.failures.min(DOUBLINGS));
        self.failures = self.failures.saturating_add(1);
        self.rest = Some((now + rest.min(LONGEST_REST), why));
    }
}

// === impl Attempt ===

impl Attempt<'_> {
    fn end(
        mut self,
        opened: Result<MultiplexedConnection, RedisFault>,
    ) -> Result<Lent, RedisFault> {
        self.ended = true;
        let mut state = self.link.state();
        match opened {
            Ok(connection) => Ok(state.opened(connection)),
            Err(why) => {
                state.failed(why.clone(), Instant::now());
                Err(why)
            }
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        // A client that hangs up says nothing about the server. But if all have less patience than
        // connecting may take, the server is away all the same.
        let took = self.since.elapsed();
        if !self.ended && took >= self.link.timeout {
            let why = self.link.away(&format!("not connected after {took:.1?}"));
            self.link.state().failed(why, Instant::now());
        }
    }
}

/// Whether the server was made a replica: its successor may be found under the same name. Looked for
/// now and then only, as it may just as well be one for good.
fn is_replaced(fault: &RedisFault, lent: &Lent) -> bool {
    fault.code() == Some("READONLY") && lent.since.elapsed() >= LONGEST_REST
}

/// Why there is no answer.
struct Trouble {
    fault: RedisFault,
    /// Whether the connection was found broken: the server may well be there.
    broke: bool,
}

impl From<RedisFault> for Trouble {
    fn from(fault: RedisFault) -> Self {
        Self {
            fault,
            broke: false,
        }
    }
}

const FORMS: &str = "write host:port, redis://user:password@host:port/0, rediss:// for TLS, or \
                     unix:///path?db=0";

/// As long as a restarted server takes to be back.
const FIRST_REST: Duration = Duration::from_millis(50);

/// As many as lead to [`LONGEST_REST`].
const DOUBLINGS: u32 = 5;

/// How long a server that is back may go unnoticed.
const LONGEST_REST: Duration = Duration::from_secs(1);
