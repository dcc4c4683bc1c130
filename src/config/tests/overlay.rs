//! What the admin API changed, laid over the file.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::*;

mod faults;
mod file;
mod round_trip;

const FILE: &str = "backends: [{name: a, url: \"http://a\"}, {name: b, url: \"http://b\"}]\n\
    models:\n  one: {routes: [{backend: a}]}\n  two: {routes: [{backend: b}], target_model: t}\n";

/// A directory with a configuration, whose data is beside it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new(file: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let text = format!("{file}data_dir: {}\n", data.display());
        fs::write(directory.path().join("c.yaml"), text).unwrap();
        Self { directory }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("c.yaml")
    }

    fn overlay(&self) -> PathBuf {
        self.directory.path().join("data").join(OVERLAY)
    }

    fn write(&self, overlay: &str) {
        fs::create_dir_all(self.overlay().parent().unwrap()).unwrap();
        fs::write(self.overlay(), overlay).unwrap();
    }

    #[track_caller]
    fn load(&self) -> Loaded {
        load(&self.file(), &env).unwrap_or_else(|error| panic!("{error}"))
    }

    /// The error with the directory taken out.
    fn error(&self) -> String {
        let error = load(&self.file(), &env).unwrap_err().to_string();
        error.replace(&format!("{}/", self.directory.path().display()), "")
    }
}

fn names(loaded: &Loaded) -> Vec<&str> {
    let models = loaded.config.models.iter().flat_map(|models| &models.0);
    models.map(|model| &*model.name).collect()
}

fn routed(backend: &str) -> Value {
    json!({ "routes": [{ "backend": backend }] })
}

#[test]
fn models_are_added_replaced_removed_and_put_in_order() {
    let place = Place::new(FILE);
    let mut overlay = Overlay::default();
    overlay.set_model("zero", routed("a"));
    overlay.set_model("three", json!({ "extends": "two", "enabled": false }));
    overlay.set_model("two", json!({ "extends": "one" }));
    overlay.save(&place.overlay()).unwrap();
    let loaded = place.load();
    assert_eq!(
        names(&loaded),
        ["one", "two", "zero", "three"],
        "the new ones last, as they came"
    );
    let models = &loaded.config.models.as_ref().unwrap().0;
    assert_eq!(models[1].target_model, None, "replaced as a whole");
    assert_eq!(
        models[3].routes, models[0].routes,
        "inherited across both files"
    );
    assert_eq!(loaded.overlay, place.overlay());
    let from_api = ["one", "two", "zero", "three"].map(|name| loaded.is_from_api(name));
    assert_eq!(from_api, [false, true, true, true]);
    let in_file = ["one", "two", "zero", "three"].map(|name| loaded.is_in_file(name));
    assert_eq!(in_file, [true, true, false, false]);

    overlay.remove_model("three", false);
    overlay.remove_model("two", true);
    overlay.set_order(
        ["nobody", "zero", "one", "zero"]
            .map(str::to_owned)
            .to_vec(),
    );
    overlay.save(&place.overlay()).unwrap();
    let loaded = place.load();
    assert_eq!(names(&loaded), ["zero", "one"]);
    assert!(loaded.is_in_file("two") && !loaded.is_from_api("two"));
    assert_eq!((loaded.model("two"), loaded.own_model("two")), (None, None));
    assert!(overlay.has_model("zero") && !overlay.has_model("two") && !overlay.has_model("one"));
    let text = fs::read_to_string(place.overlay()).unwrap();
    assert!(
        !text.contains("three") && text.contains("two: null"),
        "{text}"
    );

    overlay.remove_model("zero", false);
    overlay.set_model("two", routed("b"));
    overlay.save(&place.overlay()).unwrap();
    assert_eq!(names(&place.load()), ["one", "two"]);
    assert!(
        !fs::read_to_string(place.overlay())
            .unwrap()
            .contains("zero"),
        "nor in the order"
    );
}

#[test]
fn a_model_of_the_base_reaches_what_extends_it_in_the_other_file() {
    let place =
        Place::new("backends: [{name: a, url: \"http://a\"}]\nmodels:\n  leaf: {extends: base}\n");
    place.write("models: {base: {routes: [{backend: a, model: x}]}}");
    let models = place.load().config.models.unwrap().0;
    assert_eq!(models[0].routes[0].model.as_deref(), Some("x"));
}

#[test]
fn without_models_in_the_file_those_of_the_overlay_are_served_besides() {
    let place = Place::new("backends: [{name: a, url: \"http://a\"}]\n");
    assert!(place.load().config.models.is_none());
    place.write("models: {x: null}\norder: [x]");
    let config = place.load().config;
    assert!(
        config.open && config.models.is_none(),
        "nothing is left of it"
    );
    place.write("models: {x: {routes: [{backend: a}]}}");
    let loaded = place.load();
    assert!(loaded.config.open);
    assert_eq!(names(&loaded), ["x"]);
    let place = Place::new("backends: [{name: a, url: \"http://a\"}]\nmodels: {}\n");
    place.write("models: {x: {routes: [{backend: a}]}}");
    assert!(!place.load().config.open);
}

#[test]
fn backends_are_added_and_replaced() {
    let place = Place::new(
        "backends: [{name: \"${NAME:-a}\", url: \"http://a\", weight: 5}, {url: \"http://u:p@b\"}]\n",
    );
    let mut overlay = Overlay::default();
    overlay.set_backend(json!({ "name": "c", "url": "http://c", "api_key": "$KEY" }));
    overlay.set_backend(json!({ "name": "a", "url": "http://a2" }));
    overlay.set_backend(json!({ "url": "http://u:q@b", "weight": 2 }));
    overlay
        .set_backend(json!({ "name": "c", "url": "http://c", "api_key": "${KEY}", "weight": 3 }));
    overlay.save(&place.overlay()).unwrap();
    let loaded = place.load();
    let backends: Vec<_> = (loaded.config.backends.iter())
        .map(|backend| (&*backend.name, backend.url.as_str(), backend.weight))
        .collect();
    assert_eq!(
        backends,
        [
            ("a", "http://a2/", 1),
            ("http://b", "http://b/", 2),
            ("c", "http://c/", 3)
        ]
    );
    let key = loaded.config.backends[2].api_key.as_ref();
    assert_eq!(key.map(Secret::expose), Some("sk-from-env"));
    assert!(
        fs::read_to_string(place.overlay())
            .unwrap()
            .contains("${KEY}"),
        "kept as it was sent"
    );
    assert!(
        ["a", "http://b", "c"]
            .iter()
            .all(|name| loaded.backend_is_from_api(name))
    );
    assert!(!loaded.backend_is_from_api("d"));

    assert!(overlay.remove_backend("a") && overlay.remove_backend("c"));
    assert!(!overlay.remove_backend("c"));
    overlay.save(&place.overlay()).unwrap();
    let backends = place.load().config.backends;
    assert_eq!(
        (backends.len(), backends[0].weight),
        (2, 5),
        "that of the file is back"
    );
}

#[test]
fn a_file_without_backends_may_have_them_in_the_overlay() {
    let place = Place::new("threads: 1\n");
    place.write("backends: [{url: \"http://a\"}]");
    assert_eq!(place.load().config.backends.len(), 1);
}

#[test]
fn only_a_file_is_laid_over() {
    let place = Place::new(FILE);
    place.write("models: {one: null}");
    let text = fs::read_to_string(place.file()).unwrap();
    let parsed = parse(&text, "c.yaml", Path::new(""), &env).unwrap();
    assert_eq!(names(&parsed), ["one", "two"]);
    assert_eq!(names(&place.load()), ["two"]);
}

#[test]
fn a_data_dir_that_is_no_path_is_the_error() {
    for (written, expected) in [
        (
            "$NONE",
            "data_dir: the environment variable `NONE` is not set",
        ),
        ("[]", "data_dir: expected a path, found a list"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("c.yaml");
        fs::write(&file, with(&format!("data_dir: {written}"))).unwrap();
        let error = load(&file, &env).unwrap_err().to_string();
        assert!(error.ends_with(expected), "{error}");
    }
}

#[test]
fn the_place_of_the_data_may_be_a_variable() {
    let place = Place::new(FILE);
    place.write("models: {one: null}");
    let data = place.overlay().parent().unwrap().display().to_string();
    fs::write(place.file(), format!("{FILE}data_dir: $DATA\n")).unwrap();
    let env = |name: &str| (name == "DATA").then(|| data.clone());
    let loaded = load(&place.file(), &env).unwrap();
    assert_eq!(
        (names(&loaded), &loaded.overlay),
        (vec!["two"], &place.overlay())
    );
}
