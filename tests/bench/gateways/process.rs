//! A gateway under load: starting it, what it uses, ending it.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process_group, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The CPUs gateways and load run on, apart from each other.
#[derive(Debug, Clone)]
pub(crate) struct Cpus {
    pub(crate) gateway: Vec<usize>,
    pub(crate) load: Vec<usize>,
}

impl Cpus {
    /// Gives the first `gateway` CPUs to gateways, the last one to the load and the engine.
    ///
    /// # Errors
    /// With fewer than two CPUs.
    pub(crate) fn share(gateway: usize) -> Result<Self> {
        let mine = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|cpu| mine.is_set(*cpu))
            .collect();
        if all.len() < gateway + 1 {
            bail!(
                "{} CPUs are too few: {gateway} for gateways and one for the load",
                all.len()
            );
        }
        Ok(Self {
            gateway: all[..gateway].to_vec(),
            load: all[all.len() - 1..].to_vec(),
        })
    }

    /// Every CPU for both.
    ///
    /// # Errors
    /// When the system does not tell which there are.
    pub(crate) fn all() -> Result<Self> {
        let mine = sched_getaffinity(None)?;
        let all: Vec<usize> = (0..CpuSet::MAX_CPU)
            .filter(|cpu| mine.is_set(*cpu))
            .collect();
        Ok(Self {
            gateway: all.clone(),
            load: all,
        })
    }

    /// Keeps this thread, and what it starts, on `cpus`.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn pin(cpus: &[usize]) -> Result<()> {
        let mut set = CpuSet::new();
        for cpu in cpus {
            set.set(*cpu);
        }
        sched_setaffinity(None, &set).context("pinning to CPUs")
    }
}

/// Something that can be measured: `run` in its directory says how.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) version: String,
    script: PathBuf,
}

impl Peer {
    /// The peer `name`, if it is installed.
    ///
    /// # Errors
    /// When its script cannot be run.
    pub(crate) fn find(directory: &Path, name: &str) -> Result<Option<Self>> {
        let script = directory.join(name).join("run");
        let said = Command::new(&script).arg("version").output();
        let said = said.with_context(|| format!("{}", script.display()))?;
        if !said.status.success() {
            return Ok(None);
        }
        let text = String::from_utf8_lossy(&said.stdout);
        Ok(Some(Self {
            name: name.to_owned(),
            version: text.lines().next().unwrap_or_default().trim().to_owned(),
            script,
        }))
    }

    /// Headers it needs in requests.
    ///
    /// # Errors
    /// When its script cannot be run.
    pub(crate) fn headers(&self, engine: SocketAddr) -> Result<String> {
        let port = engine.port().to_string();
        let said = Command::new(&self.script)
            .args(["headers", &port])
            .output()?;
        let text = String::from_utf8_lossy(&said.stdout);
        Ok(text
            .lines()
            .map(|line| format!("{}\r\n", line.trim()))
            .collect())
    }

    /// Starts it.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn start(&self, engine: SocketAddr, cpus: &Cpus) -> Result<Running> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let directory = tempfile::tempdir()?;
        let log = fs::File::create(directory.path().join("output.log"))?;
        Cpus::pin(&cpus.gateway)?;
        let child = Command::new(&self.script)
            .args(["serve", &port.to_string(), &engine.port().to_string()])
            .arg(cpus.gateway.len().to_string())
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn();
        Cpus::pin(&cpus.load)?;
        Ok(Running {
            child: child.with_context(|| format!("{}", self.script.display()))?,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            name: self.name.clone(),
            directory,
        })
    }
}

/// A gateway that runs until it is dropped.
pub(crate) struct Running {
    child: Child,
    pub(crate) address: SocketAddr,
    name: String,
    directory: tempfile::TempDir,
}

/// What the processes of a gateway used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    pub(crate) cpu_ns: u64,
    /// Memory in RAM; what processes share counts once.
    pub(crate) rss_kib: u64,
}

impl Running {
    /// Waits until it accepts connections; `serve` lets the engine answer meanwhile.
    ///
    /// # Errors
    /// When it ends, or does not listen within two minutes.
    pub(crate) fn wait(&mut self, mut serve: impl FnMut(Duration) -> Result<()>) -> Result<()> {
        let start = Instant::now();
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended ({status}):\n{}", self.name, self.log());
            }
            if start.elapsed() > Duration::from_secs(120) {
                bail!(
                    "{} does not listen after two minutes:\n{}",
                    self.name,
                    self.log()
                );
            }
            serve(Duration::from_millis(100))?;
        }
        serve(Duration::from_millis(500))
    }

    /// The end of what it said.
    pub(crate) fn log(&self) -> String {
        let text = fs::read_to_string(self.directory.path().join("output.log"));
        let text = text.unwrap_or_default();
        let tail = text.lines().rev().take(20).collect::<Vec<_>>();
        tail.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// What it used up to now, its children included.
    pub(crate) fn used(&self) -> Used {
        family(self.child.id())
            .into_iter()
            .map(of)
            .fold(Used::default(), |sum, one| Used {
                cpu_ns: sum.cpu_ns + one.cpu_ns,
                rss_kib: sum.rss_kib + one.rss_kib,
            })
    }
}

/// Times 50 ms: how long a gateway may take to end, which under valgrind is long.
const PATIENCE: usize = 200;

impl Drop for Running {
    fn drop(&mut self) {
        let group = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        let Some(group) = group else { return };
        for signal in [Signal::TERM, Signal::KILL] {
            let _gone = kill_process_group(group, signal);
            for _ in 0..PATIENCE {
                if matches!(self.child.try_wait(), Ok(Some(_))) {
                    let _rest = kill_process_group(group, Signal::KILL);
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// `root` and everything it started.
fn family(root: u32) -> Vec<u32> {
    let mut all = vec![root];
    let mut next = 0;
    while let Some(pid) = all.get(next).copied() {
        next += 1;
        let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        all.extend(
            children
                .unwrap_or_default()
                .split_whitespace()
                .filter_map(|it| it.parse::<u32>().ok()),
        );
    }
    all
}

fn of(pid: u32) -> Used {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let mut cpu_ns = 0;
    for task in tasks {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        let first = schedstat.split_whitespace().next();
        cpu_ns += first.and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    }
    let memory = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = memory.lines().find_map(|line| line.strip_prefix("Pss:"));
    let rss_kib = line.and_then(|it| it.trim().trim_end_matches(" kB").trim().parse().ok());
    Used {
        cpu_ns,
        rss_kib: rss_kib.unwrap_or(0),
    }
}

/// Allows as many open files as this process may have: a held stream takes two here.
///
/// # Errors
/// When the system refuses.
pub(crate) fn raise_open_files() -> Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    let all = Rlimit {
        current: maximum,
        maximum,
    };
    setrlimit(Resource::Nofile, all).context("open files")
}
