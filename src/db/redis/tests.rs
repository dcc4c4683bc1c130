use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use redis::{Script, cmd, pipe};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::testing::{PrivateRedis, config};
use super::*;

/// Asks for something that every server answers.
async fn ping(link: &RedisLink) -> Result<String, RedisFault> {
    link.run(&cmd("PING")).await
}

/// Waits for a server that is back: for a moment nobody tries.
async fn ping_until_back(link: &RedisLink) {
    for _ in 0..2000 {
        if ping(link).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the server is back and is not found");
}

/// A link to whatever listens on this port of ours.
fn link_to(listener: &TcpListener) -> RedisLink {
    let addr = listener.local_addr().unwrap();
    RedisLink::new(&config(&addr.to_string())).unwrap()
}

#[tokio::test]
async fn commands_pipelines_and_scripts_are_answered() {
    let redis = PrivateRedis::start().await;
    let link = redis.link();
    let () = link
        .run(cmd("SET").arg(link.key("a")).arg(1))
        .await
        .unwrap();
    assert_eq!(link.key("a"), "llmproxy:a");
    let mut both = pipe();
    let asked = link.run(both.cmd("GET").arg("llmproxy:a").cmd("GET").arg("b"));
    let answer: (u64, Option<u64>) = asked.await.unwrap();
    assert_eq!(answer, (1, None));
    let script = Script::new("return redis.call('INCRBY', KEYS[1], ARGV[1])");
    let sum: u64 = link.run(&*script.key("llmproxy:a").arg(2)).await.unwrap();
    assert_eq!(sum, 3);
}

#[tokio::test]
async fn a_script_is_sent_by_its_hash_and_a_server_that_forgot_it_learns_it_again() {
    let redis = PrivateRedis::start().await;
    let link = redis.link();
    let script = Script::new("return 7");
    let asked = script.prepare_invoke();
    for _ in 0..3 {
        assert_eq!(link.run::<u64>(&asked).await, Ok(7));
    }
    let () = redis.run(&["SCRIPT", "FLUSH"]).await;
    assert_eq!(link.run::<u64>(&asked).await, Ok(7));
    let statistics: String = redis.run(&["INFO", "commandstats"]).await;
    let line = statistics.lines().find(|line| line.contains("evalsha"));
    assert!(line.unwrap().contains("calls=6,"), "{statistics}");
}

#[tokio::test]
async fn a_gateway_starts_without_its_server_and_finds_it_later() {
    let mut redis = PrivateRedis::start().await;
    redis.stop();
    let link = redis.link();
    let fault = ping(&link).await.unwrap_err();
    assert!(matches!(fault, RedisFault::Away(_)), "{fault:?}");
    redis.start_again().await;
    ping_until_back(&link).await;
}

#[tokio::test]
async fn what_may_be_asked_twice_survives_a_restart_of_the_server() {
    let mut redis = PrivateRedis::start().await;
    let link = redis.link();
    ping(&link).await.unwrap();
    redis.stop();
    redis.start_again().await;
    assert_eq!(link.read::<String>(&cmd("PING")).await.unwrap(), "PONG");
}

#[tokio::test]
async fn a_server_that_went_away_is_named_without_its_password() {
    let url = "redis://somebody:s3cret@127.0.0.1:1/0";
    let link = RedisLink::new(&config(url)).unwrap();
    let fault = ping(&link).await.unwrap_err().to_string();
    assert!(
        fault.starts_with("redis 127.0.0.1:1: connecting: "),
        "{fault}"
    );
    assert_eq!(format!("{link:?}"), "RedisLink(127.0.0.1:1)");
    let fault = RedisLink::new(&config("http://s3cret@host")).unwrap_err();
    assert!(!fault.to_string().contains("s3cret"), "{fault}");
}

#[tokio::test]
async fn a_wrong_password_is_told_and_a_right_one_taken_later() {
    let redis = PrivateRedis::with(&["--requirepass", "right"]).await;
    let socket = redis.socket();
    let link = |word: &str| {
        let url = format!("unix://{}?pass={word}", socket.display());
        RedisLink::new(&config(&url)).unwrap()
    };
    let wrong = link("s3cret");
    let fault = ping(&wrong).await.unwrap_err().to_string();
    assert!(
        fault.ends_with("connecting: authentication failed"),
        "{fault}"
    );
    let right = link("right");
    ping(&right).await.unwrap();
    let () = right
        .run(cmd("CONFIG").arg("SET").arg("requirepass").arg("s3cret"))
        .await
        .unwrap();
    ping_until_back(&wrong).await;
}

#[tokio::test]
async fn tls_is_spoken_and_the_certificate_checked() {
    let dir = tempfile::tempdir().unwrap();
    let papers = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, papers.cert.pem()).unwrap();
    std::fs::write(&key, papers.signing_key.serialize_pem()).unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let port = port.to_string();
    let options = [
        "--tls-port",
        &port,
        "--tls-cert-file",
        cert.to_str().unwrap(),
        "--tls-key-file",
        key.to_str().unwrap(),
        "--tls-auth-clients",
        "no",
    ];
    let _redis = PrivateRedis::with(&options).await;
    let link =
        |end: &str| RedisLink::new(&config(&format!("rediss://localhost:{port}/{end}"))).unwrap();
    assert_eq!(ping(&link("#insecure")).await.unwrap(), "PONG");
    let fault = ping(&link("")).await.unwrap_err().to_string();
    assert!(
        fault.contains("connecting: ") && fault.contains("certificate"),
        "{fault}"
    );
}

#[tokio::test]
async fn refusals_tell_their_code_and_not_what_was_asked() {
    let redis = PrivateRedis::start().await;
    let link = redis.link();
    let () = redis.run(&["RPUSH", "list", "sk-secret"]).await;
    let fault = link
        .run::<String>(cmd("GET").arg("list"))
        .await
        .unwrap_err();
    assert_eq!(fault.code(), Some("WRONGTYPE"));
    let asked = link.run::<(String,)>(pipe().cmd("GET").arg("list")).await;
    assert_eq!(asked.unwrap_err().code(), Some("WRONGTYPE"));
    let fault = link.run::<String>(cmd("NONSENSE").arg("sk-secret")).await;
    let fault = fault.unwrap_err();
    assert_eq!(fault.code(), Some("ERR"));
    assert!(!fault.to_string().contains("sk-secret"), "{fault}");
    let fault = link.run::<u64>(cmd("LPOP").arg("list")).await.unwrap_err();
    assert!(matches!(fault, RedisFault::Odd(_)), "{fault:?}");
    assert!(!fault.to_string().contains("sk-secret"), "{fault}");
    assert!(ping(&link).await.is_ok(), "the connection is still good");
}

#[tokio::test]
async fn while_the_server_is_away_one_request_tries_and_the_others_fail_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let link = Arc::new(link_to(&listener));
    let accepted = Arc::new(AtomicUsize::new(0));
    let hang_up = async {
        loop {
            drop(listener.accept().await.unwrap());
            accepted.fetch_add(1, Ordering::Relaxed);
        }
    };
    let ask = async {
        let asked = (0..500).map(|_| ping(&link));
        let answers = futures_util::future::join_all(asked).await;
        assert!(answers.iter().all(Result::is_err));
    };
    tokio::select! {
        () = ask => {}
        () = hang_up => {}
    }
    // All of them take a few milliseconds; the first rest is 50 ms, the second 100.
    assert!(accepted.load(Ordering::Relaxed) < 20, "{accepted:?}");
}

#[test]
fn a_rest_grows_to_its_bound() {
    let mut state = State::default();
    let now = Instant::now();
    for expected in [50, 100, 200, 400, 800, 1000, 1000] {
        state.failed(RedisFault::Away("gone".to_owned()), now);
        let (until, _) = state.rest.as_ref().unwrap();
        assert_eq!(until.duration_since(now).as_millis(), expected);
    }
}

#[tokio::test]
async fn a_connection_without_answers_is_replaced() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut link = link_to(&listener);
    link.timeout = Duration::from_millis(100);
    // Says OK to the greeting and nothing after it, except on the second connection.
    let serve = async {
        let mut kept = Vec::new();
        for answers in [false, true] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            let asked = buffer[..read].iter().filter(|byte| **byte == b'*').count();
            stream
                .write_all("+OK\r\n".repeat(asked).as_bytes())
                .await
                .unwrap();
            if answers {
                assert!(stream.read(&mut buffer).await.unwrap() > 0);
                stream.write_all(b"+PONG\r\n").await.unwrap();
            }
            kept.push(stream);
        }
        std::future::pending::<()>().await;
    };
    let ask = async {
        let fault = ping(&link).await.unwrap_err().to_string();
        assert!(fault.ends_with("no answer within 100ms"), "{fault}");
        assert_eq!(ping(&link).await.unwrap(), "PONG");
    };
    tokio::select! {
        () = ask => {}
        () = serve => {}
    }
}

#[tokio::test]
async fn a_server_nobody_has_the_patience_for_is_away() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut link = link_to(&listener);
    link.timeout = Duration::ZERO;
    // It takes connections and says nothing; the client gives up long before the link does.
    let asked = tokio::time::timeout(Duration::from_millis(20), ping(&link)).await;
    assert!(asked.is_err());
    let fault = link.at_hand().err().map(|fault| fault.to_string());
    assert!(fault.unwrap().contains("not connected after"));
}
