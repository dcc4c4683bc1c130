//! The simulator over real sockets, spoken to byte by byte.

mod faults;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::*;

/// An engine on a free port; dropping it stops it.
struct Engine {
    address: std::net::SocketAddr,
    sim: Arc<Sim>,
    _stop: watch::Sender<bool>,
    _connections: JoinSet<()>,
}

/// An answer as it came over the wire; `end` says how the connection ended.
struct Answer {
    status: u16,
    head: String,
    body: String,
    end: End,
}

#[derive(Debug, PartialEq)]
enum End {
    /// The transfer ended as HTTP says it must.
    Complete,
    Closed,
    Reset,
}

async fn engine(change: impl FnOnce(&mut Options)) -> Engine {
    let mut options = Options {
        ttft: Duration::ZERO,
        itl: Duration::ZERO,
        ..Options::default()
    };
    change(&mut options);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let sim = Arc::new(Sim::new(options).unwrap());
    let (stop, watch) = watch::channel(false);
    let mut connections = JoinSet::new();
    connections.spawn(serve(Arc::clone(&sim), listener, watch));
    Engine {
        address,
        sim,
        _stop: stop,
        _connections: connections,
    }
}

impl Engine {
    async fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: sim\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }

    async fn post(&self, path: &str, headers: &str, body: &Value) -> Answer {
        let headers = format!("connection: close\r\n{headers}");
        read(self.send("POST", path, &headers, &body.to_string()).await).await
    }

    async fn get(&self, path: &str) -> Answer {
        read(self.send("GET", path, "connection: close\r\n", "").await).await
    }

    /// What the engine says it did for the request id `r`.
    async fn account(&self) -> Value {
        self.get("/sim/account?id=r").await.json()["entries"]["r"].take()
    }

    /// Waits until the engine has nothing to do.
    async fn idle(&self) {
        while self.sim.scheduler.running() + self.sim.scheduler.waiting() > 0 {
            tokio::task::yield_now().await;
        }
    }
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{}: {error}", self.body))
    }

    /// The JSON of all `data:` lines.
    fn events(&self) -> Vec<Value> {
        let lines = self
            .body
            .lines()
            .filter_map(|line| line.strip_prefix("data: "));
        lines
            .filter_map(|data| serde_json::from_str(data).ok())
            .collect()
    }

    /// The text of a streamed chat.
    fn words(&self) -> usize {
        let events = self.events();
        let text: String = events
            .iter()
            .filter_map(|event| event["choices"][0]["delta"]["content"].as_str())
            .collect();
        text.split_whitespace().count()
    }
}

async fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let result = stream.read_to_end(&mut bytes).await;
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head
        .split(' ')
        .nth(1)
        .map_or(0, |status| status.parse().unwrap());
    let (body, complete) = if head.contains("transfer-encoding: chunked") {
        unchunk(body)
    } else {
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        (body.to_owned(), length == Some(&body.len().to_string()))
    };
    let end = match (result, complete) {
        (Err(_), _) => End::Reset,
        (Ok(_), true) => End::Complete,
        (Ok(_), false) => End::Closed,
    };
    Answer {
        status,
        head: head.to_lowercase(),
        body,
        end,
    }
}

fn unchunk(mut text: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(..size) else { break };
        body.push_str(chunk);
        text = rest.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

fn chat(extra: &Value) -> Value {
    let mut body =
        json!({"model": "m", "messages": [{"role": "user", "content": "one two three"}]});
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    body
}

fn streamed() -> Value {
    chat(&json!({"stream": true, "stream_options": {"include_usage": true}}))
}

const CHAT: &str = "/v1/chat/completions";

#[tokio::test]
async fn a_chat_is_answered_and_accounted_for() {
    let engine = engine(|_| {}).await;
    let answer = engine
        .post(
            CHAT,
            "x-request-id: r\r\nx-sim-tokens: 5\r\n",
            &chat(&json!({})),
        )
        .await;
    assert_eq!((answer.status, &answer.end), (200, &End::Complete));
    assert!(answer.head.contains("x-request-id: r"), "{}", answer.head);
    let body = answer.json();
    assert_eq!(body["id"], "chatcmpl-r");
    assert_eq!(body["usage"]["prompt_tokens"], 3);
    assert_eq!(body["usage"]["completion_tokens"], 5);
    let text = body["choices"][0]["message"]["content"].as_str().unwrap();
    assert_eq!(text.split_whitespace().count(), 5);
    let account = engine.account().await;
    assert_eq!(account["prompt_tokens"], 3);
    assert_eq!(account["completion_tokens"], 5);
    assert_eq!(account["outcome"], "completed");
    assert_eq!(account["streamed"], false);
}

#[tokio::test]
async fn a_stream_has_one_event_per_token_and_the_same_text() {
    let engine = engine(|_| {}).await;
    let headers = "x-request-id: r\r\nx-sim-tokens: 7\r\n";
    let answer = engine.post(CHAT, headers, &streamed()).await;
    assert_eq!(answer.end, End::Complete);
    assert!(answer.body.ends_with("data: [DONE]\n\n"));
    let events = answer.events();
    assert_eq!(events.len(), 1 + 7 + 1 + 1);
    assert_eq!(events.last().unwrap()["usage"]["total_tokens"], 10);
    assert_eq!(answer.words(), 7);
    assert_eq!(engine.account().await["streamed"], true);
    let again = engine.post(CHAT, headers, &streamed()).await;
    assert_eq!(again.words(), 7);
    assert_eq!(engine.account().await["attempts"], 2);
}

#[tokio::test]
async fn tokens_can_be_grouped() {
    let engine = engine(|options| options.chunk_tokens = 4).await;
    let answer = engine.post(CHAT, "x-sim-tokens: 10\r\n", &streamed()).await;
    assert_eq!(answer.events().len(), 1 + 3 + 1 + 1);
    assert_eq!(answer.words(), 10);
}

#[tokio::test]
async fn max_tokens_cuts_and_ignore_eos_goes_on() {
    let engine = engine(|_| {}).await;
    let finish = async |body: Value| {
        let body = engine.post(CHAT, "", &body).await.json();
        (
            body["usage"]["completion_tokens"].clone(),
            body["choices"][0]["finish_reason"].clone(),
        )
    };
    assert_eq!(finish(chat(&json!({}))).await, (json!(64), json!("stop")));
    assert_eq!(
        finish(chat(&json!({"max_tokens": 9}))).await,
        (json!(9), json!("length"))
    );
    let on = chat(&json!({"max_tokens": 200, "ignore_eos": true}));
    assert_eq!(finish(on).await, (json!(200), json!("length")));
}

#[tokio::test]
async fn requests_are_refused_as_vllm_refuses_them() {
    let engine = engine(|options| {
        options.models = vec!["m".into()];
        options.api_key = Some("secret".into());
    })
    .await;
    assert_eq!(engine.post(CHAT, "", &chat(&json!({}))).await.status, 401);
    assert_eq!(engine.get("/v1/models").await.status, 401);
    assert_eq!(engine.get("/health").await.status, 200);
    let key = "authorization: Bearer secret\r\n";
    let unknown = engine.post(CHAT, key, &chat(&json!({"model": "x"}))).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(
        unknown.json()["error"]["message"],
        "The model `x` does not exist."
    );
    assert_eq!(
        engine.post(CHAT, key, &json!({"model": "m"})).await.status,
        400
    );
    let key = "x-api-key: secret\r\n";
    let body =
        json!({"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "a"}]});
    assert_eq!(
        engine.post("/v1/messages", key, &body).await.json()["usage"]["output_tokens"],
        3
    );
    assert_eq!(engine.get("/nowhere").await.status, 404);
    assert_eq!(engine.get(CHAT).await.status, 405);
}

#[tokio::test]
async fn a_known_prefix_is_cached_until_reset() {
    let engine = engine(|options| options.enable_prompt_tokens_details = true).await;
    let words = (0..40).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
    let body = json!({"messages": [{"role": "user", "content": words}]});
    let cached = async || {
        let usage = engine.post(CHAT, "x-request-id: r\r\n", &body).await.json()["usage"].take();
        usage["prompt_tokens_details"]["cached_tokens"].clone()
    };
    assert_eq!(cached().await, 0);
    assert_eq!(cached().await, 32);
    assert_eq!(engine.account().await["cached_tokens"], 32);
    let metrics = engine.get("/metrics").await.body;
    assert!(metrics.contains("vllm:prefix_cache_hits_total{engine=\"0\",model_name=\"sim\"} 32"));
    engine.post("/sim/reset", "", &json!({})).await;
    assert_eq!(cached().await, 0);
}

#[tokio::test]
async fn embeddings_come_as_floats_or_base64() {
    let engine = engine(|_| {}).await;
    let call = async |format: &str| {
        let body = json!({"input": ["a b", "c"], "encoding_format": format, "dimensions": 3});
        engine.post("/v1/embeddings", "", &body).await.json()
    };
    let floats = call("float").await;
    assert_eq!(floats["usage"]["prompt_tokens"], 3);
    assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), 3);
    assert_eq!(
        call("base64").await["data"][0]["embedding"]
            .as_str()
            .unwrap()
            .len(),
        16
    );
}

#[tokio::test]
async fn other_endpoints_answer_in_shape() {
    let engine = engine(|_| {}).await;
    let body = json!({"query": "a b", "documents": ["x", "a b"], "top_n": 1});
    let ranked = engine.post("/v1/rerank", "", &body).await.json();
    assert_eq!(ranked["results"][0]["index"], 1);
    assert_eq!(ranked["usage"]["total_tokens"], 7);
    let body = json!({"text_1": "a", "text_2": ["a", "b"]});
    let scores = engine.post("/score", "", &body).await.json();
    assert_eq!(
        (&scores["data"][0]["score"], &scores["data"][1]["score"]),
        (&json!(1.0), &json!(0.0))
    );
    let tokens = engine
        .post("/tokenize", "", &json!({"prompt": "the river"}))
        .await
        .json();
    assert_eq!(tokens["count"], 2);
    let text = engine
        .post("/detokenize", "", &json!({"tokens": tokens["tokens"]}))
        .await
        .json();
    assert_eq!(text["prompt"], "the river");
    let generated = engine
        .post(
            "/generate",
            "",
            &json!({"inputs": "a b", "parameters": {"max_new_tokens": 4}}),
        )
        .await;
    assert!(
        generated.head.contains("x-prompt-tokens: 2"),
        "{}",
        generated.head
    );
    assert!(
        generated.head.contains("x-generated-tokens: 4"),
        "{}",
        generated.head
    );
    assert_eq!(
        engine.get("/v1/models").await.json()["data"][0]["id"],
        "sim"
    );
    engine.post("/sim/health/down", "", &json!({})).await;
    assert_eq!(engine.get("/health").await.status, 503);
}

#[tokio::test]
async fn one_connection_carries_many_requests() {
    let engine = engine(|_| {}).await;
    let mut stream = TcpStream::connect(engine.address).await.unwrap();
    for _ in 0..3 {
        stream
            .write_all(b"GET /health HTTP/1.1\r\nhost: sim\r\n\r\n")
            .await
            .unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"\r\n\r\n") {
            assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
        }
        assert!(seen.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn tokens_keep_their_pace() {
    let engine = engine(|options| options.itl = Duration::from_millis(20)).await;
    let began = std::time::Instant::now();
    engine.post(CHAT, "x-sim-tokens: 6\r\n", &streamed()).await;
    let took = began.elapsed();
    assert!(
        took >= Duration::from_millis(100),
        "five gaps of 20 ms took {took:?}"
    );
}
