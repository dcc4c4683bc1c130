//! What the ledger benchmarks write down.

use llmproxy::ledger::{UsageEvent, new_id, now};

/// An event of the usual size.
pub(crate) fn typical() -> UsageEvent {
    UsageEvent {
        request_id: new_id(),
        user_id: "team-coding/alice@example.com".into(),
        api_key: "sk-…1234".into(),
        model: "team/qwen2.5-coder-32b".into(),
        prompt_tokens: 1833,
        completion_tokens: 412,
        total_tokens: 2245,
        is_stream: true,
        endpoint: "/v1/chat/completions".into(),
        timestamp: now(),
        backend_url: "http://vllm-a.models.svc:8000".into(),
        key_id: "k_2f9a7c31d0be".into(),
        cached_tokens: 1024,
        backend: "vllm-a".into(),
        usage_source: "final".into(),
        status: 200,
        latency_ms: 5123,
        ttft_ms: Some(211),
        attempts: 1,
        cost_nanos: Some(4_821_300),
        currency: Some("USD".into()),
        ..UsageEvent::default()
    }
}
