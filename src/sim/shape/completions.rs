//! `/v1/completions`.

use std::fmt::{self, Write};

use bytes::BytesMut;

use super::{Engine, Frame, Piece, Quoted, Shape, done};

/// The stream of a completion; `head` is what all chunks begin with.
#[derive(Default)]
pub(super) struct Completions {
    head: String,
}

impl Shape for Completions {
    fn open(&mut self, frame: &Frame, _out: &mut BytesMut) -> fmt::Result {
        self.head = head(frame);
        Ok(())
    }

    fn tokens(&mut self, frame: &Frame, piece: &Piece, out: &mut BytesMut) -> fmt::Result {
        let (sequence, produced, text) = (piece.sequence, piece.to, piece.text());
        self.write(
            frame,
            &Chunk {
                sequence,
                produced,
                text: &text,
                last: false,
            },
            out,
        )
    }

    fn close(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        for sequence in 0..frame.sequences() {
            let produced = frame.length;
            self.write(
                frame,
                &Chunk {
                    sequence,
                    produced,
                    text: "",
                    last: true,
                },
                out,
            )?;
        }
        // TGI's last chunk of each prompt has carried the usage already.
        if frame.usage.last && frame.engine != Engine::Tgi {
            write!(
                out,
                "data: {}],\"usage\":{}}}\n\n",
                self.head,
                frame.total_usage(false)
            )?;
        }
        done(out)
    }
}

/// What a chunk adds to a completion.
struct Chunk<'a> {
    sequence: u32,
    /// Tokens of the sequence so far.
    produced: u32,
    text: &'a str,
    last: bool,
}

impl Completions {
    fn write(&self, frame: &Frame, chunk: &Chunk<'_>, out: &mut BytesMut) -> fmt::Result {
        write!(
            out,
            r#"data: {}{{"index":{},"text":{},"logprobs":null,"finish_reason":"#,
            self.head,
            chunk.sequence,
            Quoted(chunk.text)
        )?;
        if chunk.last {
            write!(out, "\"{}\"", frame.finish.openai())?;
        } else {
            out.write_str("null")?;
        }
        out.write_str(match frame.engine {
            Engine::Vllm => r#","stop_reason":null,"prompt_token_ids":null,"token_ids":null}]"#,
            Engine::Sglang => r#","matched_stop":null}]"#,
            Engine::Tgi | Engine::Openai | Engine::Anthropic => "}]",
        })?;
        if frame.usage.continuous || (chunk.last && frame.engine == Engine::Tgi) {
            write!(
                out,
                ",\"usage\":{}}}\n\n",
                frame.usage_of(chunk.sequence, chunk.produced)
            )
        } else if frame.engine == Engine::Vllm {
            out.write_str("}\n\n")
        } else {
            out.write_str(",\"usage\":null}\n\n")
        }
    }
}

/// Writes an answer that is not streamed.
pub(super) fn whole(frame: &Frame, texts: &[String], out: &mut String) -> fmt::Result {
    out.write_str(&head(frame))?;
    for (index, text) in texts.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(
            out,
            r#"{comma}{{"index":{index},"text":{},"logprobs":null,"finish_reason":"{}""#,
            Quoted(text),
            frame.finish.openai()
        )?;
        out.write_str(match frame.engine {
            Engine::Vllm => r#","stop_reason":null,"prompt_logprobs":null}"#,
            Engine::Sglang => r#","matched_stop":null}"#,
            Engine::Tgi | Engine::Openai | Engine::Anthropic => "}",
        })?;
    }
    write!(out, r#"],"usage":{}}}"#, frame.total_usage(true))
}

fn head(frame: &Frame) -> String {
    format!(
        r#"{{"id":{},"object":"text_completion","created":{},"model":{},"choices":["#,
        Quoted(&frame.id),
        frame.created,
        Quoted(&frame.model)
    )
}
