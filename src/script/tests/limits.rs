//! Nothing goes on for ever. If a limit were broken, these tests would never end.

use super::*;

/// Runs a script that would go on for ever, or take all memory.
fn stopped(text: &str) -> ScriptError {
    let error = ends(text).expect_err(text);
    assert_ne!(error.failure, Failure::Error, "{text}: {error}");
    error
}

/// Runs a script that must end, one way or the other.
fn ends(text: &str) -> Result<Decision, ScriptError> {
    let hasty = Script {
        timeout: Duration::from_millis(200),
        ..script(text)
    };
    judge(&Program::load("test", &hasty).unwrap())
}

#[test]
fn an_endless_loop_is_stopped_and_its_line_named() {
    let error = failure("local x = 1\nwhile true do\n  x = x + 1\nend");
    assert_eq!(error.failure, Failure::Timeout);
    assert_eq!(
        error.message,
        "needs more than 1000000 instructions (max_instructions)"
    );
    assert!(matches!(error.line, Some(2 | 3)), "{error}");
    let error = failure("\n\ntable.sort({ 1, 2 }, function() while true do end end)");
    assert_eq!(error.line, Some(3));
    let error = failure("\n\ntable.move({}, 1, math.maxinteger, 2)");
    assert_eq!(error.line, Some(3));
}

#[test]
fn a_loop_that_is_too_slow_is_stopped_by_the_clock() {
    let slow = Script {
        timeout: Duration::from_millis(1),
        max_instructions: u64::MAX,
        ..script("while true do end")
    };
    let error = judge(&Program::load("test", &slow).unwrap()).unwrap_err();
    assert_eq!(error.failure, Failure::Timeout);
    assert_eq!(error.message, "takes longer than 1ms (timeout)");
}

#[test]
fn catching_the_error_does_not_help() {
    for text in [
        "while true do pcall(function() while true do end end) end",
        "local function f() while true do pcall(f) end end f()",
        "while true do pcall(pcall, pcall, function() while true do end end) end",
        "pcall(function() while true do end end) return true",
        "local ok = pcall(function() while true do end end) return ok or true",
        "while true do pcall(string.find, ('a'):rep(5000), ('a-'):rep(50) .. 'b') end",
        "while true do xpcall(function() while true do end end, function() while true do end end) end",
        "xpcall(function() while true do end end, function() while true do end end) return true",
        "xpcall(error, function() while true do end end)",
        "while true do local ok, e = pcall(error, setmetatable({}, { __tostring = function() while true do end end })) tostring(e) end",
        "error(setmetatable({}, { __tostring = function() while true do end end }))",
    ] {
        assert_eq!(stopped(text).failure, Failure::Timeout, "{text}");
    }
}

#[test]
fn what_would_run_without_being_counted_is_refused() {
    for field in ["__gc", "__close", "__mode"] {
        let error = failure(&format!("setmetatable({{}}, {{ {field} = 'k' }})"));
        assert_eq!(error.message, format!("{field} is not available"));
    }
    // Nor does it come in later, or by another door.
    let later = "local m = {} local t = setmetatable({}, m)
        m.__gc = function() while true do end end
        t = nil
        local s = '' for i = 1, 20000 do s = s .. 'x' end
        return true";
    assert!(ends(later).unwrap().allow);
    let later = "local m = {} local t = setmetatable({}, m)
        m.__close = function() while true do end end
        local x <close> = t
        while true do end";
    let error = failure(later);
    assert_eq!(error.message, "variable 'x' got a non-closable value");
    let caught = "local ok, e = pcall(json.decode, '{') local x <close> = e while true do end";
    assert_eq!(
        failure(caught).message,
        "variable 'x' got a non-closable value"
    );
    let caught =
        "xpcall(json.decode, function(e) local x <close> = e end, '{') local x <close> = json.null";
    assert_eq!(
        failure(caught).message,
        "variable 'x' got a non-closable value"
    );
    let iterated = "for _ in next, {}, nil, log do while true do end end";
    assert_eq!(
        failure(iterated).message,
        "variable '(for state)' got a non-closable value"
    );
}

#[test]
fn a_chain_of_calls_that_leads_nowhere_ends() {
    // Lua follows `__call` of `__call` without counting, in quadratic time.
    assert_eq!(
        failure("local m = {} local t = setmetatable({}, m) m.__call = t t()").line,
        Some(1)
    );
    let error = failure("setmetatable({}, { __call = {} })");
    assert_eq!(error.message, "__call must be a function");
    let error = failure("local t = {} t = setmetatable(t, { __index = t }) return t.x");
    assert_eq!(error.failure, Failure::Error);
}

#[test]
fn memory_is_limited() {
    for text in [
        "local t = {} for i = 1, math.huge do t[i] = i end",
        "local t = {} while true do t = { t } end",
        "local s = 'x' while true do s = s .. s end",
        "local s = 'x' for i = 1, 64 do s = s .. s .. 1 end",
        "return string.rep('x', 1 << 40)",
        "return ('x'):rep(1e9)",
        "return ('x'):rep(1 << 62, 'y')",
        "local t = {} while true do t[#t + 1] = ('x'):rep(100000) end",
        "local s = ('x'):rep(1000000) return (s:gsub('.', ('y'):rep(1000)))",
        "local s = ('x'):rep(1000000) return (s:gsub('.', { x = ('y'):rep(1000) }))",
        "local s = ('x'):rep(9000000) return s:upper() .. s:lower() .. s:reverse()",
        "local s = ('x'):rep(3000000) return table.concat({ s, s, s, s, s })",
        "return table.concat({ 1, 2, 3, 4, 5 }, ('x'):rep(3000000))",
        "local s = ('x'):rep(3000000) return string.format('%s%s%s%s%s', s, s, s, s, s)",
        "local t = {} for i = 1, 60 do t = { t, t } end return json.encode(t)",
        "local t = { ('x'):rep(4000000) } return json.encode({ t, t, t })",
        "return json.decode('[' .. ('{},'):rep(900000) .. '{}]')",
        "local function f() return 1 + f() end return f()",
    ] {
        let error = stopped(text);
        assert!(
            matches!(error.failure, Failure::Memory | Failure::Timeout),
            "{text}: {error}"
        );
    }
    let error = stopped("return ('x'):rep(1 << 40)");
    assert_eq!(
        error.message,
        "needs more than 10485760 bytes of memory (max_memory)"
    );
}

#[test]
fn functions_over_tables_are_counted_whatever_a_metatable_says() {
    let endless = "local t = setmetatable({}, {
        __len = function() return math.maxinteger - 1 end,
        __index = function(_, i) return i end,
        __newindex = function() end,
    })\n";
    for call in [
        "table.insert(t, 1, 'x')",
        "table.remove(t, 1)",
        "table.sort(t)",
        "table.sort(t, rawequal)",
        "table.concat(t)",
        "table.move(t, 1, math.maxinteger - 1, 2)",
        "table.move(t, 1, math.maxinteger - 1, 2, {})",
        "for _ in ipairs(t) do end",
    ] {
        stopped(&format!("{endless}{call}"));
    }
    // In C these would never end: nothing in them is an instruction.
    let silent = "local t = setmetatable({}, { __len = function() return 1 << 61 end })\n";
    for call in [
        "table.insert(t, 1, 'x')",
        "table.remove(t, 1)",
        "table.sort(t, rawequal)",
        "table.move(t, 1, 1 << 61, 2)",
        "table.sort(setmetatable({}, { __len = function() return 1 << 30 end }), rawequal)",
    ] {
        stopped(&format!("{silent}{call}"));
    }
    for call in [
        "table.unpack(t)",
        "table.unpack({}, 1, 1e8)",
        "table.unpack({}, math.mininteger, math.maxinteger)",
    ] {
        let error = failure(&format!("{silent}{call}"));
        assert_eq!(
            error.message, "too many results to unpack (at most 10000)",
            "{call}"
        );
    }
    assert_eq!(
        failure(&format!("{silent}table.concat(t)")).failure,
        Failure::Error
    );
}

#[test]
fn a_comparison_that_makes_no_sense_ends_sorting_all_the_same() {
    let text = "local t = {} for i = 1, 1000 do t[i] = i % 7 end
        table.sort(t, function() return true end)
        table.sort(t, function() return math.random() < 0.5 end)
        return #t == 1000";
    assert!(decide(text).unwrap().allow);
    stopped("local t = { 1, 2 } table.sort(t, function() while true do end end)");
}

#[test]
fn patterns_that_backtrack_are_stopped() {
    for pattern in [
        "('a?'):rep(30) .. ('a'):rep(30) .. 'b'",
        "('a*'):rep(12) .. 'b'",
        "('a-'):rep(12) .. 'b'",
        "('.-'):rep(8) .. 'b'",
        "('(.-)'):rep(8) .. 'b'",
        "'(.-)(.-)(.-)%1%2%3b'",
    ] {
        for call in [
            "find(s, p)",
            "match(s, p)",
            "gsub(s, p, 'x')",
            "gmatch(s, p)()",
        ] {
            let text = format!("local s, p = ('a'):rep(3000), {pattern} string.{call}");
            assert_eq!(stopped(&text).failure, Failure::Timeout, "{text}");
        }
    }
    stopped("local s = ('('):rep(300000) return s:find('%b()')");
    stopped("local s = ('a'):rep(100000) return s:find('.-.-b')");
}

#[test]
fn long_work_in_our_own_functions_is_counted() {
    for text in [
        "local s = ('x'):rep(1000000) while true do s:find('y', 1, true) end",
        "local s = ('x'):rep(1000000) while true do string_utils.contains(s, 'y') end",
        "local s = (' '):rep(1000000) while true do string_utils.trim(s) end",
        "local s = (','):rep(100000) while true do string_utils.split(s, ',') end",
        "local s = ('x'):rep(1000000) while true do hash.sha256(s) end",
        "local s = ('x'):rep(1000000) while true do hash.hmac_sha256(s, s) end",
        "local s = '[' .. ('1,'):rep(10000) .. '1]' while true do json.decode(s) end",
        "local t = {} for i = 1, 1000 do t[i] = i end while true do json.encode(t) end",
        "local t = {} for i = 1, 25 do t = { t, t } end return json.encode(t)",
        "while true do ('x'):rep(100000) end",
        "while true do log('x') end",
        "while true do time.format(0, '%Y') end",
        "('x'):rep(1000):gsub('', function() while true do end end)",
        "('x'):rep(1000):gsub('.', setmetatable({}, { __index = function() while true do end end }))",
    ] {
        stopped(text);
    }
}

#[test]
fn standard_functions_in_c_end_by_themselves() {
    for text in [
        // Two digits are all a width may have.
        "return ('%999d'):format(1)",
        "return ('%99.99f'):format(1e308) == ''",
        "return #('%99d'):rep(200):format(table.unpack({}, 1, 200)) > 0",
        "while true do utf8.len(('x'):rep(1000)) end",
        "while true do utf8.codepoint(('x'):rep(1000), 1, -1) end",
        "return #{ utf8.codepoint(('x'):rep(9000000), 1, -1) }",
        "return #{ string.byte(('x'):rep(9000000), 1, -1) }",
        "for p, c in utf8.codes(('x'):rep(9000000)) do end",
        "while true do utf8.offset(('x'):rep(1000), 900) end",
        "return utf8.char(table.unpack({}, 1, 9000))",
        "return tonumber(('9'):rep(1000000)) == 1",
        "return ('9'):rep(1000000) + 0 == 1",
        "return tonumber(('z'):rep(1000000), 36) == 1",
        "return os.date(('%c'):rep(1000)) == ''",
        "return os.date('%Ez') == ''",
        "return os.time({ year = 1 << 40, month = 1, day = 1 }) == 0",
        "return select(-1, table.unpack({}, 1, 9000)) == 1",
        "while true do select('#', table.unpack({}, 1, 9000)) end",
        "local t = {} for i = 1, 60000 do t[i] = i end for i = 1, 60000 do t[i] = nil end while true do next(t) end",
        "local t = setmetatable({}, { __tostring = tostring }) return tostring(t) == ''",
        "local t = setmetatable({}, { __name = ('x'):rep(100000) }) return #tostring(t) > 0",
        "local t = setmetatable({}, { __tostring = function() return 1 end }) return tostring(t) == 1",
        "local m = {} m.__call = pcall local t = setmetatable({}, m) return t()",
        "local t = {} setmetatable(t, { __index = function(t, k) return t[k] end }) return t.x",
        "local t = {} setmetatable(t, { __eq = function(a, b) return a == b end }) return t == setmetatable({}, getmetatable(t))",
        "local t = setmetatable({}, { __concat = function(a, b) return a .. b end }) return t .. t",
        "local t = setmetatable({}, { __pairs = function() return function() return 1 end end }) for _ in pairs(t) do end",
        "local function f(n) return ('x'):gsub('x', function() return f(n + 1) end) end return f(0)",
        "local function f() return pcall(f) end return f()",
        "local function f() return xpcall(f, f) end return f()",
        "local function f() table.sort({ 1, 2 }, f) end f()",
        "local function f() f() end f()",
        "local function f() return f() end f()",
        "local t = {} for i = 1, 1000 do t = { t } end return json.encode(t)",
        "local t = {} t.t = t return json.encode(t)",
        "return json.decode(('['):rep(100000))",
        "goto a ::a:: do goto a end",
        "for i = 1, 0, -1e-300 do end return 1",
        "repeat until false",
        "local s = ('x'):rep(5000000) while true do local _ = s .. 'y' end",
        "local s = ('x'):rep(1000000) while s .. 'y' > s .. 'x' do end",
    ] {
        let _ended = ends(text).is_ok();
    }
}

#[test]
fn recursion_fits_on_a_small_stack() {
    let run = || {
        for text in [
            "local function f(n) return ('x'):gsub('x', function() return f(n + 1) end) end return f(0)",
            "local function f() return pcall(f) end return f()",
            "local function f() return xpcall(f, f) end return f()",
            "local function f() return tostring(setmetatable({}, { __tostring = f })) end return f()",
            "local t = {} setmetatable(t, { __index = function(t, k) return t[k] end }) return t.x",
            "local t = {} for i = 1, 63 do t = { t } end return #json.encode(t) > 0",
            "return #json.encode(json.decode(('['):rep(64) .. (']'):rep(64))) == 128",
            "local function f() f() end f()",
        ] {
            let _ended = ends(text).is_ok();
        }
        let nested = format!("return {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(Program::load("test", &script(&nested)).is_err());
        let nested = format!("{}{}", "do ".repeat(10_000), "end ".repeat(10_000));
        assert!(Program::load("test", &script(&nested)).is_err());
    };
    // A quarter of what the gateway's threads have.
    let thread = std::thread::Builder::new().stack_size(512 << 10);
    thread.spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_machine_that_was_stopped_is_not_used_again() {
    let program = load("if metadata.tier == 'gold' then while true do end end return true");
    assert_eq!(program.idle(), 1);
    assert_eq!(judge(&program).unwrap_err().failure, Failure::Timeout);
    assert_eq!(program.idle(), 0);
    // The next run has the whole budget again.
    let input = DecisionInput {
        api_key: KEY,
        data: &Map::new(),
        request: view(&[]),
        metadata: &BTreeMap::new(),
    };
    assert!(program.decide(&input).unwrap().allow);
}

#[test]
fn what_one_run_leaves_behind_is_no_ones_debt() {
    let program = load("local t = {} for i = 1, 10 do t[i] = ('x'):rep(900000) end return true");
    for _ in 0..20 {
        assert!(judge(&program).unwrap().allow);
    }
    assert_eq!(program.idle(), 1);
}
