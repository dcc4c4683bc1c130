//! What gateways cost, side by side: `cargo bench --bench gateways`.
#![expect(
    clippy::print_stdout,
    reason = "progress and tables are what it is for"
)]

mod clock;
mod engine;
mod load;
mod process;
mod scenario;
mod wire;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;
use engine::Answer;
use load::{Bench, Load, Mark, Outcome};
use process::{Cpus, Peer, Running, Used};

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "nginx,llmproxy", value_delimiter = ',')]
    peers: Vec<String>,
    #[arg(long, value_delimiter = ',')]
    scenarios: Vec<String>,
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    #[arg(long, hide = true)]
    bench: bool,
}

fn percentile(values: &mut [u64], p: f64) -> f64 {
    if values.is_empty() {
        return f64::NAN;
    }
    values.sort_unstable();
    values[((values.len() - 1) as f64 * p) as usize] as f64 / 1000.0
}

fn main() -> Result<()> {
    let args = Args::parse();
    let cpus = Cpus::share(1)?;
    Cpus::pin(&cpus.load)?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    )?;
    let directory = PathBuf::from("/work/main").join("tests/bench/peers");
    let peers: Vec<Peer> = args
        .peers
        .iter()
        .filter_map(|name| Peer::find(&directory, name).transpose())
        .collect::<Result<_>>()?;
    for scenario in scenario::all()
        .iter()
        .filter(|it| args.scenarios.is_empty() || args.scenarios.iter().any(|name| name == it.name))
    {
        println!("== {}", scenario.title);
        let mut bench = Bench::new()?;
        bench.engine.answer(&scenario.answer);
        let mut running: Vec<(Peer, Running)> = Vec::new();
        for peer in &peers {
            let mut one = peer.start(bench.engine.address, &cpus)?;
            one.wait(|time| bench.serve(time))?;
            running.push((peer.clone(), one));
        }
        for _ in 0..args.rounds {
            let mut line = format!("direct ");
            for (index, target) in std::iter::once(None)
                .chain(running.iter().map(Some))
                .enumerate()
            {
                if index == 0 && scenario.heavy {
                    continue;
                }
                let headers = match target {
                    Some((peer, _)) => peer.headers(bench.engine.address)?,
                    None => String::new(),
                };
                let load = Load {
                    target: target.map_or(bench.engine.address, |(_, it)| it.address),
                    request: scenario.request(&headers),
                    pace: scenario.pace,
                    events: scenario.events(),
                    leave_after: scenario.leave_after,
                    warmup: Duration::from_millis(1000) + scenario.extra,
                    measured: Duration::from_secs_f64(args.seconds),
                };
                let mut marks: Vec<Used> = Vec::new();
                let before = target.map_or(Used::default(), |(_, it)| it.used());
                let mut out: Outcome = bench.run(&load, |_: Mark| {
                    marks.push(target.map_or(Used::default(), |(_, it)| it.used()));
                    Ok(())
                })?;
                let cpu = (marks[1].cpu_ns - marks[0].cpu_ns) as f64 / 1000.0;
                println!(
                    "{:10} rps {:8.0} cpu/req {:7.1}us cpu/ev {:6.2}us busy {:4.0}% lat p50 {:7.1} p99 {:8.1} ttft p50 {:7.1} p99 {:8.1} delay p50 {:7.1} p99 {:8.1} rss {} MiB (+{:.1} KiB/stream) errors {:?} {}",
                    target.map_or("direct", |(peer, _)| &peer.name),
                    out.requests as f64 / out.seconds,
                    cpu / out.requests as f64,
                    cpu / out.events as f64,
                    cpu / out.seconds / 10000.0,
                    percentile(&mut out.latency, 0.5),
                    percentile(&mut out.latency, 0.99),
                    percentile(&mut out.first_event, 0.5),
                    percentile(&mut out.first_event, 0.99),
                    percentile(&mut out.delay, 0.5),
                    percentile(&mut out.delay, 0.99),
                    marks[1].rss_kib / 1024,
                    (marks[1].rss_kib as f64 - before.rss_kib as f64) / 9000.0,
                    out.errors,
                    line
                );
                line.clear();
                bench.serve(Duration::from_millis(300))?;
            }
        }
    }
    Ok(())
}
