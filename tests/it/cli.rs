//! The command line: exit codes, messages, and the subcommands that do not serve.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::gateway::Gateway;
use crate::process::llmproxy;
use crate::shapes::vllm;
use crate::upstream::Upstream;

fn run(args: &[&str]) -> Output {
    llmproxy().args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `llmproxy <subcommand> --config <a file with this content>`.
fn with_config(subcommand: &str, yaml: &str) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("llmproxy.yaml");
    fs::write(&file, yaml).unwrap();
    llmproxy()
        .arg(subcommand)
        .arg("--config")
        .arg(&file)
        .current_dir(dir.path())
        .output()
        .unwrap()
}

const GOOD: &str = "listen: \"127.0.0.1:0\"\nbackends:\n  - url: http://127.0.0.1:1\n";

#[test]
fn the_version_is_the_packages() {
    let output = run(&["--version"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(
        text(&output.stdout).trim(),
        format!("llmproxy {}", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn help_names_every_subcommand() {
    let help = text(&run(&["--help"]).stdout);
    for subcommand in [
        "run",
        "check",
        "schema",
        "demo",
        "sim",
        "completions",
        "usage",
        "db",
    ] {
        assert!(help.contains(subcommand), "{subcommand} in\n{help}");
    }
}

#[test]
fn the_schema_describes_the_configuration() {
    let output = run(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: Value = serde_json::from_slice(&output.stdout).unwrap();
    for key in [
        "listen",
        "backends",
        "routing",
        "health_check",
        "limits",
        "usage_hook",
        "timeouts",
    ] {
        assert!(schema["properties"][key].is_object(), "{key} is missing");
    }
    assert_eq!(
        schema["additionalProperties"], false,
        "an editor must flag unknown keys"
    );
}

#[test]
fn completions_exist_for_the_usual_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let output = run(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(text(&output.stdout).contains("llmproxy"), "{shell}");
    }
}

#[test]
fn check_says_yes_to_a_good_file() {
    let output = with_config("check", GOOD);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn the_example_files_are_good() {
    let conf = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf");
    for file in ["llmproxy.yaml", "minimal.yaml"] {
        let path = conf.join(file);
        let mut command = llmproxy();
        for variable in fs::read_to_string(&path).unwrap().split("${").skip(1) {
            let end = |c: char| !c.is_ascii_alphanumeric() && c != '_';
            command.env(variable.split(end).next().unwrap(), "example");
        }
        let output = command
            .args(["check", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        assert_eq!(
            output.status.code(),
            Some(0),
            "{file}: {}",
            text(&output.stderr)
        );
    }
}

/// A bad file, the line its message must name, and what else the message must say.
const BAD: [(&str, u32, &[&str]); 13] = [
    (
        "backens:\n  - url: http://x\n",
        1,
        &["backens", "did you mean `backends`"],
    ),
    (
        "backends:\n  - url: http://x\n    wieght: 3\n",
        3,
        &["backends[0]", "wieght", "did you mean `weight`"],
    ),
    (
        "backends:\n  - url: http://x\n    weight: heavy\n",
        3,
        &["backends[0].weight"],
    ),
    (
        "backends:\n  - url: http://x\n    weight: 0\n",
        3,
        &["backends[0].weight", "enabled: false"],
    ),
    (
        "backends:\n  - url: \"ht!tp//x\"\n",
        2,
        &["backends[0].url"],
    ),
    (
        "backends:\n  - url: ftp://x\n",
        2,
        &["backends[0].url", "http"],
    ),
    (
        "backends:\n  - {name: a, url: http://x}\n  - {name: a, url: http://y}\n",
        3,
        &["backends[1]", "a"],
    ),
    (
        "backends:\n  - url: http://x\n    api_key: ${LLMPROXY_TEST_UNSET}\n",
        3,
        &["LLMPROXY_TEST_UNSET"],
    ),
    (
        "backends:\n  - url: http://x\ntimeouts: {connect: 5 parsecs}\n",
        3,
        &["timeouts.connect"],
    ),
    (
        "backends:\n  - url: http://x\nrouting:\n  load_balance: fastest\n",
        4,
        &["routing.load_balance", "round_robin"],
    ),
    (
        "backends:\n  - url: http://x\nlimits: [1]\n",
        3,
        &["limits", "expected a section", "found a list"],
    ),
    (
        "backends:\n  - {url: http://x, enabled: false}\n",
        1,
        &["backends: none is enabled"],
    ),
    (
        "backends:\n  - url: http://x\nmetrics:\n  path: /readyz\n",
        4,
        &["metrics.path", "/readyz"],
    ),
];

#[test]
fn a_bad_file_is_explained_with_its_place() {
    for (yaml, line, said) in BAD {
        for subcommand in ["check", "run"] {
            let output = with_config(subcommand, yaml);
            let message = text(&output.stderr);
            assert_eq!(
                output.status.code(),
                Some(64),
                "{subcommand}: {message}\n{yaml}"
            );
            assert!(
                message.contains(&format!("llmproxy.yaml:{line}:")),
                "line {line} in {message}"
            );
            for fragment in said {
                assert!(message.contains(fragment), "{fragment:?} in {message}");
            }
        }
    }
}

#[test]
fn a_file_that_is_not_there_is_a_bad_configuration() {
    let output = run(&["--config", "/nonexistent/llmproxy.yaml"]);
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("/nonexistent/llmproxy.yaml"));
}

#[test]
fn what_is_not_yaml_is_a_bad_configuration() {
    for yaml in ["backends: [", "\t- x", "just words", "", "backends: []\n"] {
        let output = with_config("check", yaml);
        assert_eq!(
            output.status.code(),
            Some(64),
            "{yaml:?}: {}",
            text(&output.stderr)
        );
        assert!(
            !text(&output.stderr).contains("panicked"),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_message_about_a_secret_does_not_show_it() {
    for yaml in [
        "backends:\n  - url: http://x\n    api_key: sk-SENTINEL\n    wieght: 1\n",
        "backends:\n  - url: http://user:SENTINEL@x:notaport\n",
        "backends:\n  - url: http://x\n    api_key: [SENTINEL]\n",
    ] {
        let output = with_config("check", yaml);
        assert_eq!(output.status.code(), Some(64), "{yaml}");
        let said = text(&output.stderr) + &text(&output.stdout);
        assert!(!said.contains("SENTINEL"), "{said}");
    }
}

#[test]
fn an_address_in_use_means_it_cannot_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    let yaml = format!("listen: \"{addr}\"\nbackends:\n  - url: http://127.0.0.1:1\n");
    let output = with_config("run", &yaml);
    assert_eq!(output.status.code(), Some(70), "{}", text(&output.stderr));
    assert!(
        text(&output.stderr).contains(&addr.to_string()),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn a_certificate_that_cannot_be_read_means_it_cannot_start() {
    let yaml = "listen:\n  - {address: \"127.0.0.1:0\", tls: {cert: none.pem, key: none.key}}\nbackends:\n  - url: http://127.0.0.1:1\n";
    let output = with_config("run", yaml);
    assert!(
        matches!(output.status.code(), Some(64 | 70)),
        "{}",
        text(&output.stderr)
    );
    assert!(
        text(&output.stderr).contains("none.pem"),
        "{}",
        text(&output.stderr)
    );
}

#[test]
fn keys_of_later_features_are_named_in_one_warning() {
    let upstream = Upstream::start(vllm);
    let later =
        "logging: {general_file: ./proxy.log, mask_sensitive: true, max_file_size_mb: 100}\n";
    let gateway = Gateway::before(&upstream, later);
    assert_eq!(gateway.chat().status, 200);
    let log = gateway.log();
    let warnings = log
        .lines()
        .filter(|line| line.contains("WARN"))
        .collect::<Vec<_>>();
    let [warning] = warnings.as_slice() else {
        panic!("one warning, not {warnings:?}")
    };
    for key in ["general_file", "mask_sensitive", "max_file_size_mb"] {
        assert!(warning.contains(key), "{key} in {warning}");
    }
}

#[test]
fn run_is_what_happens_without_a_subcommand() {
    for args in [&["--config"][..], &["run", "--config"]] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c.yaml");
        fs::write(&file, GOOD).unwrap();
        let mut process = crate::process::Process::spawn(
            llmproxy().args(args).arg(&file).current_dir(dir.path()),
        );
        assert_eq!(process.listening(1).len(), 1);
        process.signal("TERM");
        assert_eq!(process.wait().code(), Some(0));
    }
}

#[test]
fn the_demo_serves_records_and_says_what_ctrl_c_does() {
    let dir = tempfile::tempdir().unwrap();
    let data_dir = dir.path().join("a $b ${C}: d");
    let mut demo = crate::process::Process::spawn(
        llmproxy()
            .args(["demo", "--listen", "localhost:0", "--data-dir"])
            .arg(&data_dir)
            .current_dir(dir.path()),
    );
    demo.listening(1);
    crate::eventually("the demo's own request is recorded", || {
        demo.log().contains("usage  request=")
    });
    assert!(data_dir.join("demo-usage.db").is_file(), "{}", demo.log());
    assert!(!demo.log().contains("in use"), "{}", demo.log());
    demo.signal("INT");
    assert_eq!(demo.wait().code(), Some(0));
    crate::eventually("what happened is said", || {
        let log = demo.log();
        log.contains("SIGINT") && log.contains("draining")
    });
}

#[test]
fn the_demo_explains_what_it_cannot_use() {
    for (args, code, said) in [
        (["--data-dir", "a?b"], 64, "`?`"),
        (["--listen", "nowhere"], 64, "`:8000`"),
        (["--listen", "192.0.2.1:8000"], 70, "192.0.2.1:8000"),
    ] {
        let output = llmproxy().arg("demo").args(args).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{message}");
        assert!(message.contains(said), "{said} in {message}");
    }
}

#[test]
fn several_listeners_serve_the_same_gateway() {
    let upstream = Upstream::start(vllm);
    let listen = "listen: [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n";
    let mut gateway = Gateway::start(&format!("{listen}{}", crate::gateway::backends(&upstream)));
    for addr in gateway.process().listening(2) {
        let request = crate::client::post("/v1/chat/completions", crate::shapes::CHAT_REQUEST);
        assert_eq!(
            crate::client::Client::connect(addr).call(request).status,
            200
        );
    }
    assert_eq!(upstream.count(), 2);
}
