use super::*;

/// Follows everything down to `deep` and writes down what it is told.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    skip: &'static str,
}

impl Sink for Log {
    type Node = usize;

    fn member(&mut self, parent: usize, key: &[u8]) -> Option<usize> {
        let key = String::from_utf8_lossy(key);
        self.lines.push(format!("{parent}.{key}"));
        (key != self.skip).then_some(parent + 1)
    }

    fn element(&mut self, parent: usize) -> Option<usize> {
        Some(parent + 1)
    }

    fn value(&mut self, node: usize, value: Value<'_>, at: Range<usize>) {
        let value = match value {
            Value::Object => "{".to_owned(),
            Value::Array => "[".to_owned(),
            Value::Scalar(literal) => String::from_utf8_lossy(literal).into_owned(),
            Value::String(text) => {
                format!("{:?}/{}", String::from_utf8_lossy(text.start), text.length)
            }
        };
        self.lines
            .push(format!("{node}={value}@{}-{}", at.start, at.end));
    }

    fn close(&mut self, node: usize, end: usize) {
        self.lines.push(format!("{node} closed@{end}"));
    }
}

/// What a sink is told of `json`, which must not depend on how it is cut.
fn log(json: &[u8], skip: &'static str) -> (Vec<String>, bool) {
    let read = |chunks: &mut dyn Iterator<Item = &[u8]>| {
        let mut scanner = Scanner::new(0);
        let mut log = Log {
            skip,
            ..Log::default()
        };
        chunks.for_each(|chunk| scanner.push(chunk, &mut log));
        (log.lines, scanner.complete())
    };
    let whole = read(&mut std::iter::once(json));
    for size in [1, 2, 3, 5] {
        assert_eq!(read(&mut json.chunks(size)), whole, "chunks of {size}");
    }
    for at in 0..json.len() {
        let (head, tail) = json.split_at(at);
        assert_eq!(read(&mut [head, tail].into_iter()), whole, "cut at {at}");
    }
    whole
}

#[test]
fn places_values_and_spans_are_reported() {
    let (lines, complete) = log(br#" {"a": [1, {"b":-2.5e3}],"c":"x"}"#, "");
    let expected = [
        "0={@1-2",
        "0.a",
        "1=[@7-8",
        "2=1@8-9",
        "2={@11-12",
        "2.b",
        "3=-2.5e3@16-22",
        "2 closed@23",
        "1 closed@24",
        "0.c",
        "1=\"x\"/1@29-32",
        "0 closed@33",
    ];
    assert_eq!(lines, expected);
    assert!(complete);
}

#[test]
fn skipped_values_are_stepped_over_whatever_they_hold() {
    for skipped in [
        r#"{"x":["}]\"",{"y":[[]]}],"z":"{\\"}"#,
        r#"[[1,"]"],{"[":"]]\\\""}]"#,
        r#""\"}\\""#,
        "12.5e-3",
        "null",
        "[]",
    ] {
        let json = format!(r#"{{"no":{skipped} ,"yes":7}}"#);
        let (lines, complete) = log(json.as_bytes(), "no");
        assert!(complete, "{json}");
        assert_eq!(lines.len(), 5, "{lines:?}");
        assert!(lines[3].starts_with("1=7@"), "{lines:?}");
    }
}

#[test]
fn escapes_are_decoded_in_keys_and_values() {
    let (lines, _) = log(
        br#"{"str\u0065am":"\"\n\u00e9\ud83d\ude00\ud83dx\udc00\/"}"#,
        "",
    );
    assert_eq!(lines[1], "0.stream");
    assert!(
        lines[2].starts_with("1=\"\\\"\\né😀\u{FFFD}x\u{FFFD}/\"/16@"),
        "{lines:?}"
    );
}

#[test]
fn a_string_under_way_is_known_by_its_place_and_its_beginning() {
    let json = br#"{"no":"x","a":"y\"z","b":1}"#;
    for read in 0..=json.len() {
        let (head, tail) = json[..read].split_at(read / 2);
        let mut scanner = Scanner::new(0);
        let mut log = Log {
            skip: "no",
            ..Log::default()
        };
        scanner.push(head, &mut log);
        scanner.push(tail, &mut log);
        let expected = (15..20).contains(&read).then_some((1, 14));
        assert_eq!(scanner.open_string(), expected, "after {read} bytes");
    }
}

#[test]
fn a_long_string_is_known_by_its_beginning_and_length() {
    let json = format!(
        r#"{{"a":"{}","{}":1,"b":2}}"#,
        "x".repeat(1000),
        "k".repeat(1000)
    );
    let (lines, complete) = log(json.as_bytes(), "");
    assert!(complete);
    assert!(lines[2].contains("x\"/1000@"), "{lines:?}");
    assert_eq!(
        lines[3], "0.b",
        "a key too long to keep is stepped over: {lines:?}"
    );
}

#[test]
fn nesting_without_end_costs_nothing() {
    let json = format!("{}1{}", "[".repeat(400), "]".repeat(400));
    let (lines, complete) = log(json.as_bytes(), "");
    assert!(complete);
    assert_eq!(lines.len(), 2 * DEPTH);
}

#[test]
fn bare_words_and_the_byte_order_mark_are_taken() {
    let (lines, complete) = log(b"\xEF\xBB\xBF[NaN,-Infinity,true]", "");
    assert!(complete);
    assert_eq!(lines.len(), 5);
}

#[test]
fn what_is_no_json_ends_the_scan() {
    for bad in [
        &b"}"[..],
        b"{]",
        b"{1:2}",
        b"[1 2]",
        b"{\"a\" 1}",
        b"\xFF",
        b"{\"a\":,}",
        b"{\"a\":1,}",
        b"[1}",
        b"{\"a\":1]",
    ] {
        assert!(!log(bad, "").1, "{bad:?}");
    }
}
