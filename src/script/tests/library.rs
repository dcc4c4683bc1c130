//! `json`, `time`, `hash`, `string_utils`, `log`.

use super::*;

#[test]
fn json_goes_back_and_forth() {
    for text in [
        "null",
        "true",
        "[]",
        "{}",
        "[[],{},[null]]",
        "9223372036854775807",
        "-9223372036854775808",
        "9007199254740993",
        "1.0",
        "0.1",
        "1e+300",
        r#""a\"b\\c\n\u0001ü😀""#,
        r#"{"a":1,"b":[1,2,{"c":null}],"z":false}"#,
    ] {
        let quoted = format!("[==[{text}]==]");
        assert_eq!(value(&format!("json.encode(json.decode({quoted}))")), text);
    }
}

#[test]
fn json_numbers_stay_what_they_are() {
    assert_eq!(value("math.type(json.decode('1'))"), "integer");
    assert_eq!(value("math.type(json.decode('1.0'))"), "float");
    assert_eq!(
        value("math.type(json.decode('18446744073709551615'))"),
        "float"
    );
    assert_eq!(value("json.encode(3)"), "3");
    assert_eq!(value("json.encode(3.0)"), "3.0");
}

#[test]
fn json_null_is_a_value_of_its_own() {
    assert_eq!(value("json.decode('null') == json.null"), "true");
    assert_eq!(value("json.decode('{\"a\":null}').a == json.null"), "true");
    assert_eq!(
        value("json.encode({ a = json.null, b = nil })"),
        r#"{"a":null}"#
    );
}

#[test]
fn json_tells_lists_from_objects() {
    assert_eq!(value("json.encode({})"), "{}");
    assert_eq!(value("json.encode(json.array({}))"), "[]");
    assert_eq!(value("json.encode({ 1, 2 })"), "[1,2]");
    assert_eq!(value("json.encode({ 'x', n = 1 })"), r#"{"1":"x","n":1}"#);
    assert_eq!(value("json.encode({ [2] = 'x' })"), r#"{"2":"x"}"#);
    assert_eq!(
        value("json.encode({ b = 1, a = 2, c = 3 })"),
        r#"{"a":2,"b":1,"c":3}"#
    );
}

#[test]
fn json_complains_without_quoting() {
    for (text, message) in [
        (
            "json.decode('{\"secret\": x}')",
            "no JSON: expected value at line 1 column 12",
        ),
        (
            "json.decode('1 2')",
            "no JSON: trailing characters at line 1 column 3",
        ),
        (
            "json.decode('')",
            "no JSON: EOF while parsing a value at line 1 column 0",
        ),
        (
            "json.decode(('['):rep(65) .. (']'):rep(65))",
            "nested deeper than 64 levels",
        ),
        (
            "json.encode(0/0)",
            "cannot encode a number that is not finite",
        ),
        ("json.encode(type)", "cannot encode a function"),
        (
            "json.encode('\\xff')",
            "cannot encode a text that is not UTF-8",
        ),
        (
            "json.encode({ [true] = 1 })",
            "cannot encode a table with a boolean as a key (texts and whole numbers are possible)",
        ),
        (
            "local t = {} t.t = t json.encode(t)",
            "nested deeper than 64 levels",
        ),
    ] {
        assert_eq!(failure(text).message, message, "{text}");
    }
    assert_eq!(
        value("#json.encode(json.decode(('['):rep(64) .. (']'):rep(64)))"),
        "128"
    );
}

#[test]
fn times_are_unix_seconds_written_as_people_want_them() {
    assert_eq!(value("time.format(0)"), "1970-01-01T00:00:00+00:00");
    assert_eq!(
        value("time.format(1700000000, '%Y-%m-%d %H:%M', 'Europe/Berlin')"),
        "2023-11-14 23:13"
    );
    assert_eq!(value("time.format(1700000000.5, '%a %-H')"), "Tue 22");
    assert_eq!(value("time.parse('2023-11-14T22:13:20Z')"), "1700000000");
    assert_eq!(
        value("time.parse('2023-11-14 23:13:20', '%Y-%m-%d %H:%M:%S', 'Europe/Berlin')"),
        "1700000000"
    );
    assert_eq!(
        value("time.parse('2023-11-14 23:13:20 +0100', '%Y-%m-%d %H:%M:%S %z')"),
        "1700000000"
    );
    assert_eq!(value("time.parse('2023-11-14', '%Y-%m-%d')"), "1699920000");
    assert_eq!(
        value("select(2, time.parse('tomorrow'))"),
        "the text is no such time"
    );
    assert_eq!(
        value("time.now() == now() and now_ms() // 1000 - now() < 2"),
        "true"
    );
    for text in [
        "time.format(0, '%Y', 'Moon/Base')",
        "time.format(1e30)",
        "time.format(0, '%!')",
        "time.format(0/0)",
        "time.format(0, ('%Y'):rep(200))",
    ] {
        assert_eq!(failure(text).failure, Failure::Error, "{text}");
    }
}

#[test]
fn hashes_are_the_standard_ones() {
    assert_eq!(
        value("hash.sha256('abc')"),
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    );
    // RFC 4231, test case 2.
    assert_eq!(
        value("hash.hmac_sha256('Jefe', 'what do ya want for nothing?')"),
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
    );
    assert_eq!(value("#generate_uuid()"), "36");
    assert_eq!(value("generate_uuid() ~= generate_uuid()"), "true");
}

#[test]
fn string_utils_know_no_patterns() {
    assert_eq!(
        value("table.concat(string_utils.split('a.b..c', '.'), '|')"),
        "a|b||c"
    );
    assert_eq!(value("#string_utils.split('', ',')"), "1");
    assert_eq!(value("string_utils.trim(' \\t a b \\n')"), "a b");
    assert_eq!(value("string_utils.starts_with('a%b', 'a%')"), "true");
    assert_eq!(value("string_utils.ends_with('a.b', '.c')"), "false");
    assert_eq!(value("string_utils.contains('a.b', '.')"), "true");
    assert_eq!(value("string_utils.contains('ab', '.')"), "false");
    assert_eq!(
        value("string_utils.upper('aB') .. string_utils.lower('aB')"),
        "ABab"
    );
    let error = failure("string_utils.split('a', '')");
    assert_eq!(
        error.message,
        "bad argument #2 to 'split' (a separator of at least one byte is needed)"
    );
}

#[test]
fn logging_never_fails_a_script() {
    let text = "
        log('one', 2, nil, {}, true, type)
        log.debug('d') log.info('i') log.warn('w') log.error('e')
        log('\\xff\\0\\n' .. ('x'):rep(100000))
        for i = 1, 100 do log(i) end
        log(select(2, pcall(json.decode, '{')))
        return true";
    assert!(decide(text).unwrap().allow);
}
