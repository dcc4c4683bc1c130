//! What scripts cost a request: `cargo bench --bench script`.
//!
//! Every row runs one script again and again on one thread, as a request's thread does: with its inputs
//! handed in and its answer read. Costs are CPU time, so that a busy machine spoils them less than
//! the clock. Without `--bench`, as in `cargo test --benches`, it only sees that everything still
//! runs.
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::collections::BTreeMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use comfy_table::{CellAlignment, Table};
use llmproxy::config::{Hook, Hooks, OnHookFailure, Script, ScriptSource};
use llmproxy::script::{
    BackendInfo, CompleteInfo, DecisionInput, ErrorInfo, HookSet, Program, RequestInfo,
    RequestView, ResponseInfo, RouteInfo, ScriptMetrics, UsageCounts, UsageInfo,
};
use prometheus::Registry;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Map, Value, json};

/// Measures what scripts cost a request.
#[derive(Parser)]
struct Args {
    /// How long each row is measured.
    #[arg(long, default_value_t = 0.3)]
    seconds: f64,
    /// How often each row is measured; the table shows the middle and how far the others are off.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// What cargo says when it wants measurements.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a usual decision may cost.
const LIMIT: Duration = Duration::from_micros(30);

const TYPICAL: &str = r#"
if data.status ~= "active" then
  return { allow = false, message = "this key is switched off" }
end
local hour = tonumber(time.format(now(), "%H", "Europe/Berlin"))
if data.team ~= "on-call" and (hour < 0 or hour > 23) then
  return { allow = false, message = "come back in office hours", status = 403 }
end
if request.headers["x-tier"] == "vip" or string_utils.ends_with(data.email, "@example.com") then
  return { allow = true, metadata = { tier = "vip", team = data.team }, user_id = data.team }
end
for _, model in ipairs(data.models) do
  if model == "small" then return true end
end
return { allow = false, message = "nothing is left for you" }
"#;

const ON_REQUEST: &str = r#"
local tier = metadata.tier or "standard"
if request.model == "large" and tier ~= "vip" then
  return { continue = false, error = "large is for others", status = 403 }
end
return { headers = { ["x-tier"] = tier }, metadata = { seen = "yes" } }
"#;

const ON_REQUEST_BODY: &str = r#"
local body = json.decode(request.body)
if #body.messages > 100 then return { continue = false, error = "too long a talk" } end
"#;

const ON_ROUTE: &str = r#"
local best
for _, backend in ipairs(backends) do
  if backend.healthy and (not best or backend.active < best.active) then best = backend end
end
return best and best.name
"#;

const ON_RESPONSE: &str =
    r#"return { headers = { ["x-served-by"] = response.backend, server = false } }"#;

const ON_USAGE: &str =
    r#"if metadata.tier == "vip" then return { cost_nanos = usage.cost_nanos * 0.8 } end"#;

const ON_ERROR: &str = r#"
if error.code == "no_backend" then return { status = 503, message = "back soon: " .. error_message } end
"#;

const ON_COMPLETE: &str = "local slow = response.latency_ms > 60000";

fn main() -> Result<()> {
    let args = Args::parse();
    let (runs, length) = if args.bench {
        (args.runs.max(1), Duration::try_from_secs_f64(args.seconds)?)
    } else {
        (1, Duration::from_millis(5))
    };
    let mut table = Table::new();
    table.set_header(["script", "CPU us/run", "runs/s of one core", "p99 us"]);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    for (name, run) in rows()? {
        let measured: Result<Vec<_>> = (0..runs).map(|_| measure(&*run, length)).collect();
        let mut measured = measured.context(name)?;
        measured.sort_by_key(|it| it.cpu);
        table.add_row(row(name, &measured));
    }
    println!("{table}");
    println!("a usual decision may cost {} us", micros(LIMIT));
    Ok(())
}

// === what is run ===

type Run = Box<dyn Fn() -> Result<()>>;

fn rows() -> Result<Vec<(&'static str, Run)>> {
    let mut rows: Vec<(&'static str, Run)> = vec![
        ("decision: return true", decision("return true")?),
        ("decision: 15 lines", decision(TYPICAL)?),
        (
            "  the same, loaded anew every time",
            Box::new(|| decided(&program(TYPICAL)?)),
        ),
        ("decision: 10,000 turns of a loop", decision(LOOP)?),
        ("decision: split, match, encode", decision(TEXTS)?),
    ];
    let hooks = [
        ("on_request", ON_REQUEST),
        ("on_request, reads the body", ON_REQUEST_BODY),
        ("on_route", ON_ROUTE),
        ("on_response", ON_RESPONSE),
        ("on_usage", ON_USAGE),
        ("on_error", ON_ERROR),
        ("on_complete", ON_COMPLETE),
    ];
    for (name, text) in hooks {
        let set = hook_set(name, text)?;
        rows.push((name, Box::new(move || hooked(name, &set))));
    }
    Ok(rows)
}

const LOOP: &str = "local n = 0 for i = 1, 10000 do n = n + i end return n > 0";

const TEXTS: &str = r#"
local parts = string_utils.split(request.headers["user-agent"], " ")
local major = request.headers["user-agent"]:match("^%w+/(%d+)%.")
return #json.encode({ parts = parts, major = major }) > 0
"#;

fn decision(text: &str) -> Result<Run> {
    let program = program(text)?;
    Ok(Box::new(move || decided(&program)))
}

fn program(text: &str) -> Result<Program> {
    let metrics = ScriptMetrics::register(&Registry::new())?;
    Ok(Program::load("bench", &script(text))?.metered(&metrics))
}

fn script(text: &str) -> Script {
    Script {
        source: ScriptSource::Inline(text.to_owned()),
        timeout: Duration::from_millis(100),
        max_memory: 10 << 20,
        max_instructions: 1_000_000,
    }
}

fn decided(program: &Program) -> Result<()> {
    thread_local! {
        static GIVEN: (Map<String, Value>, BTreeMap<String, String>) = (data(), metadata());
    }
    GIVEN.with(|(data, metadata)| {
        let decision = program.decide(&DecisionInput {
            api_key: "sk-AbCdEfGhIjKlMnOpQrStUvWxYz0123456789",
            data,
            request: view(),
            metadata,
        })?;
        black_box(decision);
        Ok(())
    })
}

fn hook_set(name: &str, text: &str) -> Result<HookSet> {
    let hook = Some(Hook {
        script: script(text),
        on_failure: OnHookFailure::Deny,
    });
    let mut hooks = Hooks::default();
    match name {
        "on_route" => hooks.on_route = hook,
        "on_response" => hooks.on_response = hook,
        "on_usage" => hooks.on_usage = hook,
        "on_error" => hooks.on_error = hook,
        "on_complete" => hooks.on_complete = hook,
        _ => hooks.on_request = hook,
    }
    let metrics = ScriptMetrics::register(&Registry::new())?;
    Ok(HookSet::build(&hooks, &metrics)?)
}

fn hooked(name: &str, set: &HookSet) -> Result<()> {
    let metadata = metadata();
    let request = request(&metadata);
    match name {
        "on_route" => {
            let backends = [backend("vllm-a", 3), backend("vllm-b", 1)];
            black_box(set.on_route(&RouteInfo {
                request: &request,
                backends: &backends,
            })?);
        }
        "on_response" => {
            black_box(set.on_response(&response(&request))?);
        }
        "on_usage" => {
            black_box(set.on_usage(&usage(&request))?);
        }
        "on_error" => {
            black_box(set.on_error(&error(&request))?);
        }
        "on_complete" => set.on_complete(&CompleteInfo {
            request: &request,
            status: 200,
            latency_ms: 5123,
            outcome: "completed",
            usage: Some(counts()),
        })?,
        _ => {
            black_box(set.on_request(&request)?);
        }
    }
    Ok(())
}

// === inputs of the usual size ===

fn data() -> Map<String, Value> {
    let fields = json!({
        "id": "key_2f9a7c31d0be4a5b", "name": "search, production", "status": "active",
        "user_id": "team-search", "team": "search", "email": "alice@example.com",
        "total_quota": 50_000_000, "used_quota": 1_234_567, "expires_at": 1_790_000_000,
        "models": ["small", "large"], "allowed_ips": ["10.0.0.0/8"],
    });
    match fields {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn metadata() -> BTreeMap<String, String> {
    [("tier", "vip"), ("cost_centre", "4711")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
}

fn view() -> RequestView<'static> {
    RequestView {
        id: "01933b2e-6c1f-7d2a-9d31-0f6b7c1d2e3f",
        method: "POST",
        path: "/v1/chat/completions",
        ip: IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        headers: vec![
            ("host", "llm.example.com"),
            ("user-agent", "OpenAI/Python 1.99.1"),
            ("accept", "application/json"),
            ("accept-encoding", "gzip, deflate"),
            ("content-type", "application/json"),
            ("content-length", "1833"),
            ("x-stainless-lang", "python"),
            ("x-tier", "standard"),
        ],
    }
}

fn request(metadata: &BTreeMap<String, String>) -> RequestInfo<'_> {
    RequestInfo {
        view: view(),
        api_key: "sk-…6789",
        user_id: "team-search",
        model: "small",
        stream: true,
        body: Some(BODY.as_bytes()),
        metadata,
    }
}

const BODY: &str = r#"{"model":"small","stream":true,"max_tokens":512,"temperature":0.2,"messages":[
{"role":"system","content":"You are a search engine's query rewriter. Answer with one line."},
{"role":"user","content":"where can i find the opening hours of the town hall in the old part of town"}]}"#;

fn backend(name: &str, active: u64) -> BackendInfo<'_> {
    BackendInfo {
        name,
        url: "http://vllm.models.svc:8000",
        healthy: true,
        weight: 1,
        active,
    }
}

fn response<'a>(request: &'a RequestInfo<'a>) -> ResponseInfo<'a> {
    ResponseInfo {
        request,
        status: 200,
        headers: vec![("content-type", "text/event-stream"), ("server", "uvicorn")],
        backend: "vllm-a",
        latency_ms: 211,
    }
}

fn counts() -> UsageCounts<'static> {
    UsageCounts {
        prompt_tokens: 1833,
        completion_tokens: 412,
        total_tokens: 2245,
        cached_tokens: 1024,
        reasoning_tokens: 0,
        cost_nanos: Some(4_821_300),
        currency: Some("USD"),
    }
}

fn usage<'a>(request: &'a RequestInfo<'a>) -> UsageInfo<'a> {
    UsageInfo {
        request,
        usage: counts(),
        model: "small",
        backend: "vllm-a",
        outcome: "completed",
        status: 200,
    }
}

fn error<'a>(request: &'a RequestInfo<'a>) -> ErrorInfo<'a> {
    ErrorInfo {
        request,
        kind: "backend_error",
        status: 503,
        code: "no_backend",
        message: "no backend is available for this model",
    }
}

// === measuring and printing ===

/// What one measurement of a row came to, per run.
struct Measured {
    cpu: Duration,
    p99: Duration,
}

fn measure(run: &dyn Fn() -> Result<()>, length: Duration) -> Result<Measured> {
    let mut times = Vec::new();
    run()?;
    let (before, began) = (cpu(), Instant::now());
    while began.elapsed() < length {
        let start = Instant::now();
        run()?;
        times.push(start.elapsed());
    }
    let spent = cpu() - before;
    times.sort_unstable();
    Ok(Measured {
        cpu: spent / u32::try_from(times.len())?.max(1),
        p99: times
            .get(times.len() * 99 / 100)
            .copied()
            .unwrap_or_default(),
    })
}

/// CPU time this thread has used.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = u32::try_from(time.tv_nsec).unwrap_or(0);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), nanos)
}

/// `measured` is in the order of cost.
fn row(name: &str, measured: &[Measured]) -> [String; 4] {
    let middle = &measured[measured.len() / 2];
    let off = measured[measured.len() - 1].cpu - measured[0].cpu;
    [
        name.to_owned(),
        format!("{} ± {}", micros(middle.cpu), micros(off / 2)),
        format!("{:.0}", 1.0 / middle.cpu.as_secs_f64().max(1e-9)),
        micros(middle.p99),
    ]
}

fn micros(time: Duration) -> String {
    format!("{:.1}", time.as_secs_f64() * 1e6)
}
