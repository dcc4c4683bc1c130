//! What the parts of a request's way take: `cargo bench --bench micro`.
//!
//! Times depend on the machine and on what else it does; what CI holds on to is counted by
//! `scripts/check-instructions.sh`. Without `--bench`, as in `cargo test --benches`, every part
//! runs once.

mod event;
mod parts;

use std::time::Duration;

use anyhow::{Context, Result};
use criterion::{Criterion, Throughput};

fn main() -> Result<()> {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    for part in parts::all() {
        let (group, name) = part.name.split_once('/').unwrap_or((part.name, ""));
        let mut group = criterion.benchmark_group(group);
        if part.bytes > 0 {
            group.throughput(Throughput::Bytes(part.bytes));
        }
        let mut failed = None;
        group.bench_function(name, |bencher| {
            let mut call = match (part.make)() {
                Ok(call) => call,
                Err(error) => return failed = Some(error),
            };
            bencher.iter(|| {
                if let Err(error) = call() {
                    failed.get_or_insert(error);
                }
            });
        });
        group.finish();
        if let Some(error) = failed {
            return Err(error).context(part.name);
        }
    }
    criterion.final_summary();
    Ok(())
}
