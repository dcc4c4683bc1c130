//! An LLM engine simulator: vLLM's API, its pace and its failures, without a model.
//!
//! It exists for demos, tests and benchmarks of the gateway and shares no code with it, so that a
//! misunderstanding of a protocol shows. A token is a whitespace-separated word; answers depend
//! only on the prompt and the seed.
//!
//! Request headers: `x-sim-tokens: N` sets the length of the answer, `x-sim-ttft` and `x-sim-itl`
//! its pace, `x-sim-fault` what goes wrong (the grammar is in `fault`). `GET /sim/account` tells
//! what every `x-request-id` really cost (`?id=ID` only one), `GET /sim/state` what runs,
//! `POST /sim/reset` forgets, `POST /sim/health/down` and `/up` change what /health says.

mod account;
mod damage;
mod exchange;
mod fault;
mod generate;
mod info;
mod metrics;
mod options;
mod pooling;
mod prefix;
mod record;
mod refusal;
mod request;
mod route;
mod scheduler;
mod serve;
mod shape;
mod socket;
mod text;
mod totals;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context;
use async_trait::async_trait;
use pingora::apps::{HttpServerApp, ReusedHttpStream};
use pingora::protocols::http::ServerSession;
use serde_json::{Value, json};
use tokio::sync::watch;

use account::{Account, Outcome};
use damage::{Failure, deliver, strike};
use exchange::{Exchange, Reply, Stop};
use fault::Kind;
use metrics::{Load, Metrics};
use prefix::PrefixCache;
use record::Record;
use refusal::Refusal;
use request::Job;
use route::{Call, Info, NoRoute, Route};
use scheduler::Scheduler;
use totals::Totals;

pub use fault::Fault;
pub use options::{Engine, Options, Switch};
pub use serve::{run, serve};

/// A simulated engine.
#[derive(Debug)]
pub struct Sim {
    options: Options,
    scheduler: Scheduler,
    account: Account,
    metrics: Metrics,
    totals: Totals,
    prefix: Mutex<PrefixCache>,
    dice: Mutex<fastrand::Rng>,
    healthy: AtomicBool,
}

impl Sim {
    /// Returns an idle engine with an empty cache.
    ///
    /// # Errors
    /// A model name that cannot be a metric label.
    pub fn new(options: Options) -> anyhow::Result<Self> {
        let capacity = match options.prefix_cache {
            Switch::On => options.kv_cache_tokens,
            Switch::Off => 0,
        };
        Ok(Self {
            scheduler: Scheduler::new(&options),
            account: Account::default(),
            metrics: Metrics::new(options.default_model()).context("cannot register metrics")?,
            totals: Totals::default(),
            prefix: Mutex::new(PrefixCache::new(capacity)),
            dice: Mutex::new(fastrand::Rng::with_seed(options.seed)),
            healthy: AtomicBool::new(true),
            options,
        })
    }

    async fn answer(&self, exchange: &mut Exchange) -> Result<(), Stop> {
        match route::route(exchange.method(), exchange.path(), self.options.engine) {
            Ok(Route::Call(call, name)) => self.call(exchange, call, name).await,
            Ok(Route::Info(info)) => self.info(exchange, &info).await,
            Err(NoRoute::NotFound) => {
                exchange
                    .reply(Reply::json(404, r#"{"detail":"Not Found"}"#))
                    .await
            }
            Err(NoRoute::MethodNotAllowed) => {
                exchange
                    .reply(Reply::json(405, r#"{"detail":"Method Not Allowed"}"#))
                    .await
            }
        }
    }

    async fn info(&self, exchange: &mut Exchange, info: &Info) -> Result<(), Stop> {
        let guarded = matches!(info, Info::Models | Info::Model(_));
        let reply = match self.authorise(exchange) {
            Err(refusal) if guarded => refusal.reply(self.options.engine, None),
            _ => info::answer(self, info, exchange.query("id")),
        };
        exchange.reply(reply).await
    }

    /// Serves a model call and closes its account, however it ends.
    async fn call(
        &self,
        exchange: &mut Exchange,
        call: Call,
        name: &'static str,
    ) -> Result<(), Stop> {
        let mut record = Record::begin(self, exchange.request_id(), name);
        match self.try_call(exchange, &mut record, call).await {
            Ok(()) => Ok(()),
            Err(Failure::Stop(stop)) => Err(stop),
            Err(Failure::Refusal(refusal)) => {
                record.end(Outcome::Rejected, refusal.status);
                exchange
                    .reply(refusal.reply(self.options.engine, call.api()))
                    .await
            }
        }
    }

    async fn try_call(
        &self,
        exchange: &mut Exchange,
        record: &mut Record<'_>,
        call: Call,
    ) -> Result<(), Failure> {
        self.authorise(exchange)?;
        let fault = self.fault(exchange, record.attempt())?;
        if fault == Some(Kind::Refuse) {
            record.end(Outcome::Faulted, 0);
            return Err(exchange.reset().into());
        }
        let Some(body) = exchange.body().await? else {
            return Err(Refusal::new(413, "Request Entity Too Large").into());
        };
        strike(exchange, record, fault).await?;
        let id = exchange.request_id();
        let reply = match call {
            Call::Generate { api, stream } => {
                let job = Job::parse(api, &body, stream, &self.options)?;
                return generate::generate(self, exchange, record, &job, fault).await;
            }
            Call::Embeddings => pooling::embeddings(self, record, id, &body)?,
            Call::Rerank => pooling::rerank(self, record, id, &body)?,
            Call::Score => pooling::score(self, record, id, &body)?,
            Call::Tokenize => info::tokenize(self, &body)?,
            Call::Detokenize => info::detokenize(&body)?,
            Call::CountTokens => info::count_tokens(self, &body)?,
        };
        deliver(exchange, record, reply, fault).await
    }

    fn authorise(&self, exchange: &Exchange) -> Result<(), Refusal> {
        let Some(key) = &self.options.api_key else {
            return Ok(());
        };
        let bearer = exchange
            .header("authorization")
            .and_then(|value| value.strip_prefix("Bearer "));
        let known = [bearer, exchange.header("x-api-key")].contains(&Some(key));
        if known {
            Ok(())
        } else {
            Err(Refusal::new(401, "Unauthorized"))
        }
    }

    /// Returns what goes wrong with this request: its own wish, the engine's, or bad luck.
    fn fault(&self, exchange: &Exchange, attempt: u32) -> Result<Option<Kind>, Refusal> {
        let own = match exchange.header("x-sim-fault").map(str::parse::<Fault>) {
            Some(Ok(fault)) => Some(fault),
            Some(Err(error)) => return Err(Refusal::new(400, format!("x-sim-fault: {error}"))),
            None => None,
        };
        let stall = self
            .options
            .stall
            .map(|tokens| Fault::always(Kind::StallAfter(tokens)));
        let fault = own.or_else(|| self.options.fault.clone()).or(stall);
        if let Some(fault) = fault {
            return Ok(fault.for_attempt(attempt, &self.options.name));
        }
        let dice = self
            .dice
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .f64();
        let status = self.options.fail_status;
        Ok((dice < self.options.fail_rate).then_some(Kind::Status {
            status,
            retry_after: None,
        }))
    }

    fn prefix(&self) -> MutexGuard<'_, PrefixCache> {
        self.prefix.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn expose(&self) -> String {
        self.metrics.expose(&Load {
            running: self.scheduler.running(),
            waiting: self.scheduler.waiting(),
            kv_usage: self.scheduler.kv_tokens() as f64 / self.options.kv_cache_tokens as f64,
        })
    }

    fn state(&self) -> Value {
        let mut state = self.totals.to_json();
        state["name"] = json!(self.options.name);
        state["running"] = json!(self.scheduler.running());
        state["waiting"] = json!(self.scheduler.waiting());
        state["kv_tokens"] = json!(self.scheduler.kv_tokens());
        state["healthy"] = json!(self.healthy());
        state["prompt_tokens_total"] = json!(self.metrics.prompt_tokens.get());
        state["generation_tokens_total"] = json!(self.metrics.generation_tokens.get());
        state["prefix_cache_hits_total"] = json!(self.metrics.prefix_hits.get());
        state
    }

    fn reset(&self) {
        self.account.clear();
        self.metrics.reset();
        self.totals.reset();
        self.prefix().clear();
        self.set_healthy(true);
    }

    fn healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Relaxed);
    }
}

#[async_trait]
impl HttpServerApp for Sim {
    async fn process_new_http(
        self: &Arc<Self>,
        mut session: ServerSession,
        _shutdown: &watch::Receiver<bool>,
    ) -> Option<ReusedHttpStream> {
        if !matches!(session.read_request().await, Ok(true)) {
            return None;
        }
        let mut exchange = Exchange::new(session, &self.options.name, self.options.keepalive);
        match self.answer(&mut exchange).await {
            Ok(()) => exchange.finish().await,
            Err(stop) => {
                log::debug!(request = exchange.request_id(), stop:? = stop; "exchange ended early");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests;
