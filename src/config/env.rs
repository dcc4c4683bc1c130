//! `${VAR}`, `${VAR:-default}` and `$VAR` in values, and the `.env` file they fall back to.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where variables are looked up.
pub(super) struct Environment<'a> {
    process: &'a dyn Fn(&str) -> Option<String>,
    file: PathBuf,
    /// What the file says, or what is wrong with it; read when it is first needed.
    from_file: OnceCell<Result<HashMap<String, String>, String>>,
}

impl<'a> Environment<'a> {
    /// The variables of `process`, then those of `.env` in `directory`.
    pub(super) fn new(process: &'a dyn Fn(&str) -> Option<String>, directory: &Path) -> Self {
        Self {
            process,
            file: directory.join(".env"),
            from_file: OnceCell::new(),
        }
    }

    fn get(&self, name: &str) -> Result<Option<String>, String> {
        if let Some(value) = (self.process)(name) {
            return Ok(Some(value));
        }
        match self.from_file.get_or_init(|| read(&self.file)) {
            Ok(variables) => Ok(variables.get(name).cloned()),
            Err(what) => Err(what.clone()),
        }
    }

    /// Returns `text` with its variables replaced; `$$` is a dollar, and so is one that no name follows.
    pub(super) fn expand<'t>(&self, text: &'t str) -> Result<Cow<'t, str>, String> {
        if !text.contains('$') {
            return Ok(Cow::Borrowed(text));
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            if let Some(braced) = after.strip_prefix('{') {
                let (inside, after) = braced
                    .split_once('}')
                    .ok_or("`${` without `}`; a dollar that is meant as such is written `$$`")?;
                out.push_str(&self.braced(inside)?);
                rest = after;
            } else if let Some(after) = after.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else {
                let (name, after) = after.split_at(name_length(after));
                match name {
                    "" => out.push('$'),
                    name => out.push_str(&self.required(name)?),
                }
                rest = after;
            }
        }
        out.push_str(rest);
        Ok(Cow::Owned(out))
    }

    fn braced(&self, inside: &str) -> Result<String, String> {
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if name.is_empty() || name_length(name) != name.len() {
            return Err("`${…}` takes `${VAR}` or `${VAR:-default}`".to_owned());
        }
        match default {
            None => self.required(name),
            Some(default) => {
                // As in a shell, `:-` also stands in for a variable that is empty.
                let value = self.get(name)?.filter(|value| !value.is_empty());
                Ok(value.unwrap_or_else(|| default.to_owned()))
            }
        }
    }

    fn required(&self, name: &str) -> Result<String, String> {
        let unset = || format!("the environment variable `{name}` is not set");
        self.get(name)?.ok_or_else(unset)
    }
}

/// Returns how many bytes of `text` are a variable's name.
fn name_length(text: &str) -> usize {
    let rest = text.trim_start_matches(|c: char| c == '_' || c.is_ascii_alphanumeric());
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => 0,
        false => text.len() - rest.len(),
    }
}

fn read(file: &Path) -> Result<HashMap<String, String>, String> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(HashMap::new()),
        Err(error) => return Err(format!("cannot read {}: {error}", file.display())),
    };
    variables(&text).map_err(|(line, what)| format!("{}:{line}: {what}", file.display()))
}

/// Reads `NAME=value` lines; the error has the number of the line and never its content.
fn variables(text: &str) -> Result<HashMap<String, String>, (usize, &'static str)> {
    let mut variables = HashMap::new();
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").map_or(line, str::trim_start);
        let (name, value) = line
            .split_once('=')
            .ok_or((number, "not of the form NAME=value"))?;
        let name = name.trim_end();
        if name.is_empty() || name_length(name) != name.len() {
            return Err((number, "not of the form NAME=value"));
        }
        let value = unquoted(value.trim()).map_err(|what| (number, what))?;
        variables.insert(name.to_owned(), value);
    }
    Ok(variables)
}

fn unquoted(value: &str) -> Result<String, &'static str> {
    const UNTERMINATED: &str = "a quote is not closed on its line";
    if let Some(rest) = value.strip_prefix('\'') {
        let (value, after) = rest.split_once('\'').ok_or(UNTERMINATED)?;
        return nothing_after(after).map(|()| value.to_owned());
    }
    let Some(rest) = value.strip_prefix('"') else {
        // A comment follows white space, so that a `#` in a password stays.
        let end = value
            .find(" #")
            .or_else(|| value.find("\t#"))
            .unwrap_or(value.len());
        return Ok(value[..end].trim_end().to_owned());
    };
    let mut out = String::new();
    let mut chars = rest.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return nothing_after(chars.as_str()).map(|()| out),
            '\\' => match chars.next().ok_or(UNTERMINATED)? {
                'n' => out.push('\n'),
                't' => out.push('\t'),
                other @ ('"' | '\\' | '$') => out.push(other),
                other => out.extend(['\\', other]),
            },
            other => out.push(other),
        }
    }
    Err(UNTERMINATED)
}

fn nothing_after(rest: &str) -> Result<(), &'static str> {
    let rest = rest.trim();
    match rest.is_empty() || rest.starts_with('#') {
        true => Ok(()),
        false => Err("something follows the closing quote"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expand(text: &str) -> Result<String, String> {
        let process = |name: &str| match name {
            "A" => Some("one".to_owned()),
            "_b2" => Some("$A".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        let environment = Environment::new(&process, Path::new("/nonexistent"));
        environment.expand(text).map(Cow::into_owned)
    }

    #[test]
    fn variables_are_replaced_once() {
        let cases = [
            ("plain", "plain"),
            ("$A", "one"),
            ("${A}", "one"),
            ("x${A}y$A.z", "xoneyone.z"),
            ("${A:-two}", "one"),
            ("${NONE:-two}", "two"),
            ("${NONE:-}", ""),
            ("${EMPTY:-two}", "two"),
            ("${EMPTY}", ""),
            ("${NONE:-a:-b $c}", "a:-b $c"),
            ("$_b2", "$A"),
            ("$$A", "$A"),
            ("$$$A", "$one"),
            ("pa$$word", "pa$word"),
            ("100$", "100$"),
            ("$ $1 $-", "$ $1 $-"),
            ("ü${A}ü", "üoneü"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_replaced_is_named() {
        let unset = "the environment variable `NONE` is not set";
        let braces = "`${` without `}`; a dollar that is meant as such is written `$$`";
        let form = "`${…}` takes `${VAR}` or `${VAR:-default}`";
        let cases = [
            ("${NONE}", unset),
            ("x$NONE", unset),
            ("${A", braces),
            ("${", braces),
            ("${}", form),
            ("${1A}", form),
            ("${A B}", form),
            ("${A:?must}", form),
            ("${:-x}", form),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text), Err(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_dotenv_file_is_read() {
        let text = "\u{feff}# comment\n\nA=1\nexport B = two words # comment\nC='#$x \\n' # comment\n\
                    D=\"a\\n\\\"b\\\\\\$\\x\"\nE=\nF=a#b\n A =again\r\n";
        let variables = variables(text).unwrap();
        let expected = [
            ("A", "again"),
            ("B", "two words"),
            ("C", "#$x \\n"),
            ("D", "a\n\"b\\$\\x"),
            ("E", ""),
            ("F", "a#b"),
        ];
        for (name, value) in expected {
            assert_eq!(
                variables.get(name).map(String::as_str),
                Some(value),
                "{name}"
            );
        }
        assert_eq!(variables.len(), expected.len());
    }

    #[test]
    fn a_broken_dotenv_line_is_named_by_number() {
        for (text, line, what) in [
            ("A=1\nsecret", 2, "not of the form NAME=value"),
            ("1A=secret", 1, "not of the form NAME=value"),
            ("=secret", 1, "not of the form NAME=value"),
            ("A='secret", 1, "a quote is not closed on its line"),
            ("A=\"secret\\", 1, "a quote is not closed on its line"),
            ("A=\"x\"secret", 1, "something follows the closing quote"),
        ] {
            assert_eq!(variables(text), Err((line, what)), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_without_dollars_is_left_alone(text in "[^$]*") {
            prop_assert_eq!(expand(&text), Ok(text));
        }

        #[test]
        fn doubled_dollars_give_any_text_back(text in "[${}A:\\-ü]{0,20}|\\PC*") {
            prop_assert_eq!(expand(&text.replace('$', "$$")), Ok(text));
        }
    }
}
