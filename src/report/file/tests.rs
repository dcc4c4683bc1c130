use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::SystemTime;

use super::rotate::numbered;
use super::*;

fn event(id: &str) -> Arc<UsageEvent> {
    Arc::new(UsageEvent {
        event_id: id.to_owned(),
        api_key: "sk-…1234".to_owned(),
        raw_key: Some("sk-whole-key-1234".to_owned()),
        request_body: Some("{}".to_owned()),
        ..UsageEvent::default()
    })
}

fn reporter(path: &Path, rotation: Rotation) -> FileReporter {
    FileReporter {
        includes: Includes::default(),
        path: Arc::new(path.to_owned()),
        live: Arc::new(Mutex::new(Live::new(path.to_owned(), rotation))),
    }
}

fn large() -> Rotation {
    Rotation {
        max_size: 1 << 20,
        max_files: 3,
        every: None,
    }
}

fn ids(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "{text}");
    text.lines()
        .map(|line| serde_json::from_str::<UsageEvent>(line).unwrap().event_id)
        .collect()
}

#[tokio::test]
async fn events_become_lines_in_a_file_that_is_made_with_its_directories() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("logs/billing/usage.jsonl");
    let reporter = reporter(&path, large());
    reporter.deliver(&[]).await.unwrap();
    assert_eq!(ids(&path), [""; 0], "an empty batch only opens");
    reporter.deliver(&[event("a"), event("b")]).await.unwrap();
    reporter.deliver(&[event("c")]).await.unwrap();
    assert_eq!(ids(&path), ["a", "b", "c"]);
    let text = fs::read_to_string(&path).unwrap();
    assert!(!text.contains("whole-key") && !text.contains("request_body"));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o137, 0, "not for others: {mode:o}");
}

#[test]
fn a_full_file_is_renamed_and_the_oldest_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.jsonl");
    let two_lines = serde_json::to_vec(&*event("000")).unwrap().len() as u64 * 2;
    let rotation = Rotation {
        max_size: two_lines,
        max_files: 2,
        every: None,
    };
    let reporter = reporter(&path, rotation);
    for number in 0..9 {
        reporter.write(&[event(&format!("{number:03}"))]).unwrap();
    }
    assert_eq!(ids(&path), ["008"]);
    assert_eq!(ids(&numbered(&path, 1)), ["006", "007"]);
    assert_eq!(ids(&numbered(&path, 2)), ["004", "005"]);
    assert!(!numbered(&path, 3).exists());
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3);
}

#[test]
fn a_number_left_unused_by_a_crash_is_filled_before_anything_goes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("u");
    for (name, text) in [("u", "live"), ("u.1", "one"), ("u.3", "three")] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    rotate::shift(&path, 3).unwrap();
    let read = |number| fs::read_to_string(numbered(&path, number)).unwrap();
    assert_eq!([read(1), read(2), read(3)], ["live", "one", "three"]);
}

#[test]
fn a_new_period_begins_a_new_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.jsonl");
    let hourly = Rotation {
        every: Some(Duration::from_secs(3600)),
        ..large()
    };
    let reporter = reporter(&path, hourly);
    reporter.write(&[event("old")]).unwrap();
    let an_hour_ago = SystemTime::now() - Duration::from_secs(3600);
    let file = File::options().append(true).open(&path).unwrap();
    file.set_modified(an_hour_ago).unwrap();
    reporter.write(&[event("new")]).unwrap();
    assert_eq!(ids(&path), ["new"]);
    assert_eq!(ids(&numbered(&path, 1)), ["old"]);
}

#[test]
fn a_file_that_was_moved_away_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.jsonl");
    let reporter = reporter(&path, large());
    reporter.write(&[event("a")]).unwrap();
    let away = dir.path().join("usage.jsonl-20260114");
    fs::rename(&path, &away).unwrap();
    reporter.write(&[event("b")]).unwrap();
    fs::remove_file(&path).unwrap();
    reporter.write(&[event("c")]).unwrap();
    assert_eq!(
        (ids(&away), ids(&path)),
        (vec!["a".into()], vec!["c".into()])
    );
}

#[test]
fn half_a_line_is_cut_when_the_file_is_opened() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.jsonl");
    reporter(&path, large()).write(&[event("whole")]).unwrap();
    for half in ["{\"event_id\":\"ha".to_owned(), "x".repeat(200_000)] {
        let mut file = File::options().append(true).open(&path).unwrap();
        file.write_all(half.as_bytes()).unwrap();
        reporter(&path, large()).write(&[]).unwrap();
        assert_eq!(ids(&path), ["whole"]);
    }
    fs::write(&path, "no line end at all").unwrap();
    reporter(&path, large()).write(&[event("first")]).unwrap();
    assert_eq!(ids(&path), ["first"]);
}

#[tokio::test]
async fn a_failure_asks_to_try_again_and_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file/usage.jsonl");
    fs::write(dir.path().join("file"), "in the way").unwrap();
    let reporter = reporter(&path, large());
    let Err(DeliveryError::Retry { what, after: None }) = reporter.deliver(&[event("a")]).await
    else {
        panic!("it must ask to try again")
    };
    assert!(what.contains("file/usage.jsonl"), "{what}");
    fs::remove_file(dir.path().join("file")).unwrap();
    reporter.deliver(&[event("a")]).await.unwrap();
    assert_eq!(ids(&path), ["a"]);
}

#[test]
fn a_full_disk_is_told_as_what_it_is() {
    // The only disk that is always full.
    let mut live = Live::new("/dev/full".into(), large());
    let error = live.append(b"{}\n").unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
}

#[test]
fn another_process_that_writes_is_waited_for_by_trying_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("usage.jsonl");
    let reporter = reporter(&path, large());
    reporter.write(&[event("a")]).unwrap();
    let other = File::open(&path).unwrap();
    other.lock().unwrap();
    reporter.write(&[event("b")]).unwrap_err();
    other.unlock().unwrap();
    reporter.write(&[event("b")]).unwrap();
    assert_eq!(ids(&path), ["a", "b"]);
}
