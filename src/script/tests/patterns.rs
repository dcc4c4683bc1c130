//! Patterns mean what they mean in Lua.

use mlua::{Lua, MultiValue};
use proptest::prelude::*;

use super::*;
use crate::script::budget::Budget;
use crate::script::library::{self, Shared};

/// Both implementations, side by side.
struct Pair {
    lua: Lua,
    shared: std::sync::Arc<Shared>,
}

impl Pair {
    fn new() -> Self {
        let lua = Lua::new();
        let budget = Budget::new(&script(""));
        let shared = std::sync::Arc::new(Shared::new("test".into(), budget));
        let functions = library::functions(&lua, &shared).unwrap();
        lua.globals().set("ours", functions).unwrap();
        Self { lua, shared }
    }

    /// The results of an expression, as texts; `None` when it fails.
    fn results(&self, library: &str, call: &str, text: &[u8], pattern: &[u8]) -> Option<String> {
        self.shared.begin("");
        let chunk = format!("local lib, s, p = {library}, ... return {call}");
        let text = self.lua.create_string(text).unwrap();
        let pattern = self.lua.create_string(pattern).unwrap();
        let values: MultiValue = self.lua.load(chunk).call((text, pattern)).ok()?;
        Some(values.iter().map(|value| format!("{value:?};")).collect())
    }
}

const CALLS: [&str; 5] = [
    "lib.find(s, p)",
    "lib.find(s, p, 3)",
    "lib.match(s, p, -4)",
    "lib.gsub(s, p, '<%0%1>')",
    "lib.gsub(s, p, '.', 2)",
];

fn same(pair: &Pair, text: &[u8], pattern: &[u8]) {
    for call in CALLS {
        let theirs = pair.results("string", call, text, pattern);
        let ours = pair.results("ours", call, text, pattern);
        // We read the whole pattern before matching, so we complain where C never got to.
        if ours.is_some() {
            assert_eq!(
                ours,
                theirs,
                "{call} {:?} {:?}",
                text.escape_ascii().to_string(),
                pattern.escape_ascii().to_string()
            );
        }
    }
}

const PATTERNS: &[&str] = &[
    "",
    "a",
    ".",
    "a*",
    "a+",
    "a-",
    "a?",
    "a-b",
    "^a",
    "^",
    "$",
    "a$",
    "^$",
    "a^",
    "$a",
    ".-$",
    "^%s*(.-)%s*$",
    "%a+",
    "%A+",
    "%d",
    "%D",
    "%l",
    "%u",
    "%p",
    "%s",
    "%w",
    "%x",
    "%c",
    "%g",
    "%G*",
    "%z",
    "%.",
    "%%",
    "%(",
    "[abc]",
    "[^abc]",
    "[a-c]+",
    "[%a_]+",
    "[]]",
    "[^]]",
    "[a-]",
    "[]-a]",
    "[%]]",
    "[%a-z]",
    "(a)(b)",
    "((a)b)",
    "()",
    "()a()",
    "(a*(.)%w(%s*))",
    "%b()",
    "%bxx",
    "%f[%w]%w+",
    "%f[%W]",
    "%f[%z]",
    "(a)%1",
    "(a+)b%1",
    "(%w+)%s*=%s*(%w+)",
    "%d+%-%d+%-%d+",
    "(.-)b",
    "[\0-\u{7f}]",
];

#[test]
fn every_kind_of_item_matches_as_in_lua() {
    let pair = Pair::new();
    let texts: [&[u8]; 8] = [
        b"",
        b"abc",
        b"  trim me  ",
        b"key = value; other=(a(b)c)",
        b"THE (quick) fox",
        b"\0\xff\x80 bytes]-^",
        b"aaabbbaaab",
        b"2026-11-21T10:46:11Z",
    ];
    for text in texts {
        for pattern in PATTERNS {
            same(&pair, text, pattern.as_bytes());
        }
    }
}

#[test]
fn broken_patterns_are_errors_that_say_what_is_wrong() {
    for (pattern, message) in [
        ("%", "malformed pattern (ends with '%')"),
        ("[a", "malformed pattern (missing ']')"),
        ("[%", "malformed pattern (ends with '%')"),
        ("(a", "unfinished capture"),
        (
            "a)",
            "invalid pattern capture (a bracket closes what none has opened)",
        ),
        ("%1", "invalid capture index %1 in pattern"),
        ("(%1)", "invalid capture index %1 in pattern"),
        ("%0", "invalid capture index %0 in pattern"),
        ("%b", "malformed pattern (missing arguments to '%b')"),
        ("%fa", "missing '[' after '%f' in pattern"),
    ] {
        let error = failure(&format!("return ('x'):match('{pattern}')"));
        assert_eq!(error.message, message, "{pattern}");
    }
    let error = failure("return ('x'):match(('()'):rep(33))");
    assert_eq!(error.message, "too many captures (at most 32)");
    let error = failure("return ('x'):match(('.'):rep(4097))");
    assert_eq!(error.message, "pattern too long (4097 bytes, at most 4096)");
    let error = failure("return ('x'):match(('.?'):rep(201))");
    assert_eq!(
        error.message,
        "pattern too complex (more than 200 repetitions)"
    );
    assert!(
        decide("return ('x'):match(('.?'):rep(200)) == 'x'")
            .unwrap()
            .allow
    );
    let error = failure("return ('x'):gsub('x', '%2')");
    assert_eq!(
        error.message,
        "invalid capture index %2 in replacement string"
    );
    let error = failure("return ('x'):gsub('x', '%')");
    assert_eq!(error.message, "invalid use of '%' in replacement string");
    let error = failure("return ('x'):gsub('x', function() return {} end)");
    assert_eq!(error.message, "invalid replacement value (a table)");
    let error = failure("return ('x'):gsub('x', true)");
    assert_eq!(
        error.message,
        "bad argument #3 to 'gsub' (a text, table or function is needed, got boolean)"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_patterns_match_as_in_lua(
        text in "[ab()= -]{0,12}",
        pattern in "([ab.]|%[awsb]|\\[[ab^-]+\\]|\\(|\\)|\\^|\\$|%1|%f\\[a\\]|%b\\(\\)|[*+?-]){0,8}",
    ) {
        same(&Pair::new(), text.as_bytes(), pattern.as_bytes());
    }
}
