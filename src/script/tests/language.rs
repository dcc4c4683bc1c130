//! The functions that replace standard ones do what those do.

use super::*;

#[test]
fn tables_are_handled_as_in_standard_lua() {
    let text = "
        local function list(t) return table.concat(t, ',') end
        local t = { 1, 2, 3 }
        table.insert(t, 4) table.insert(t, 1, 0) table.insert(t, 6, 5)
        assert(list(t) == '0,1,2,3,4,5')
        assert(table.remove(t) == 5 and table.remove(t, 1) == 0 and table.remove(t, 2) == 2)
        assert(list(t) == '1,3,4')
        assert(table.remove(t, 4) == nil and table.remove({}) == nil and table.remove({}, 0) == nil)
        assert(not pcall(table.remove, t, 6) and not pcall(table.insert, t, 5, 1) and not pcall(table.insert, t))
        assert(list(table.move({ 1, 2, 3 }, 1, 3, 2)) == '1,1,2,3')
        assert(list(table.move({ 1, 2, 3 }, 2, 3, 1)) == '2,3,3')
        assert(list(table.move({ 1, 2, 3 }, 1, 2, 2, { 9, 9, 9 })) == '9,1,2')
        assert(table.concat({ 1, 'a', 2.5 }) == '1a2.5' and table.concat({ 1, 2, 3 }, '-', 2, 3) == '2-3')
        assert(table.concat({}) == '' and table.concat({ 1 }, ',', 2) == '')
        assert(not pcall(table.concat, { 1, {} }))
        local a, b, c = table.unpack({ 1, 2, 3 }, 2)
        assert(a == 2 and b == 3 and c == nil and select('#', table.unpack({}, 1, 3)) == 3)
        assert(table.pack(1, nil, 3).n == 3)
        return true";
    assert!(decide(text).unwrap().allow);
}

#[test]
fn sorting_sorts() {
    let text = "
        for n = 0, 40 do
            local t = {}
            for i = 1, n do t[i] = (i * 7919) % 41 end
            table.sort(t)
            for i = 2, n do assert(t[i - 1] <= t[i]) end
            table.sort(t, function(a, b) return a > b end)
            for i = 2, n do assert(t[i - 1] >= t[i]) end
        end
        local words = { 'pear', 'apple', 'fig' }
        table.sort(words)
        assert(table.concat(words, ' ') == 'apple fig pear')
        return true";
    assert!(decide(text).unwrap().allow);
    assert_eq!(
        failure("table.sort({ 1, 'a' })").message,
        "attempt to compare string with number"
    );
}

#[test]
fn calls_can_be_protected() {
    let text = "
        local ok, a, b = pcall(function(x) return x, 2 end, 1)
        assert(ok and a == 1 and b == 2)
        ok, a = pcall(error, 'plain')
        assert(not ok and a == 'plain')
        ok, a = pcall(error, { code = 7 })
        assert(a.code == 7)
        ok, a = pcall(json.decode, '{')
        assert(type(a) == 'string' and a:find('no JSON', 1, true))
        ok, a = pcall(function() error('here') end)
        assert(a == 'script:10: here', a)
        ok, a = xpcall(function() error('x', 0) end, function(e) return e .. '!' end)
        assert(not ok and a == 'x!')
        ok, a = xpcall(function(x) return x end, error, 5)
        assert(ok and a == 5)
        return true";
    assert!(decide(text).unwrap().allow);
}

#[test]
fn texts_repeat_and_iterate() {
    assert_eq!(value("('ab'):rep(3)"), "ababab");
    assert_eq!(value("('ab'):rep(3, '-')"), "ab-ab-ab");
    assert_eq!(
        value("('ab'):rep(0) .. ('ab'):rep(-1) .. (''):rep(1 << 60)"),
        ""
    );
    assert_eq!(
        value(
            "(function() local r = '' for k, v in ('a=1, b=2'):gmatch('(%w+)=(%w+)') do r = r .. k .. v end return r end)()"
        ),
        "a1b2"
    );
    assert_eq!(
        value(
            "(function() local n = 0 for _ in ('abc'):gmatch('') do n = n + 1 end return n end)()"
        ),
        "4"
    );
    assert_eq!(
        value(
            "(function() local r = '' for w in ('one two'):gmatch('%a+', 3) do r = r .. w .. '.' end return r end)()"
        ),
        "e.two."
    );
}

#[test]
fn random_numbers_stay_in_their_range() {
    let text = "
        for i = 1, 1000 do
            local a, b, c = math.random(), math.random(6), math.random(-2, 2)
            assert(a >= 0 and a < 1 and b >= 1 and b <= 6 and c >= -2 and c <= 2)
            assert(math.type(b) == 'integer')
        end
        assert(math.type(math.random(0)) == 'integer' and not pcall(math.random, 2, 1))
        return true";
    assert!(decide(text).unwrap().allow);
}
