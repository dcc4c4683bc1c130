//! Anthropic's `/v1/messages`.

use std::fmt::{self, Display, Write};

use bytes::BytesMut;

use super::{Engine, Finish, Frame, Piece, Quoted, Refusal, Shape, done};

/// The stream of a message: one content block.
pub(super) struct Messages;

impl Shape for Messages {
    fn open(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        write!(
            out,
            "event: message_start\ndata: {{\"type\":\"message_start\",\"message\":{{\"id\":{},\
             \"type\":\"message\",\"role\":\"assistant\",\"content\":[],\"model\":{},\
             \"stop_reason\":null,\"stop_sequence\":null,\"usage\":{}}}}}\n\n",
            Quoted(&frame.id),
            Quoted(&frame.model),
            Usage { frame, output: 0 }
        )?;
        out.write_str(
            "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\
             \"content_block\":",
        )?;
        match &frame.tool {
            None => out.write_str("{\"type\":\"text\",\"text\":\"\"}}\n\n")?,
            Some(name) => write!(
                out,
                "{{\"type\":\"tool_use\",\"id\":\"toolu_{}\",\"name\":{},\"input\":{{}}}}}}\n\n",
                frame.created,
                Quoted(name)
            )?,
        }
        if frame.engine == Engine::Anthropic {
            out.write_str("event: ping\ndata: {\"type\":\"ping\"}\n\n")?;
        }
        Ok(())
    }

    fn tokens(&mut self, frame: &Frame, piece: &Piece, out: &mut BytesMut) -> fmt::Result {
        let (kind, field) = match frame.tool {
            None => ("text_delta", "text"),
            Some(_) => ("input_json_delta", "partial_json"),
        };
        write!(
            out,
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"{kind}\",\"{field}\":{}}}}}\n\n",
            Quoted(&piece.text())
        )
    }

    fn close(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        write!(
            out,
            "event: content_block_stop\ndata: {{\"type\":\"content_block_stop\",\"index\":0}}\n\n\
             event: message_delta\ndata: {{\"type\":\"message_delta\",\"delta\":\
             {{\"stop_reason\":\"{}\",\"stop_sequence\":null}},\"usage\":{}}}\n\n\
             event: message_stop\ndata: {{\"type\":\"message_stop\"}}\n\n",
            stop_reason(frame.finish),
            Usage {
                frame,
                output: frame.length
            }
        )?;
        end(frame, out)
    }

    fn fail(&mut self, frame: &Frame, refusal: &Refusal, out: &mut BytesMut) -> fmt::Result {
        refusal.event(frame.engine, frame.api, 0, out);
        end(frame, out)
    }
}

/// Writes an answer that is not streamed.
pub(super) fn whole(frame: &Frame, texts: &[String], out: &mut String) -> fmt::Result {
    let text = texts.first().map_or("", String::as_str);
    write!(
        out,
        r#"{{"id":{},"type":"message","role":"assistant","content":["#,
        Quoted(&frame.id)
    )?;
    match &frame.tool {
        None => write!(out, r#"{{"type":"text","text":{}}}"#, Quoted(text))?,
        Some(name) => write!(
            out,
            r#"{{"type":"tool_use","id":"toolu_{}","name":{},"input":{text}}}"#,
            frame.created,
            Quoted(name)
        )?,
    }
    write!(
        out,
        r#"],"model":{},"stop_reason":"{}","stop_sequence":null,"usage":{}}}"#,
        Quoted(&frame.model),
        stop_reason(frame.finish),
        Usage {
            frame,
            output: frame.length
        }
    )
}

/// Anthropic's usage. vLLM counts cached tokens as input; Anthropic and SGLang count them apart.
struct Usage<'a> {
    frame: &'a Frame,
    output: u32,
}

impl Display for Usage<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.frame.silent {
            return f.write_str("null");
        }
        let (output, cached) = (self.output, u64::from(self.frame.cached));
        let prompt = self.frame.prompt_total();
        match self.frame.engine {
            Engine::Anthropic => write!(
                f,
                r#"{{"input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{cached},"output_tokens":{output},"service_tier":"standard"}}"#,
                prompt - cached
            ),
            Engine::Sglang if cached > 0 => write!(
                f,
                r#"{{"input_tokens":{},"cache_read_input_tokens":{cached},"output_tokens":{output}}}"#,
                prompt - cached
            ),
            Engine::Vllm if self.frame.report_cached => write!(
                f,
                r#"{{"input_tokens":{prompt},"output_tokens":{output},"cache_read_input_tokens":{cached}}}"#
            ),
            Engine::Vllm | Engine::Tgi | Engine::Sglang | Engine::Openai => {
                write!(f, r#"{{"input_tokens":{prompt},"output_tokens":{output}}}"#)
            }
        }
    }
}

/// Ends a stream: vLLM appends OpenAI's marker, Anthropic and SGLang do not.
fn end(frame: &Frame, out: &mut BytesMut) -> fmt::Result {
    match frame.engine {
        Engine::Vllm => done(out),
        Engine::Tgi | Engine::Sglang | Engine::Openai | Engine::Anthropic => Ok(()),
    }
}

fn stop_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::Tool => "tool_use",
    }
}
