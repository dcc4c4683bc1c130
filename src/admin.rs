//! The admin API: what operators do to keys and models while the gateway runs.
//!
//! Knows neither sockets nor Pingora: a request goes in, a reply comes out. Whoever calls must have
//! authenticated nobody yet; that happens here.

mod classic;
mod configuration;
mod explain;
mod keys;
mod models;
mod openapi;
mod password;
mod reply;
mod request;
mod route;
mod usage;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;

pub use self::explain::explained;
use self::password::Guard;
pub use self::reply::Reply;
pub use self::request::Request;
use self::route::{Gateway, Keys, Operation, Routed};
use crate::config::{self, Secret};
use crate::keys::{KeyHash, KeyStore};
use crate::limit::QuotaStore;
use crate::reload::Reloader;

/// The longest body of a request, in bytes: a sync of some ten thousand keys.
pub const MAX_BODY: usize = 16 << 20;

/// Where the API is, besides keys.
const ROOTS: [&str; 3] = ["/admin/models", "/admin/config", "/admin/routes"];

/// The API and what it works on.
pub struct Api {
    token: Secret,
    /// Before protected models.
    guard: Guard,
    keys: Option<Arc<KeyStore>>,
    quotas: Option<Arc<dyn QuotaStore>>,
    quota: config::Quota,
    defaults: config::KeyDefaults,
    /// The ledger's directory.
    ledger: PathBuf,
    reloader: Arc<Reloader>,
    /// Reading the ledger takes the disk and a thread: one at a time.
    reading: Semaphore,
}

impl Api {
    /// Creates the API; `None` when the configuration wants none.
    #[must_use]
    pub fn new(
        config: &config::Config,
        keys: Option<Arc<KeyStore>>,
        quotas: Option<Arc<dyn QuotaStore>>,
        ledger: PathBuf,
        reloader: Arc<Reloader>,
    ) -> Option<Self> {
        Some(Self {
            token: config.admin.token.clone()?,
            guard: Guard::new(config.admin.password.as_ref()),
            keys,
            quotas,
            quota: config.quota.clone(),
            defaults: config.auth.defaults.clone(),
            ledger,
            reloader,
            reading: Semaphore::new(1),
        })
    }

    /// Whether `path` is one of the API's.
    #[must_use]
    pub fn has(path: &str) -> bool {
        let below = |root: &&str| {
            let rest = path.strip_prefix(root);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        path.starts_with("/api/v1/") || path.starts_with("/admin/keys/") || ROOTS.iter().any(below)
    }

    /// What to answer before the body is read: a stranger is not worth the memory.
    #[must_use]
    pub fn refuses(&self, request: &Request<'_>) -> Option<Reply> {
        let open = request.path == openapi::PATH || self.knows(request);
        (!open).then(|| in_form(request, unknown(request)))
    }

    /// Answers `request`.
    pub async fn answer(&self, request: &Request<'_>) -> Reply {
        let routed = match route::route(request.method, request.path) {
            // A stranger learns nothing, not even which paths there are.
            _ if !self.knows(request) && request.path != openapi::PATH => Err(unknown(request)),
            routed => routed,
        };
        let reply = match routed {
            Ok(Routed { operation, id }) => self.carry_out(operation, &id, request).await,
            Err(reply) => Err(reply),
        };
        reply.unwrap_or_else(|refusal| in_form(request, refusal))
    }

    async fn carry_out(
        &self,
        operation: Operation,
        id: &str,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        match operation {
            Operation::Keys(what) => self.manage(what, id, request).await,
            Operation::Classic(what) => self.classic(what, request).await,
            Operation::Models(what) => self.models(what, id, request).await,
            Operation::Gateway(what) => self.gateway(what, request).await,
        }
    }

    async fn manage(&self, what: Keys, id: &str, request: &Request<'_>) -> Result<Reply, Reply> {
        match what {
            Keys::List => self.list(request).await,
            Keys::Create => self.create(request).await,
            Keys::Get => self.get(id).await,
            Keys::Update => self.update(id, request).await,
            Keys::Switch(status) => self.switch(id, status, request).await,
            Keys::Delete => self.delete(id, request).await,
            Keys::Rotate => self.rotate(id, request).await,
            Keys::Sync => self.sync(request).await,
            Keys::Usage => self.usage(id, request).await,
            Keys::ResetQuota => self.reset_quota(id, request).await,
            Keys::Audit => self.audit(request).await,
        }
    }

    async fn gateway(&self, what: Gateway, request: &Request<'_>) -> Result<Reply, Reply> {
        match what {
            Gateway::Document => Ok(openapi::reply()),
            Gateway::Config => Ok(self.show_config()),
            Gateway::Reload => self.reload(request).await,
            Gateway::Routes => self.explain(request).await,
        }
    }

    /// The key store. Where there is a token there is one; without it only keys cannot be managed.
    fn keys(&self) -> Result<&KeyStore, Reply> {
        let none = || Reply::error(503, "unavailable", "this gateway has no key store");
        self.keys.as_deref().ok_or_else(none)
    }

    /// Whether the request shows the token.
    fn knows(&self, request: &Request<'_>) -> bool {
        let Some(shown) = request.token() else {
            return false;
        };
        // In constant time, of hashes: nothing tells how much of it was right.
        KeyHash::of(shown) == KeyHash::of(self.token.expose())
    }

    /// Makes this gateway ask again for what it knows of these keys; others learn of a change within
    /// a second or two.
    fn forget(&self, hashes: impl IntoIterator<Item = KeyHash>) {
        let runtime = self.reloader.runtime();
        for hash in hashes {
            runtime.auth.forget(&hash);
        }
    }
}

/// A refusal in the form of the path's answers.
fn in_form(request: &Request<'_>, refusal: Reply) -> Reply {
    match request.path.starts_with("/admin/keys/") {
        true => classic::refused(&refusal),
        false => refusal,
    }
}

/// Without a token 401, with a wrong one 403, as the original LLMProxy has it.
fn unknown(request: &Request<'_>) -> Reply {
    match request.token() {
        None => Reply::error(
            401,
            "missing_token",
            "show the admin token: `Authorization: Bearer …` or `X-Admin-Token: …`",
        ),
        Some(_) => Reply::error(403, "wrong_token", "this is not the admin token"),
    }
}
