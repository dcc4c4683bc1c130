//! The file it is kept in.

use std::os::unix::fs::PermissionsExt;

use super::*;

#[test]
fn the_file_is_private_whole_and_says_what_it_is() {
    let place = Place::new(FILE);
    let mut overlay = Overlay::default();
    overlay.save(&place.overlay()).unwrap();
    assert_eq!(
        Overlay::read(&place.overlay()).unwrap(),
        overlay,
        "an empty one"
    );
    // A crash may have left this, with any rights.
    let new = place.overlay().with_file_name("overlay.yaml.new");
    fs::write(&new, "half of").unwrap();
    fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).unwrap();
    overlay.set_backend(json!({ "name": "c", "url": "http://c", "api_key": "s3cret" }));
    overlay.save(&place.overlay()).unwrap();
    let mode = fs::metadata(place.overlay()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = fs::read_to_string(place.overlay()).unwrap();
    assert!(text.starts_with("# Written by llmproxy") && text.contains("s3cret"));
    let files: Vec<_> = fs::read_dir(place.overlay().parent().unwrap())
        .unwrap()
        .collect();
    assert_eq!(files.len(), 1, "nothing is left beside it: {files:?}");
    assert!(!format!("{overlay:?}").contains("s3cret"));
}

#[test]
fn a_disk_that_does_not_take_it_leaves_the_old_one() {
    let place = Place::new(FILE);
    let mut overlay = Overlay::default();
    overlay.set_model("x", routed("a"));
    overlay.save(&place.overlay()).unwrap();
    // A directory in the way cannot be removed as a file.
    let new = place.overlay().with_file_name("overlay.yaml.new");
    fs::create_dir(&new).unwrap();
    let before = overlay.clone();
    overlay.set_model("y", routed("a"));
    assert!(overlay.save(&place.overlay()).is_err());
    assert_eq!(Overlay::read(&place.overlay()).unwrap(), before);
}

#[test]
fn an_overlay_has_a_longest_length() {
    const LONGEST: usize = 16 << 20;
    let place = Place::new(FILE);
    place.write(&format!("order: [one]\n#{}", "x".repeat(LONGEST - 14)));
    assert_eq!(fs::metadata(place.overlay()).unwrap().len(), LONGEST as u64);
    place.load();
    // The last character is cut in two by the bound.
    place.write(&format!("order: [one]\n#{}é", "x".repeat(LONGEST - 14)));
    assert_eq!(place.error(), "data/overlay.yaml: is longer than 16 MiB");
    let mut overlay = Overlay::default();
    overlay.set_model(
        "x",
        json!({ "routes": [], "target_model": "x".repeat(LONGEST) }),
    );
    let error = load_with(&place.file(), &place.overlay(), &overlay, &env)
        .unwrap_err()
        .to_string();
    assert!(
        error.ends_with("overlay.yaml: is longer than 16 MiB"),
        "{error}"
    );
    place.write("order: [\"\u{7f}\", \x01]");
    assert!(
        place.error().starts_with("data/overlay.yaml"),
        "{}",
        place.error()
    );
    fs::write(place.overlay(), b"order: [\xff]").unwrap();
    assert!(
        place.error().starts_with("data/overlay.yaml: is not UTF-8"),
        "{}",
        place.error()
    );
}

#[test]
fn what_is_tried_is_what_would_be_read() {
    let place = Place::new(FILE);
    place.write("models: {one: null}");
    let mut overlay = Overlay::default();
    overlay.set_model("x", routed("c"));
    let error = load_with(&place.file(), &place.overlay(), &overlay, &env)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("data/overlay.yaml:")
            && error.ends_with("models.x.routes[0].backend: no backend is called `c`; known: a, b"),
        "{error}"
    );
    overlay.set_model("x", routed("a"));
    let tried = load_with(&place.file(), &place.overlay(), &overlay, &env).unwrap();
    assert_eq!(
        names(&tried),
        ["one", "two", "x"],
        "in place of what is on the disk"
    );
    assert_eq!(names(&place.load()), ["two"]);
    overlay.set_model(
        "x",
        json!({ "enabled": false, "parameters": { "a": { "default": { "<<": 1 } } } }),
    );
    assert!(load_with(&place.file(), &place.overlay(), &overlay, &env).is_err());
    assert!(overlay.save(&place.overlay()).is_err());
    assert_eq!(names(&place.load()), ["two"], "nothing was written");
}

#[test]
fn a_section_of_nothing_is_not_a_removal() {
    let mut overlay = Overlay::default();
    overlay.set_model("one", Value::Null);
    assert!(overlay.has_model("one"));
}
