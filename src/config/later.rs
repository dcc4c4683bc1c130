//! Keys whose feature comes with a later version.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::Config;

/// Stands for any value: what is written there is neither looked at nor expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Later;

impl<'de> Deserialize<'de> for Later {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

impl JsonSchema for Later {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Later".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        true.into()
    }
}

/// Returns the keys of `config` that have no effect yet.
pub(super) fn keys(config: &Config) -> Vec<String> {
    let logging = &config.logging;
    let known = [
        ("logging.general_file", logging.general_file),
        ("logging.separate_files", logging.separate_files),
        ("logging.request_dir", logging.request_dir),
        ("logging.error_dir", logging.error_dir),
        ("logging.mask_sensitive", logging.mask_sensitive),
        ("logging.enable_metrics", logging.enable_metrics),
        ("logging.max_file_size_mb", logging.max_file_size_mb),
    ];
    let written = known.into_iter().filter(|(_, value)| value.is_some());
    let written = written.map(|(key, _)| key.to_owned());
    written.chain(of_models(config)).collect()
}

fn of_models(config: &Config) -> impl Iterator<Item = String> {
    let models = config.models.iter().flat_map(|models| &models.0);
    models.flat_map(|model| {
        let known = [
            ("system_append", model.system_append),
            ("system_replacements", model.system_replacements),
        ];
        let written = known.into_iter().filter(|(_, value)| value.is_some());
        written.map(|(key, _)| format!("models.{}.{key}", model.name))
    })
}
