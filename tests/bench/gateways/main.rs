//! What gateways cost, side by side: `make bench`, or `cargo bench --bench gateways`.
//!
//! Every gateway found in `tests/bench/peers` gets the same requests in turn, round after round, and is backed by the same
//! mock engine. CPU time is what its processes used; times are measured by the load generator.
//! Results go to a JSON file; `docs/performance.md` and its plots are made from that.
#![expect(
    clippy::print_stdout,
    reason = "progress and tables are what it is for"
)]
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod clients;
mod clock;
mod engine;
mod figures;
mod load;
mod machine;
mod page;
mod plot;
mod process;
mod scenario;
mod tables;
mod wire;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;

use figures::{Measured, Results, Run};
use load::{Bench, Load, Pace};
use process::{Cpus, Peer, Running, Used};
use scenario::Scenario;

/// Measures gateways side by side.
#[derive(Parser)]
struct Args {
    /// Which gateways, by their directories in tests/bench/peers; by default all that are installed.
    #[arg(long, value_delimiter = ',')]
    peers: Vec<String>,
    /// Which loads; by default all.
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    /// How often each load is put on each gateway; tables show the middle.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each of them is measured.
    #[arg(long, default_value_t = 4.0)]
    seconds: f64,
    /// CPUs a gateway gets; one more is for load and engine.
    #[arg(long, default_value_t = 1)]
    cpus: usize,
    /// Where results are written, or with --render read.
    #[arg(long, default_value = "docs/performance.json")]
    results: PathBuf,
    /// Where the page goes; its plots go into the directory of the same name.
    #[arg(long, default_value = "docs/performance.md")]
    page: PathBuf,
    /// Makes the page from results that are there.
    #[arg(long)]
    render: bool,
    /// Prints figures only, writes nothing.
    #[arg(long)]
    dry: bool,
    /// Sends so many requests of the load "request" or "stream" to this gateway, one after the other, and ends.
    #[arg(long, value_names = ["LOAD", "REQUESTS"], num_args = 2, hide = true)]
    count: Vec<String>,
    /// What cargo says when it wants measurements; without it only a moment is measured, to see that all still runs.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where this project is.
fn root() -> PathBuf {
    std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| PathBuf::from("."), PathBuf::from)
}

fn main() -> Result<()> {
    let args = Args::parse();
    let file = root().join(&args.results);
    if args.render {
        let text = fs::read(&file).with_context(|| format!("{}", file.display()))?;
        return page::write(&serde_json::from_slice(&text)?, &root().join(&args.page));
    }
    if let [load, requests] = args.count.as_slice() {
        return count(load, requests.parse()?);
    }
    if !args.bench {
        println!("measures with `cargo bench --bench gateways`; --help says how");
        return Ok(());
    }
    let results = measure(&args)?;
    if args.dry {
        return Ok(());
    }
    fs::write(&file, serde_json::to_vec_pretty(&results)?)?;
    println!("{}", file.display());
    page::write(&results, &root().join(&args.page))
}

fn measure(args: &Args) -> Result<Results> {
    let cpus = Cpus::share(args.cpus)?;
    Cpus::pin(&cpus.load)?;
    process::raise_open_files()?;
    let peers = peers(&args.peers)?;
    let mut results = Results {
        date: machine::today(),
        machine: machine::this(),
        gateway_cpus: args.cpus,
        rounds: args.rounds,
        seconds: args.seconds,
        peers: peers
            .iter()
            .map(|it| (it.name.clone(), it.version.clone()))
            .collect(),
        scenarios: Vec::new(),
    };
    let wanted = |it: &Scenario| {
        args.scenarios.is_empty() || args.scenarios.iter().any(|name| name == it.name)
    };
    let scenarios: Vec<_> = scenario::all().into_iter().filter(wanted).collect();
    for (at, scenario) in scenarios.iter().enumerate() {
        println!("[{}/{}] {}", at + 1, scenarios.len(), scenario.title);
        results.scenarios.push(one(args, scenario, &peers, &cpus)?);
    }
    Ok(results)
}

fn peers(names: &[String]) -> Result<Vec<Peer>> {
    let directory = root().join("tests/bench/peers");
    let mut found: Vec<String> = Vec::new();
    for entry in fs::read_dir(&directory).with_context(|| format!("{}", directory.display()))? {
        let entry = entry?;
        if entry.path().join("run").exists() {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found.sort();
    let mut peers = Vec::new();
    for name in if names.is_empty() { &found } else { names } {
        match Peer::find(&directory, name)? {
            Some(peer) => {
                println!("{}: {}", peer.name, peer.version);
                peers.push(peer);
            }
            None if names.is_empty() => println!("{name}: not installed"),
            None => bail!("{name} is not installed: scripts/bench-peers.sh"),
        }
    }
    Ok(peers)
}

/// Puts one load on all gateways, in turn, `rounds` times.
fn one(args: &Args, scenario: &Scenario, peers: &[Peer], cpus: &Cpus) -> Result<Measured> {
    let mut measured = Measured {
        name: scenario.name.to_owned(),
        title: scenario.title.to_owned(),
        ..Measured::default()
    };
    let able = |peer: &&Peer| !(scenario.heavy && scenario::is_slow(&peer.name));
    let peers: Vec<&Peer> = peers.iter().filter(able).collect();
    // A stream that is held would be held by what runs next, too.
    let together = !scenario.holds();
    let mut running = Vec::new();
    let mut bench = Bench::new()?;
    bench.engine.answer(&scenario.answer);
    if together {
        for peer in &peers {
            running.push(start(peer, scenario, &mut bench, cpus)?);
        }
    }
    // Memory is the same each time, and to get it takes long.
    let rounds = if together {
        args.rounds
    } else {
        args.rounds.min(2)
    };
    for round in 0..rounds {
        if together {
            note(
                &mut measured,
                "direct",
                put(args, scenario, None, &mut bench)?,
            );
        }
        for turn in 0..peers.len() {
            // Nobody is always the first.
            let at = (turn + round) % peers.len();
            let run = if together {
                put(args, scenario, Some((peers[at], &running[at])), &mut bench)?
            } else {
                let mut bench = Bench::new()?;
                bench.engine.answer(&scenario.answer);
                let alone = start(peers[at], scenario, &mut bench, cpus)?;
                put(args, scenario, Some((peers[at], &alone)), &mut bench)?
            };
            note(&mut measured, &peers[at].name, run);
        }
    }
    Ok(measured)
}

fn note(measured: &mut Measured, peer: &str, run: Run) {
    let shown = page::line(&run);
    println!("  {peer:12} {shown}");
    measured.runs.entry(peer.to_owned()).or_default().push(run);
}

/// Starts a gateway and waits until it answers.
fn start(peer: &Peer, scenario: &Scenario, bench: &mut Bench, cpus: &Cpus) -> Result<Running> {
    let mut running = peer.start(bench.engine.address, cpus)?;
    running.wait(|time| bench.serve(time))?;
    let headers = peer.headers(bench.engine.address)?;
    for _ in 0..60 {
        let load = Load {
            target: running.address,
            request: scenario.request(&headers),
            pace: Pace::Closed { connections: 1 },
            events: scenario.events(),
            leave_after: scenario.streams().then_some(1),
            warmup: Duration::ZERO,
            measured: Duration::from_secs(1),
        };
        let outcome = bench.run(&load, |_| Ok(()))?;
        if outcome.requests > 0 && outcome.errors.is_empty() {
            return Ok(running);
        }
        bench.serve(Duration::from_secs(1))?;
    }
    bail!("{} does not answer:\n{}", peer.name, running.log())
}

fn put(
    args: &Args,
    scenario: &Scenario,
    target: Option<(&Peer, &Running)>,
    bench: &mut Bench,
) -> Result<Run> {
    let engine = bench.engine.address;
    let headers = target.map_or_else(|| Ok(String::new()), |(peer, _)| peer.headers(engine))?;
    let load = Load {
        target: target.map_or(engine, |(_, it)| it.address),
        request: scenario.request(&headers),
        pace: scenario.pace,
        events: scenario.events(),
        leave_after: scenario.leave_after,
        warmup: Duration::from_secs(1) + scenario.extra,
        measured: Duration::from_secs_f64(args.seconds),
    };
    let used = || target.map_or(Used::default(), |(_, it)| it.used());
    let mut marks = vec![used()];
    let outcome = bench.run(&load, |_| {
        marks.push(used());
        Ok(())
    })?;
    // What is left of this load is not to be paid for by the next.
    bench.serve(Duration::from_millis(500))?;
    let streams = match scenario.pace {
        Pace::Hold { streams, .. } => streams,
        _ => 0,
    };
    Ok(Run::new(outcome, streams, [marks[0], marks[1], marks[2]]))
}

/// Sends counted requests to this gateway, which something outside looks at.
fn count(load: &str, requests: usize) -> Result<()> {
    let scenario = scenario::counted(load, requests).context("no such load")?;
    let peer = Peer::find(&root().join("tests/bench/peers"), "llmproxy")?;
    let peer = peer.context("no llmproxy: LLMPROXY_BIN says where it is")?;
    let mut bench = Bench::new()?;
    bench.engine.answer(&scenario.answer);
    let mut running = peer.start(bench.engine.address, &Cpus::all()?)?;
    running.wait(|time| bench.serve(time))?;
    let load = Load {
        target: running.address,
        request: scenario.request(""),
        pace: scenario.pace,
        events: scenario.events(),
        leave_after: None,
        warmup: Duration::ZERO,
        measured: Duration::from_secs(600),
    };
    let outcome = bench.run(&load, |_| Ok(()))?;
    let answered = outcome.requests as usize;
    if answered != requests || !outcome.errors.is_empty() {
        bail!(
            "{answered} of {requests} requests were answered, errors: {:?}\n{}",
            outcome.errors,
            running.log()
        );
    }
    Ok(())
}

/// Reads a file of the system, trimmed; empty when it is not there.
fn system(path: impl AsRef<Path>) -> String {
    fs::read_to_string(path)
        .unwrap_or_default()
        .trim()
        .to_owned()
}
