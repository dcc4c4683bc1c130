//! How log lines look and where they go: standard error, one line each, values in fields.

use env_logger::{Builder, Env};
use log::{Level, LevelFilter, Log, Metadata, Record};

/// Starts logging. `RUST_LOG`, when set, wins over the configured `level`.
///
/// Pingora's own lifecycle chatter (`info`) is lowered to warnings; its `debug` is never switched
/// on by ours, because it logs every read.
pub fn start(level: LevelFilter, access: bool) {
    let mut builder = Builder::new();
    builder
        .filter_level(level)
        .filter_module("pingora_core", LevelFilter::Warn)
        .filter_module("pingora_proxy", LevelFilter::Warn)
        .filter_module("pingora_load_balancing", LevelFilter::Warn)
        .filter_module("sqlx", LevelFilter::Warn)
        .filter_module("pingora_pool", LevelFilter::Warn)
        // Writes down whole heads that it cannot parse, tokens included.
        .filter_module("pingora_core::apps::http_app", LevelFilter::Off)
        .filter_module("access", if access { level } else { LevelFilter::Off })
        .format_timestamp_millis()
        .parse_env(Env::default());
    let logger = builder.build();
    let most = logger.filter();
    // A second start (in tests) keeps the first logger.
    if log::set_boxed_logger(Box::new(Sifted(logger))).is_ok() {
        log::set_max_level(most);
    }
}

/// Drops what Pingora reports as an error though it is some client's doing and nobody can act on
/// it; ours is told by the access line.
struct Sifted(env_logger::Logger);

impl Sifted {
    fn is_a_clients_doing(record: &Record<'_>) -> bool {
        if record.level() != Level::Error || !record.target().starts_with("pingora") {
            return false;
        }
        let message = record.args().to_string();
        [
            "Downstream handshake",
            "Fail to proxy: Downstream",
            "H2 handshake",
            "failed to acquire reusable",
        ]
        .iter()
        .any(|known| message.contains(known))
    }
}

impl Log for Sifted {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !Self::is_a_clients_doing(record) {
            self.0.log(record);
        }
    }

    fn flush(&self) {
        self.0.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_clients_do_wrong_is_dropped() {
        let dropped = |target: &str, message: &str| {
            let arguments = format_args!("{message}");
            let record = Record::builder()
                .level(Level::Error)
                .target(target)
                .args(arguments)
                .build();
            Sifted::is_a_clients_doing(&record)
        };
        assert!(dropped(
            "pingora_core::services::listening",
            "Downstream handshake error from 1.2.3.4"
        ));
        assert!(!dropped(
            "pingora_core::services::listening",
            "Accept() failed too many open files"
        ));
        assert!(!dropped("llmproxy", "Downstream handshake"));
    }
}
