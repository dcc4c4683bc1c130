//! What a quota in SQLite costs a request: `cargo bench --bench quota`.
//!
//! Every request is reserved, noted once while it runs, and settled. Costs are CPU time of the whole
//! process, so that a busy machine spoils them less than the clock; how long an admission takes is
//! shown beside them. Without `--bench`, as in `cargo test --benches`, it only sees that everything
//! still runs.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use comfy_table::{CellAlignment, Table};
use futures_util::future::join_all;
use llmproxy::limit::{Account, Amount, QuotaStore, Reserve, Reserved, SqliteQuota};
use rustix::time::{ClockId, clock_gettime};

/// Measures what a quota in SQLite costs a request.
#[derive(Parser)]
struct Args {
    /// How long each row is measured.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Where the file is written; in memory (tmpfs) it costs less than on a disk.
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
    /// Connections to the file, as that many processes have.
    gateways: usize,
    /// Requests at a time, of all of them.
    callers: usize,
    /// Keys they are spread over.
    keys: usize,
}

const LOADS: [Load; 5] = [
    Load {
        name: "1 caller",
        gateways: 1,
        callers: 1,
        keys: 1,
    },
    Load {
        name: "64 callers, 1 key",
        gateways: 1,
        callers: 64,
        keys: 1,
    },
    Load {
        name: "64 callers, 1000 keys",
        gateways: 1,
        callers: 64,
        keys: 1000,
    },
    Load {
        name: "4 gateways, 64 callers, 1 key",
        gateways: 4,
        callers: 64,
        keys: 1,
    },
    Load {
        name: "4 gateways, 1000 callers, 1 key",
        gateways: 4,
        callers: 1000,
        keys: 1,
    },
];

/// What one row says.
struct Measured {
    requests: usize,
    elapsed: Duration,
    cpu: Duration,
    /// How long admissions took, ascending.
    admissions: Vec<Duration>,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let length = match args.bench {
        true => Duration::try_from_secs_f64(args.seconds)?,
        false => Duration::from_millis(100),
    };
    let mut table = Table::new();
    table.set_header([
        "load",
        "requests/s",
        "CPU us/request",
        "admission p50/p99/max us",
    ]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for load in LOADS {
        let measured = measure(load, length, &args.dir)?;
        let per_second = measured.requests as f64 / measured.elapsed.as_secs_f64();
        let cpu = measured.cpu.as_secs_f64() * 1e6 / measured.requests as f64;
        let micros = |share: f64| {
            let last = measured.admissions.len() - 1;
            measured.admissions[(last as f64 * share) as usize].as_micros()
        };
        table.add_row([
            load.name.to_owned(),
            format!("{per_second:.0}"),
            format!("{cpu:.1}"),
            format!("{}/{}/{}", micros(0.5), micros(0.99), micros(1.0)),
        ]);
    }
    println!("{table}");
    Ok(())
}

fn measure(load: Load, length: Duration, dir: &Path) -> Result<Measured> {
    let dir = tempfile::tempdir_in(dir)?;
    let path = dir.path().join("quota.db");
    let gateways = (0..load.gateways)
        .map(|number| SqliteQuota::open(&path, Duration::from_secs(30), &number.to_string()))
        .collect::<Result<Vec<_>, _>>()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let end = Instant::now() + length;
    let (began, cpu) = (Instant::now(), cpu_time());
    let callers = (0..load.callers).map(|caller| {
        let gateway = Arc::clone(&gateways[caller % load.gateways]);
        runtime.spawn(async move { requests(&*gateway, caller, load.keys, end).await })
    });
    let callers: Vec<_> = callers.collect();
    let done = runtime.block_on(join_all(callers));
    let (elapsed, cpu) = (began.elapsed(), cpu_time().saturating_sub(cpu));
    let mut admissions = Vec::new();
    for one in done {
        admissions.extend(one??);
    }
    admissions.sort_unstable();
    Ok(Measured {
        requests: admissions.len(),
        elapsed,
        cpu,
        admissions,
    })
}

/// One request after the other; returns how long their admissions took.
async fn requests(
    quota: &dyn QuotaStore,
    caller: usize,
    keys: usize,
    end: Instant,
) -> Result<Vec<Duration>> {
    let mut admissions = Vec::new();
    while Instant::now() < end {
        let number = admissions.len();
        let account = Arc::new(Account {
            name: format!("key_{}@2026-11", (caller + number * 61) % keys).into(),
            tokens: Some(1 << 50),
            nanos: Some(1 << 60),
            ends: None,
        });
        let ask = Reserve {
            id: format!("01900000-0000-7000-{caller:04}-{number:012}").into(),
            account: Arc::clone(&account),
            amount: amount(4096),
        };
        let began = Instant::now();
        let reserved = quota.reserve(&ask).await?;
        admissions.push(began.elapsed());
        ensure!(
            matches!(reserved, Reserved::Granted { .. }),
            "there is enough: {reserved:?}"
        );
        let spent = amount(321);
        quota.update(&account.name, &ask.id, spent, spent).await?;
        quota.settle(&account.name, &ask.id, spent, false).await?;
    }
    Ok(admissions)
}

fn amount(tokens: u64) -> Amount {
    Amount {
        tokens,
        nanos: tokens * 600,
    }
}

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
