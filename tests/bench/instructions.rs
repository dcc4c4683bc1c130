//! Runs one part of a request's way so many times, for `scripts/check-instructions.sh`, which has
//! the instructions counted.
//!
//! `--list` prints the parts, each with how many calls tell enough. Without arguments, as in `cargo
//! test --benches`, every part runs once.
#![expect(clippy::print_stdout, reason = "the list is what was asked for")]

mod event;
mod parts;

use anyhow::{Context, Result};
use clap::Parser;
use parts::Part;

/// Runs one part of a request's way.
#[derive(Parser)]
struct Args {
    /// The part's name.
    #[arg(requires = "calls")]
    name: Option<String>,
    /// How many times.
    calls: Option<u32>,
    /// Prints the names, each with how many calls tell enough.
    #[arg(long)]
    list: bool,
    /// What cargo says when it wants measurements.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match (&args.name, args.calls) {
        _ if args.list => {
            parts::all().for_each(|part| println!("{}\t{}", part.name, calls(part)));
            Ok(())
        }
        (Some(name), Some(calls)) => {
            let part = parts::all().find(|part| part.name == name);
            run(part.context("there is no such part")?, calls)
        }
        _ => parts::all().try_for_each(|part| run(part, 1)),
    }
}

fn run(part: &Part, calls: u32) -> Result<()> {
    let mut call = (part.make)().context(part.name)?;
    (0..calls).try_for_each(|_| call()).context(part.name)
}

/// How many calls tell enough: of more than the start of the process takes, and no more than that.
fn calls(part: &Part) -> u32 {
    if part.bytes > 8 << 10 { 20 } else { 2000 }
}
