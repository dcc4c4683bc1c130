//! Listeners, the admin API, metrics and the log.

use serde_yaml::{Mapping, Value};

use crate::import::draft::Draft;
use crate::import::text;
use crate::import::tree::Node;

pub(super) fn convert(root: &mut Node, draft: &mut Draft) {
    listen(root, draft);
    admin(root, draft);
    log(root, draft);
    logging(root, draft);
    if let Some(metrics) = root.section("metrics") {
        metrics.explain(
            draft,
            &[
                ("enabled", "had no effect there: metrics are always there"),
                (
                    "path",
                    "had no effect there: metrics are at /metrics; see `metrics.path`",
                ),
                ("custom_labels", "had no effect there"),
                ("latency_buckets", "had no effect there"),
            ],
        );
    }
}

fn listen(root: &mut Node, draft: &mut Draft) {
    let older = root.filled("listen");
    let mut address = None;
    let mut tls = None;
    if let Some(server) = root.section("server") {
        address = server.filled("listen");
        tls = certificate(server, draft);
        limits(server, draft);
        server.explain(
            draft,
            &[("cors", "answers to CORS come with a later version")],
        );
    }
    let address = address.or(older).unwrap_or_else(|| ":8000".to_owned());
    let address = match text::is_listen_address(&address, draft.system) {
        true => address,
        false => {
            draft.note(
                "listen",
                "not an address with a port; replaced by 127.0.0.1:8000",
            );
            "127.0.0.1:8000".to_owned()
        }
    };
    match tls {
        None => draft.set("listen", address),
        Some(tls) => {
            let mut listener = Mapping::new();
            listener.insert("address".into(), address.into());
            listener.insert("tls".into(), tls.into());
            draft.set("listen", vec![Value::Mapping(listener)]);
        }
    }
}

fn certificate(server: &mut Node, draft: &mut Draft) -> Option<Mapping> {
    let tls = server.section("tls")?;
    let path = tls.path().to_owned();
    let on = tls.flag("enabled") == Some(true);
    let (cert, key) = (tls.filled("cert_file"), tls.filled("key_file"));
    tls.explain(
        draft,
        &[
            (
                "client_ca_file",
                "had no effect there; certificates of clients are not asked for",
            ),
            (
                "client_auth",
                "had no effect there; certificates of clients are not asked for",
            ),
        ],
    );
    match (on, cert, key) {
        (true, Some(cert), Some(key)) => {
            let mut files = Mapping::new();
            files.insert("cert".into(), cert.into());
            files.insert("key".into(), key.into());
            Some(files)
        }
        (true, ..) => {
            draft.note(
                &path,
                "needs `cert_file` and `key_file`; without them there is no TLS",
            );
            None
        }
        (false, None, None) => None,
        (false, ..) => {
            draft.note(&path, "not `enabled` there, so not carried over");
            None
        }
    }
}

fn limits(server: &mut Node, draft: &mut Draft) {
    for (theirs, ours) in [
        ("read_timeout", "body_timeout"),
        ("idle_timeout", "keepalive_timeout"),
    ] {
        let time = server.go_duration(theirs, draft);
        if let Some(time) = time.filter(|time| !text::is_zero(time)) {
            draft.set(&format!("limits.{ours}"), time);
        }
    }
    let size = server.count("max_header_bytes");
    if let Some(size) = size.filter(|size| (1..1 << 30).contains(size)) {
        draft.set("limits.max_header", size);
    }
    server.explain(
        draft,
        &[
            (
                "write_timeout",
                "had no effect there; see `limits.write_timeout`",
            ),
            (
                "max_body_size",
                "had no effect there; here it would be `limits.max_body`",
            ),
        ],
    );
}

/// Here the admin API needs a listener of its own.
fn admin(root: &mut Node, draft: &mut Draft) {
    let Some(admin) = root.section("admin") else {
        return;
    };
    let on = admin.flag("enabled") == Some(true);
    let listen_path = admin.path_of("listen");
    let token = admin.secret("token", draft);
    let listen = admin.filled("listen");
    let listen = match listen.filter(|listen| text::is_listen_address(listen, draft.system)) {
        Some(listen) => Some(listen),
        None if token.is_some() => {
            let what = "the admin API has a listener of its own here: 127.0.0.1:8001";
            draft.note(&listen_path, what);
            Some("127.0.0.1:8001".to_owned())
        }
        None => None,
    };
    if let Some(listen) = listen.filter(|_| on) {
        draft.set("admin.listen", listen);
    }
    let is_token = |token: &String| token.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(token) = token.filter(is_token).filter(|_| on) {
        draft.set("admin.token", token);
    }
    if !on {
        draft.note("admin", "not `enabled` there, so not carried over");
    }
    let path = admin.path_of("db_path");
    if let Some(file) = admin.filled("db_path") {
        let what = "keys in this file have another form: make them again with `llmproxy keys` or \
                    POST /admin/keys/sync";
        draft.note(&path, what);
        if on && !file.ends_with(['/', '.']) {
            draft.set("admin.db_path", file);
        }
    }
}

fn log(root: &mut Node, draft: &mut Draft) {
    let Some(log) = root.section("log") else {
        return;
    };
    let path = log.path_of("level");
    match log
        .filled("level")
        .map(|level| level.to_ascii_lowercase())
        .as_deref()
    {
        None | Some("info") => {}
        Some(level @ ("debug" | "warn" | "error")) => draft.set("logging.level", level),
        Some("warning") => draft.set("logging.level", "warn"),
        Some(_) => draft.note(&path, "not a level; left out"),
    }
    log.explain(
        draft,
        &[
            ("format", "the log has one form"),
            ("output", "the log goes to standard error"),
            ("file", "the log goes to standard error"),
        ],
    );
}

fn logging(root: &mut Node, draft: &mut Draft) {
    let Some(logging) = root.section("logging") else {
        return;
    };
    let on = logging.flag("enabled") != Some(false);
    if let Some(access) = logging.section("access") {
        if access.flag("enabled") == Some(false) || !on {
            draft.set("logging.access", false);
        }
        access.explain(
            draft,
            &[
                ("format", "the access line has one form"),
                ("output", "the log goes to standard error"),
                ("file", "the log goes to standard error"),
                ("script", "had no effect there"),
            ],
        );
    }
    logging.explain(
        draft,
        &[("request", "request logs come with a later version")],
    );
}
