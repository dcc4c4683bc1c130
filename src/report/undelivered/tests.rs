use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use super::*;

fn event(id: &str) -> Arc<UsageEvent> {
    Arc::new(UsageEvent {
        event_id: id.to_owned(),
        ..UsageEvent::default()
    })
}

fn ids(lines: &Lines) -> Vec<&str> {
    lines
        .events
        .iter()
        .map(|event| event.event_id.as_str())
        .collect()
}

fn everything(store: &Undelivered) -> Vec<String> {
    let Some(mut backlog) = store.claim().unwrap() else {
        return Vec::new();
    };
    let lines = backlog.read(usize::MAX).unwrap();
    backlog.remove().unwrap();
    ids(&lines).into_iter().map(str::to_owned).collect()
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn events_come_back_in_order_and_the_file_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(&dir.path().join("made/on/demand"), "billing");
    store.append(&[event("1"), event("2")]).unwrap();
    store.append(&[event("3")]).unwrap();
    assert!(store.path().ends_with("usage-undelivered-billing.jsonl"));
    assert_eq!(everything(&store), ["1", "2", "3"]);
    assert!(names_in(&dir.path().join("made/on/demand")).is_empty());
}

#[test]
fn nothing_to_claim_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(&dir.path().join("missing"), "billing");
    store.recover().unwrap();
    assert!(store.claim().unwrap().is_none());
}

#[test]
fn events_appended_while_a_claim_is_read_stay_for_the_next_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    store.append(&[event("1")]).unwrap();
    let mut backlog = store.claim().unwrap().unwrap();
    store.append(&[event("2")]).unwrap();
    assert_eq!(ids(&backlog.read(10).unwrap()), ["1"]);
    assert!(backlog.read(10).unwrap().events.is_empty());
    backlog.remove().unwrap();
    assert_eq!(everything(&store), ["2"]);
}

#[test]
fn only_what_was_not_read_is_put_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    store.append(&[event("1"), event("2"), event("3")]).unwrap();
    let mut backlog = store.claim().unwrap().unwrap();
    assert_eq!(ids(&backlog.read(1).unwrap()), ["1"]);
    store.append(&[event("4")]).unwrap();
    backlog.put_back().unwrap();
    assert_eq!(names_in(dir.path()), ["usage-undelivered-billing.jsonl"]);
    assert_eq!(everything(&store), ["4", "2", "3"]);
}

#[test]
fn a_claim_read_to_its_end_puts_nothing_back() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    store.append(&[event("1")]).unwrap();
    let mut backlog = store.claim().unwrap().unwrap();
    assert_eq!(ids(&backlog.read(9).unwrap()), ["1"]);
    backlog.put_back().unwrap();
    assert!(names_in(dir.path()).is_empty());
}

#[test]
fn the_claim_of_a_dead_process_is_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    store.append(&[event("1"), event("2")]).unwrap();
    let abandoned = store.claim().unwrap();
    store.append(&[event("3")]).unwrap();
    drop(abandoned);
    let other = Undelivered::new(dir.path(), "bill");
    other.recover().unwrap();
    assert!(
        other.claim().unwrap().is_none(),
        "another reporter's claim was taken"
    );

    store.recover().unwrap();
    assert_eq!(everything(&store), ["3", "1", "2"]);
    assert!(names_in(dir.path()).is_empty());
}

#[test]
fn a_torn_line_costs_itself_only_and_is_kept_for_a_person() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    store.append(&[event("1")]).unwrap();
    let torn = r#"{"request_id":"r","event_i"#;
    OpenOptions::new()
        .append(true)
        .open(store.path())
        .unwrap()
        .write_all(torn.as_bytes())
        .unwrap();
    store.append(&[event("2")]).unwrap();

    let mut backlog = store.claim().unwrap().unwrap();
    let lines = backlog.read(10).unwrap();
    assert_eq!((ids(&lines), lines.corrupt), (vec!["1", "2"], 1));
    let aside = dir.path().join("usage-undelivered-billing.corrupt");
    assert_eq!(fs::read_to_string(aside).unwrap(), format!("{torn}\n"));
}

#[test]
fn reading_goes_on_at_the_line_that_could_not_be_moved_aside() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    store.append(&[event("1")]).unwrap();
    OpenOptions::new()
        .append(true)
        .open(store.path())
        .unwrap()
        .write_all(b"torn\n")
        .unwrap();
    store.append(&[event("2")]).unwrap();
    let aside = dir.path().join("usage-undelivered-billing.corrupt");
    fs::create_dir(&aside).unwrap();

    let mut backlog = store.claim().unwrap().unwrap();
    assert_eq!(ids(&backlog.read(10).unwrap()), ["1"]);
    assert!(backlog.read(10).is_err());
    fs::remove_dir(&aside).unwrap();
    assert_eq!(ids(&backlog.read(10).unwrap()), ["2"]);
    assert_eq!(fs::read_to_string(aside).unwrap(), "torn\n");
}

#[test]
fn a_file_without_line_ends_is_not_read_into_memory_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    fs::write(store.path(), vec![b'x'; 3 * LONGEST_LINE as usize + 5]).unwrap();
    let lines = store.claim().unwrap().unwrap().read(10).unwrap();
    assert_eq!((lines.events.len(), lines.corrupt), (0, 4));
}

#[test]
fn a_file_claimed_between_open_and_write_does_not_swallow_events() {
    /// Claims the file on the first read, which is after the writer opened it.
    struct ClaimOnRead<'a>(&'a Undelivered, io::Cursor<Vec<u8>>, Option<Backlog>);
    impl Read for ClaimOnRead<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.2.is_none() {
                let mut backlog = self.0.claim()?.unwrap();
                backlog.read(10)?;
                self.2 = Some(backlog);
            }
            self.1.read(buffer)
        }
    }
    impl Seek for ClaimOnRead<'_> {
        fn seek(&mut self, position: SeekFrom) -> io::Result<u64> {
            self.1.seek(position)
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    store.append(&[event("1")]).unwrap();
    let line = b"{\"event_id\":\"2\"}\n".to_vec();
    let mut from = ClaimOnRead(&store, io::Cursor::new(line), None);
    lines::append(&store.path(), &mut from).unwrap();
    assert_eq!(everything(&store), ["2"]);
}

#[test]
fn lines_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    assert_eq!(store.count().unwrap(), 0);
    store.append(&[event("1"), event("2")]).unwrap();
    store.append(&[event("3")]).unwrap();
    assert_eq!(store.count().unwrap(), 3);
}

#[test]
fn the_file_is_private_and_a_full_path_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let store = Undelivered::new(dir.path(), "billing");
    store.append(&[event("1")]).unwrap();
    assert_eq!(fs::metadata(store.path()).unwrap().mode() & 0o777, 0o600);

    let in_the_way = dir.path().join("file");
    fs::write(&in_the_way, "").unwrap();
    assert!(
        Undelivered::new(&in_the_way, "billing")
            .append(&[event("1")])
            .is_err()
    );
}
