//! TGI's native `/generate`, `/generate_stream` and `/`.

use std::fmt::{self, Display, Write};

use bytes::BytesMut;

use super::{Api, Finish, Frame, Piece, Quoted, Refusal, Shape};
use crate::sim::text::token_id;

/// The stream of a generation: one event per token, however tokens are grouped.
#[derive(Default)]
pub(super) struct Tgi {
    text: String,
}

impl Shape for Tgi {
    fn open(&mut self, _frame: &Frame, _out: &mut BytesMut) -> fmt::Result {
        Ok(())
    }

    fn tokens(&mut self, frame: &Frame, piece: &Piece, out: &mut BytesMut) -> fmt::Result {
        for index in piece.from..piece.to {
            let text = piece.script.token(index);
            self.text.push_str(text);
            write!(
                out,
                "data:{{\"index\":{},\"token\":{}",
                index + 1,
                Token(text)
            )?;
            if index + 1 < frame.length {
                out.write_str(",\"generated_text\":null,\"details\":null}\n\n")?;
            } else {
                self.last(frame, out)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        if frame.length > 0 {
            return Ok(());
        }
        // An answer without tokens still has the event that ends it.
        write!(out, "data:{{\"index\":0,\"token\":{}", Token(""))?;
        self.last(frame, out)
    }

    fn fail(&mut self, frame: &Frame, refusal: &Refusal, out: &mut BytesMut) -> fmt::Result {
        refusal.event(frame.engine, frame.api, 0, out);
        Ok(())
    }
}

impl Tgi {
    fn last(&self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        write!(
            out,
            ",\"generated_text\":{},\"details\":",
            Quoted(&self.text)
        )?;
        if frame.details {
            write!(
                out,
                "{{\"finish_reason\":\"{}\",\"generated_tokens\":{},\"seed\":null,\
                 \"input_length\":{}}}",
                finish(frame.finish),
                frame.length,
                frame.prompt_total()
            )?;
        } else {
            out.write_str("null")?;
        }
        out.write_str("}\n\n")
    }
}

/// Writes an answer that is not streamed.
pub(super) fn whole(frame: &Frame, texts: &[String], out: &mut String) -> fmt::Result {
    let text = texts.first().map_or("", String::as_str);
    let root = frame.api == Api::TgiRoot;
    out.write_str(if root { "[" } else { "" })?;
    write!(out, r#"{{"generated_text":{}"#, Quoted(text))?;
    if frame.details {
        write!(
            out,
            r#","details":{{"finish_reason":"{}","generated_tokens":{},"seed":null,"prefill":[],"tokens":["#,
            finish(frame.finish),
            frame.length
        )?;
        for (index, word) in text.split_inclusive(' ').enumerate() {
            let comma = if index > 0 { "," } else { "" };
            write!(out, "{comma}{}", Token(word))?;
        }
        out.write_str(r#"],"best_of_sequences":null}"#)?;
    }
    out.write_str(if root { "}]" } else { "}" })
}

/// Returns the headers TGI counts and times with, in milliseconds.
pub(super) fn headers(frame: &Frame, seconds: f64) -> Vec<(&'static str, String)> {
    let total = (seconds * 1000.0).round();
    let per_token = total / f64::from(frame.length.max(1));
    vec![
        ("x-compute-type", "sim".to_owned()),
        ("x-compute-time", format!("{seconds:.3}")),
        ("x-prompt-tokens", frame.prompt_total().to_string()),
        ("x-generated-tokens", frame.completion_total().to_string()),
        ("x-total-time", total.to_string()),
        ("x-validation-time", "0".to_owned()),
        ("x-queue-time", "0".to_owned()),
        ("x-inference-time", total.to_string()),
        ("x-time-per-token", per_token.round().to_string()),
    ]
}

struct Token<'a>(&'a str);

impl Display for Token<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = token_id(self.0.trim());
        write!(
            f,
            r#"{{"id":{id},"text":{},"logprob":-0.3,"special":false}}"#,
            Quoted(self.0)
        )
    }
}

fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::Length => "length",
        Finish::Stop | Finish::Tool => "eos_token",
    }
}
