mod properties;
mod reported;
mod small;

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

/// Files of `tests/fixtures/import`, and whether it must be said what they are: those of LLMProxy and
/// ococl/llm-proxy may be ours as well.
const FIXTURES: [(&str, System, bool); 21] = [
    ("yallmproxy-2025", System::YaLlmProxy, true),
    ("yallmproxy-2025-environment", System::YaLlmProxy, true),
    ("yallmproxy-2026", System::YaLlmProxy, true),
    ("yallmproxy-2026-parsers", System::YaLlmProxy, true),
    ("yallmproxy-2026-database", System::YaLlmProxy, true),
    ("yallmproxy-full", System::YaLlmProxy, true),
    ("yallmproxy-circle", System::YaLlmProxy, true),
    ("ococl", System::Ococl, true),
    ("ococl-full", System::Ococl, true),
    ("ococl-2.1", System::Ococl, true),
    ("python-llm-proxy-forward", System::PythonLlmProxy, true),
    ("python-llm-proxy-translate", System::PythonLlmProxy, true),
    ("python-llm-proxy-full", System::PythonLlmProxy, true),
    ("llmproxy-readme", System::LlmProxy, false),
    ("llmproxy-scenario", System::LlmProxy, true),
    ("llmproxy-0.1", System::LlmProxy, true),
    ("llmproxy-0.3", System::LlmProxy, true),
    ("llmproxy-0.5", System::LlmProxy, true),
    ("litellm", System::LiteLlm, true),
    ("litellm-full", System::LiteLlm, true),
    ("litellm-wildcards", System::LiteLlm, true),
];

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/import")
}

fn fixture(name: &str) -> String {
    fs::read_to_string(directory().join(format!("{name}.yaml"))).unwrap()
}

/// Compares with the file, or writes it when `UPDATE_GOLDEN` is set.
fn golden(file: &str, text: &str) {
    let path = directory().join(file);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&path).unwrap(), "{file}");
}

#[test]
fn fixtures_become_what_is_expected() {
    for (name, system, _) in FIXTURES {
        let imported = import(&fixture(name), Some(system)).unwrap();
        golden(&format!("{name}.expected.yaml"), &imported.yaml);
        let notes: String = imported
            .notes
            .iter()
            .map(|note| format!("{note}\n"))
            .collect();
        golden(&format!("{name}.notes"), &notes);
    }
}

#[test]
fn every_fixture_is_in_the_list() {
    let files = fs::read_dir(directory()).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    for name in names.filter(|name| name.ends_with(".yaml") && !name.contains(".expected.")) {
        let name = name.trim_end_matches(".yaml");
        assert!(FIXTURES.iter().any(|(known, ..)| *known == name), "{name}");
    }
}

#[test]
fn whose_a_file_is_is_recognised() {
    for (name, system, by_itself) in FIXTURES {
        let text = fixture(name);
        let found = import(&text, None).unwrap();
        match by_itself {
            true => assert_eq!(found, import(&text, Some(system)).unwrap(), "{name}"),
            false => assert_eq!(found.yaml, text, "{name}"),
        }
    }
}

#[test]
fn secrets_are_not_in_the_notes() {
    for (name, system, _) in FIXTURES {
        let imported = import(&fixture(name), Some(system)).unwrap();
        let notes = imported.notes.join("\n");
        assert!(
            !notes.contains("s3cret") && !notes.contains("sk-"),
            "{name}: {notes}"
        );
    }
}

#[test]
fn files_of_our_own_come_back_unchanged() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for file in ["minimal", "llmproxy", "teams"] {
        let text = fs::read_to_string(root.join(format!("conf/{file}.yaml"))).unwrap();
        let imported = import(&text, None).unwrap();
        assert_eq!(imported.yaml, text, "{file}");
        assert!(imported.notes[0].contains("already"), "{file}");
    }
}

#[test]
fn what_is_nothing_known_says_what_was_looked_for() {
    for (text, expected) in [
        ("a: 1", "not recognised; looked for `model_list`"),
        ("[1, 2]", "it has no keys"),
        ("", "it has no keys"),
        ("a: [", "not YAML: "),
        (
            "data_dir: x\nbackendz: []",
            "has keys of llmproxy itself, but does not load: ",
        ),
        (
            "model_list: [{model_name: a, litellm_params: {model: openai/a, api_base: 'http://a'}}]",
            "--from yallmproxy or --from litellm",
        ),
        (
            "model_list: [{model_name: a, model_params: {api_base: 'http://a'}}]\nlitellm_settings: {}",
            "has keys of yaLLMproxy (`model_list[].model_params`) and of LiteLLM (`litellm_settings`)",
        ),
        (
            "backends: [{url: 'http://a'}]\nstorage: {}\nerror_fallback: {}",
            "has keys of LLMProxy (`storage`) and of ococl/llm-proxy (`error_fallback`)",
        ),
    ] {
        let error = import(text, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
}

#[test]
fn nothing_to_serve_is_an_error_that_says_why() {
    for system in System::ALL {
        let error = import("x: 1", Some(system)).unwrap_err().to_string();
        assert!(error.contains("no backend of this "), "{error}");
        assert!(error.contains("x: not understood"), "{error}");
    }
    let text = "model_list: [{model_name: a, litellm_params: {model: bedrock/a}}]";
    let error = import(text, Some(System::LiteLlm)).unwrap_err().to_string();
    assert!(
        error.contains("model_list[0]: `bedrock` has a dialect"),
        "{error}"
    );
}

#[test]
fn systems_have_names() {
    for system in System::ALL {
        assert_eq!(System::named(system.as_str()), Some(system));
    }
    assert_eq!(System::named("nginx"), None);
}

#[test]
fn what_is_made_is_a_file_of_ours() {
    for (name, system, _) in FIXTURES {
        let yaml = import(&fixture(name), Some(system)).unwrap().yaml;
        let config = verify::load(&yaml, name).unwrap().config;
        // Something is left of the file, and the names in it fit together.
        assert!(!config.backends.is_empty(), "{name}");
        let names: Vec<&str> = config.backends.iter().map(|one| &*one.name).collect();
        let models = config.models.unwrap_or_default().0;
        for route in models.iter().flat_map(|model| &model.routes) {
            assert!(
                names.contains(&&*route.backend),
                "{name}: {}",
                route.backend
            );
        }
    }
}
