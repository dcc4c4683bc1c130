//! What is not there, and what one run can leave for the next: nothing.

use super::*;

#[test]
fn nothing_reaches_outside() {
    for name in [
        "io",
        "require",
        "package",
        "debug",
        "load",
        "loadstring",
        "loadfile",
        "dofile",
        "collectgarbage",
        "coroutine",
        "warn",
        "print",
        "string.dump",
        "('').dump",
        "string.pack",
        "os.execute",
        "os.exit",
        "os.getenv",
        "os.remove",
        "os.rename",
        "os.tmpname",
        "os.setlocale",
        "math.randomseed",
        "_G.io",
        "_ENV.load",
        "_G._G.debug",
        "getmetatable(_G)",
        "getmetatable('')",
        "getmetatable(request.headers)",
        "getmetatable(log)",
    ] {
        let found = value(name);
        assert!(found == "nil" || found == "false", "{name}: {found}");
    }
    for name in ["os.time", "os.date", "os.clock", "os.difftime"] {
        assert!(
            value(name).starts_with("builtin: ") || value(name).starts_with("function: "),
            "{name}"
        );
    }
}

#[test]
fn bytecode_is_no_script() {
    let error = Program::load("test", &script("\u{1b}Lua")).unwrap_err();
    assert_eq!(error.line, Some(1));
}

/// Runs a script that tries to leave something behind, and then looks for it.
fn leaves_nothing(attempt: &str, look: &str) {
    let text = format!(
        "if metadata.tier == 'gold' then {attempt} return true end
        return {{ allow = ({look}) == nil, message = tostring({look}) }}"
    );
    let program = load(&text);
    judge(&program).expect(attempt);
    let input = DecisionInput {
        api_key: KEY,
        data: &Map::new(),
        request: view(&[]),
        metadata: &BTreeMap::new(),
    };
    let after = program.decide(&input).expect(look);
    assert!(after.allow, "{attempt}: {:?}", after.message);
    assert_eq!(program.idle(), 1, "both ran on the same machine");
}

#[test]
fn one_run_leaves_nothing_for_the_next() {
    for (attempt, look) in [
        ("x = 1", "x"),
        ("_G.x = 1", "_G.x"),
        ("_ENV.x = 1", "x"),
        ("rawset(_G, 'x', 1)", "x"),
        ("string.x = 1", "string.x"),
        (
            "string.upper = function() return 'evil' end",
            "string.upper('a') ~= 'A' or nil",
        ),
        (
            "string.upper = function() return 'evil' end",
            "('a'):upper() ~= 'A' or nil",
        ),
        ("rawset(string, 'x', 1)", "string.x"),
        ("table.insert(table, 1)", "table[1]"),
        ("math.pi = 3", "math.pi == 3 or nil"),
        ("json.null = false", "json.null == false or nil"),
        ("log.info = nil log.x = 1", "log.x"),
        ("setmetatable(string, { __index = { x = 1 } })", "string.x"),
        (
            "setmetatable(request, { __index = { x = 1 } })",
            "request.x",
        ),
        ("request.x = 1 metadata.x = 1", "request.x or metadata.x"),
        ("request.headers.x = 1", "request.headers.x"),
        (
            "pcall = nil type = nil",
            "pcall == nil or type == nil or nil",
        ),
        ("pcall(setmetatable, _G, { __index = { x = 1 } })", "x"),
        (
            "pcall(setmetatable, request.headers, { __index = { x = 1 } })",
            "request.headers.x",
        ),
        (
            "pcall(function() getmetatable('').__index.x = 1 end)",
            "('').x",
        ),
        (
            "pcall(json.array, request.headers)",
            "json.encode(request.headers) ~= '{}' or nil",
        ),
    ] {
        leaves_nothing(attempt, look);
    }
}

#[test]
fn locked_metatables_stay() {
    for text in [
        "setmetatable(_G, {})",
        "setmetatable(request.headers, {})",
        "setmetatable(log, nil)",
        "setmetatable(json.decode('[]'), {})",
        "setmetatable(setmetatable({}, { __metatable = 1 }), {})",
    ] {
        assert_eq!(
            failure(text).message,
            "cannot change a protected metatable",
            "{text}"
        );
    }
    assert_eq!(
        value("getmetatable(setmetatable({}, { __metatable = 1 }))"),
        "1"
    );
}

#[test]
fn objects_work_as_everywhere_in_lua() {
    let text = "
        local Account = {}
        Account.__index = Account
        setmetatable(Account, { __call = function(class, n) return setmetatable({ n = n }, class) end })
        function Account:add(n) self.n = self.n + n return self end
        Account.__eq = function(a, b) return a.n == b.n end
        Account.__lt = function(a, b) return a.n < b.n end
        Account.__tostring = function(a) return 'account of ' .. a.n end
        local a, b = Account(1), Account(2)
        assert(a < b and a:add(1) == b and tostring(a) == 'account of 2')
        assert(getmetatable(a) == Account)
        setmetatable(a, nil)
        assert(getmetatable(a) == nil and a.add == nil)
        setmetatable(a, Account)
        assert(a.add)
        return true";
    assert!(decide(text).unwrap().allow);
}

#[test]
fn a_metatable_counts_as_it_is_when_it_is_set() {
    assert_eq!(
        value(
            "(function() local m = {} local t = setmetatable({}, m) m.__index = { x = 1 } return t.x end)()"
        ),
        "nil"
    );
}
