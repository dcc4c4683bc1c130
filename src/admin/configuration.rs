//! The configuration as a whole: what is served, and reading it again.

use serde_json::{Value, json};

use super::{Api, Reply, Request};
use crate::config::Loaded;
use crate::reload::{Applied, Trigger, Unchanged};

impl Api {
    pub(super) fn show_config(&self) -> Reply {
        let loaded = self.reloader.loaded();
        let file = self.reloader.file();
        Reply::ok(json!({
            "config": loaded.shown(),
            "file": file.map(|file| file.display().to_string()),
            "overlay": loaded.overlay.display().to_string(),
            "models_order": order(&loaded),
            "warnings": loaded.warnings,
            "needs_restart": self.reloader.needs_restart(),
        }))
    }

    pub(super) async fn reload(&self, request: &Request<'_>) -> Result<Reply, Reply> {
        let actor = request.actor();
        log::info!(actor:? = &*actor; "the configuration is read again by the admin's word");
        let reloaded = self.reloader.reload(Trigger::Api).await;
        let applied = reloaded.map_err(|unchanged| {
            Reply::from(match unchanged {
                Unchanged::Refused(never) => match never {},
                Unchanged::Bad(message) => Unchanged::Bad(message),
                Unchanged::NoFile => Unchanged::NoFile,
                Unchanged::Disk(message) => Unchanged::Disk(message),
            })
        })?;
        Ok(done(
            json!({
                "message": "Configuration reloaded successfully",
                "models_count": applied.models,
                "backends_count": applied.backends,
            }),
            &applied,
        ))
    }
}

/// The names of the models in their order.
pub(super) fn order(loaded: &Loaded) -> Vec<&str> {
    let models = loaded.config.models.as_ref().map_or(&[][..], |it| &it.0);
    models.iter().map(|model| &*model.name).collect()
}

/// The answer to a change that is served now: `body`, and what there is to say of the whole.
pub(super) fn done(mut body: Value, applied: &Applied) -> Reply {
    body["status"] = json!("ok");
    body["warnings"] = json!(applied.warnings);
    body["needs_restart"] = json!(applied.needs_restart);
    Reply::ok(body)
}
