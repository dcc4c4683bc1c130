//! Faults, and clients that do not wait for the end.

use super::*;

#[tokio::test]
async fn a_client_that_hangs_up_stops_the_generation() {
    let engine = engine(|options| options.itl = Duration::from_secs(3600)).await;
    let headers = "x-request-id: r\r\n";
    let mut stream = engine
        .send("POST", CHAT, headers, &streamed().to_string())
        .await;
    let mut seen = Vec::new();
    while !String::from_utf8_lossy(&seen).contains("\"content\":\"\"") {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
    }
    assert_eq!(engine.sim.scheduler.running(), 1);
    drop(stream);
    engine.idle().await;
    while engine.account().await["outcome"] == "running" {}
    let account = engine.account().await;
    assert_eq!(account["aborted"], true);
    assert_eq!(account["prompt_tokens"], 3);
    assert_eq!(
        account["completion_tokens"], 1,
        "what was generated is known"
    );
    assert_eq!(account["prefilled_tokens"], 3);
    assert_eq!(engine.get("/sim/state").await.json()["aborted_total"], 1);
}

#[tokio::test]
async fn a_client_that_hangs_up_in_the_queue_leaves_it() {
    let engine = engine(|options| {
        options.max_num_seqs = 1;
        options.ttft = Duration::from_secs(3600);
    })
    .await;
    let first = engine.send("POST", CHAT, "", &streamed().to_string()).await;
    while engine.sim.scheduler.running() == 0 {
        tokio::task::yield_now().await;
    }
    let second = engine
        .send("POST", CHAT, "", &chat(&json!({})).to_string())
        .await;
    while engine.sim.scheduler.waiting() == 0 {
        tokio::task::yield_now().await;
    }
    drop(second);
    while engine.sim.scheduler.waiting() > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(engine.sim.scheduler.running(), 1);
    drop(first);
    engine.idle().await;
}

#[tokio::test]
async fn streams_break_where_the_fault_says() {
    let engine = engine(|_| {}).await;
    let stream = async |fault: &str| {
        let headers = format!("x-sim-tokens: 6\r\nx-sim-fault: {fault}\r\n");
        engine.post(CHAT, &headers, &streamed()).await
    };
    let reset = stream("reset-after=3").await;
    assert_eq!((reset.words(), reset.end), (3, End::Reset));
    let closed = stream("close-after=2").await;
    assert_eq!((closed.words(), closed.end), (2, End::Closed));
    let truncated = stream("truncate").await;
    assert_eq!((truncated.words(), &truncated.end), (3, &End::Complete));
    assert!(!truncated.body.contains("[DONE]"));
    let failed = stream("error-first-event;code=503").await;
    assert_eq!((failed.status, &failed.end), (200, &End::Complete));
    assert_eq!(failed.events()[0]["error"]["code"], 503);
    let failed = stream("error-after=2").await;
    assert_eq!(failed.words(), 2);
    assert_eq!(failed.events().last().unwrap()["error"]["code"], 500);
    let empty = stream("empty").await;
    assert_eq!(
        (empty.status, empty.body.as_str(), empty.end),
        (200, "", End::Complete)
    );
    let state = engine.get("/sim/state").await.json();
    assert_eq!(state["faulted_total"], 6);
}

#[tokio::test]
async fn a_stalled_stream_waits_for_the_client_to_leave() {
    let engine = engine(|options| options.stall = Some(2)).await;
    let mut stream = engine
        .send("POST", CHAT, "x-request-id: r\r\n", &streamed().to_string())
        .await;
    let mut seen = Vec::new();
    while String::from_utf8_lossy(&seen).matches("data: ").count() < 3 {
        assert!(stream.read_buf(&mut seen).await.unwrap() > 0);
    }
    assert_eq!(engine.sim.scheduler.running(), 1);
    drop(stream);
    engine.idle().await;
    while engine.account().await["outcome"] == "running" {}
    assert_eq!(engine.account().await["completion_tokens"], 2);
}

#[tokio::test]
async fn whole_answers_break_too() {
    let engine = engine(|_| {}).await;
    let call = async |fault: &str| {
        let headers = format!("x-request-id: r\r\nx-sim-fault: {fault}\r\n");
        engine.post(CHAT, &headers, &chat(&json!({}))).await
    };
    assert_eq!(call("refuse").await.end, End::Reset);
    let reset = call("reset-before-head").await;
    assert_eq!((reset.status, reset.end), (0, End::Reset));
    let limited = call("status=429;retry-after=2").await;
    assert_eq!(limited.status, 429);
    assert!(limited.head.contains("retry-after: 2"), "{}", limited.head);
    let reset = call("reset-after=3").await;
    assert_eq!((reset.status, reset.end), (200, End::Reset));
    let truncated = call("truncate").await;
    assert_eq!(truncated.end, End::Complete);
    assert!(serde_json::from_str::<Value>(&truncated.body).is_err());
    assert_eq!(call("nonsense").await.status, 400);
    assert_eq!(
        call("status=500;times=6").await.status,
        200,
        "only the first six attempts fail"
    );
}

#[tokio::test]
async fn an_engine_can_keep_what_was_used_to_itself() {
    let engine = engine(|_| {}).await;
    let silent = "x-request-id: r\r\nx-sim-fault: no-usage\r\nx-sim-tokens: 4\r\n";
    let whole = engine.post(CHAT, silent, &chat(&json!({}))).await.json();
    assert_eq!(whole["usage"], Value::Null);
    let asked = json!({"include_usage": true, "continuous_usage_stats": true});
    let asked = chat(&json!({"stream": true, "stream_options": asked}));
    let stream = engine.post(CHAT, silent, &asked).await;
    assert_eq!((stream.words(), &stream.end), (4, &End::Complete));
    assert!(!stream.body.contains("_tokens"), "{}", stream.body);
    assert_eq!(engine.account().await["completion_tokens"], 4);
    let input = json!({"input": "one two"});
    let embedding = engine.post("/v1/embeddings", silent, &input).await.json();
    assert_eq!(embedding["usage"], Value::Null);
    assert!(embedding["data"][0]["embedding"].is_array());
}

#[tokio::test]
async fn the_account_tells_what_left_the_engine_and_what_was_wasted() {
    let engine = engine(|_| {}).await;
    let call = async |fault: &str| {
        let headers = format!("x-request-id: r\r\nx-sim-tokens: 6\r\nx-sim-fault: {fault}\r\n");
        engine.post(CHAT, &headers, &streamed()).await;
        engine.account().await
    };
    let first = call("close-after=2").await;
    let counts = |account: &Value| {
        [
            "prefilled_tokens",
            "completion_tokens",
            "sent_completion_tokens",
        ]
        .map(|key| account[key].as_u64().unwrap())
    };
    assert_eq!(counts(&first), [3, 2, 2]);
    let second = call("refuse").await;
    assert_eq!(counts(&second), [0, 0, 0]);
    let third = call("slow=0").await;
    assert_eq!(counts(&third), [3, 6, 6]);
    assert_eq!(third["attempts"], 3);
    assert_eq!(third["earlier_prompt_tokens"], 3);
    assert_eq!(third["earlier_completion_tokens"], 2);
}
