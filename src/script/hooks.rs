//! Scripts that run at points of a request's life.
//!
//! What a failure means is decided here: by default a hook that fails is as if there were none.

mod points;
mod verdicts;

use super::error::ScriptError;
use super::metrics::ScriptMetrics;
use super::program::Program;
use crate::config::{self, OnHookFailure};

pub use points::{
    BackendInfo, CompleteInfo, ErrorInfo, ResponseInfo, RouteInfo, UsageCounts, UsageInfo,
};
pub use verdicts::{ErrorVerdict, HookRefusal, RequestVerdict, ResponseVerdict, UsageVerdict};

/// All hooks of a configuration.
#[derive(Debug, Default)]
pub struct HookSet {
    on_request: Option<Hook>,
    on_route: Option<Hook>,
    on_response: Option<Hook>,
    on_usage: Option<Hook>,
    on_error: Option<Hook>,
    on_complete: Option<Hook>,
}

/// The points of a request's life at which hooks run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// The client is known, the body is there.
    Request,
    /// A backend is about to be chosen.
    Route,
    /// The head of the answer is there.
    Response,
    /// What the request used is known, and is about to be written down.
    Usage,
    /// The gateway is about to answer with an error of its own.
    Error,
    /// It is over.
    Complete,
}

/// The request is to be refused, because a hook failed and its `on_failure` is `deny`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct HookFailed(pub ScriptError);

#[derive(Debug)]
struct Hook {
    program: Program,
    on_failure: OnHookFailure,
}

impl HookSet {
    /// Loads all scripts.
    ///
    /// # Errors
    /// When one cannot be read or is no Lua; the error names file and line.
    pub fn build(hooks: &config::Hooks, metrics: &ScriptMetrics) -> Result<Self, ScriptError> {
        let load = |point: Point, hook: &Option<config::Hook>| {
            let load = |hook: &config::Hook| Hook::load(point, hook, metrics);
            hook.as_ref().map(load).transpose()
        };
        Ok(Self {
            on_request: load(Point::Request, &hooks.on_request)?,
            on_route: load(Point::Route, &hooks.on_route)?,
            on_response: load(Point::Response, &hooks.on_response)?,
            on_usage: load(Point::Usage, &hooks.on_usage)?,
            on_error: load(Point::Error, &hooks.on_error)?,
            on_complete: load(Point::Complete, &hooks.on_complete)?,
        })
    }

    /// Whether a script runs at this point, so that its inputs are worth collecting.
    #[must_use]
    pub fn has(&self, point: Point) -> bool {
        self.at(point).is_some()
    }

    fn at(&self, point: Point) -> Option<&Hook> {
        match point {
            Point::Request => self.on_request.as_ref(),
            Point::Route => self.on_route.as_ref(),
            Point::Response => self.on_response.as_ref(),
            Point::Usage => self.on_usage.as_ref(),
            Point::Error => self.on_error.as_ref(),
            Point::Complete => self.on_complete.as_ref(),
        }
    }
}

impl Point {
    /// The hook's name in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Request => "on_request",
            Self::Route => "on_route",
            Self::Response => "on_response",
            Self::Usage => "on_usage",
            Self::Error => "on_error",
            Self::Complete => "on_complete",
        }
    }
}

impl Hook {
    fn load(
        point: Point,
        hook: &config::Hook,
        metrics: &ScriptMetrics,
    ) -> Result<Self, ScriptError> {
        Ok(Self {
            program: Program::load(point.name(), &hook.script)?.metered(metrics),
            on_failure: hook.on_failure,
        })
    }

    /// What a run came to; a failure becomes nothing, or ends the request.
    fn judged<T: Default>(&self, result: Result<T, ScriptError>) -> Result<T, HookFailed> {
        result.or_else(|error| {
            self.program.log_failure(&error);
            match self.on_failure {
                OnHookFailure::Continue => Ok(T::default()),
                OnHookFailure::Deny => Err(HookFailed(error)),
            }
        })
    }
}
