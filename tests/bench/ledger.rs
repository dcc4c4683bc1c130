//! What the usage ledger costs a request: `cargo bench --bench ledger`.
//!
//! Every request is begun and closed, as the gateway does it, while a reader follows and the keeper
//! syncs. Costs are CPU time, so that a busy machine spoils them less than the clock; how long a
//! call takes is shown beside them. Without `--bench`, as in `cargo test --benches`, it only sees
//! that everything still runs.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod event;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table};
use llmproxy::config;
use llmproxy::ledger::{Ledger, LedgerMetrics, Tail, new_id};
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::watch;

/// Measures what the usage ledger costs a request.
#[derive(Parser)]
struct Args {
    /// How long each row is measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How often each row is measured; the table shows the middle and how far the others are off.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Where the ledger is written; in memory (tmpfs) it costs less than on a disk.
    #[arg(long, default_value = env!("CARGO_TARGET_TMPDIR"))]
    dir: PathBuf,
    /// What cargo says when it wants measurements.
    #[arg(long, hide = true)]
    bench: bool,
}

/// One row of the table.
#[derive(Clone, Copy)]
struct Load {
    name: &'static str,
    threads: u32,
    pace: Pace,
    fsync: config::Fsync,
}

/// What a thread does between requests.
#[derive(Clone, Copy)]
enum Pace {
    /// Goes on with the next one.
    Flat,
    /// Computes until this long after the last one began, as a gateway with other work does.
    Busy(Duration),
    /// Sleeps until then: what waking up a processor and filling its caches costs is in the row.
    Asleep(Duration),
}

const LOADS: [Load; 5] = [
    Load {
        name: "1 thread, no pause",
        threads: 1,
        pace: Pace::Flat,
        fsync: config::Fsync::Interval,
    },
    Load {
        name: "2 threads, no pause",
        threads: 2,
        pace: Pace::Flat,
        fsync: config::Fsync::Interval,
    },
    Load {
        name: "2 threads, no pause, fsync: never",
        threads: 2,
        pace: Pace::Flat,
        fsync: config::Fsync::Never,
    },
    Load {
        name: "1 thread, every 2 ms, busy between",
        threads: 1,
        pace: Pace::Busy(Duration::from_millis(2)),
        fsync: config::Fsync::Interval,
    },
    Load {
        name: "2 threads, every 4 ms, asleep between",
        threads: 2,
        pace: Pace::Asleep(Duration::from_millis(4)),
        fsync: config::Fsync::Interval,
    },
];

/// What `docs/decisions/0004-ledger.md` allows a request.
const LIMIT: Duration = Duration::from_micros(5);

fn main() -> Result<()> {
    let args = Args::parse();
    let (runs, length) = if args.bench {
        (args.runs.max(1), Duration::try_from_secs_f64(args.seconds)?)
    } else {
        (1, Duration::from_millis(100))
    };
    let clock = clock_cost();
    let mut table = Table::new();
    table.set_header([
        "load",
        "requests/s",
        "CPU us/request",
        "reader and keeper",
        "begin p50/p99/max us",
        "close p50/p99/max us",
        "awaits",
        "bytes",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for load in LOADS {
        let mut measured = (0..runs)
            .map(|_| measure(load, length, &args.dir, clock))
            .collect::<Result<Vec<_>>>()?;
        measured.sort_by_key(Measured::per_request);
        table.add_row(row(load, &measured));
    }
    println!("{table}");
    println!("a request may cost {} us", micros(LIMIT));
    Ok(())
}

// === measuring ===

/// What one run of a load came to.
#[derive(Default)]
struct Measured {
    requests: u32,
    took: Duration,
    /// CPU time the requests' own threads spent in the ledger.
    own: Duration,
    /// CPU time of those threads in all.
    writers: Duration,
    /// CPU time of everybody else: reader, keeper.
    beside: Duration,
    begin: Vec<Duration>,
    close: Vec<Duration>,
    /// Requests that were not safe when the call returned: another thread was writing, and the
    /// gateway awaits it. `close` includes that wait.
    awaited: u32,
    bytes: u64,
}

impl Measured {
    fn per_request(&self) -> Duration {
        self.own / self.requests.max(1)
    }
}

fn measure(load: Load, length: Duration, dir: &Path, clock: Duration) -> Result<Measured> {
    let data_dir = tempfile::tempdir_in(dir).context("a directory for the ledger")?;
    let settings = config::Ledger {
        fsync: load.fsync,
        // The reader's cursor is all that keeps segments.
        retain: Duration::ZERO,
        ..config::Ledger::default()
    };
    let metrics = LedgerMetrics::register(&prometheus::Registry::new())?;
    let ledger = Ledger::open(&settings, data_dir.path(), metrics)?;
    let (stop, stopped) = watch::channel(false);
    let over = AtomicBool::new(false);
    let mut sum = Measured::default();
    let (before, began) = (cpu(ClockId::ProcessCPUTime), Instant::now());
    let found = thread::scope(|scope| {
        let keeper = scope.spawn(|| keep(&ledger, stopped));
        let reader = scope.spawn(|| follow(&ledger, &over));
        let writers: Vec<_> = (0..load.threads)
            .map(|_| scope.spawn(|| write(&ledger, load, length, clock)))
            .collect();
        let written: Vec<_> = writers.into_iter().map(joined).collect();
        sum.took = began.elapsed();
        // Everybody is told before anybody's failure is looked at: the scope waits for all.
        stop.send_replace(true);
        let kept = joined(keeper);
        over.store(true, Ordering::Relaxed);
        let found = joined(reader);
        for part in written {
            add(&mut sum, part?);
        }
        kept.and(found)
    })?;
    sum.beside = (cpu(ClockId::ProcessCPUTime) - before).saturating_sub(sum.writers);
    sum.bytes = found.bytes / u64::from(sum.requests.max(1));
    let (requests, events) = (sum.requests, found.events);
    ensure!(
        events == requests,
        "{requests} requests, but {events} events"
    );
    Ok(sum)
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, Result<T>>) -> Result<T> {
    thread
        .join()
        .unwrap_or_else(|_panic| bail!("a thread panicked"))
}

fn add(sum: &mut Measured, part: Measured) {
    sum.requests += part.requests;
    sum.own += part.own;
    sum.writers += part.writers;
    sum.awaited += part.awaited;
    sum.begin.extend(part.begin);
    sum.close.extend(part.close);
}

/// Begins and closes requests for `length`.
fn write(ledger: &Arc<Ledger>, load: Load, length: Duration, clock: Duration) -> Result<Measured> {
    let mut sum = Measured::default();
    let mut event = event::typical();
    let began = Instant::now();
    while began.elapsed() < length {
        event.event_id = new_id();
        let (before, start) = (cpu(ClockId::ThreadCPUTime), Instant::now());
        let (entry, begun) = ledger.begin(&event)?;
        let middle = Instant::now();
        let closed = entry.close(&event);
        sum.own += (cpu(ClockId::ThreadCPUTime) - before).saturating_sub(clock);
        sum.requests += 1;
        sum.begin.push(middle - start);
        if !ledger.is_safe(begun) || !ledger.is_safe(closed) {
            sum.awaited += 1;
            while !ledger.is_safe(closed) {
                thread::yield_now();
            }
        }
        sum.close.push(middle.elapsed());
        rest(load.pace, start);
    }
    sum.writers = cpu(ClockId::ThreadCPUTime);
    Ok(sum)
}

fn rest(pace: Pace, start: Instant) {
    match pace {
        Pace::Flat => {}
        Pace::Busy(every) => {
            while start.elapsed() < every {
                std::hint::spin_loop();
            }
        }
        Pace::Asleep(every) => thread::sleep(every.saturating_sub(start.elapsed())),
    }
}

/// What the reader found.
#[derive(Default)]
struct Followed {
    events: u32,
    bytes: u64,
}

/// Reads every event as a reporter does, until the writers are done and nothing is left.
fn follow(ledger: &Ledger, over: &AtomicBool) -> Result<Followed> {
    let cursor = ledger.cursor("bench")?;
    let start = cursor.position();
    let mut tail = Tail::new(ledger.path(), start);
    let (mut found, mut before) = (Followed::default(), start);
    loop {
        // Asked before reading: what was closed by then is found.
        let last_round = over.load(Ordering::Relaxed);
        while let Some(stored) = tail.next()? {
            found.events += 1;
            let same = stored.next.segment == before.segment;
            found.bytes += stored.next.offset - if same { before.offset } else { 0 };
            before = stored.next;
            cursor.advance(stored.next, stored.seq);
        }
        if last_round {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// Runs the keeper until it is told to stop.
fn keep(ledger: &Arc<Ledger>, stopped: watch::Receiver<bool>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    runtime.block_on(Arc::clone(ledger).run(stopped));
    Ok(())
}

/// CPU time this thread or this process has used.
fn cpu(whose: ClockId) -> Duration {
    let time = clock_gettime(whose);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// What reading the thread's CPU clock adds to what is measured with it.
fn clock_cost() -> Duration {
    const TIMES: u32 = 100_000;
    let start = cpu(ClockId::ThreadCPUTime);
    for _ in 0..TIMES {
        std::hint::black_box(cpu(ClockId::ThreadCPUTime));
    }
    (cpu(ClockId::ThreadCPUTime) - start) / TIMES
}

// === printing ===

/// `measured` is in the order of cost.
fn row(load: Load, measured: &[Measured]) -> [String; 8] {
    let middle = &measured[measured.len() / 2];
    let off = measured[measured.len() - 1].per_request() - measured[0].per_request();
    let requests = f64::from(middle.requests);
    [
        load.name.to_owned(),
        format!("{:.0}", requests / middle.took.as_secs_f64()),
        format!("{} ± {}", micros(middle.per_request()), micros(off / 2)),
        micros(middle.beside / middle.requests.max(1)),
        quantiles(&middle.begin),
        quantiles(&middle.close),
        format!("{:.3} %", 100.0 * f64::from(middle.awaited) / requests),
        middle.bytes.to_string(),
    ]
}

fn quantiles(times: &[Duration]) -> String {
    let mut times = times.to_vec();
    times.sort_unstable();
    let last = times.len().saturating_sub(1);
    let at = |percent: usize| times.get((times.len() * percent / 100).min(last)).copied();
    [50, 99, 100]
        .map(|percent| micros(at(percent).unwrap_or_default()))
        .join(" / ")
}

fn micros(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}
