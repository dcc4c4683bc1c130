//! Which gateway is meant, and what is said when it cannot be asked or says no.

use std::fs;
use std::path::Path;

use super::{begin, said};
use crate::gateway::{Gateway, backends, free_port};
use crate::key_api::TOKEN;
use crate::process::llmproxy;
use crate::shapes;
use crate::upstream::Upstream;

#[test]
fn what_cannot_be_done_is_said_and_the_exit_code_tells_why() {
    let upstream = Upstream::start(shapes::vllm);
    let (_gateway, api, mut shell) = begin(&upstream);
    shell.fails(&["get", "none"], 64, "there is no such key");
    shell.fails(&["get", "a/../b?c"], 64, "there is no such key");
    shell.fails(
        &["create", "--quota", "lots"],
        64,
        "total_quota: expected a whole number",
    );
    shell.fails(&["create", "--key-hash", "abc"], 64, "key_hash: must be");
    shell.fails(
        &["create", "--key-stdin"],
        64,
        "standard input must hold one line",
    );
    shell.fails(&["hash"], 64, "standard input must hold one line");
    let two = shell.piped(
        "sk-line-0000001\nsk-line-0000002\n",
        &["create", "--key-stdin"],
    );
    assert_eq!(two.code, 64);
    // A file that is named counts for more than a variable.
    shell.fails(&["list", "--config", "/none.yaml"], 64, "cannot read");
    assert_eq!(api.ids(""), [""; 0]);
    shell.token = "guessed";
    shell.fails(&["list"], 64, "not the admin token");
    shell.token = TOKEN;
    for url in ["127.0.0.1:8001", "ftp://127.0.0.1", "nonsense"] {
        url.clone_into(&mut shell.url);
        shell.fails(&["list"], 64, "--url must be");
    }
    shell.url = format!("http://127.0.0.1:{}", free_port());
    shell.fails(&["list"], 70, "is it running?");
    // Something else answers there.
    let page = Upstream::json(200, "<html>hello</html>");
    shell.url = format!("http://{}", page.addr());
    shell.fails(&["get", "some"], 70, "not as its admin API would");
}

/// Where the gateway is and its token stand in its configuration.
#[test]
fn a_configuration_file_says_which_gateway_is_meant() {
    let upstream = Upstream::start(shapes::vllm);
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!(
        "{}admin: {{listen: \"127.0.0.1:{}\", token: {TOKEN:?}}}\n",
        backends(&upstream),
        free_port()
    );
    let with = |file: &Path| {
        let mut command = llmproxy();
        command
            .args(["keys", "list", "--format", "table", "--config"])
            .arg(file);
        command
            .env_remove("LLMPROXY_ADMIN_URL")
            .env_remove("LLMPROXY_ADMIN_TOKEN");
        said(command.output().unwrap())
    };
    let gateway = Gateway::start_in(dir.path(), &yaml);
    let file = dir.path().join("llmproxy.yaml");
    let said = with(&file);
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.contains("status"), "{}", said.out);
    gateway.stop();
    let said = with(&file);
    assert_eq!(said.code, 70, "{}", said.err);
    fs::write(&file, backends(&upstream)).unwrap();
    let said = with(&file);
    assert_eq!(said.code, 64);
    assert!(said.err.contains("admin.listen"), "{}", said.err);
    let mut nowhere = llmproxy();
    nowhere
        .args(["keys", "list"])
        .env_remove("LLMPROXY_ADMIN_URL");
    let output = nowhere.output().unwrap();
    assert_eq!(output.status.code(), Some(64));
}
