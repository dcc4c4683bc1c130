mod properties;
mod shapes;

use super::*;

const NAME: &str = "team/coder";

/// What comes out when `chunks` go in.
fn rename<'a>(
    format: BodyFormat,
    name: &str,
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> String {
    let mut rename = RenameModel::new(Endpoint::ChatCompletions, format, name);
    let mut out = Vec::new();
    for chunk in chunks {
        rename.push(Bytes::copy_from_slice(chunk), &mut out);
    }
    rename.finish(&mut out);
    assert!(out.iter().all(|piece| !piece.is_empty()));
    let length = out.len();
    rename.finish(&mut out);
    assert_eq!(out.len(), length, "nothing comes twice");
    String::from_utf8(out.concat()).unwrap()
}

/// What comes out of `text`, which must not depend on how it is cut.
fn renamed(format: BodyFormat, name: &str, text: &str) -> String {
    let whole = rename(format, name, [text.as_bytes()]);
    for size in [1, 2, 3, 5, 16] {
        let chunks = text.as_bytes().chunks(size);
        assert_eq!(rename(format, name, chunks), whole, "chunks of {size}");
    }
    for at in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(at);
        assert_eq!(rename(format, name, [head, tail]), whole, "cut at {at}");
    }
    whole
}

/// Asserts that what stands as `@` in `template` is replaced, and nothing else.
fn assert_renames(format: BodyFormat, template: &str) {
    for name in ["Qwen/Qwen3-32B", "a\\/\\u00e9\\\"\\\\", "model", "é", ""] {
        let name = format!("\"{name}\"");
        assert_eq!(
            renamed(format, NAME, &template.replace('@', &name)),
            template.replace('@', &format!("\"{NAME}\"")),
            "{name}"
        );
    }
}

/// The same for a body and for the data of an event.
fn assert_renames_in_both(document: &str) {
    assert_renames(BodyFormat::Json, document);
    for (before, after) in [
        ("data: ", "\n\n"),
        ("event: x\r\ndata:", "\r\n\r\n"),
        ("id: 1\ndata: ", ""),
    ] {
        assert_renames(
            BodyFormat::EventStream,
            &format!("{before}{document}{after}"),
        );
    }
}

#[test]
fn a_model_at_another_place_is_another_one() {
    assert_renames_in_both(
        r#"{"choices":[{"model":"keep","message":{"model":"keep","tool_calls":[{"function":{"arguments":"{\"model\":\"keep\"}"}}]}}],"model":@,"metadata":{"model":"keep"},"content":"\"model\":\"keep\",","tools":[["model","keep"],{"model":"keep"}]}"#,
    );
    assert_renames_in_both(
        r#"{"type":"t","response":{"metadata":{"model":"keep"},"output":[{"model":"keep"}],"model":@,"response":{"model":"keep"},"message":{"model":"keep"}},"message":{"model":@,"content":[{"model":"keep"}]},"error":{"model":"keep"}}"#,
    );
    assert_renames_in_both(
        r#"{"response":[{"model":"keep"}],"message":"model","models":"keep","Model":"keep","model ":"keep","":"model","object":"model","model":@}"#,
    );
}

#[test]
fn a_key_may_be_written_with_escapes() {
    assert_renames_in_both(r#"{"mod\u0065l":@,"\u006d\u006Fdel":@,"model\u0000":"keep"}"#);
    assert_renames_in_both(
        r#"{"m\\odel":"keep","r\u0065sponse":{"\u006dodel":@},"messag\u0065":{"model":@}}"#,
    );
}

#[test]
fn each_of_several_members_is_renamed() {
    assert_renames_in_both(
        r#"{"model":@,"model" : @ , "a":1,"response":{"model":@,"model":@},"response":{"model":@},"model":@}"#,
    );
}

#[test]
fn only_a_string_is_a_name() {
    for value in [
        "null",
        "7",
        "-1.5e3",
        "true",
        "{}",
        "{\"model\":\"keep\"}",
        "[\"keep\"]",
        "[{\"model\":\"keep\"}]",
    ] {
        assert_renames_in_both(&format!(
            "{{\"model\":{value},\"message\":{{\"model\":{value}}},\"response\":{{\"model\":@}}}}"
        ));
    }
}

#[test]
fn what_is_no_object_has_no_model() {
    for document in [
        r#"[{"model":"keep"},["model","keep"]]"#,
        r#""model""#,
        "7",
        "",
        "model: keep",
        "<html>\"model\":\"keep\"</html>",
    ] {
        assert_renames_in_both(document);
    }
}

#[test]
fn what_follows_a_break_stays() {
    for document in [
        r#"{"model":@,]"model":"keep"}"#,
        r#"{"model":@,"a":}"model":"keep"}"#,
        r#"{"model":@}{"model":"keep"}"#,
        r#"{"model":@,"model" "keep"}"#,
        r#"{"model":@"model":"keep"}"#,
        r#"{"model":@,"model":"keep"#,
        r#"{"model":@,"model":"keep\"#,
        r#"{"model":@,"mod"#,
    ] {
        assert_renames_in_both(document);
    }
}

#[test]
fn the_name_is_written_as_a_json_string() {
    for name in ["a\"b\\c", "π/😀", "line\nfeed\r\u{1}", "data: x", ""] {
        let text = renamed(BodyFormat::Json, name, r#"{"model":"m","n":1}"#);
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read, serde_json::json!({"model": name, "n": 1}));
        let event = renamed(
            BodyFormat::EventStream,
            name,
            "data: {\"model\":\"m\",\"n\":1}\n\n",
        );
        assert_eq!(event, format!("data: {text}\n\n"));
    }
}

#[test]
fn a_value_too_long_for_a_name_stays() {
    for (length, renames) in [(LONGEST, true), (LONGEST + 1, false), (100_000, false)] {
        let value = format!("\"{}\"", "x".repeat(length - 2));
        let body = format!("{{\"model\":{value},\"model\":\"m\"}}");
        let left = if renames { "\"team/coder\"" } else { &*value };
        let expected = format!("{{\"model\":{left},\"model\":\"team/coder\"}}");
        let event = format!("data: {body}\n\n");
        for size in [
            1, 7, 1000, 1023, 1024, 1025, 1031, 1032, 1033, 1034, 200_000,
        ] {
            let out = rename(BodyFormat::Json, NAME, body.as_bytes().chunks(size));
            assert!(out == expected, "{length} in chunks of {size}");
            let out = rename(BodyFormat::EventStream, NAME, event.as_bytes().chunks(size));
            assert!(
                out == format!("data: {expected}\n\n"),
                "{length} in chunks of {size}"
            );
        }
    }
}

/// After each byte of `text` how many are missing, with a name as long as the one replaced.
fn missing(format: BodyFormat, text: &str) -> Vec<usize> {
    let mut rename = RenameModel::new(Endpoint::Messages, format, "abc");
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    (1..=bytes.len())
        .map(|read| {
            rename.push(Bytes::copy_from_slice(&bytes[read - 1..read]), &mut out);
            read - out.iter().map(Bytes::len).sum::<usize>()
        })
        .collect()
}

#[test]
fn nothing_waits_but_a_value_that_is_cut() {
    let text = r#"{"message":"a","response":{"x":"y","model":"xyz"},"model":7}"#;
    let mut expected = vec![0; text.len()];
    let value = text.find("\"xyz").unwrap();
    expected[value..value + 4].copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!(missing(BodyFormat::Json, text), expected);
    let stream = format!(": c\nevent: e\ndata: {text}\r\nid: 1\r\n\r\n: c\n\n");
    let before = stream.find(text).unwrap();
    let after = stream.len() - text.len() - before;
    let expected = [vec![0; before], expected, vec![0; after]].concat();
    assert_eq!(missing(BodyFormat::EventStream, &stream), expected);
}

#[test]
fn less_than_the_longest_value_is_held() {
    let text = format!("{{\"model\":\"{}", "x".repeat(2 * LONGEST));
    let missing = missing(BodyFormat::Json, &text);
    assert_eq!(missing.iter().max(), Some(&(LONGEST - 1)));
    assert_eq!(missing.last(), Some(&0));
}

#[test]
fn a_line_that_ends_in_the_value_lets_it_go() {
    let text = "data: {\"model\":\"xy\nid: 1\ndata: z\",\"model\":\"xyz\"}\n\n";
    let mut expected = vec![0; text.len()];
    let broken = text.find("\"xy\n").unwrap();
    expected[broken..broken + 3].copy_from_slice(&[1, 2, 3]);
    let value = text.find("\"xyz\"").unwrap();
    expected[value..value + 4].copy_from_slice(&[1, 2, 3, 4]);
    assert_eq!(missing(BodyFormat::EventStream, text), expected);
    let mut rename = RenameModel::new(Endpoint::Messages, BodyFormat::EventStream, NAME);
    for at in [broken + 4, broken + 6] {
        let mut out = Vec::new();
        rename
            .clone()
            .push(Bytes::from_static(&text.as_bytes()[..at]), &mut out);
        assert_eq!(out.concat(), &text.as_bytes()[..at], "cut at {at}");
    }
    let mut out = Vec::new();
    for part in [&text[..broken + 3], "\n", "id: 1\nda"] {
        rename.push(Bytes::from_static(part.as_bytes()), &mut out);
    }
    assert_eq!(out.concat(), &text.as_bytes()[..broken + 12]);
}

#[test]
fn lines_of_data_are_one_document() {
    assert_renames(
        BodyFormat::EventStream,
        "data: {\"id\":1,\ndata: \"model\"\nevent: x\ndata::\n: c\ndata:  @,\r\ndata\ndata: \"a\":{\"model\":\"keep\"},\ndata: \"response\":\ndata:{\"model\":@}}\n\ndata: {\"model\":@}\n\n",
    );
    // A string has no line's end in it.
    assert_renames(
        BodyFormat::EventStream,
        "data: {\"model\":\"ke\ndata: ep\",\"model\":@,\"model\":\"\ndata: \"}\n\ndata: {\"mo\ndata: del\":\"keep\"}\n\ndata: {\"model\":\"keep\n\ndata: {\"model\":@}\n\n",
    );
}

#[test]
fn what_is_no_data_passes() {
    assert_renames(
        BodyFormat::EventStream,
        "\u{FEFF}: {\"model\":\"keep\"}\n\ndata: {\"model\":@}\n\nevent: {\"model\":\"keep\"}\ndata: {\"model\":@}\n\nid: {\"model\":\"keep\"}\n\ndatax: {\"model\":\"keep\"}\n\n\r\ndata: [DONE]\r\n\r\ndata: {\"model\":@}\n\ndata: [DONE]\n\n",
    );
}

#[test]
fn pieces_share_the_chunks_memory() {
    let event = "data: {\"id\":\"c\",\"model\":\"m\",\"choices\":[]}\n\n";
    for size in [10, 33, 1000] {
        let chunks = Bytes::from(event.repeat(3));
        let within = chunks.as_ptr_range();
        let mut rename = RenameModel::new(Endpoint::ChatCompletions, BodyFormat::EventStream, NAME);
        let mut out = Vec::new();
        for at in (0..chunks.len()).step_by(size) {
            rename.push(chunks.slice(at..chunks.len().min(at + size)), &mut out);
        }
        let (own, new): (Vec<_>, Vec<_>) = out
            .into_iter()
            .partition(|piece| within.contains(&piece.as_ptr()));
        assert_eq!(new, ["\"team/coder\""; 3], "chunks of {size}");
        assert!(
            new.windows(2)
                .all(|pair| pair[0].as_ptr() == pair[1].as_ptr())
        );
        assert_eq!(own.concat().len(), chunks.len() - 3 * "\"m\"".len());
    }
}

#[test]
fn an_answer_without_a_model_stays_in_its_pieces() {
    let text = "data: {\"delta\":{\"text\":\"a\\n\"}}\n\n: ping\n\ndata: [DONE]\n\n";
    for size in 1..=text.len() {
        let chunks: Vec<_> = text
            .as_bytes()
            .chunks(size)
            .map(Bytes::copy_from_slice)
            .collect();
        for format in [BodyFormat::Json, BodyFormat::EventStream] {
            let mut rename = RenameModel::new(Endpoint::Messages, format, NAME);
            let mut out = Vec::new();
            for chunk in &chunks {
                rename.push(chunk.clone(), &mut out);
            }
            assert_eq!(out, chunks);
            assert!(
                out.iter()
                    .zip(&chunks)
                    .all(|(out, chunk)| out.as_ptr() == chunk.as_ptr())
            );
        }
    }
}

#[test]
fn routes_that_name_no_model_are_not_read() {
    let text = r#"{"model":"m"}"#;
    for endpoint in Endpoint::ALL {
        let mut rename = RenameModel::new(endpoint, BodyFormat::Json, NAME);
        let mut out = Vec::new();
        rename.push(Bytes::from_static(text.as_bytes()), &mut out);
        let passes = matches!(
            endpoint,
            Endpoint::Tokenize
                | Endpoint::Detokenize
                | Endpoint::Generate
                | Endpoint::GenerateStream
                | Endpoint::TgiRoot
        );
        let expected = if passes {
            text
        } else {
            r#"{"model":"team/coder"}"#
        };
        assert_eq!(out.concat(), expected.as_bytes(), "{endpoint:?}");
        assert_eq!(rename.renamer.is_none(), passes);
    }
}

#[test]
fn no_more_is_read_than_can_name_a_model() {
    for (document, read) in [
        (r#"{"id":"c","choices":[{}]}"#, ""),
        (
            r#"{"id":"c","model":"m","choices":[{}]}"#,
            r#"{"id":"c","model":"m""#,
        ),
        (r#"{"model":7,"id":"c","x":1}"#, r#"{"model":7,"id""#),
        (r#"{"model":"m"}"#, r#"{"model":"m""#),
        (r#"{"model":7}"#, r#"{"model":7}"#),
        (
            r#"{"object":"model","model":"m","x":1}"#,
            r#"{"object":"model","model":"m""#,
        ),
        (
            r#"{"model":"m","content":"\n"}"#,
            r#"{"model":"m","content":"\n"}"#,
        ),
    ] {
        assert_eq!(&document[..telling(document.as_bytes())], read);
    }
}

#[test]
fn the_beginning_of_a_body_is_read_as_far_as_it_names_models() {
    for (document, read) in [
        (r#"{"id":"c","choices":[{"a":"\n\"x\""}]}"#, ""),
        (
            r#"{"id":"c","model":"m","a":"\n"}"#,
            r#"{"id":"c","model":"m""#,
        ),
        (r#"{"model" : "m\"\\","a":1}"#, r#"{"model" : "m\"\\""#),
        (r#"{"model":"m\"#, r#"{"model":"m\"#),
        (r#"{"model":7,"id":"c"}"#, r#"{"model":7,"id""#),
        (
            r#"{"model":"m","a":"\\\u0065"}"#,
            r#"{"model":"m","a":"\\\u0065"}"#,
        ),
        (r#"{"model":"m","a":"\\u"}"#, r#"{"model":"m""#),
        (
            r#"{"model":"m","\model":"n"}"#,
            r#"{"model":"m","\model":"n"}"#,
        ),
        (r#"{"mod"#, ""),
    ] {
        assert_eq!(&document[..naming(document.as_bytes())], read);
    }
}

#[test]
fn a_name_that_is_right_stays_in_its_piece() {
    let body = Bytes::from_static(br#"{"model":"team/coder","a":1}"#);
    let event = Bytes::from_static(b"data: {\"model\":\"team/coder\",\"delta\":\"a\"}\n\n");
    for (format, chunk) in [(BodyFormat::Json, body), (BodyFormat::EventStream, event)] {
        let mut rename = RenameModel::new(Endpoint::Responses, format, NAME);
        for _ in 0..3 {
            let mut out = Vec::new();
            rename.push(chunk.clone(), &mut out);
            assert_eq!(out, std::slice::from_ref(&chunk));
            assert_eq!(out[0].as_ptr(), chunk.as_ptr());
        }
    }
}
