//! Loading, reloading, sharing.

use std::fs;
use std::path::PathBuf;
use std::thread;

use prometheus::{Encoder as _, Registry, TextEncoder};

use super::*;

/// A script in a file of its own.
struct File {
    dir: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let file = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        file.write(text);
        file
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("vip.lua")
    }

    /// As editors and configuration management do it, so that the file is another one.
    fn write(&self, text: &str) {
        let new = self.dir.path().join("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path()).unwrap();
    }

    fn script(&self) -> Script {
        Script {
            source: ScriptSource::File(self.path()),
            ..script("")
        }
    }
}

fn says(program: &Program) -> String {
    program.hurry();
    judge(program).unwrap().message.unwrap()
}

#[test]
fn a_script_that_is_no_lua_is_refused_with_its_line() {
    let error = Program::load("vip", &script("local a = 1\nif a then return true")).unwrap_err();
    assert_eq!(error.line, Some(2));
    assert_eq!(
        error.to_string(),
        "script vip (line 2): 'end' expected near <eof>"
    );
    let file = File::new("return 1 +\n\nreturn");
    let error = Program::load("vip", &file.script()).unwrap_err();
    let place = format!("script vip ({}:3): ", file.path().display());
    assert!(error.to_string().starts_with(&place), "{error}");
}

#[test]
fn a_script_that_uses_its_inputs_loads() {
    // It is compiled, not tried out.
    load("return request.headers['x-a'] == 'b' and not error_message and log('x')");
}

#[test]
fn a_file_that_cannot_be_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let at = |path: PathBuf| Script {
        source: ScriptSource::File(path),
        ..script("")
    };
    let missing = Program::load("vip", &at(dir.path().join("none.lua"))).unwrap_err();
    assert!(
        missing
            .to_string()
            .contains("none.lua): cannot read it: No such file"),
        "{missing}"
    );
    let directory = Program::load("vip", &at(dir.path().to_owned())).unwrap_err();
    assert!(
        directory.message.starts_with("cannot read it"),
        "{directory}"
    );
    fs::write(dir.path().join("b.lua"), b"return '\xff'").unwrap();
    let bytes = Program::load("vip", &at(dir.path().join("b.lua"))).unwrap_err();
    assert_eq!(bytes.message, "it is no UTF-8 text");
    fs::write(dir.path().join("c.lua"), vec![b' '; (1 << 20) + 1]).unwrap();
    let long = Program::load("vip", &at(dir.path().join("c.lua"))).unwrap_err();
    assert_eq!(long.message, "longer than 1048576 bytes");
}

#[test]
fn a_changed_file_is_read_again() {
    let file = File::new("return { message = 'one' }");
    let program = Program::load("vip", &file.script()).unwrap();
    assert_eq!(says(&program), "one");
    file.write("return { message = 'two' }");
    assert_eq!(says(&program), "two");
    assert_eq!(says(&program), "two");
}

#[test]
fn a_file_is_not_looked_at_with_every_run() {
    let file = File::new("return { message = 'one' }");
    let program = Program::load("vip", &file.script()).unwrap();
    assert_eq!(says(&program), "one");
    file.write("return { message = 'two' }");
    let at_once = judge(&program).unwrap().message;
    assert_eq!(at_once.as_deref(), Some("one"));
}

#[test]
fn a_broken_new_version_is_not_used() {
    let file = File::new("return { message = 'good' }");
    let program = Program::load("vip", &file.script()).unwrap();
    for broken in ["return {", "\u{1b}Lua", ""] {
        file.write(broken);
        program.hurry();
        if broken.is_empty() {
            // It is Lua, but decides nothing: that is no yes.
            assert!(judge(&program).is_err());
        } else {
            assert_eq!(says(&program), "good");
        }
    }
    file.write("return { message = 'better' }");
    assert_eq!(says(&program), "better");
    fs::remove_file(file.path()).unwrap();
    assert_eq!(says(&program), "better");
    file.write("return { message = 'best' }");
    assert_eq!(says(&program), "best");
}

#[test]
fn machines_are_kept_up_to_a_bound() {
    let program = load("return true");
    let most = thread::available_parallelism()
        .map_or(2, usize::from)
        .clamp(2, 64);
    // A run within a run needs a machine of its own.
    fn nested(program: &Program, depth: usize) {
        let take = |_: &mlua::MultiValue| {
            if depth > 1 {
                nested(program, depth - 1);
            }
            Ok(())
        };
        program.run("", |_| Ok(()), take).unwrap();
    }
    nested(&program, most - 1);
    assert_eq!(program.idle(), most - 1);
    nested(&program, most + 3);
    assert_eq!(program.idle(), most);
}

#[test]
fn threads_do_not_see_each_other() {
    let program =
        load("seen = (seen or 0) + 1 return { message = request.headers['x-team'] .. seen }");
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    assert_eq!(judge(&program).unwrap().message.as_deref(), Some("search1"));
                }
            });
        }
    });
}

#[test]
fn runs_are_counted_by_how_they_end() {
    let registry = Registry::new();
    let metrics = ScriptMetrics::register(&registry).unwrap();
    let text = "local what = request.headers['x-what']
        if what == 'error' then error('x') elseif what == 'timeout' then while true do end
        elseif what == 'memory' then return ('x'):rep(1e9) end
        return true";
    let program = load(text).metered(&metrics);
    for what in ["ok", "ok", "error", "timeout", "memory"] {
        let input = DecisionInput {
            api_key: KEY,
            data: &Map::new(),
            request: view(&[("x-what", what)]),
            metadata: &BTreeMap::new(),
        };
        let _failed = program.decide(&input).is_err();
    }
    let mut rendered = Vec::new();
    TextEncoder::new()
        .encode(&registry.gather(), &mut rendered)
        .unwrap();
    let rendered = String::from_utf8(rendered).unwrap();
    for line in [
        r#"llmproxy_script_runs_total{result="ok",script="test"} 2"#,
        r#"llmproxy_script_runs_total{result="error",script="test"} 1"#,
        r#"llmproxy_script_runs_total{result="timeout",script="test"} 1"#,
        r#"llmproxy_script_runs_total{result="memory",script="test"} 1"#,
        r#"llmproxy_script_seconds_count{script="test"} 5"#,
    ] {
        assert!(rendered.contains(line), "{line} is not in\n{rendered}");
    }
}
