//! OpenAI's `/v1/responses`: named, numbered events and usage only in the last.

use std::fmt::{self, Display, Write};

use bytes::BytesMut;

use super::{Finish, Frame, Piece, Quoted, Refusal, Shape};

/// The stream of a response: one output item.
#[derive(Default)]
pub(super) struct Responses {
    sequence_number: u64,
    text: String,
}

impl Shape for Responses {
    fn open(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        for name in ["response.created", "response.in_progress"] {
            let response = Response {
                frame,
                text: "",
                done: false,
            };
            self.event(name, &format_args!("\"response\":{response}"), out)?;
        }
        let item = Item {
            frame,
            text: "",
            done: false,
        };
        let added = format!("\"output_index\":0,\"item\":{item}");
        self.event("response.output_item.added", &added, out)?;
        if frame.tool.is_none() {
            let added = format!("{},\"part\":{}", place(frame), part(""));
            self.event("response.content_part.added", &added, out)?;
        }
        Ok(())
    }

    fn tokens(&mut self, frame: &Frame, piece: &Piece, out: &mut BytesMut) -> fmt::Result {
        let text = piece.text();
        self.text.push_str(&text);
        let delta = format!("{},\"delta\":{}", place(frame), Quoted(&text));
        match frame.tool {
            None => {
                let delta = format!("{delta},\"logprobs\":[]");
                self.event("response.output_text.delta", &delta, out)
            }
            Some(_) => self.event("response.function_call_arguments.delta", &delta, out),
        }
    }

    fn close(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        let text = std::mem::take(&mut self.text);
        let place = place(frame);
        if let Some(name) = &frame.tool {
            let (name, text) = (Quoted(name), Quoted(&text));
            let finished = format!("{place},\"name\":{name},\"arguments\":{text}");
            self.event("response.function_call_arguments.done", &finished, out)?;
        } else {
            let finished = format!("{place},\"text\":{},\"logprobs\":[]", Quoted(&text));
            self.event("response.output_text.done", &finished, out)?;
            let finished = format!("{place},\"part\":{}", part(&text));
            self.event("response.content_part.done", &finished, out)?;
        }
        let item = Item {
            frame,
            text: &text,
            done: true,
        };
        self.event(
            "response.output_item.done",
            &format_args!("\"output_index\":0,\"item\":{item}"),
            out,
        )?;
        let name = match frame.finish {
            Finish::Length => "response.incomplete",
            Finish::Stop | Finish::Tool => "response.completed",
        };
        let response = Response {
            frame,
            text: &text,
            done: true,
        };
        self.event(name, &format_args!("\"response\":{response}"), out)
    }

    fn fail(&mut self, frame: &Frame, refusal: &Refusal, out: &mut BytesMut) -> fmt::Result {
        refusal.event(frame.engine, frame.api, self.sequence_number, out);
        Ok(())
    }
}

impl Responses {
    fn event(&mut self, name: &str, fields: &dyn Display, out: &mut BytesMut) -> fmt::Result {
        let number = self.sequence_number;
        self.sequence_number += 1;
        write!(
            out,
            "event: {name}\ndata: {{\"type\":\"{name}\",\"sequence_number\":{number},{fields}}}\n\n"
        )
    }
}

/// Writes an answer that is not streamed.
pub(super) fn whole(frame: &Frame, texts: &[String], out: &mut String) -> fmt::Result {
    let text = texts.first().map_or("", String::as_str);
    write!(
        out,
        "{}",
        Response {
            frame,
            text,
            done: true
        }
    )
}

/// The response object; its output and usage only when it is done.
struct Response<'a> {
    frame: &'a Frame,
    text: &'a str,
    done: bool,
}

impl Display for Response<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.frame;
        let (status, incomplete) = match (self.done, frame.finish) {
            (false, _) => ("in_progress", "null"),
            (true, Finish::Length) => ("incomplete", r#"{"reason":"max_output_tokens"}"#),
            (true, Finish::Stop | Finish::Tool) => ("completed", "null"),
        };
        write!(
            f,
            r#"{{"id":{},"object":"response","created_at":{},"status":"{status}","error":null,"incomplete_details":{incomplete},"instructions":null,"metadata":{{}},"model":{},"output":["#,
            Quoted(&frame.id),
            frame.created,
            Quoted(&frame.model)
        )?;
        if self.done {
            write!(
                f,
                "{}",
                Item {
                    frame,
                    text: self.text,
                    done: true
                }
            )?;
        }
        f.write_str(
            r#"],"parallel_tool_calls":true,"temperature":1.0,"tool_choice":"auto","tools":[],"top_p":1.0,"usage":"#,
        )?;
        if !self.done || frame.silent {
            return f.write_str("null}");
        }
        let (input, output) = (frame.prompt_total(), u64::from(frame.length));
        write!(
            f,
            r#"{{"input_tokens":{input},"input_tokens_details":{{"cached_tokens":{}}},"output_tokens":{output},"output_tokens_details":{{"reasoning_tokens":0}},"total_tokens":{}}}}}"#,
            frame.cached,
            input + output
        )
    }
}

/// The one output item: a message or a function call.
struct Item<'a> {
    frame: &'a Frame,
    text: &'a str,
    done: bool,
}

impl Display for Item<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let id = Quoted(&item_id(self.frame)).to_string();
        let status = match (self.done, self.frame.finish) {
            (false, _) => "in_progress",
            (true, Finish::Length) => "incomplete",
            (true, Finish::Stop | Finish::Tool) => "completed",
        };
        if let Some(name) = &self.frame.tool {
            return write!(
                f,
                r#"{{"id":{id},"type":"function_call","status":"{status}","call_id":"call_{}","name":{},"arguments":{}}}"#,
                self.frame.created,
                Quoted(name),
                Quoted(self.text)
            );
        }
        write!(
            f,
            r#"{{"id":{id},"type":"message","status":"{status}","role":"assistant","content":["#
        )?;
        if self.done {
            f.write_str(&part(self.text))?;
        }
        f.write_str("]}")
    }
}

fn item_id(frame: &Frame) -> String {
    let prefix = if frame.tool.is_some() { "fc" } else { "msg" };
    format!("{prefix}_{}", frame.id.trim_start_matches("resp_"))
}

/// Where a delta belongs; function calls have no content index.
fn place(frame: &Frame) -> String {
    let id = item_id(frame);
    let content = if frame.tool.is_some() {
        ""
    } else {
        ",\"content_index\":0"
    };
    format!("\"item_id\":{},\"output_index\":0{content}", Quoted(&id))
}

fn part(text: &str) -> String {
    format!(
        r#"{{"type":"output_text","text":{},"annotations":[],"logprobs":[]}}"#,
        Quoted(text)
    )
}
