//! `llmproxy keys`: clients' keys, through the admin API of a running gateway.
//!
//! Everything goes through the API, so that what is done from a shell is checked, noted in the audit
//! log and known to the gateway at once, as what is done from elsewhere.

mod fields;
mod show;

use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::{Map, Value, json};

use self::fields::Fields;
use self::show::{Form, Shown};
use super::admin_call::{Admin, Failure, Gateway};
use super::{complain, print};
use crate::keys::{KeyHash, generate};

/// Options of `llmproxy keys`.
#[derive(clap::Args)]
pub(super) struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Create a key; it is shown this once.
    Create(Create),
    /// Show a key.
    Get(One),
    /// List keys, newest first.
    List(List),
    /// Change a key; what is not named stays as it is.
    Update(Update),
    /// Switch a key off.
    Disable(One),
    /// Switch a key on.
    Enable(One),
    /// Delete a key.
    Delete(Delete),
    /// Replace a key by a new one under the same id; the old one stops working at once.
    Rotate(One),
    /// Bring the keys in line with a file.
    Sync(Sync),
    /// Show what a key has used.
    Usage(Usage),
    /// Let a key's quota begin anew.
    ResetQuota(One),
    /// Show who changed what.
    Audit(Audit),
    /// Print the hash of a key read from standard input, for `key_hash`.
    Hash,
    /// Print a new key that nobody knows yet, for configuration files.
    Generate,
}

#[derive(clap::Args)]
struct Create {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    form: Form,
    /// What it is to be called; by default made of its hash.
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Read the key itself from standard input instead of generating one.
    #[arg(long)]
    key_stdin: bool,
    /// Give its hash (`llmproxy keys hash`) instead of the key.
    #[arg(long, value_name = "SHA256", conflicts_with = "key_stdin")]
    key_hash: Option<String>,
    #[command(flatten)]
    fields: Fields,
}

#[derive(clap::Args)]
struct Update {
    #[command(flatten)]
    one: One,
    #[command(flatten)]
    fields: Fields,
}

#[derive(clap::Args)]
struct One {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    form: Form,
    /// The key's id, or `sha256:` and its hash.
    id: String,
}

#[derive(clap::Args)]
struct Delete {
    #[command(flatten)]
    gateway: Gateway,
    /// The key's id, or `sha256:` and its hash.
    id: String,
}

#[derive(clap::Args)]
struct List {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    form: Form,
    /// Only keys of this user.
    #[arg(long)]
    user: Option<String>,
    /// Only keys with this status: active, disabled, quota_exceeded, expired.
    #[arg(long)]
    status: Option<String>,
    /// Only keys with this in their name.
    #[arg(long)]
    name: Option<String>,
    /// How many to leave out.
    #[arg(long, default_value_t = 0)]
    offset: u64,
    /// At most this many; by default all.
    #[arg(long)]
    limit: Option<u64>,
}

#[derive(clap::Args)]
struct Sync {
    #[command(flatten)]
    gateway: Gateway,
    /// A JSON list of keys, as `POST /api/v1/keys` takes them; `-` is standard input.
    file: PathBuf,
    /// Delete every key that is not in the list.
    #[arg(long)]
    full: bool,
    /// Do so also when the list is empty.
    #[arg(long, requires = "full")]
    confirm: bool,
}

#[derive(clap::Args)]
struct Usage {
    #[command(flatten)]
    one: One,
    /// Add up the gateway's ledger from then on (RFC 3339); by default the last 24 hours.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
}

#[derive(clap::Args)]
struct Audit {
    #[command(flatten)]
    gateway: Gateway,
    #[command(flatten)]
    form: Form,
    /// Only changes of this key.
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// At most this many.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=100))]
    limit: u64,
}

/// Runs one of the subcommands; the exit code is 0, 64 for bad input, 70 when the gateway cannot be
/// reached or cannot do it.
pub(super) fn keys(options: Options) -> ExitCode {
    run(options.command).map_or_else(Failure::report, |()| ExitCode::SUCCESS)
}

fn run(command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(options) => create(options),
        Command::Get(one) => one.shown("GET", ""),
        Command::List(options) => list(&options),
        Command::Update(options) => update(options),
        Command::Disable(one) => one.shown("POST", "/disable"),
        Command::Enable(one) => one.shown("POST", "/enable"),
        Command::Delete(Delete { gateway, id }) => {
            gateway.admin()?.call("DELETE", &path(&id, ""), None)?;
            say(&format!("deleted {id}\n"))
        }
        Command::Rotate(one) => {
            let answer = one.call("POST", "/rotate")?;
            one.form.secret(&answer)
        }
        Command::Sync(options) => sync(&options),
        Command::Usage(options) => usage(&options),
        Command::ResetQuota(one) => {
            let answer = one.call("POST", "/quota/reset")?;
            one.form.show(Shown::Quota, &answer)
        }
        Command::Audit(options) => audit(&options),
        Command::Hash => say(&format!("{}\n", KeyHash::of(&stdin_line()?).to_text())),
        Command::Generate => say(&format!("{}\n", generate().expose())),
    }
}

impl One {
    fn call(&self, method: &str, action: &str) -> Result<Value, Failure> {
        self.gateway
            .admin()?
            .call(method, &path(&self.id, action), None)
    }

    fn shown(&self, method: &str, action: &str) -> Result<(), Failure> {
        self.form.show(Shown::Key, &self.call(method, action)?)
    }
}

fn create(options: Create) -> Result<(), Failure> {
    let mut body = options.fields.body()?;
    if let Some(id) = options.id {
        body.insert("id".to_owned(), json!(id));
    }
    if let Some(hash) = options.key_hash {
        body.insert("key_hash".to_owned(), json!(hash));
    }
    if options.key_stdin {
        body.insert("key".to_owned(), json!(stdin_line()?));
    }
    let admin = options.gateway.admin()?;
    let answer = admin.call("POST", "/api/v1/keys", Some(&Value::Object(body)))?;
    options.form.secret(&answer)
}

fn update(options: Update) -> Result<(), Failure> {
    let body = options.fields.body()?;
    if body.is_empty() {
        let nothing = "nothing to change; `llmproxy keys update --help` lists what can be";
        return Err(Failure::BadInput(nothing.to_owned()));
    }
    let one = options.one;
    let admin = one.gateway.admin()?;
    let answer = admin.call("PATCH", &path(&one.id, ""), Some(&Value::Object(body)))?;
    one.form.show(Shown::Key, &answer)
}

/// The API's longest page.
const PAGE: u64 = 100;

fn list(options: &List) -> Result<(), Failure> {
    let admin = options.gateway.admin()?;
    let (mut keys, mut offset) = (Vec::new(), options.offset);
    let wanted = options.limit.unwrap_or(u64::MAX);
    while (keys.len() as u64) < wanted {
        let limit = PAGE.min(wanted - keys.len() as u64);
        let page = page(&admin, options, offset, limit)?;
        offset += page.len() as u64;
        let last = (page.len() as u64) < limit;
        keys.extend(page);
        if last {
            break;
        }
    }
    options.form.show(Shown::Keys, &Value::Array(keys))
}

fn page(admin: &Admin, options: &List, offset: u64, limit: u64) -> Result<Vec<Value>, Failure> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("offset", &offset.to_string());
    query.append_pair("limit", &limit.to_string());
    let filters = [
        ("user_id", &options.user),
        ("status", &options.status),
        ("name", &options.name),
    ];
    for (name, value) in filters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    let path = format!("/api/v1/keys?{}", query.finish());
    match admin.call("GET", &path, None)?["keys"].take() {
        Value::Array(keys) => Ok(keys),
        _ => Err(Failure::Failed(
            "the gateway's answer has no keys".to_owned(),
        )),
    }
}

fn sync(options: &Sync) -> Result<(), Failure> {
    let text = match options.file.as_os_str() == "-" {
        true => io::read_to_string(io::stdin()),
        false => std::fs::read_to_string(&options.file),
    };
    let file = options.file.display();
    let text = text.map_err(|error| Failure::BadInput(format!("{file}: {error}")))?;
    let keys: Value = serde_json::from_str(&text)
        .map_err(|error| Failure::BadInput(format!("{file}: not JSON: {error}")))?;
    let mode = if options.full { "full" } else { "incremental" };
    let body = json!({"keys": keys, "mode": mode, "confirm": options.confirm});
    let admin = options.gateway.admin()?;
    let report = admin.call("POST", "/api/v1/keys/sync", Some(&body))?;
    say(&format!(
        "created {}, updated {}, deleted {}, unchanged {}\n",
        report["created"], report["updated"], report["deleted"], report["unchanged"]
    ))
}

fn usage(options: &Usage) -> Result<(), Failure> {
    let one = &options.one;
    let query = options.since.as_ref().map(|since| {
        let mut query = url::form_urlencoded::Serializer::new(String::from("?"));
        query.append_pair("since", since).finish()
    });
    let action = format!("/usage{}", query.unwrap_or_default());
    one.form.show(Shown::Usage, &one.call("GET", &action)?)
}

fn audit(options: &Audit) -> Result<(), Failure> {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("limit", &options.limit.to_string());
    if let Some(key) = &options.key {
        query.append_pair("key_id", key);
    }
    let path = format!("/api/v1/audit?{}", query.finish());
    let mut answer = options.gateway.admin()?.call("GET", &path, None)?;
    options.form.show(Shown::Audit, &answer["entries"].take())
}

fn path(id: &str, action: &str) -> String {
    let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
    format!("/api/v1/keys/{id}{action}")
}

/// The one line that standard input holds.
fn stdin_line() -> Result<String, Failure> {
    let mut text = String::new();
    let read = io::stdin().take(4096).read_to_string(&mut text);
    read.map_err(|error| Failure::BadInput(format!("standard input: {error}")))?;
    let line = text.trim_end_matches(['\n', '\r']);
    match line.is_empty() || line.contains(['\n', '\r']) {
        true => Err(Failure::BadInput(
            "standard input must hold one line: the key".to_owned(),
        )),
        false => Ok(line.to_owned()),
    }
}

fn say(text: &str) -> Result<(), Failure> {
    print(text).map_err(|_error| Failure::Failed("standard output cannot be written".to_owned()))
}

type Body = Map<String, Value>;
