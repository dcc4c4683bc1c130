//! Puts a new configuration in the place of the one that is served, or leaves everything as it is.
//!
//! Requests keep the [`Runtime`] they began with. What needs a restart is said, not done.

mod fixed;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use log::{error, info, warn};
use tokio::sync::{Mutex, watch};

use crate::config::{Config, ConfigError, Loaded, Overlay, load_at, load_with};
use crate::limit::Limiter;
use crate::metrics::Metrics;
use crate::price::PriceList;
use crate::runtime::{Parts, Previous, Runtime};
use crate::upstream::resolve;

/// How long a new configuration waits for the addresses of its backends.
const RESOLVE: Duration = Duration::from_secs(2);

/// Who wants the configuration to be read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// The file changed.
    File,
    /// `SIGHUP`.
    Signal,
    /// The admin API.
    Api,
}

impl Trigger {
    /// The value for logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Signal => "signal",
            Self::Api => "api",
        }
    }
}

/// What is served since a reload.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Configured models, disabled ones too.
    pub models: usize,
    /// Enabled backends.
    pub backends: usize,
    /// What is no error and yet hardly meant.
    pub warnings: Vec<String>,
    /// Sections that changed but take a restart.
    pub needs_restart: Vec<&'static str>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Unchanged<E> {
    /// Whoever wanted to change something thought better of it.
    #[error("refused")]
    Refused(E),
    /// The configuration that would come of it cannot be used; says where and why.
    #[error("{0}")]
    Bad(String),
    /// The gateway was started without a file.
    #[error("the gateway was started without a configuration file")]
    NoFile,
    /// The disk does not take it.
    #[error("the change cannot be written: {0}")]
    Disk(String),
}

/// What a reload reaches into.
pub struct Served {
    pub runtime: Arc<ArcSwap<Runtime>>,
    pub metrics: Arc<Metrics>,
    pub limiter: Arc<Limiter>,
}

/// Nobody refuses.
pub enum Never {}

/// Reads the configuration again, or changes what the admin API keeps of it.
pub struct Reloader {
    /// `None`: there is nothing to read again.
    file: Option<PathBuf>,
    /// Where the admin API's changes are kept until the process ends.
    overlay: PathBuf,
    runtime: Arc<ArcSwap<Runtime>>,
    metrics: Arc<Metrics>,
    limiter: Arc<Limiter>,
    parts: Parts,
    /// What the process was started with: some of it holds until it ends.
    started: Config,
    current: ArcSwap<Loaded>,
    /// One at a time, so that no change is lost.
    turn: Mutex<()>,
    swapped: watch::Sender<Arc<Runtime>>,
}

impl Reloader {
    /// `loaded` is what the runtime that is served was built from, with `parts`, and `file` what that
    /// was read from.
    #[must_use]
    pub fn new(loaded: Loaded, file: Option<&Path>, served: Served, parts: Parts) -> Arc<Self> {
        let Served {
            runtime,
            metrics,
            limiter,
        } = served;
        let (swapped, _) = watch::channel(runtime.load_full());
        name_models(&metrics, &loaded.config, &runtime.load());
        metrics.reloads.succeeded();
        Arc::new(Self {
            file: file.map(Path::to_owned),
            overlay: loaded.overlay.clone(),
            runtime,
            metrics,
            limiter,
            parts,
            started: loaded.config.clone(),
            current: ArcSwap::from_pointee(loaded),
            turn: Mutex::new(()),
            swapped,
        })
    }

    /// What is served.
    #[must_use]
    pub fn runtime(&self) -> Arc<Runtime> {
        self.runtime.load_full()
    }

    /// The configuration that is served.
    #[must_use]
    pub fn loaded(&self) -> Arc<Loaded> {
        self.current.load_full()
    }

    /// The sections that differ from those the process was started with, and take a restart.
    #[must_use]
    pub fn needs_restart(&self) -> Vec<&'static str> {
        fixed::changed(&self.started, &self.loaded().config)
    }

    /// The file that is read, if there is one.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Hears of every runtime that takes the place of another.
    #[must_use]
    pub fn swaps(&self) -> watch::Receiver<Arc<Runtime>> {
        self.swapped.subscribe()
    }

    /// Reads the file again.
    ///
    /// # Errors
    /// When it cannot be used; the configuration that was served is served on.
    pub async fn reload(self: &Arc<Self>, trigger: Trigger) -> Result<Applied, Unchanged<Never>> {
        let _turn = self.turn.lock().await;
        let Some(file) = self.file.clone() else {
            return Err(Unchanged::NoFile);
        };
        let overlay = self.overlay.clone();
        let read = move || load_at(&file, &overlay, &environment);
        let applied = self.put(trigger, read).await;
        applied.map_err(Unchanged::Bad)
    }

    /// Changes the overlay: `change` is shown what is served and what to change. The new
    /// configuration is built before anything is written, and served after it has been.
    ///
    /// # Errors
    /// When `change` refuses, or what comes of it cannot be used or written; nothing is changed then.
    pub async fn edit<E>(
        self: &Arc<Self>,
        change: impl FnOnce(&Loaded, &mut Overlay) -> Result<(), E>,
    ) -> Result<Applied, Unchanged<E>> {
        let _turn = self.turn.lock().await;
        let Some(file) = self.file.clone() else {
            return Err(Unchanged::NoFile);
        };
        let loaded = self.loaded();
        let path = self.overlay.clone();
        let before = Overlay::read(&path).map_err(|error| Unchanged::Bad(error.to_string()))?;
        let mut overlay = before.clone();
        change(&loaded, &mut overlay).map_err(Unchanged::Refused)?;
        let tried = overlay.clone();
        let at = path.clone();
        let read = move || load_with(&file, &at, &tried, &environment);
        let built = self.build(Trigger::Api, read).await;
        let (loaded, runtime) = built.map_err(|error| {
            self.keep_gauges();
            Unchanged::Bad(error)
        })?;
        let place = path.display().to_string();
        let saved = tokio::task::spawn_blocking(move || overlay.save(&path)).await;
        let saved = saved.map_err(std::io::Error::other).and_then(|saved| saved);
        saved.map_err(|error| Unchanged::Disk(format!("{place}: {error}")))?;
        Ok(self.serve(Trigger::Api, loaded, runtime))
    }

    async fn put(
        self: &Arc<Self>,
        trigger: Trigger,
        read: impl FnOnce() -> Result<Loaded, ConfigError> + Send + 'static,
    ) -> Result<Applied, String> {
        match self.build(trigger, read).await {
            Ok((loaded, runtime)) => Ok(self.serve(trigger, loaded, runtime)),
            Err(error) => {
                error!(trigger = trigger.as_str(), error = &*error;
                    "the new configuration cannot be used; the old one is served on");
                self.keep_gauges();
                self.metrics.reloads.failed();
                Err(error)
            }
        }
    }

    /// Reads and builds, away from the threads that serve.
    async fn build(
        self: &Arc<Self>,
        trigger: Trigger,
        read: impl FnOnce() -> Result<Loaded, ConfigError> + Send + 'static,
    ) -> Result<(Loaded, Runtime), String> {
        let this = Arc::clone(self);
        let building = tokio::task::spawn_blocking(move || {
            let loaded = read().map_err(|error| error.to_string())?;
            let file = this.file.as_deref().unwrap_or(Path::new(""));
            fixed::refuse(&this.started, &loaded.config)
                .map_err(|why| format!("{}: {why}", file.display()))?;
            let served = this.runtime.load();
            let previous = Previous {
                runtime: &served,
                // Certificates and the like are files that may have changed.
                keep_auth: trigger != Trigger::Signal,
            };
            let built = Runtime::build(&loaded.config, &this.metrics, &this.parts, Some(previous));
            let runtime = built.map_err(|error| format!("{error:#}"))?;
            Ok::<_, String>((loaded, runtime))
        });
        let (loaded, runtime) = building.await.map_err(|error| error.to_string())??;
        let resolving = resolve::resolve_all(&runtime.upstreams);
        if tokio::time::timeout(RESOLVE, resolving).await.is_err() {
            warn!("some backends' names are not resolved yet");
        }
        Ok((loaded, runtime))
    }

    /// Backends that are not there have no gauges, those of a configuration that was refused included.
    fn keep_gauges(&self) {
        let runtime = self.runtime.load();
        let names = runtime.upstreams.iter().map(|upstream| &**upstream.name());
        self.metrics.keep_backends(&names.collect());
    }

    fn serve(&self, trigger: Trigger, loaded: Loaded, runtime: Runtime) -> Applied {
        let applied = Applied {
            models: loaded.config.models.as_ref().map_or(0, |them| them.0.len()),
            backends: runtime.upstreams.len(),
            warnings: loaded.warnings.clone(),
            needs_restart: fixed::changed(&self.started, &loaded.config),
        };
        let memory = loaded.config.limits.body_memory;
        runtime.body_memory.set_limit(memory);
        self.limiter
            .reload(&fixed::limits(&self.started, &loaded.config));
        name_models(&self.metrics, &loaded.config, &runtime);
        let runtime = Arc::new(runtime);
        for upstream in &runtime.upstreams {
            upstream.take_over();
        }
        self.runtime.store(Arc::clone(&runtime));
        self.current.store(Arc::new(loaded));
        self.swapped.send_replace(runtime);
        self.keep_gauges();
        self.metrics.reloads.succeeded();
        info!(trigger = trigger.as_str(), models = applied.models, backends = applied.backends;
            "configuration loaded");
        for warning in &applied.warnings {
            warn!("{warning}");
        }
        if !applied.needs_restart.is_empty() {
            warn!(sections = applied.needs_restart.join(", "); "takes effect after a restart only");
        }
        applied
    }
}

/// Lets the models that are written down count under their own names.
fn name_models(metrics: &Metrics, config: &Config, runtime: &Runtime) {
    let models = config.models.iter().flat_map(|models| &models.0);
    let models = models.map(|model| model.name.as_str());
    let exact = models.filter(|name| !name.contains('*'));
    let priced = runtime.prices.iter().flat_map(PriceList::names);
    metrics.billing.name_models(exact.chain(priced));
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
