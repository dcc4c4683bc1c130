//! A script and the machines it runs on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use mlua::MultiValue;

use super::error::{Fault, ScriptError};
use super::machine::{Code, Inputs, Machine};
use super::metrics::{RunMetrics, ScriptMetrics};
use super::source::Watched;
use crate::config::{self, ScriptSource};

/// A script, ready to run on any thread.
///
/// Runs happen on the caller's thread, each on a machine of its own. Machines are kept for the next
/// run, as many as there are processors (2 to 64). A script from a file is read again when the file
/// has changed; a new version that is broken is logged once and not used.
pub struct Program {
    name: Arc<str>,
    script: config::Script,
    code: ArcSwap<Code>,
    file: Option<Watched>,
    idle: Mutex<Vec<Machine>>,
    most_idle: usize,
    metrics: Option<RunMetrics>,
    log: Gate,
}

/// Most machines kept idle. Each holds 50 KiB, and up to 1 MiB of what its last run left behind.
const MOST_IDLE: usize = 64;

impl Program {
    /// Reads and compiles a script; `name` is what logs and metrics call it.
    ///
    /// # Errors
    /// When it cannot be read or is no Lua; the error names file and line.
    pub fn load(name: &str, script: &config::Script) -> Result<Self, ScriptError> {
        let (text, file) = match &script.source {
            ScriptSource::Inline(text) => (Ok(text.clone()), None),
            ScriptSource::File(path) => {
                let file = Watched::new(path.clone());
                (file.read(), Some(file))
            }
        };
        let processors = thread::available_parallelism().map_or(2, usize::from);
        let program = Self {
            name: name.into(),
            script: script.clone(),
            code: ArcSwap::from_pointee(Code {
                text: String::new(),
                version: 0,
            }),
            file,
            idle: Mutex::default(),
            most_idle: processors.clamp(2, MOST_IDLE),
            metrics: None,
            log: Gate::default(),
        };
        let taken = text
            .map_err(Fault::general)
            .and_then(|text| program.take(text));
        taken.map_err(|fault| program.named(fault))?;
        Ok(program)
    }

    /// Counts its runs.
    #[must_use]
    pub fn metered(mut self, metrics: &ScriptMetrics) -> Self {
        self.metrics = Some(metrics.of(&self.name));
        self
    }

    /// What logs and metrics call it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Logs a failed run, unless a line about this script was written within the last ten seconds.
    pub fn log_failure(&self, error: &ScriptError) {
        if let Some(held) = self.log.pass() {
            log::error!(target: "script", script = &*self.name, error:% = error, held; "a script failed");
        }
    }

    /// Runs the script, see [`Machine::run`].
    pub(super) fn run<T>(
        &self,
        secret: &str,
        give: impl FnOnce(&Inputs<'_>) -> mlua::Result<()>,
        take: impl FnOnce(&MultiValue) -> Result<T, String>,
    ) -> Result<T, ScriptError> {
        self.refresh();
        let start = Instant::now();
        let result = self.machine().and_then(|mut machine| {
            let result = machine.run(secret, give, take);
            if !result.as_ref().is_err_and(Fault::is_stop) {
                self.keep(machine);
            }
            result
        });
        if let Some(metrics) = &self.metrics {
            metrics.ran(&result, start.elapsed());
        }
        result.map_err(|fault| self.named(fault))
    }

    /// Reads the file again if it has changed.
    fn refresh(&self) {
        let Some(news) = self.file.as_ref().and_then(Watched::news) else {
            return;
        };
        let taken = news
            .map_err(Fault::general)
            .and_then(|text| self.take(text));
        match taken.map_err(|fault| self.named(fault)) {
            Ok(()) => log::info!(target: "script", script = &*self.name; "script reloaded"),
            Err(error) => {
                log::error!(target: "script", script = &*self.name, error:% = error;
                    "the new version of a script is not used");
            }
        }
    }

    /// Makes `text` the script, if it compiles.
    fn take(&self, text: String) -> Result<(), Fault> {
        let version = self.code.load().version + 1;
        let code = Code { text, version };
        let machine = Machine::new(&self.name, &self.script, &code)?;
        self.code.store(Arc::new(code));
        self.keep(machine);
        Ok(())
    }

    fn machine(&self) -> Result<Machine, Fault> {
        let code = self.code.load();
        let idle = self.lock().pop();
        match idle {
            Some(mut machine) => {
                if machine.version != code.version {
                    machine.load(&code)?;
                }
                Ok(machine)
            }
            None => Machine::new(&self.name, &self.script, &code),
        }
    }

    fn keep(&self, machine: Machine) {
        let mut idle = self.lock();
        if idle.len() < self.most_idle {
            idle.push(machine);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Machine>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn named(&self, fault: Fault) -> ScriptError {
        ScriptError {
            script: Arc::clone(&self.name),
            file: self.file.as_ref().map(|file| Arc::clone(file.path())),
            line: fault.line,
            failure: fault.failure,
            message: fault.message,
        }
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Program")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Lets one log line through per ten seconds, and counts the others.
#[derive(Debug)]
struct Gate {
    start: Instant,
    /// Milliseconds after `start` from which on a line may pass.
    opens_at: AtomicU64,
    held: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            start: Instant::now(),
            opens_at: AtomicU64::new(0),
            held: AtomicU64::new(0),
        }
    }
}

impl Gate {
    /// Returns how many lines were held back since the last one, if this one may be written.
    fn pass(&self) -> Option<u64> {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        let opens_at = self.opens_at.load(Ordering::Relaxed);
        let next = now.saturating_add(LOG_EVERY.as_millis() as u64);
        let passes = now >= opens_at
            && self
                .opens_at
                .compare_exchange(opens_at, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if passes {
            return Some(self.held.swap(0, Ordering::Relaxed));
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        None
    }
}

const LOG_EVERY: Duration = Duration::from_secs(10);

#[cfg(test)]
impl Program {
    /// Looks at the file with the next run, however recent the last look was.
    pub(super) fn hurry(&self) {
        self.file.as_ref().expect("it has a file").hurry();
    }

    pub(super) fn idle(&self) -> usize {
        self.lock().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_come_too_soon_are_held_back_and_counted() {
        let gate = Gate::default();
        assert_eq!(gate.pass(), Some(0));
        assert_eq!((gate.pass(), gate.pass()), (None, None));
        gate.opens_at.store(0, Ordering::Relaxed);
        assert_eq!(gate.pass(), Some(2));
    }
}
