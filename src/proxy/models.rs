//! `GET /v1/models`: the models of every usable backend, each once.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use http::header::CONTENT_LENGTH;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::{ErrorType, OrErr};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::headers::{self, Asking};
use crate::route::Group;
use crate::runtime::Runtime;
use crate::upstream::{Connection, Connections, Peer, Upstream};

/// A backend that takes longer is left out of this answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A longer list is left out, too.
const MAX_LIST: usize = 1024 * 1024;

/// One backend's answer.
struct List {
    head: Box<ResponseHeader>,
    body: Bytes,
}

/// What an engine's list must have for us; everything else in an entry is kept as it is.
#[derive(Deserialize)]
struct Models<'a> {
    #[serde(borrow)]
    data: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(borrow)]
    id: std::borrow::Cow<'a, str>,
}

/// Asks all usable backends at once. `None` when none of them gave any answer.
///
/// With one answer it is handed on as it came, if the client `sees` all of it; with several their
/// entries are joined in the order of the configuration.
pub(super) async fn list(
    connections: &Connections,
    runtime: &Runtime,
    client: &RequestHeader,
    request_id: &str,
    (ours, sees): (&Ours, &(dyn Fn(&str) -> bool + Sync)),
) -> Option<(u16, Bytes)> {
    let plan = runtime.catalog.open_plan(Group::ROOT);
    let upstreams = (0..plan.len()).map(|at| &runtime.upstreams[plan.backend(at)]);
    let usable: Vec<&Arc<Upstream>> = upstreams
        .filter(|upstream| upstream.load().usable())
        .collect();
    let asking = Asking {
        client,
        prefix: 0,
        keys_in: runtime.auth.credential_headers(),
        request_id,
    };
    let asked = usable
        .into_iter()
        .map(|upstream| ask(connections, upstream, &asking));
    let answers: Vec<List> = join_all(asked).await.into_iter().flatten().collect();
    let (good, bad): (Vec<_>, Vec<_>) = answers
        .into_iter()
        .partition(|list| list.head.status.is_success());
    match good.len() {
        0 => bad
            .into_iter()
            .next_back()
            .map(|list| (list.head.status.as_u16(), list.body)),
        1 if sees("") && ours.is_empty() => good.into_iter().next().map(|list| (200, list.body)),
        _ => Some((200, joined(&ours.entries(sees), &good, sees))),
    }
}

async fn ask(connections: &Connections, upstream: &Upstream, asking: &Asking<'_>) -> Option<List> {
    let fetching = async {
        let peer = upstream.peer()?;
        let connected = connections.get(&peer).await;
        Some(match connected {
            Ok((connection, reused)) => {
                match fetch(connections, upstream, &peer, connection, asking).await {
                    // A kept-alive connection may have been closed meanwhile.
                    Err(_) if reused => match connections.connect(&peer).await {
                        Ok(connection) => {
                            fetch(connections, upstream, &peer, connection, asking).await
                        }
                        Err(error) => Err(error),
                    },
                    answer => answer,
                }
            }
            Err(error) => Err(error),
        })
    };
    let answer = tokio::time::timeout(TIMEOUT, fetching).await;
    let backend = &**upstream.name();
    match answer {
        Ok(None) => None,
        Ok(Some(Ok(list))) => list,
        Ok(Some(Err(error))) => {
            log::debug!(backend, error:% = error; "no model list");
            None
        }
        Err(_) => {
            log::debug!(backend; "no model list in time");
            None
        }
    }
}

async fn fetch(
    connections: &Connections,
    upstream: &Upstream,
    peer: &Peer,
    mut connection: Box<Connection>,
    asking: &Asking<'_>,
) -> pingora::Result<Option<List>> {
    let mut head = headers::for_upstream(asking, upstream, 0)?;
    head.set_raw_path(&upstream.path(&list_path(asking.client)))?;
    head.remove_header(&CONTENT_LENGTH);
    let sent = connection.send(&head, b"").await;
    sent.or_err(ErrorType::WriteError, "model list not asked for")?;
    let head = connection.head().await;
    let head = head.or_err(ErrorType::ReadError, "no answer")?;
    let mut body = BytesMut::new();
    while let Some(piece) = connection
        .piece()
        .await
        .or_err(ErrorType::ReadError, "cut")?
    {
        body.extend_from_slice(&piece);
        if body.len() > MAX_LIST {
            return Ok(None);
        }
    }
    connections.release(connection, peer, upstream.idle());
    Ok(Some(List {
        head,
        body: body.freeze(),
    }))
}

/// Engines know `/v1/models` only; `/models` is an alias of ours.
fn list_path(client: &RequestHeader) -> Vec<u8> {
    let query = client
        .uri
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    format!("/v1/models{query}").into_bytes()
}

/// The configured models of a group, as the list shows them.
pub(super) struct Ours {
    names: Vec<Arc<str>>,
    created: i64,
    /// Whether the client is one of Anthropic's, which ask for other members.
    anthropic: bool,
}

impl Ours {
    pub(super) fn of(runtime: &Runtime, group: Group, client: &RequestHeader) -> Self {
        Self {
            names: runtime.catalog.names(group).cloned().collect(),
            created: runtime.built.as_second(),
            anthropic: client.headers.contains_key("anthropic-version"),
        }
    }

    fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// All that the client `sees`, in the order of the configuration.
    pub(super) fn list(&self, sees: &dyn Fn(&str) -> bool) -> Bytes {
        let data = self.entries(sees);
        let mut list = json!({"object": "list", "data": data});
        if self.anthropic {
            let id = |entry: Option<&Value>| entry.map(|entry| entry["id"].clone());
            list["has_more"] = json!(false);
            list["first_id"] = json!(id(data.first()));
            list["last_id"] = json!(id(data.last()));
        }
        Bytes::from(list.to_string())
    }

    /// The entry of one.
    pub(super) fn one(&self, name: &str) -> Bytes {
        Bytes::from(self.entry(name).to_string())
    }

    fn entries(&self, sees: &dyn Fn(&str) -> bool) -> Vec<Value> {
        let shown = self.names.iter().filter(|name| sees(name));
        shown.map(|name| self.entry(name)).collect()
    }

    fn entry(&self, name: &str) -> Value {
        let mut entry = json!({
            "id": name, "object": "model", "created": self.created, "owned_by": "llmproxy",
        });
        if self.anthropic {
            let created = jiff::Timestamp::from_second(self.created).unwrap_or_default();
            entry["type"] = json!("model");
            entry["display_name"] = json!(name);
            entry["created_at"] = json!(created.to_string());
        }
        entry
    }
}

/// Joins lists, `ours` before them; an entry that names a model already seen is left out, one without a name is kept.
fn joined(ours: &[Value], lists: &[List], sees: &dyn Fn(&str) -> bool) -> Bytes {
    let mut seen = HashSet::new();
    let mut out = BytesMut::from(&br#"{"object":"list","data":["#[..]);
    let mut first = true;
    for entry in ours {
        seen.extend(entry["id"].as_str().map(str::to_owned));
        if !std::mem::take(&mut first) {
            out.extend_from_slice(b",");
        }
        out.extend_from_slice(entry.to_string().as_bytes());
    }
    for list in lists {
        let Ok(models) = serde_json::from_slice::<Models<'_>>(&list.body) else {
            continue;
        };
        for entry in models.data {
            let shown = match serde_json::from_str::<Entry<'_>>(entry.get()) {
                Ok(named) => sees(&named.id) && seen.insert(named.id.into_owned()),
                Err(_nameless) => sees(""),
            };
            if shown {
                if !first {
                    out.extend_from_slice(b",");
                }
                first = false;
                out.extend_from_slice(entry.get().as_bytes());
            }
        }
    }
    out.extend_from_slice(b"]}");
    out.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(body: &'static str) -> List {
        let head = Box::new(ResponseHeader::build(200, None).unwrap());
        List {
            head,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn lists_are_joined_and_entries_kept_byte_for_byte() {
        let lists = [
            list(r#"{"data":[{"id":"a","max_model_len":9007199254740993},{"id":"b"}]}"#),
            list("not json"),
            list(r#"{"object":"list","data":[{"id": "b"},{"id":"c", "x":1.0}]}"#),
        ];
        assert_eq!(
            joined(&[], &lists, &|_| true),
            r#"{"object":"list","data":[{"id":"a","max_model_len":9007199254740993},{"id":"b"},{"id":"c", "x":1.0}]}"#
        );
    }

    #[test]
    fn no_entries_are_a_valid_list() {
        assert_eq!(
            joined(&[], &[list("{}"), list(r#"{"data":[]}"#)], &|_| true),
            r#"{"object":"list","data":[]}"#
        );
    }
}
