//! What hooks are given, point by point.

use mlua::{MultiValue, Table};

use super::verdicts::{self, ErrorVerdict, RequestVerdict, ResponseVerdict, UsageVerdict};
use super::{Hook, HookFailed, HookSet, Point};
use crate::script::machine::Inputs;
use crate::script::request::RequestInfo;

/// What `on_route` is given.
#[derive(Clone, Debug)]
pub struct RouteInfo<'a> {
    pub request: &'a RequestInfo<'a>,
    /// Those that can serve the model.
    pub backends: &'a [BackendInfo<'a>],
}

/// A backend that can be chosen.
#[derive(Clone, Copy, Debug)]
pub struct BackendInfo<'a> {
    pub name: &'a str,
    /// Without credentials.
    pub url: &'a str,
    pub healthy: bool,
    pub weight: u32,
    /// Requests running there.
    pub active: u64,
}

/// What `on_response` is given.
#[derive(Clone, Debug)]
pub struct ResponseInfo<'a> {
    pub request: &'a RequestInfo<'a>,
    pub status: u16,
    pub headers: Vec<(&'a str, &'a str)>,
    /// The backend's name.
    pub backend: &'a str,
    /// Since the request's first byte.
    pub latency_ms: u64,
}

/// Tokens and money.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsageCounts<'a> {
    pub prompt_tokens: u64,
    pub completion_tokens: u64,
    pub total_tokens: u64,
    /// Part of `prompt_tokens`.
    pub cached_tokens: u64,
    /// Part of `completion_tokens`.
    pub reasoning_tokens: u64,
    /// Billionths of a unit of `currency`; `None` without a price.
    pub cost_nanos: Option<u64>,
    pub currency: Option<&'a str>,
}

/// What `on_usage` is given.
#[derive(Clone, Debug)]
pub struct UsageInfo<'a> {
    pub request: &'a RequestInfo<'a>,
    pub usage: UsageCounts<'a>,
    /// The model that is billed.
    pub model: &'a str,
    /// The backend's name.
    pub backend: &'a str,
    /// `completed`, `client_aborted`, `upstream_failed` or `interrupted`.
    pub outcome: &'a str,
    /// The status the client saw.
    pub status: u16,
}

/// What `on_error` is given.
#[derive(Clone, Debug)]
pub struct ErrorInfo<'a> {
    pub request: &'a RequestInfo<'a>,
    /// What failed: `auth_error`, `rate_limit`, `backend_error`, `timeout`, …
    pub kind: &'a str,
    pub status: u16,
    pub code: &'a str,
    pub message: &'a str,
}

/// What `on_complete` is given.
#[derive(Clone, Debug)]
pub struct CompleteInfo<'a> {
    pub request: &'a RequestInfo<'a>,
    pub status: u16,
    /// From the request's first byte to the response's last.
    pub latency_ms: u64,
    /// As in [`UsageInfo`].
    pub outcome: &'a str,
    /// `None` when nothing was metered.
    pub usage: Option<UsageCounts<'a>>,
}

impl HookSet {
    /// Runs `on_request`.
    ///
    /// # Errors
    /// When it failed and its `on_failure` is `deny`; so with all others.
    pub fn on_request(&self, request: &RequestInfo<'_>) -> Result<RequestVerdict, HookFailed> {
        self.run(
            Point::Request,
            |inputs| request.give(inputs),
            verdicts::request,
        )
    }

    /// Runs `on_route`; returns the name of one of the backends, or leaves the choice.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub fn on_route(&self, info: &RouteInfo<'_>) -> Result<Option<String>, HookFailed> {
        let give = |inputs: &Inputs<'_>| {
            info.request.give(inputs)?;
            let backends = inputs.lua.create_table()?;
            for backend in info.backends {
                let fields = backend.fields(inputs)?;
                // In order, and by name.
                backends.raw_push(&fields)?;
                backends.raw_set(backend.name, fields)?;
            }
            inputs.set("model", info.request.model)?;
            inputs.set("backends", backends)
        };
        let known = info.backends.iter().map(|backend| backend.name);
        self.run(Point::Route, give, |returned| {
            verdicts::route(returned, known)
        })
    }

    /// Runs `on_response`.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub fn on_response(&self, info: &ResponseInfo<'_>) -> Result<ResponseVerdict, HookFailed> {
        let give = |inputs: &Inputs<'_>| {
            info.request.give(inputs)?;
            let response = response(inputs, info.status, info.latency_ms)?;
            response.raw_set("headers", inputs.headers(&info.headers)?)?;
            response.raw_set("backend", info.backend)
        };
        self.run(Point::Response, give, verdicts::response)
    }

    /// Runs `on_usage`.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub fn on_usage(&self, info: &UsageInfo<'_>) -> Result<UsageVerdict, HookFailed> {
        let give = |inputs: &Inputs<'_>| {
            info.request.give(inputs)?;
            let usage = info.usage.give(inputs)?;
            usage.raw_set("model", info.model)?;
            usage.raw_set("backend", info.backend)?;
            usage.raw_set("outcome", info.outcome)?;
            usage.raw_set("status", info.status)
        };
        self.run(Point::Usage, give, verdicts::usage)
    }

    /// Runs `on_error`.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub fn on_error(&self, info: &ErrorInfo<'_>) -> Result<ErrorVerdict, HookFailed> {
        let give = |inputs: &Inputs<'_>| {
            info.request.give(inputs)?;
            let error = inputs.lua.create_table()?;
            error.raw_set("type", info.kind)?;
            error.raw_set("code", info.code)?;
            error.raw_set("message", info.message)?;
            error.raw_set("status", info.status)?;
            error.raw_set("status_code", info.status)?;
            error.set_metatable(Some(inputs.errors.clone()))?;
            inputs.set("error", error)?;
            inputs.set("error_message", info.message)
        };
        self.run(Point::Error, give, verdicts::error)
    }

    /// Runs `on_complete`; what it returns does not matter.
    ///
    /// # Errors
    /// As [`Self::on_request`].
    pub fn on_complete(&self, info: &CompleteInfo<'_>) -> Result<(), HookFailed> {
        let give = |inputs: &Inputs<'_>| {
            info.request.give(inputs)?;
            let response = response(inputs, info.status, info.latency_ms)?;
            response.raw_set("outcome", info.outcome)?;
            match &info.usage {
                Some(usage) => usage.give(inputs).map(drop),
                None => Ok(()),
            }
        };
        self.run(Point::Complete, give, |_| Ok(()))
    }

    fn run<T: Default>(
        &self,
        point: Point,
        give: impl FnOnce(&Inputs<'_>) -> mlua::Result<()>,
        take: impl FnOnce(&MultiValue) -> Result<T, String>,
    ) -> Result<T, HookFailed> {
        let run = |hook: &Hook| hook.judged(hook.program.run("", give, take));
        self.at(point).map_or_else(|| Ok(T::default()), run)
    }
}

fn response(inputs: &Inputs<'_>, status: u16, latency_ms: u64) -> mlua::Result<Table> {
    let response = inputs.lua.create_table()?;
    response.raw_set("status", status)?;
    response.raw_set("status_code", status)?;
    response.raw_set("latency_ms", latency_ms)?;
    inputs.set("response", &response)?;
    Ok(response)
}

impl BackendInfo<'_> {
    fn fields(&self, inputs: &Inputs<'_>) -> mlua::Result<Table> {
        let fields = inputs.lua.create_table_with_capacity(0, 6)?;
        fields.raw_set("name", self.name)?;
        fields.raw_set("url", self.url)?;
        fields.raw_set("healthy", self.healthy)?;
        fields.raw_set("weight", self.weight)?;
        fields.raw_set("active", self.active)?;
        fields.raw_set("active_connections", self.active)?;
        Ok(fields)
    }
}

impl UsageCounts<'_> {
    fn give(&self, inputs: &Inputs<'_>) -> mlua::Result<Table> {
        let usage = inputs.lua.create_table_with_capacity(0, 12)?;
        usage.raw_set("prompt_tokens", self.prompt_tokens)?;
        usage.raw_set("completion_tokens", self.completion_tokens)?;
        usage.raw_set("total_tokens", self.total_tokens)?;
        usage.raw_set("cached_tokens", self.cached_tokens)?;
        usage.raw_set("reasoning_tokens", self.reasoning_tokens)?;
        usage.raw_set("cost_nanos", self.cost_nanos)?;
        usage.raw_set("currency", self.currency)?;
        inputs.set("usage", &usage)?;
        Ok(usage)
    }
}
