//! Events on standard output, one after the other, in the form that was asked for.

use std::borrow::Cow;
use std::io::{self, ErrorKind, IsTerminal, Write};

use super::Failure;
use super::table::{cell, fixed, nanos};
use crate::ledger::UsageEvent;

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// For people.
    Table,
    /// For spreadsheets, with a header; what could be a formula gets a `'` before it.
    Csv,
    /// For programs, one object per line.
    Json,
}

/// How the answer is written.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Form {
    /// Table on terminals, else json, unless said otherwise.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// How an answer is written that is not a list of events.
#[derive(clap::Args, Clone, Copy, Debug)]
pub(super) struct Pages {
    /// Table on terminals, else json, unless said otherwise.
    #[arg(long, value_enum)]
    format: Option<Shape>,
}

/// The form of an answer that is not a list of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Shape {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Whether anybody still reads.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    There,
    Gone,
}

/// Standard output; a reader that has gone (`| head`) is no failure, but there is no use in going on.
pub(super) struct Out<W> {
    to: W,
    format: Format,
    begun: bool,
}

impl Form {
    pub(super) fn format(self) -> Format {
        let default = match io::stdout().is_terminal() {
            true => Format::Table,
            false => Format::Json,
        };
        self.format.unwrap_or(default)
    }
}

impl Pages {
    pub(super) fn shape(self) -> Shape {
        let default = match io::stdout().is_terminal() {
            true => Shape::Table,
            false => Shape::Json,
        };
        self.format.unwrap_or(default)
    }
}

impl<W: Write> Out<W> {
    pub(super) fn new(to: W, format: Format) -> Self {
        let begun = false;
        Self { to, format, begun }
    }

    /// Writes one event, and before the first one a header where the form has one.
    pub(super) fn event(&mut self, event: &UsageEvent) -> Result<Reader, Failure> {
        if self.header()? == Reader::Gone {
            return Ok(Reader::Gone);
        }
        let bytes = match self.format {
            Format::Table => row(event).into_bytes(),
            Format::Csv => csv_lines(event)?.1,
            Format::Json => {
                let mut line = serde_json::to_vec(&shown(event)).map_err(io::Error::from)?;
                line.push(b'\n');
                line
            }
        };
        self.bytes(&bytes)
    }

    /// Writes the header if no event was written.
    pub(super) fn header(&mut self) -> Result<Reader, Failure> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(Reader::There);
        }
        match self.format {
            Format::Table => self.bytes(fixed(&COLUMNS, &HEADER.map(str::to_owned)).as_bytes()),
            Format::Csv => self.bytes(&csv_lines(&UsageEvent::default())?.0),
            Format::Json => Ok(Reader::There),
        }
    }

    pub(super) fn flush(&mut self) -> Result<Reader, Failure> {
        ended(self.to.flush())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<Reader, Failure> {
        ended(self.to.write_all(bytes))
    }
}

/// Standard output with room for a few screens.
pub(super) fn buffered() -> impl Write {
    io::BufWriter::with_capacity(64 * 1024, io::stdout().lock())
}

fn ended(written: io::Result<()>) -> Result<Reader, Failure> {
    match written {
        Ok(()) => Ok(Reader::There),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(Failure::Failed(format!("standard output: {error}"))),
    }
}

/// The event without what is never shown: the key itself and what was asked.
fn shown(event: &UsageEvent) -> UsageEvent {
    UsageEvent {
        raw_key: None,
        quota: None,
        request_body: None,
        ..event.clone()
    }
}

/// The header and the line of this event.
fn csv_lines(event: &UsageEvent) -> Result<(Vec<u8>, Vec<u8>), Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(shown(event)).map_err(no_csv)?;
    let plain = writer
        .into_inner()
        .map_err(|error| no_csv(error.into_error()))?;
    let mut reader = csv::Reader::from_reader(&*plain);
    let header = csv_line(reader.headers().map_err(no_csv)?)?;
    let mut line = Vec::new();
    for record in reader.records() {
        line = csv_line(&record.map_err(no_csv)?)?;
    }
    Ok((header, line))
}

/// One line of CSV that no spreadsheet takes for formulas.
pub(super) fn csv_line<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Vec<u8>, Failure> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let harmless = values.into_iter().map(harmless);
    writer
        .write_record(harmless.map(|value| value.into_owned().into_bytes()))
        .map_err(no_csv)?;
    writer
        .into_inner()
        .map_err(|error| no_csv(error.into_error()))
}

fn no_csv(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(format!("cannot write CSV: {error}"))
}

/// Clients choose models and ids, and whoever opens the file should not run what they wrote. As OWASP
/// has it: <https://owasp.org/www-community/attacks/CSV_Injection>.
fn harmless(value: &str) -> Cow<'_, str> {
    match value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        true => Cow::Owned(format!("'{value}")),
        false => Cow::Borrowed(value),
    }
}

/// Widths of the columns; numbers stand on the right. With a space between them 119 in all.
const COLUMNS: [(usize, bool); 8] = [
    (19, false),
    (22, false),
    (12, false),
    (14, false),
    (15, false),
    (8, true),
    (7, true),
    (15, true),
];

const HEADER: [&str; 8] = [
    "TIME (UTC)",
    "MODEL",
    "BACKEND",
    "CLIENT",
    "OUTCOME",
    "PROMPT",
    "OUTPUT",
    "COST",
];

/// The event in one line; counts that are guessed carry a `~`.
fn row(event: &UsageEvent) -> String {
    let client = [&event.user_id, &event.key_id, &event.api_key]
        .into_iter()
        .find(|name| !name.is_empty());
    let guessed = match &*event.usage_source {
        "estimated" => "~",
        _ => "",
    };
    let time = event.timestamp.get(..19).unwrap_or(&event.timestamp);
    let cost = event.cost_nanos.map(|cost| {
        let currency = event.currency.as_deref().unwrap_or_default();
        format!("{} {currency}", nanos(cost.into(), 9))
    });
    fixed(
        &COLUMNS,
        &[
            time.replace('T', " "),
            cell(&event.model, 22),
            cell(&event.backend, 12),
            cell(client.map_or("", String::as_str), 14),
            event.outcome.as_str().to_owned(),
            format!("{guessed}{}", event.prompt_tokens),
            format!("{guessed}{}", event.completion_tokens),
            cost.unwrap_or_default(),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> UsageEvent {
        UsageEvent {
            event_id: "id-1".into(),
            model: "a, \"b\"".into(),
            api_key: "sk-…1234".into(),
            timestamp: "2026-01-14T10:30:00.000Z".into(),
            backend: "engine-1".into(),
            prompt_tokens: 1234,
            completion_tokens: 56,
            usage_source: "estimated".into(),
            cost_nanos: Some(12_500),
            currency: Some("USD".into()),
            raw_key: Some("sk-whole-1234".into()),
            request_body: Some("secret".into()),
            ..UsageEvent::default()
        }
    }

    fn written(format: Format, events: usize) -> String {
        let mut out = Out::new(Vec::new(), format);
        for _ in 0..events {
            assert_eq!(out.event(&event()).ok(), Some(Reader::There));
        }
        assert_eq!(out.header().ok(), Some(Reader::There));
        String::from_utf8(out.to).unwrap()
    }

    #[test]
    fn a_table_has_a_header_and_a_row_per_event() {
        let expected = "\
TIME (UTC)          MODEL                  BACKEND      CLIENT         OUTCOME           PROMPT  OUTPUT            COST
2026-01-14 10:30:00 a, \"b\"                 engine-1     sk-…1234       completed          ~1234     ~56 0.000012500 USD
";
        assert_eq!(written(Format::Table, 1), expected);
        assert!(expected.lines().all(|line| line.chars().count() <= 120));
    }

    #[test]
    fn csv_has_every_field_under_its_name() {
        let text = written(Format::Csv, 2);
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let events: Vec<UsageEvent> = reader.deserialize().map(Result::unwrap).collect();
        assert_eq!(events, [shown(&event()), shown(&event())]);
        assert_eq!(
            written(Format::Csv, 0),
            text.lines().next().unwrap().to_owned() + "\n"
        );
    }

    #[test]
    fn csv_holds_no_formulas() {
        let values = ["=1+1", "+1", "-1", "@x", "\tx", "\rx", "a=1", "", "12"];
        let line = csv_line(values).ok().unwrap();
        let expected = "'=1+1,'+1,'-1,'@x,'\tx,\"'\rx\",a=1,,12\n";
        assert_eq!(String::from_utf8(line).unwrap(), expected);
        let mut out = Out::new(Vec::new(), Format::Csv);
        let model = "=HYPERLINK(1)".into();
        let formula = UsageEvent { model, ..event() };
        assert_eq!(out.event(&formula).ok(), Some(Reader::There));
        assert!(
            String::from_utf8(out.to)
                .unwrap()
                .contains(",'=HYPERLINK(1),")
        );
    }

    #[test]
    fn json_is_one_event_per_line() {
        let text = written(Format::Json, 2);
        for line in text.lines() {
            let read: UsageEvent = serde_json::from_str(line).unwrap();
            assert_eq!(read, shown(&event()));
        }
        assert_eq!(
            (text.lines().count(), written(Format::Json, 0)),
            (2, String::new())
        );
    }

    #[test]
    fn no_form_shows_keys_or_prompts() {
        for format in [Format::Table, Format::Csv, Format::Json] {
            let text = written(format, 1);
            assert!(
                !text.contains("whole") && !text.contains("secret"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut out = Out::new(Closed, Format::Json);
        assert_eq!(out.event(&event()).ok(), Some(Reader::Gone));
    }
}
