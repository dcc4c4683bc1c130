//! Errors in the overlay, and what it makes an error of.

use super::*;

#[test]
fn an_error_names_the_file_it_is_in() {
    let place = Place::new(FILE);
    for (overlay, expected) in [
        (
            "model: {}",
            "data/overlay.yaml:1: model: unknown key; known: models, order, backends",
        ),
        (
            "models: [a]",
            "data/overlay.yaml:1: models: expected a mapping",
        ),
        (
            "models:\n  x: 5",
            "data/overlay.yaml:2: models.x: expected a section, or null for a model that is removed",
        ),
        (
            "order:\n- a\n- 5",
            "data/overlay.yaml:3: order[1]: expected the name of a model",
        ),
        ("order: a", "data/overlay.yaml:1: order: expected a list"),
        (
            "backends: [x]",
            "data/overlay.yaml:1: backends[0]: expected a section",
        ),
        ("- a", "data/overlay.yaml:1: expected a mapping"),
        (
            "a: [",
            "data/overlay.yaml:2: did not find expected node content",
        ),
    ] {
        place.write(overlay);
        assert_eq!(place.error(), expected, "{overlay}");
    }
}

#[test]
fn an_error_of_the_whole_names_the_file_to_change() {
    let place = Place::new(FILE);
    for (overlay, expected) in [
        (
            "models:\n  x:\n    routes:\n    - {backend: c}",
            "data/overlay.yaml:4: models.x.routes[0].backend: no backend is called `c`; known: a, b",
        ),
        (
            "backends:\n- {name: a, url: \"http://c\"}\n- {name: d, url: \"ftp://d\"}",
            "data/overlay.yaml:3: backends[1].url: `ftp` is neither http nor https",
        ),
        (
            "backends:\n- {name: c, url: \"http://c\"}\n- {name: c, url: \"http://c\", tls: {}}",
            "data/overlay.yaml:3: backends[1].tls: only for an https url",
        ),
        (
            "models:\n  One: {routes: [{backend: a}]}",
            "data/overlay.yaml:2: models.One: differs from `one` only in case; first in c.yaml:3",
        ),
        (
            "models:\n  one: {extends: x}\n  x: {extends: one}",
            "data/overlay.yaml:2: models.one.extends: one extends x extends one",
        ),
        (
            "models:\n  x: {extends: y}\n  y: {enabled: false, routes: [{backend: c}]}",
            "data/overlay.yaml:3: models.x.routes[0].backend: no backend is called `c`; known: a, b; inherited from `y`",
        ),
    ] {
        place.write(overlay);
        assert_eq!(place.error(), expected, "{overlay}");
    }
    let place = Place::new(&format!("{FILE}  leaf:\n    extends: one\n"));
    place.write("models: {one: null}");
    assert_eq!(
        place.error(),
        "c.yaml:6: models.leaf.extends: no model is called `one`; known: two",
        "what is removed breaks what extends it, where that is written"
    );
    place.write("models:\n  one:\n    enabled: false\n    parameters: {model: {default: 1}}\n");
    let error = place.error();
    assert!(
        error.starts_with("data/overlay.yaml:4: models.one.parameters.model: is the request's own"),
        "{error}"
    );
}
