//! What the API is asked.

use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use serde_json::{Map, Value};

use super::Reply;

/// A request, read whole.
pub struct Request<'a> {
    pub method: &'a Method,
    /// Without the query.
    pub path: &'a str,
    pub query: Option<&'a str>,
    pub headers: &'a HeaderMap,
    pub body: &'a [u8],
}

/// Longest name of who makes a change.
const LONGEST_ACTOR: usize = 64;

/// Entries on a page when nobody says, and how many it may have.
pub(super) const PAGE: u64 = 20;
pub(super) const LONGEST_PAGE: u64 = 100;
/// Offsets are numbers of rows.
pub(super) const FARTHEST: u64 = 1 << 40;

impl Request<'_> {
    /// The token it shows.
    pub(super) fn token(&self) -> Option<&str> {
        let field = |name: &str| self.headers.get(name)?.to_str().ok();
        let bearer = field(AUTHORIZATION.as_str()).and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        bearer
            .or_else(|| field("x-admin-token"))
            .filter(|token| !token.is_empty())
    }

    /// The admin password it shows; what is no text is no password of ours.
    pub(super) fn password(&self) -> Option<String> {
        let shown = self.headers.get("x-admin-password")?;
        Some(String::from_utf8_lossy(shown.as_bytes()).into_owned())
    }

    /// Who makes the change, for the audit log: what the client says in `X-Actor`.
    pub(super) fn actor(&self) -> String {
        let said = self
            .headers
            .get("x-actor")
            .map_or(&[][..], |it| it.as_bytes());
        // Names are not all ASCII, and a change by somebody must not look like one by somebody else.
        let said = String::from_utf8_lossy(said);
        let name: String = said
            .trim()
            .chars()
            .filter(|c| !c.is_control())
            .take(LONGEST_ACTOR)
            .collect();
        match name.is_empty() {
            true => "admin".to_owned(),
            false => name,
        }
    }

    /// The body as a JSON object; an empty one counts as `{}`.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Reply> {
        if self.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(self.body) {
            Ok(Value::Object(object)) => Ok(object),
            Ok(_) => Err(Reply::error(
                400,
                "bad_request",
                "the body must be a JSON object",
            )),
            // serde_json's text names the place and never what stands there.
            Err(error) => {
                let message = format!("the body is not JSON: {error}");
                Err(Reply::error(400, "bad_request", message))
            }
        }
    }

    /// The body as a JSON object that has to be there.
    pub(super) fn needed_object(&self) -> Result<Map<String, Value>, Reply> {
        match self.is_empty() {
            true => Err(Reply::error(
                400,
                "bad_request",
                "the body is empty; it must be a JSON object",
            )),
            false => self.object(),
        }
    }

    fn is_empty(&self) -> bool {
        self.body.iter().all(u8::is_ascii_whitespace)
    }

    /// The query's parameters; one that is not in `known`, or comes twice, is an error.
    pub(super) fn parameters(&self, known: &[&str]) -> Result<Parameters, Reply> {
        let mut found: Vec<(String, String)> = Vec::new();
        let query = self.query.unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if !known.contains(&&*name) {
                let message = format!("not a parameter of this; those are: {}", known.join(", "));
                return Err(Reply::bad(&name, message));
            }
            if found.iter().any(|(other, _)| *other == name) {
                return Err(Reply::bad(&name, "is there twice"));
            }
            found.push((name.into_owned(), value.into_owned()));
        }
        Ok(Parameters(found))
    }
}

/// The parameters of a query.
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(other, _)| other == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Which part of a list is wanted: how many entries to leave out, and how many at most.
    pub(super) fn page(&self) -> Result<(u64, u64), Reply> {
        let offset = self.number("offset", 0, (0, FARTHEST))?;
        let limit = self.number("limit", PAGE, (1, LONGEST_PAGE))?;
        Ok((offset, limit))
    }

    /// A whole number from `least` to `most`.
    fn number(&self, name: &str, default: u64, (least, most): (u64, u64)) -> Result<u64, Reply> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => {
                let message = format!("must be a whole number from {least} to {most}");
                Err(Reply::bad(name, message))
            }
        }
    }
}
