//! The way back: a model of the configuration file is served again as it stands there.

use serde_json::{Map, Value};

use super::change::{Shown, nothing_else};
use super::found;
use super::register::{make_room, native};
use crate::admin::{Api, Reply, Request};
use crate::config::{ConfigError, Loaded, Overlay, load_with};
use crate::reload::Unchanged;

impl Api {
    pub(super) async fn restore_model(
        &self,
        name: &str,
        request: &Request<'_>,
    ) -> Result<Reply, Reply> {
        let mut body = request.object()?;
        let shown = Shown::take(request, &mut body)?;
        nothing_else(&body, "admin_password")?;
        let new = native(self.in_file(name).await?);
        let (mut replaced, mut unused) = (false, Vec::new());
        let change = |loaded: &Loaded, overlay: &mut Overlay| {
            self.may_set(name, &new, loaded, &shown)?;
            replaced = found(loaded, name).is_ok();
            unused = make_room(name, &new, loaded, overlay);
            match overlay.forget_model(name) {
                true => Ok(()),
                // Somebody else was faster.
                false => Err(nothing_changed(name)),
            }
        };
        let applied = self.reloader.edit(change).await?;
        let gone = unused.join(", ");
        log::info!(actor:? = &*shown.actor, model:? = name, replaced, gone:? = &*gone; "a model is restored by the admin's word");
        Ok(self.is_set(name, replaced, &applied))
    }

    /// Reads the section that the file has for this model, which is not the one that is served: it
    /// decides whether the password is needed, and which backends are needed no more.
    async fn in_file(&self, name: &str) -> Result<Map<String, Value>, Reply> {
        let Some(file) = self.reloader.file().map(ToOwned::to_owned) else {
            return Err(Unchanged::NoFile.into());
        };
        let loaded = self.reloader.loaded();
        if !loaded.is_in_file(name) {
            return Err(not_in_file(name));
        }
        let model = name.to_owned();
        let reading = tokio::task::spawn_blocking(move || {
            let bad = |error: ConfigError| Unchanged::Bad(error.to_string());
            let mut overlay = Overlay::read(&loaded.overlay).map_err(bad)?;
            if !overlay.forget_model(&model) {
                return Err(Unchanged::Refused(nothing_changed(&model)));
            }
            let environment = |name: &str| std::env::var(name).ok();
            let restored =
                load_with(&file, &loaded.overlay, &overlay, &environment).map_err(bad)?;
            Ok(restored.own_model(&model))
        });
        let read = reading
            .await
            .map_err(|error| Unchanged::Bad(error.to_string()));
        match read.and_then(|section| section) {
            Ok(Some(Value::Object(section))) => Ok(section),
            // An empty section is a model, too.
            Ok(Some(_)) => Ok(Map::new()),
            // The file has changed since it was read.
            Ok(None) => Err(not_in_file(name)),
            Err(unchanged) => Err(unchanged.into()),
        }
    }
}

fn not_in_file(name: &str) -> Reply {
    let message = format!("the configuration file has no model `{name}`");
    Reply::error(404, "not_found", message)
}

fn nothing_changed(name: &str) -> Reply {
    let message = format!("`{name}` is served as it stands in the configuration file");
    Reply::error(404, "not_found", message)
}
