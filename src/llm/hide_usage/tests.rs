mod chunks;
mod habits;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const ROLE: &str = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hi\"}}]}\n\n";
const USAGE: &str = "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2}}\n\n";
const DONE: &str = "data: [DONE]\n\n";

/// What comes out when `chunks` go in.
fn hide<'a>(chunks: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut hide = HideUsage::new(true, None);
    let mut out = Vec::new();
    for chunk in chunks {
        hide.push(Bytes::copy_from_slice(chunk), &mut out);
        assert!(out.iter().all(|piece| !piece.is_empty()));
    }
    out.extend(hide.finish());
    assert_eq!(hide.finish(), None);
    String::from_utf8(out.concat()).unwrap()
}

/// What comes out of `text`, which must not depend on how it is cut.
fn hidden(text: &str) -> String {
    let whole = hide([text.as_bytes()]);
    assert_eq!(hide(text.as_bytes().chunks(1)), whole, "byte by byte");
    for at in 0..=text.len() {
        let (head, tail) = text.as_bytes().split_at(at);
        assert_eq!(hide([head, tail]), whole, "cut at {at}");
    }
    whole
}

#[test]
fn the_extra_event_is_removed_and_nothing_else() {
    for usage in [
        USAGE.to_owned(),
        USAGE.replace("data: ", "data:"),
        USAGE.replace('\n', "\r\n"),
        USAGE.replace(",\"usage\"", ",\ndata: \"usage\""),
        USAGE.replace("\"usage\":{", "\"timings\":{\"prompt_n\":1},\"usage\":{"),
    ] {
        assert_eq!(
            hidden(&format!("{ROLE}{usage}{DONE}")),
            format!("{ROLE}{DONE}"),
            "{usage}"
        );
    }
    assert_eq!(hidden(USAGE), "");
    assert_eq!(hidden(USAGE.trim_end()), "", "also without its blank line");
}

#[test]
fn what_else_the_usage_chunk_says_moves_to_the_chunk_before_it() {
    let last = |extra: &str| {
        format!(
            "data: {{\"id\":\"a\",\"choices\":[{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"stop\"}}]{extra}}}\n\n"
        )
    };
    let usage = |extra: &str| {
        format!(
            "data: {{\"id\":\"a\",\"choices\":[],\"usage\":{{\"prompt_tokens\":1}}{extra}}}\n\n"
        )
    };
    for extra in [
        "",
        ",\"system_fingerprint\":\"vllm-0.32.0-98a04771\"",
        ",\"timings\":{\"cache_n\":13,\"prompt_ms\":1.182, \"big\":12345678901234567890},\"x\":null",
    ] {
        assert_eq!(
            hidden(&format!("{ROLE}{}{}{DONE}", last(""), usage(extra))),
            format!("{ROLE}{}{DONE}", last(extra))
        );
    }
    let said = last(",\"system_fingerprint\":\"fp\"");
    let again = usage(",\"system_fingerprint\":\"other\"");
    assert_eq!(
        hidden(&format!("{said}{again}")),
        said,
        "what is said already stays"
    );
}

#[test]
fn a_finished_choice_is_given_away_when_nothing_follows() {
    let last = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let (mut hide, mut out) = (HideUsage::new(true, None), Vec::new());
    hide.push(Bytes::from(last), &mut out);
    assert!(out.is_empty() && hide.is_keeping());
    hide.release(&mut out);
    assert_eq!(out.concat(), last.as_bytes());
    hide.push(Bytes::from(USAGE), &mut out);
    assert_eq!(out.concat(), last.as_bytes());
    assert!(!hide.is_keeping() && hide.finish().is_none());
}

#[test]
fn what_only_looks_like_it_passes() {
    for event in [
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"prompt_filter_results\":[]}\n\n",
        "data: {\"choices\":[{\"index\":0}],\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"usage\":{\"prompt_tokens\":1}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"error\":{\"message\":\"x\"}}\n\n",
        "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}\n\n",
        "data: \"\\\"choices\\\":[],\\\"usage\\\":{}\"\n\n",
        ": \"choices\":[],\"usage\":{}\n\n",
        "\n\n\n",
        "data: half",
    ] {
        let text = format!("{ROLE}{event}");
        assert_eq!(hidden(&text), text);
    }
}

#[test]
fn whole_events_leave_with_their_chunk() {
    let mut hide = HideUsage::new(true, None);
    let mut out = Vec::new();
    hide.push(Bytes::from(format!("{ROLE}{ROLE}data: {{")), &mut out);
    assert_eq!(out.concat(), format!("{ROLE}{ROLE}").as_bytes());
    assert_eq!(out.len(), 1, "neighbours share one slice");
}

#[test]
fn slices_share_the_chunks_memory() {
    let chunk = Bytes::from(format!("{ROLE}{USAGE}{DONE}"));
    let mut out = Vec::new();
    HideUsage::new(true, None).push(chunk.clone(), &mut out);
    assert_eq!(out.len(), 2);
    assert_eq!(out[0].as_ptr(), chunk.as_ptr());
    assert_eq!(out[1].as_ptr(), chunk[ROLE.len() + USAGE.len()..].as_ptr());
}

#[test]
fn an_event_too_long_to_hold_is_passed() {
    let mut hide = HideUsage::new(true, None);
    let mut out = Vec::new();
    let start = Bytes::from_static(b"data: {\"choices\":[],\"usage\":{},\"x\":\"");
    let filler = Bytes::from(vec![b'x'; 1024]);
    hide.push(start.clone(), &mut out);
    for _ in 0..62 {
        hide.push(filler.clone(), &mut out);
    }
    assert!(out.is_empty(), "62 KiB are held");
    for _ in 0..4 {
        hide.push(filler.clone(), &mut out);
    }
    assert_eq!(
        out.concat().len(),
        start.len() + 66 * 1024,
        "and 66 KiB are not"
    );
    hide.push(Bytes::from(format!("\"}}\n\n{USAGE}{DONE}")), &mut out);
    assert!(out.concat().ends_with(format!("\"}}\n\n{DONE}").as_bytes()));
}

proptest! {
    #[test]
    fn the_rest_comes_out_as_it_went_in(
        events in vec(select(vec![
            ROLE, USAGE, DONE, ": ping\n\n", "event: x\ndata: {\"a\":1}\n\n", "id: 1\n\n", "\n",
            "data: {\"choices\":[],\"usage\":null}\r\n\r\n", "data: {\"usage\":{}}\n\n",
        ]), 0..12),
        tail in select(vec!["", "data: x", "da", "data: {\"choices\":[],\"usage\":{"]),
        cuts in vec(any::<usize>(), 0..10),
    ) {
        let text = events.concat() + tail;
        let expected = events.iter().filter(|event| **event != USAGE).copied().collect::<String>() + tail;
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (text.len() + 1)).collect();
        cuts.extend([0, text.len()]);
        cuts.sort_unstable();
        let chunks = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]);
        prop_assert_eq!(hide(chunks), expected);
    }

    #[test]
    fn what_is_alike_comes_out_as_byte_by_byte(
        (text, cuts) in crate::llm::likeness::tests::streams(),
        knife in any::<bool>(),
    ) {
        let hide = |chunks: Vec<&[u8]>| {
            let mut hide = HideUsage::new(true, knife.then(|| Knife::new(false)));
            let mut out = Vec::new();
            for chunk in chunks {
                hide.push(Bytes::copy_from_slice(chunk), &mut out);
            }
            out.extend(hide.finish());
            String::from_utf8(out.concat()).unwrap()
        };
        let bytes = hide(text.as_bytes().chunks(1).collect());
        prop_assert_eq!(hide(crate::llm::likeness::tests::chunks(&text, &cuts)), &*bytes);
        prop_assert_eq!(hide(vec![text.as_bytes()]), bytes);
    }

    #[test]
    fn garbage_passes(pieces in vec(vec(any::<u8>(), 0..60), 0..12)) {
        let mut hide = HideUsage::new(true, None);
        let mut out = Vec::new();
        for piece in &pieces {
            hide.push(Bytes::copy_from_slice(piece), &mut out);
        }
        out.extend(hide.finish());
        prop_assert_eq!(out.concat(), pieces.concat());
    }
}
