//! One generation from admission to its last token, at the engine's pace and with its faults.

use std::fmt;
use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;

use super::Sim;
use super::account::{Outcome, now_ms};
use super::damage::{Failure, deliver};
use super::exchange::{Exchange, Reply, Stop};
use super::fault::Kind;
use super::options::parse_duration;
use super::record::Record;
use super::refusal::Refusal;
use super::request::Job;
use super::scheduler::{Pace, Seat};
use super::shape::{self, Finish, Frame, Piece, Shape};
use super::text::{Script, mix};

/// Events that are due together leave in writes of about this many bytes.
const WRITE_BYTES: usize = 16 << 10;

/// Answers a request for generated text.
pub(super) async fn generate(
    sim: &Sim,
    exchange: &mut Exchange,
    record: &mut Record<'_>,
    job: &Job,
    fault: Option<Kind>,
) -> Result<(), Failure> {
    let tempo = Tempo::of(sim, exchange, fault)?;
    let mut frame = Frame::new(
        job,
        sim.options.engine,
        exchange.request_id(),
        now_ms() / 1000,
    );
    frame.report_cached = sim.options.enable_prompt_tokens_details;
    if fault == Some(Kind::NoUsage) {
        frame.silence();
    }
    (frame.length, frame.finish) = length(sim, exchange, job)?;
    record.asked_by(job);
    let Some(waiting) = sim.scheduler.enqueue(job.sequences()) else {
        return Err(Refusal::new(503, "The request queue is full.").into());
    };
    if job.stream {
        exchange.open_stream().await?;
    }
    let queued = Instant::now();
    let seat = exchange
        .attended(waiting.turn())
        .await?
        .ok_or(Stop::Closed)?;
    sim.metrics.queue.observe(queued.elapsed().as_secs_f64());
    let (first_due, cached) = prefill(sim, job, &tempo);
    frame.cached = cached.first().copied().unwrap_or_default();
    let scripts = scripts(sim, job);
    let stop_at = stop_at(fault, frame.length);
    let mut run = Run {
        sim,
        exchange,
        record,
        frame,
        scripts,
        tempo,
        seat: Some(seat),
        pace: Pace::starting(first_due),
        out: BytesMut::new(),
    };
    run.prefilled(job, &cached).await?;
    if job.stream {
        run.stream(stop_at, fault).await
    } else {
        run.whole(stop_at, fault).await
    }
}

/// How fast this request is, where its headers or a fault change the engine's pace.
struct Tempo {
    ttft: Duration,
    itl: Option<Duration>,
    slower: Duration,
}

impl Tempo {
    fn of(sim: &Sim, exchange: &Exchange, fault: Option<Kind>) -> Result<Self, Refusal> {
        let header = |name| match exchange.header(name) {
            None => Ok(None),
            Some(text) => match parse_duration(text) {
                Ok(duration) => Ok(Some(duration)),
                Err(error) => Err(Refusal::new(400, format!("{name}: {error}"))),
            },
        };
        let slower = match fault {
            Some(Kind::Slow(slower)) => slower,
            _ => Duration::ZERO,
        };
        let ttft = header("x-sim-ttft")?.unwrap_or(sim.options.ttft);
        Ok(Self {
            ttft,
            itl: header("x-sim-itl")?,
            slower,
        })
    }
}

/// Returns how many tokens every answer has, and why it ends there.
fn length(sim: &Sim, exchange: &Exchange, job: &Job) -> Result<(u32, Finish), Refusal> {
    if job.tool.is_some() {
        return Ok((Script::tool_tokens(), Finish::Tool));
    }
    let natural = match exchange.header("x-sim-tokens").map(str::parse::<u32>) {
        Some(Ok(tokens)) => tokens,
        Some(Err(error)) => return Err(Refusal::new(400, format!("x-sim-tokens: {error}"))),
        None if job.ignore_eos => u32::MAX,
        None => sim.options.max_tokens_default,
    };
    let longest = job
        .prompts
        .iter()
        .map(super::text::Prompt::len)
        .max()
        .unwrap_or_default();
    let room = sim.options.max_model_len.saturating_sub(longest);
    let limit = job.max_tokens.unwrap_or(u32::MAX).min(room);
    let finish = if natural >= limit {
        Finish::Length
    } else {
        Finish::Stop
    };
    Ok((natural.min(limit), finish))
}

/// Returns when the first token is due, and the cached tokens of every prompt.
fn prefill(sim: &Sim, job: &Job, tempo: &Tempo) -> (Instant, Vec<u32>) {
    let cached: Vec<u32> = {
        let mut cache = sim.prefix();
        job.prompts
            .iter()
            .map(|prompt| cache.cached(prompt.tokens()))
            .collect()
    };
    let hits = cached.iter().map(|tokens| u64::from(*tokens)).sum::<u64>();
    sim.metrics.prefix_queries.inc_by(job.prompt_tokens());
    sim.metrics.prefix_hits.inc_by(hits);
    let uncached = job.prompt_tokens().saturating_sub(hits);
    let compute = match sim.options.prefill_rate {
        0 => Duration::ZERO,
        rate => Duration::from_secs_f64(uncached as f64 / rate as f64),
    };
    (Instant::now() + tempo.ttft + compute, cached)
}

fn scripts(sim: &Sim, job: &Job) -> Vec<Script> {
    let tool = job.tool.is_some();
    let seeds = job
        .prompts
        .iter()
        .map(|prompt| mix(sim.options.seed, prompt.digest()));
    seeds
        .flat_map(|seed| {
            (0..job.choices).map(move |choice| Script::new(mix(seed, choice.into()), tool))
        })
        .collect()
}

/// Returns after how many tokens a fault strikes.
fn stop_at(fault: Option<Kind>, length: u32) -> Option<u32> {
    match fault? {
        Kind::Empty => Some(0),
        Kind::ErrorAfter { tokens, .. }
        | Kind::ResetAfter(tokens)
        | Kind::CloseAfter(tokens)
        | Kind::StallAfter(tokens)
        | Kind::Truncate(Some(tokens)) => Some(tokens.min(length)),
        Kind::Truncate(None) => Some(length / 2),
        Kind::Slow(_) | Kind::NoUsage => None,
        // These strike before a generation begins.
        Kind::Refuse | Kind::ResetBeforeHead | Kind::Hang | Kind::Status { .. } => None,
    }
}

/// A generation that has a seat.
struct Run<'a, 'r> {
    sim: &'a Sim,
    exchange: &'a mut Exchange,
    record: &'a mut Record<'r>,
    frame: Frame,
    scripts: Vec<Script>,
    tempo: Tempo,
    seat: Option<Seat<'a>>,
    pace: Pace,
    out: BytesMut,
}

impl Run<'_, '_> {
    /// Waits for the first token and notes what prefill computed.
    async fn prefilled(&mut self, job: &Job, cached: &[u32]) -> Result<(), Stop> {
        self.exchange.until(self.pace.due()).await?;
        {
            let mut cache = self.sim.prefix();
            job.prompts
                .iter()
                .for_each(|prompt| cache.insert(prompt.tokens()));
        }
        self.record.prefilled(
            job.prompt_tokens(),
            cached.iter().map(|t| u64::from(*t)).sum(),
        );
        self.grow(job.prompt_tokens());
        self.sim
            .metrics
            .first_token
            .observe(self.record.began().elapsed().as_secs_f64());
        Ok(())
    }

    async fn stream(mut self, stop_at: Option<u32>, fault: Option<Kind>) -> Result<(), Failure> {
        let mut shape = shape::stream(self.frame.api);
        if stop_at != Some(0) {
            written(shape.open(&self.frame, &mut self.out))?;
        }
        self.speak(stop_at, Some(shape.as_mut())).await?;
        let (true, Some(fault)) = (stop_at.is_some(), fault) else {
            written(shape.close(&self.frame, &mut self.out))?;
            return self.finish().await;
        };
        self.send().await?;
        self.break_off(shape.as_mut(), fault).await
    }

    async fn whole(mut self, stop_at: Option<u32>, fault: Option<Kind>) -> Result<(), Failure> {
        self.speak(stop_at, None).await?;
        let texts: Vec<_> = self
            .scripts
            .iter()
            .map(|s| s.text(self.frame.length))
            .collect();
        let body = written(shape::whole(&self.frame, &texts))?;
        let seconds = self.record.began().elapsed().as_secs_f64();
        let mut reply = Reply::json(200, body);
        reply.headers = shape::headers(&self.frame, seconds);
        drop(self.seat.take());
        deliver(self.exchange, self.record, reply, fault).await
    }

    /// Generates until the end or `stop_at`, writing events if there is a `shape` for them.
    async fn speak(
        &mut self,
        stop_at: Option<u32>,
        mut shape: Option<&mut dyn Shape>,
    ) -> Result<(), Stop> {
        let end = stop_at.unwrap_or(self.frame.length);
        let mut from = 0;
        while from < end {
            let to = from.saturating_add(self.sim.options.chunk_tokens).min(end);
            self.wait_for_token().await?;
            if let Some(shape) = &mut shape {
                self.write(*shape, from, to)?;
            }
            let tokens = u64::from(to - from) * self.scripts.len() as u64;
            self.record.produced(tokens);
            self.grow(tokens);
            let step = self.sim.scheduler.step(self.tempo.itl) + self.tempo.slower;
            self.sim.metrics.between_tokens.observe(step.as_secs_f64());
            self.pace.advance(step * (to - from));
            from = to;
        }
        Ok(())
    }

    /// Waits until the next token is due. What is due already shares a write with what came before.
    async fn wait_for_token(&mut self) -> Result<(), Stop> {
        let due = self.pace.due();
        if due > Instant::now() || self.out.len() >= WRITE_BYTES {
            self.send().await?;
            self.exchange.until(due).await?;
        }
        Ok(())
    }

    /// Hands what was written to the connection.
    async fn send(&mut self) -> Result<(), Stop> {
        self.exchange.send(&mut self.out).await?;
        self.record.sent();
        Ok(())
    }

    fn write(&mut self, shape: &mut dyn Shape, from: u32, to: u32) -> Result<(), Stop> {
        for (sequence, script) in (0..).zip(&self.scripts) {
            let piece = Piece {
                sequence,
                script: *script,
                from,
                to,
            };
            written(shape.tokens(&self.frame, &piece, &mut self.out))?;
        }
        Ok(())
    }

    /// Ends a stream as it should end. The account is closed first, so that a client that has seen
    /// the end finds it.
    async fn finish(mut self) -> Result<(), Failure> {
        drop(self.seat.take());
        self.record.sent();
        self.record.end(Outcome::Completed, 200);
        self.exchange.send(&mut self.out).await?;
        Ok(self.exchange.end_stream().await?)
    }

    /// Ends a stream as `fault` wants it.
    async fn break_off(mut self, shape: &mut dyn Shape, fault: Kind) -> Result<(), Failure> {
        if let Kind::StallAfter(_) = fault {
            return Err(self.exchange.hang().await.into());
        }
        drop(self.seat.take());
        self.record.end(Outcome::Faulted, 200);
        match fault {
            Kind::ResetAfter(_) => return Err(self.exchange.reset().into()),
            Kind::CloseAfter(_) => return Err(Stop::Closed.into()),
            Kind::ErrorAfter { status, .. } => {
                let refusal = Refusal::fault(status, None);
                written(shape.fail(&self.frame, &refusal, &mut self.out))?;
                self.send().await?;
            }
            // An end without what belongs before it.
            Kind::Empty | Kind::Truncate(_) => {}
            // None of these stops a generation (see `stop_at`).
            Kind::Slow(_)
            | Kind::NoUsage
            | Kind::StallAfter(_)
            | Kind::Refuse
            | Kind::ResetBeforeHead
            | Kind::Hang
            | Kind::Status { .. } => {}
        }
        Ok(self.exchange.end_stream().await?)
    }

    fn grow(&mut self, tokens: u64) {
        if let Some(seat) = &mut self.seat {
            seat.grow(tokens);
        }
    }
}

/// Formatting into memory fails only if a shape does; the connection is then closed.
fn written<T>(result: Result<T, fmt::Error>) -> Result<T, Stop> {
    result.map_err(|error| {
        log::error!(error:% = error; "event cannot be written");
        Stop::Closed
    })
}
