//! Keys in the store that the admin API and `llmproxy keys` manage.

use std::sync::Arc;

use async_trait::async_trait;

use super::record::data_of;
use super::{CallerInfo, Source, SourceError};
use crate::keys::{Key, KeyHash, KeyStore};

/// The key store as a provider.
pub(super) struct BuiltinSource {
    name: String,
    store: Arc<KeyStore>,
}

// === impl BuiltinSource ===

impl BuiltinSource {
    pub(super) fn new(name: &str, store: Arc<KeyStore>) -> anyhow::Result<Self> {
        Ok(Self {
            name: name.to_owned(),
            store,
        })
    }
}

#[async_trait]
impl Source for BuiltinSource {
    fn name(&self) -> &str {
        &self.name
    }

    async fn find(
        &self,
        _presented: &str,
        hash: &KeyHash,
        _caller: &CallerInfo,
    ) -> Result<Option<Arc<Key>>, SourceError> {
        let found = self.store.lookup(hash).await;
        let found = found.map_err(|error| SourceError::Unavailable(error.to_string()))?;
        Ok(found.map(|stored| {
            let mut data = data_of(&stored.spec);
            data.insert("id".to_owned(), stored.id.clone().into());
            for (name, time) in [
                ("created_at", stored.created_at),
                ("updated_at", stored.updated_at),
            ] {
                data.insert(name.to_owned(), time.as_second().into());
            }
            Arc::new(stored.into_key(data))
        }))
    }
}
