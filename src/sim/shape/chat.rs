//! `/v1/chat/completions`.

use std::fmt::{self, Display, Write};

use bytes::BytesMut;

use super::{Engine, Frame, Piece, Quoted, Shape, done};

/// The stream of a chat; `head` is what all chunks begin with.
#[derive(Default)]
pub(super) struct Chat {
    head: String,
}

/// What a chunk adds to a message. Engines differ in how they write what is unset.
#[derive(Default)]
struct Chunk<'a> {
    sequence: u32,
    /// Tokens of the sequence so far.
    produced: u32,
    role: bool,
    content: Option<&'a str>,
    tool_calls: Option<&'a str>,
    last: bool,
}

impl Shape for Chat {
    fn open(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        self.head = head(frame);
        for sequence in 0..frame.sequences() {
            if frame.engine != Engine::Tgi {
                let chunk = Chunk {
                    sequence,
                    role: true,
                    content: Some(""),
                    ..Chunk::default()
                };
                self.write(frame, &chunk, out)?;
            }
            if let Some(name) = &frame.tool {
                let call = format!(
                    r#"[{{"id":"call_{sequence}_{}","type":"function","index":0,"function":{{"name":{},"arguments":""}}}}]"#,
                    frame.created,
                    Quoted(name)
                );
                let chunk = Chunk {
                    sequence,
                    tool_calls: Some(&call),
                    ..Chunk::default()
                };
                self.write(frame, &chunk, out)?;
            }
        }
        Ok(())
    }

    fn tokens(&mut self, frame: &Frame, piece: &Piece, out: &mut BytesMut) -> fmt::Result {
        let text = piece.text();
        let chunk = Chunk {
            sequence: piece.sequence,
            produced: piece.to,
            ..Chunk::default()
        };
        if frame.tool.is_none() {
            return self.write(
                frame,
                &Chunk {
                    content: Some(&text),
                    ..chunk
                },
                out,
            );
        }
        let call = format!(
            r#"[{{"index":0,"function":{{"arguments":{}}}}}]"#,
            Quoted(&text)
        );
        self.write(
            frame,
            &Chunk {
                tool_calls: Some(&call),
                ..chunk
            },
            out,
        )
    }

    fn close(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        let content = match frame.engine {
            Engine::Openai | Engine::Anthropic => None,
            Engine::Vllm | Engine::Tgi | Engine::Sglang => Some(""),
        };
        for sequence in 0..frame.sequences() {
            let produced = frame.length;
            let chunk = Chunk {
                sequence,
                produced,
                content,
                last: true,
                ..Chunk::default()
            };
            self.write(frame, &chunk, out)?;
        }
        if frame.usage.last {
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

impl Chat {
    fn write(&self, frame: &Frame, chunk: &Chunk<'_>, out: &mut BytesMut) -> fmt::Result {
        write!(
            out,
            "data: {}{{\"index\":{},\"delta\":{{",
            self.head, chunk.sequence
        )?;
        chunk.write_delta(frame.engine, out)?;
        out.write_str("},\"logprobs\":null,\"finish_reason\":")?;
        if chunk.last {
            write!(out, "\"{}\"", frame.finish.openai())?;
        } else {
            out.write_str("null")?;
        }
        out.write_str(match frame.engine {
            Engine::Vllm if chunk.last => ",\"stop_reason\":null}]",
            Engine::Sglang => ",\"matched_stop\":null}]",
            Engine::Vllm | Engine::Tgi | Engine::Openai | Engine::Anthropic => "}]",
        })?;
        if frame.usage.continuous {
            write!(
                out,
                ",\"usage\":{}",
                frame.usage_of(chunk.sequence, chunk.produced)
            )?;
        } else if writes_null_usage(frame) {
            out.write_str(",\"usage\":null")?;
        }
        out.write_str("}\n\n")
    }
}

impl Chunk<'_> {
    fn write_delta(&self, engine: Engine, out: &mut BytesMut) -> fmt::Result {
        if engine == Engine::Sglang {
            let role = if self.role { "\"assistant\"" } else { "null" };
            let content = self
                .content
                .map_or_else(|| "null".to_owned(), |c| Quoted(c).to_string());
            return write!(
                out,
                "\"role\":{role},\"content\":{content},\"reasoning_content\":null,\"tool_calls\":{}",
                self.tool_calls.unwrap_or("null")
            );
        }
        let mut comma = "";
        if self.role || engine == Engine::Tgi {
            out.write_str("\"role\":\"assistant\"")?;
            comma = ",";
        }
        if let Some(content) = self.content {
            write!(out, "{comma}\"content\":{}", Quoted(content))?;
            comma = ",";
        }
        if let Some(calls) = self.tool_calls {
            write!(out, "{comma}\"tool_calls\":{calls}")?;
        }
        Ok(())
    }
}

/// Writes an answer that is not streamed.
pub(super) fn whole(frame: &Frame, texts: &[String], out: &mut String) -> fmt::Result {
    write!(
        out,
        r#"{{"id":{},"object":"chat.completion","created":{},"model":{},"choices":["#,
        Quoted(&frame.id),
        frame.created,
        Quoted(&frame.model)
    )?;
    for (index, text) in texts.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        write!(
            out,
            r#"{comma}{{"index":{index},"message":{}"#,
            Message { frame, text, index }
        )?;
        write!(
            out,
            r#","logprobs":null,"finish_reason":"{}""#,
            frame.finish.openai()
        )?;
        out.write_str(match frame.engine {
            Engine::Vllm => r#","stop_reason":null,"token_ids":null}"#,
            Engine::Sglang => r#","matched_stop":null}"#,
            Engine::Tgi | Engine::Openai | Engine::Anthropic => "}",
        })?;
    }
    let usage = frame.total_usage(true);
    match frame.engine {
        Engine::Vllm => write!(
            out,
            r#"],"service_tier":null,"system_fingerprint":null,"usage":{usage},"prompt_logprobs":null,"prompt_token_ids":null,"kv_transfer_params":null}}"#
        ),
        Engine::Tgi => write!(
            out,
            r#"],"system_fingerprint":"sim-native","usage":{usage}}}"#
        ),
        Engine::Sglang => write!(
            out,
            r#"],"usage":{usage},"metadata":{{"weight_version":"default"}}}}"#
        ),
        Engine::Openai | Engine::Anthropic => write!(
            out,
            r#"],"usage":{usage},"service_tier":"default","system_fingerprint":"fp_sim"}}"#
        ),
    }
}

struct Message<'a> {
    frame: &'a Frame,
    text: &'a str,
    index: usize,
}

impl Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls = self.frame.tool.as_ref().map(|name| {
            format!(
                r#"[{{"id":"call_{}_{}","type":"function","function":{{"name":{},"arguments":{}}}}}]"#,
                self.index,
                self.frame.created,
                Quoted(name),
                Quoted(self.text)
            )
        });
        let content = if calls.is_some() {
            "null".to_owned()
        } else {
            Quoted(self.text).to_string()
        };
        write!(f, r#"{{"role":"assistant","content":{content}"#)?;
        if self.frame.engine == Engine::Vllm {
            return write!(
                f,
                r#","refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":{},"reasoning":null}}"#,
                calls.as_deref().unwrap_or("[]")
            );
        }
        if let Some(calls) = calls {
            write!(f, r#","tool_calls":{calls}"#)?;
        }
        f.write_char('}')
    }
}

fn head(frame: &Frame) -> String {
    let (created, model) = (frame.created, Quoted(&frame.model));
    let id = Quoted(&frame.id);
    match frame.engine {
        Engine::Tgi => format!(
            r#"{{"object":"chat.completion.chunk","id":"","created":{created},"model":{model},"system_fingerprint":"sim-native","choices":["#
        ),
        Engine::Openai | Engine::Anthropic => format!(
            r#"{{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"service_tier":"default","system_fingerprint":"fp_sim","choices":["#
        ),
        Engine::Vllm | Engine::Sglang => format!(
            r#"{{"id":{id},"object":"chat.completion.chunk","created":{created},"model":{model},"choices":["#
        ),
    }
}

fn writes_null_usage(frame: &Frame) -> bool {
    match frame.engine {
        Engine::Vllm => false,
        Engine::Tgi | Engine::Sglang => true,
        Engine::Openai | Engine::Anthropic => frame.usage.last,
    }
}
