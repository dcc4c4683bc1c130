//! SGLang's native `/generate`: text and counts are cumulative in a stream.

use std::fmt::{self, Display, Write};

use bytes::BytesMut;

use super::{Finish, Frame, Piece, Quoted, Shape, done};

/// The stream of a generation; `texts` holds what each sequence has said.
#[derive(Default)]
pub(super) struct Sglang {
    texts: Vec<String>,
}

impl Shape for Sglang {
    fn open(&mut self, frame: &Frame, _out: &mut BytesMut) -> fmt::Result {
        self.texts = vec![String::new(); frame.sequences() as usize];
        Ok(())
    }

    fn tokens(&mut self, frame: &Frame, piece: &Piece, out: &mut BytesMut) -> fmt::Result {
        let Some(text) = self.texts.get_mut(piece.sequence as usize) else {
            return Ok(());
        };
        text.push_str(&piece.text());
        let (sequence, produced) = (piece.sequence, piece.to);
        let answer = Answer {
            frame,
            text,
            sequence,
            produced,
            finished: false,
        };
        write!(out, "data: {answer}\n\n")
    }

    fn close(&mut self, frame: &Frame, out: &mut BytesMut) -> fmt::Result {
        for (sequence, text) in (0..).zip(&self.texts) {
            let produced = frame.length;
            let answer = Answer {
                frame,
                text,
                sequence,
                produced,
                finished: true,
            };
            write!(out, "data: {answer}\n\n")?;
        }
        done(out)
    }
}

/// Writes an answer that is not streamed: an object, or a list when there are several.
pub(super) fn whole(frame: &Frame, texts: &[String], out: &mut String) -> fmt::Result {
    let several = texts.len() > 1;
    out.write_str(if several { "[" } else { "" })?;
    for (sequence, text) in (0..).zip(texts) {
        let comma = if sequence > 0 { "," } else { "" };
        let answer = Answer {
            frame,
            text,
            sequence,
            produced: frame.length,
            finished: true,
        };
        write!(out, "{comma}{answer}")?;
    }
    out.write_str(if several { "]" } else { "" })
}

struct Answer<'a> {
    frame: &'a Frame,
    text: &'a str,
    sequence: u32,
    produced: u32,
    finished: bool,
}

impl Display for Answer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let frame = self.frame;
        write!(
            f,
            r#"{{"text":{},"meta_info":{{"id":{},"finish_reason":"#,
            Quoted(self.text),
            Quoted(&frame.id)
        )?;
        match (self.finished, frame.finish) {
            (false, _) => f.write_str("null")?,
            (true, Finish::Length) => {
                write!(f, r#"{{"type":"length","length":{}}}"#, frame.length)?;
            }
            (true, Finish::Stop | Finish::Tool) => f.write_str(r#"{"type":"stop"}"#)?,
        }
        if !frame.silent {
            write!(
                f,
                r#","prompt_tokens":{},"completion_tokens":{},"cached_tokens":{}"#,
                frame.prompt_of(self.sequence),
                self.produced,
                frame.cached
            )?;
        }
        f.write_char('}')?;
        if self.frame.sequences() > 1 && !self.finished {
            write!(f, r#","index":{}"#, self.sequence)?;
        }
        f.write_char('}')
    }
}
