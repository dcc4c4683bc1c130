//! The engine's own metrics under vLLM's names (docs.vllm.ai, "Production metrics").

use std::time::Duration;

use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, Opts, Registry, TextEncoder,
};

/// vLLM's buckets for the time to the first token, shortened at the far end.
const FIRST_TOKEN_SECONDS: [f64; 14] = [
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0,
];
const TOKEN_SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.5, 1.0,
];
const REQUEST_SECONDS: [f64; 12] = [
    0.01, 0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.5, 5.0, 10.0, 60.0,
];

#[derive(Debug)]
pub(super) struct Metrics {
    registry: Registry,
    running: Gauge,
    waiting: Gauge,
    kv_usage: Gauge,
    pub(super) prefix_queries: IntCounter,
    pub(super) prefix_hits: IntCounter,
    pub(super) prompt_tokens: IntCounter,
    pub(super) generation_tokens: IntCounter,
    pub(super) success: IntCounterVec,
    pub(super) first_token: Histogram,
    pub(super) between_tokens: Histogram,
    pub(super) queue: Histogram,
    pub(super) end_to_end: Histogram,
}

/// What the gauges show at the moment of a scrape.
pub(super) struct Load {
    pub(super) running: u32,
    pub(super) waiting: u32,
    pub(super) kv_usage: f64,
}

impl Metrics {
    /// Registers everything with the labels vLLM uses.
    ///
    /// # Errors
    /// A model name that Prometheus refuses as a label value.
    pub(super) fn new(model: &str) -> prometheus::Result<Self> {
        let make = Factory {
            registry: Registry::new(),
            model,
        };
        let metrics = Self {
            running: make.gauge("num_requests_running", "requests in execution batches")?,
            waiting: make.gauge("num_requests_waiting", "requests waiting to be processed")?,
            kv_usage: make.gauge("kv_cache_usage_perc", "KV-cache usage; 1 means 100 percent")?,
            prefix_queries: make.counter("prefix_cache_queries_total", "tokens looked up")?,
            prefix_hits: make.counter("prefix_cache_hits_total", "tokens found cached")?,
            prompt_tokens: make.counter("prompt_tokens_total", "prefill tokens processed")?,
            generation_tokens: make.counter("generation_tokens_total", "tokens generated")?,
            success: make.finished()?,
            first_token: make.histogram("time_to_first_token_seconds", &FIRST_TOKEN_SECONDS)?,
            between_tokens: make.histogram("inter_token_latency_seconds", &TOKEN_SECONDS)?,
            queue: make.histogram("request_queue_time_seconds", &REQUEST_SECONDS)?,
            end_to_end: make.histogram("e2e_request_latency_seconds", &REQUEST_SECONDS)?,
            registry: make.registry,
        };
        Ok(metrics)
    }

    /// Returns the text exposition.
    pub(super) fn expose(&self, load: &Load) -> String {
        self.running.set(f64::from(load.running));
        self.waiting.set(f64::from(load.waiting));
        self.kv_usage.set(load.kv_usage);
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }

    /// Sets counters back to zero; histograms go on, as Prometheus' client offers no way back.
    pub(super) fn reset(&self) {
        self.prefix_queries.reset();
        self.prefix_hits.reset();
        self.prompt_tokens.reset();
        self.generation_tokens.reset();
        self.success.reset();
    }

    /// Notes a finished request.
    pub(super) fn finished(&self, reason: &str, took: Duration) {
        self.success.with_label_values(&[reason]).inc();
        self.end_to_end.observe(took.as_secs_f64());
    }
}

struct Factory<'a> {
    registry: Registry,
    model: &'a str,
}

impl Factory<'_> {
    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(format!("vllm:{name}"), help)
            .const_label("engine", "0")
            .const_label("model_name", self.model)
    }

    fn gauge(&self, name: &str, help: &str) -> prometheus::Result<Gauge> {
        let gauge = Gauge::with_opts(self.options(name, help))?;
        self.registry.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    fn counter(&self, name: &str, help: &str) -> prometheus::Result<IntCounter> {
        let counter = IntCounter::with_opts(self.options(name, help))?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn finished(&self) -> prometheus::Result<IntCounterVec> {
        let options = self.options("request_success_total", "requests finished, by reason");
        let counter = IntCounterVec::new(options, &["finished_reason"])?;
        self.registry.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    fn histogram(&self, name: &str, buckets: &[f64]) -> prometheus::Result<Histogram> {
        let help = name.replace('_', " ");
        let options = HistogramOpts::from(self.options(name, &help)).buckets(buckets.to_vec());
        let histogram = Histogram::with_opts(options)?;
        self.registry.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_vllm() {
        let metrics = Metrics::new("m").unwrap();
        metrics.finished("stop", Duration::from_millis(20));
        let text = metrics.expose(&Load {
            running: 2,
            waiting: 1,
            kv_usage: 0.5,
        });
        for line in [
            "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 2",
            "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 1",
            "vllm:kv_cache_usage_perc{engine=\"0\",model_name=\"m\"} 0.5",
            "vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"m\"} 0",
            "vllm:e2e_request_latency_seconds_count{engine=\"0\",model_name=\"m\"} 1",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(text.contains("vllm:request_success_total{engine=\"0\",finished_reason=\"stop\""));
        metrics.reset();
        let text = metrics.expose(&Load {
            running: 0,
            waiting: 0,
            kv_usage: 0.0,
        });
        assert!(!text.contains("finished_reason=\"stop\""));
    }
}
