//! The results as a page: what was promised and what was measured, tables, plots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::figures::{Measured, Middle, Results, Run};
use super::plot;
use super::tables::{Column, PLOTS, TABLES, Table};

/// What this gateway is called among the peers, and what everything is compared with.
const OURS: &str = "llmproxy";
const BASE: &str = "nginx";
const DIRECT: &str = "direct";

/// Written by hand: why a target is missed, what to make of the figures.
const NOTES: &str = include_str!("notes.md");

/// A run in one line, for those who watch.
pub(crate) fn line(run: &Run) -> String {
    let shown = [
        ("cpu_per_request", "us CPU/request"),
        ("cpu_per_event", "us CPU/event"),
        ("requests_per_second", "requests/s"),
        ("latency_p50", "us p50"),
        ("first_event_p50", "us to first event"),
        ("delay_p50", "us event delay"),
        ("rss_per_stream_kib", "KiB/stream"),
    ];
    let parts = shown.iter().filter_map(|(name, unit)| {
        let value = run.figures.get(*name)?;
        Some(format!("{} {unit}", number(*value)))
    });
    let mut text = parts.collect::<Vec<_>>().join(", ");
    for (fault, count) in &run.errors {
        let _infallible = write!(text, ", {count} x {fault}");
    }
    text
}

/// Three digits are as much as these figures are good for.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn spread(middle: Middle) -> String {
    format!(
        "{} ({} to {})",
        number(middle.median),
        number(middle.least),
        number(middle.most)
    )
}

/// How two figures of a round are compared.
type Compare = fn(f64, f64) -> f64;

fn ratio(one: f64, other: f64) -> f64 {
    one / other
}

fn difference(one: f64, other: f64) -> f64 {
    one - other
}

impl Results {
    fn scenario(&self, name: &str) -> Option<&Measured> {
        self.scenarios.iter().find(|it| it.name == name)
    }

    /// The peers in the order of the tables: this one, what it is compared with, the others.
    fn order(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.peers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_by_key(|name| (*name != OURS, *name != BASE, *name));
        names
    }
}

/// Writes the page and its plots.
///
/// # Errors
/// When they cannot be written.
pub(crate) fn write(results: &Results, page: &Path) -> Result<()> {
    let plots = page.with_extension("");
    fs::create_dir_all(&plots).with_context(|| format!("{}", plots.display()))?;
    let beside = plots
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut text = head(results);
    text += &targets(results);
    text.push_str(NOTES);
    for (file, title, unit, scenario, figure) in PLOTS {
        let Some(bars) = bars(results, scenario, figure) else {
            continue;
        };
        fs::write(plots.join(file), plot::bars(title, unit, &bars))?;
        let _infallible = write!(text, "\n![{title}]({beside}/{file})\n");
    }
    for table in TABLES {
        text += &render(results, table);
    }
    text += &errors(results);
    text += HOW;
    fs::write(page, text).with_context(|| format!("{}", page.display()))?;
    println!("{}", page.display());
    Ok(())
}

fn head(results: &Results) -> String {
    let machine = &results.machine;
    let peers: Vec<String> = results
        .peers
        .iter()
        .map(|(_, version)| version.clone())
        .collect();
    format!(
        "# What it costs\n\nMeasured on {} by `make bench`, which writes this page; the figures are in [performance.json](performance.json).\n\n\
        | | |\n|---|---|\n| processor | {} ({} CPUs; gateways get {}, load and engine one) |\n| memory | {:.0} GiB |\n| system | {}, Linux {} |\n| gateways | {} |\n| runs | {} of {} s for each load and gateway, in turn; tables show the median (least to most) |\n",
        results.date,
        machine.processor,
        machine.cpus,
        results.gateway_cpus,
        machine.memory_gib,
        machine.system,
        machine.kernel,
        peers.join(", "),
        results.rounds,
        number(results.seconds),
    )
}

/// A promise: what, the most or least it may be, and what was measured.
type Promise = (&'static str, Bound, Option<Middle>, &'static str);

enum Bound {
    AtMost(f64),
    AtLeast(f64),
}

fn targets(results: &Results) -> String {
    let mut text = String::from(
        "\n## What was promised\n\n| what | target | measured | |\n|---|---|---:|---|\n",
    );
    for (what, bound, measured, unit) in promises(results) {
        let Some(measured) = measured else { continue };
        let (target, met) = match bound {
            Bound::AtMost(most) => (format!("at most {most}"), measured.median <= most),
            Bound::AtLeast(least) => (format!("at least {least}"), measured.median >= least),
        };
        let (verdict, measured) = (verdict(met), spread(measured));
        let _infallible = writeln!(
            text,
            "| {what} | {target}{unit} | {measured}{unit} | {verdict} |"
        );
    }
    let errors = results
        .scenarios
        .iter()
        .flat_map(|it| it.errors(OURS).into_values());
    let errors: u64 = errors.sum();
    let _infallible = writeln!(text, "| errors | 0 | {errors} | {} |", verdict(errors == 0));
    text
}

fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "**missed**" }
}

fn promises(results: &Results) -> [Promise; 7] {
    let against = |scenario: &str, base: &str, figure: &str, how| {
        results.scenario(scenario)?.against(OURS, base, figure, how)
    };
    let most_idle = results.scenarios.iter().rev();
    let idle = most_idle
        .filter_map(|it| it.middle(OURS, "rss_per_stream_kib"))
        .next();
    let litellm = results
        .scenario("1k")
        .and_then(|it| it.against("litellm", OURS, "cpu_per_request", ratio));
    let request = |scenario| against(scenario, BASE, "cpu_per_request", ratio as Compare);
    let event = |scenario| against(scenario, BASE, "cpu_per_event", ratio);
    [
        (
            "CPU per 1 KiB request, against nginx",
            Bound::AtMost(1.5),
            request("1k"),
            "x",
        ),
        (
            "CPU per 300 KiB request, against nginx",
            Bound::AtMost(1.5),
            request("300k"),
            "x",
        ),
        (
            "CPU per event of paced streams, against nginx",
            Bound::AtMost(1.05),
            event("paced"),
            "x",
        ),
        (
            "CPU per event of bursts, against nginx",
            Bound::AtMost(0.9),
            event("burst"),
            "x",
        ),
        (
            "added time to the first event, p50",
            Bound::AtMost(150.0),
            against("ttft", DIRECT, "first_event_p50", difference),
            " us",
        ),
        ("memory per idle stream", Bound::AtMost(48.0), idle, " KiB"),
        (
            "LiteLLM's CPU per 1 KiB request, against ours",
            Bound::AtLeast(100.0),
            litellm,
            "x",
        ),
    ]
}

fn render(results: &Results, table: &Table) -> String {
    let there = |column: &&Column| results.scenario(column.1).is_some();
    let columns: Vec<&Column> = table.columns.iter().filter(there).collect();
    if columns.is_empty() {
        return String::new();
    }
    let mut text = format!("\n## {}\n\n{}\n\n| |", table.title, table.text);
    for column in &columns {
        let _infallible = write!(text, " {} |", column.0);
    }
    let _infallible = write!(text, "\n|---|{}\n", "---:|".repeat(columns.len()));
    let mut rows = results.order();
    if table.title == "Requests per second" {
        rows.push(DIRECT);
    }
    for peer in rows {
        let cells: Vec<String> = columns
            .iter()
            .map(|column| cell(results, table, column, peer))
            .collect();
        if cells.iter().any(|cell| cell != "–") {
            let _infallible = writeln!(text, "| {peer} | {} |", cells.join(" | "));
        }
    }
    text
}

fn cell(
    results: &Results,
    table: &Table,
    (_, scenario, figure, added): &Column,
    peer: &str,
) -> String {
    let Some(scenario) = results.scenario(scenario) else {
        return "–".to_owned();
    };
    let value = if *added {
        scenario.against(peer, DIRECT, figure, difference)
    } else {
        scenario.middle(peer, figure)
    };
    let Some(value) = value else {
        return "–".to_owned();
    };
    match scenario.against(peer, BASE, figure, ratio) {
        Some(ratio) if table.ratios && peer != BASE => {
            format!("{} [{}x]", spread(value), number(ratio.median))
        }
        _ => spread(value),
    }
}

fn errors(results: &Results) -> String {
    let mut text = String::from("\n## Errors\n\n");
    let mut none = true;
    for scenario in &results.scenarios {
        for peer in results.order() {
            for (fault, count) in scenario.errors(peer) {
                none = false;
                let _infallible = writeln!(text, "- {peer}, {}: {count} x {fault}", scenario.title);
            }
        }
    }
    if none {
        text.push_str("None, by any gateway, under any load.\n");
    }
    text
}

fn bars<'r>(results: &'r Results, scenario: &str, figure: &str) -> Option<Vec<(&'r str, Middle)>> {
    let scenario = results.scenario(scenario)?;
    let order = results.order().into_iter();
    let bars: Vec<_> = order
        .filter_map(|peer| Some((peer, scenario.middle(peer, figure)?)))
        .collect();
    (bars.len() > 1).then_some(bars)
}

const HOW: &str = "
## How it is measured

`make bench` builds a release, starts every gateway it finds in `tests/bench/peers` (`scripts/bench-peers.sh` installs them), and puts
the same requests on each, in turn. Load generator and mock engine are one thread on a CPU of its own that never sleeps: waking it would
be charged to whoever writes to it. The engine's answers are made beforehand; only the time is put into each event. Streams look like
vLLM's: one chunk per event, head and first event apart, usage at the end.

CPU time is that of all processes of a gateway, user and system, over requests or events completed meanwhile; it holds on noisy machines,
where times do not. nginx and HAProxy do nothing but proxy. This gateway asks for a key, counts limits per key, user and model, routes by
model, meters usage, prices it, writes it to its ledger, delivers it to a webhook and keeps metrics. Clients do not ask for usage, so it
asks for them and takes it out again. Every configuration is in `tests/bench/peers`, with the advice it follows.
";
