use std::path::Path;

use proptest::prelude::{any, prop_assert, prop_oneof, proptest};
use proptest::strategy::{Just, Strategy};

use super::*;

const DRIVERS: [Driver; 3] = [Driver::Sqlite, Driver::Postgres, Driver::Mysql];

fn server(driver: Driver, dsn: &str) -> Server {
    match parse(driver, dsn) {
        Ok(Target::Postgres(server) | Target::Mysql(server)) => server,
        other => panic!("{dsn}: {other:?}"),
    }
}

/// `user password host:port/database` of what it reads.
fn read(driver: Driver, dsn: &str) -> String {
    let server = server(driver, dsn);
    let password = server.password.as_ref().map_or("-", Secret::expose);
    format!("{} {password} {}", server.user, server.place())
}

fn fault(driver: Driver, dsn: &str) -> String {
    match parse(driver, dsn) {
        Ok(target) => panic!("{dsn} is {target:?}"),
        Err(fault) => fault,
    }
}

#[test]
fn urls_and_gos_form_name_the_same_mysql() {
    for (dsn, expected) in [
        ("mysql://u:p@db:3307/bills", "u p db:3307/bills"),
        ("mariadb://u:p@db/bills", "u p db:3306/bills"),
        ("mysql://u%40x:p%2F%3A@[::1]:1/b", "u@x p/: [::1]:1/b"),
        (
            "mysql://u@/b?socket=/run/my.sock",
            "u - unix(/run/my.sock)/b",
        ),
        ("u:p@tcp(db:3307)/bills", "u p db:3307/bills"),
        (
            "u:p@tcp(db)/bills?parseTime=true&loc=Local",
            "u p db:3306/bills",
        ),
        ("u:p@tcp([de:ad::1]:80)/b", "u p [de:ad::1]:80/b"),
        ("u:p@tcp(:3307)/b", "u p 127.0.0.1:3307/b"),
        ("u:p@/b", "u p 127.0.0.1:3306/b"),
        ("u:p@tcp/b?charset=utf8mb4", "u p 127.0.0.1:3306/b"),
        ("u@unix(/run/my.sock)/b", "u - unix(/run/my.sock)/b"),
        ("u:p@ss/w:rd?%41&@tcp(db:1)/b", "u p@ss/w:rd?%41& db:1/b"),
        ("u:@tcp(db)/b%2Fc", "u  db:3306/b/c"),
    ] {
        assert_eq!(read(Driver::Mysql, dsn), expected, "{dsn}");
    }
}

#[test]
fn urls_and_words_name_the_same_postgres() {
    for (dsn, expected) in [
        ("postgres://u:p@db:5433/bills", "u p db:5433/bills"),
        (
            "postgresql://u:p@db/bills?sslmode=disable",
            "u p db:5432/bills",
        ),
        ("postgres://u:p%20%40@db", "u p @ db:5432/u"),
        ("postgres://u@/b?host=/run/pg&port=7", "u - unix(/run/pg)/b"),
        ("postgres://u@%2Frun%2Fpg/b", "u - unix(/run/pg)/b"),
        ("postgres:///b?user=u&password=p", "u p localhost:5432/b"),
        (
            "host=db port=5433 user=u password=p dbname=b",
            "u p db:5433/b",
        ),
        (
            "host=db user=u password='a b\\'c\\\\' dbname=b",
            "u a b'c\\ db:5432/b",
        ),
        ("user = u  password='' host=/run/pg", "u  unix(/run/pg)/u"),
        (
            "user=u password=a=b@c/d host=::1 TimeZone=Asia/Tokyo",
            "u a=b@c/d [::1]:5432/u",
        ),
    ] {
        assert_eq!(read(Driver::Postgres, dsn), expected, "{dsn}");
    }
    let server = server(Driver::Postgres, "user=u search_path=billing,public");
    assert_eq!(server.search_path.as_deref(), Some("billing,public"));
}

#[test]
fn an_sqlite_file_has_several_spellings() {
    for (dsn, path) in [
        ("./data/usage.db", "./data/usage.db"),
        ("usage.db", "usage.db"),
        ("/var/lib/usage.db", "/var/lib/usage.db"),
        ("sqlite:data/usage.db", "data/usage.db"),
        ("sqlite://data/usage.db", "data/usage.db"),
        ("sqlite:///var/usage.db", "/var/usage.db"),
        ("sqlite:/var/usage.db", "/var/usage.db"),
        ("sqlite://usage.db?mode=rwc", "usage.db"),
        ("file:usage.db?cache=shared&_busy_timeout=5000", "usage.db"),
        ("file:///var/usage.db", "/var/usage.db"),
    ] {
        assert_eq!(
            parse(Driver::Sqlite, dsn),
            Ok(Target::Sqlite(Path::new(path).to_owned())),
            "{dsn}"
        );
    }
}

#[test]
fn encryption_is_what_each_driver_calls_it() {
    use Encryption::{Off, Preferred, Required, VerifyCa, VerifyFull};
    for (parameter, expected) in [
        ("", Preferred),
        ("tls=true", VerifyFull),
        ("tls=skip-verify", Required),
        ("tls=preferred", Preferred),
        ("tls=false", Off),
        ("ssl-mode=VERIFY_CA", VerifyCa),
        ("ssl-mode=DISABLED", Off),
    ] {
        for dsn in [
            format!("u:p@/b?{parameter}"),
            format!("mysql://u@h/b?{parameter}"),
        ] {
            assert_eq!(server(Driver::Mysql, &dsn).encryption, expected, "{dsn}");
        }
    }
    for (mode, expected) in [
        ("disable", Off),
        ("prefer", Preferred),
        ("require", Required),
        ("verify-ca", VerifyCa),
        ("verify-full", VerifyFull),
    ] {
        for dsn in [
            format!("user=u sslmode={mode}"),
            format!("postgres://u@h/b?sslmode={mode}"),
        ] {
            assert_eq!(server(Driver::Postgres, &dsn).encryption, expected, "{dsn}");
        }
    }
    let certificates = server(
        Driver::Postgres,
        "user=u sslrootcert=/ca.pem sslcert=c sslkey=k",
    );
    assert_eq!(certificates.ca.as_deref(), Some(Path::new("/ca.pem")));
    assert!(certificates.cert.is_some() && certificates.key.is_some());
}

#[test]
fn an_authority_that_is_named_is_asked() {
    use Encryption::{VerifyCa, VerifyFull};
    for (driver, dsn, expected) in [
        (Driver::Postgres, "user=u sslrootcert=c", VerifyCa),
        (
            Driver::Postgres,
            "user=u sslmode=require sslrootcert=c",
            VerifyCa,
        ),
        (
            Driver::Postgres,
            "user=u sslmode=verify-full sslrootcert=c",
            VerifyFull,
        ),
        (Driver::Mysql, "mysql://u@h/b?ssl-ca=c", VerifyCa),
        (Driver::Mysql, "u@tcp(h)/b?tls=true&ssl-ca=c", VerifyFull),
    ] {
        assert_eq!(server(driver, dsn).encryption, expected, "{dsn}");
    }
    for (driver, dsn, why) in [
        (
            Driver::Postgres,
            "user=u sslmode=disable sslrootcert=c",
            "no encryption",
        ),
        (
            Driver::Mysql,
            "mysql://u@h/b?ssl-mode=disabled&ssl-cert=c&ssl-key=k",
            "no encryption",
        ),
        (Driver::Postgres, "user=u sslcert=c", "go together"),
        (Driver::Mysql, "mysql://u@h/b?ssl-key=k", "go together"),
    ] {
        let fault = parse(driver, dsn).unwrap_err();
        assert!(fault.contains(why), "{dsn}: {fault}");
    }
}

/// A driver, a DSN it cannot have, and what is said about that.
const WRONG: [(Driver, &str, &str); 30] = [
    (Driver::Mysql, "", "is empty"),
    (
        Driver::Mysql,
        "postgres://u:hunter2@h/b",
        "is a URL for postgres, but the driver is mysql",
    ),
    (
        Driver::Sqlite,
        "mysql://u:hunter2@h/b",
        "is a URL for mysql",
    ),
    (Driver::Mysql, "u:hunter2@tcp(h:3306)", "names no database"),
    (Driver::Mysql, "u:hunter2@tcp(h:3306)/", "names no database"),
    (
        Driver::Mysql,
        "u:hunter2@tcp(h:hunter2)/b",
        "the port is not a number",
    ),
    (
        Driver::Mysql,
        "u:hunter2@udp(h:3306)/b",
        "there must be tcp or unix",
    ),
    (Driver::Mysql, "u:hunter2@tcp(h:3306/b", "there must be `)`"),
    (Driver::Mysql, ":hunter2@tcp(h)/b", "names no user"),
    (
        Driver::Mysql,
        "u:hunter2@/b?tls=custom",
        "the parameter `tls` must be one of true",
    ),
    (
        Driver::Mysql,
        "u:hunter2@/b?time_zone=x",
        "the parameter `time_zone` is not known",
    ),
    (
        Driver::Mysql,
        "u:hunter2@/b?parseTime",
        "the parameter `parseTime` has no value",
    ),
    (
        Driver::Mysql,
        "u:hunter2@tcp(a b)/b",
        "holds a character no host has",
    ),
    (
        Driver::Postgres,
        "postgres://u:hunter2@::1/b",
        "must stand in brackets",
    ),
    (
        Driver::Postgres,
        "postgres://u:hunt/er2@h/b",
        "write %2F for `/`",
    ),
    (
        Driver::Postgres,
        "postgres://u:hunt?er2@h/b",
        "write %3F for `?`",
    ),
    (
        Driver::Postgres,
        "postgres://u:hunter2@h/b?sslmode=on",
        "`sslmode` must be one of disable",
    ),
    (
        Driver::Postgres,
        "postgres://u:hunter2@h/b?pooling=1",
        "the parameter `pooling` is not known",
    ),
    (
        Driver::Postgres,
        "postgres://u:hunter2@a,b/b",
        "more than one host",
    ),
    (
        Driver::Postgres,
        "u:hunter2@tcp(h)/b",
        "is neither a postgres:// URL nor words",
    ),
    (
        Driver::Postgres,
        "user=u password=a hunter2=b",
        "must stand in single quotes",
    ),
    (
        Driver::Postgres,
        "user=u password='hunter2",
        "opened and never closed",
    ),
    (Driver::Postgres, "host=h password=hunter2", "names no user"),
    (
        Driver::Postgres,
        "postgres://u:hunter2%00@h/b",
        "holds a control character",
    ),
    (Driver::Sqlite, ":memory:", "would be lost"),
    (Driver::Sqlite, "file:x?mode=memory", "would be lost"),
    (Driver::Sqlite, "sqlite:", "names no file"),
    (Driver::Sqlite, "file:///var/", "names no file"),
    (
        Driver::Sqlite,
        "a.db?mode=ro",
        "the parameter `mode` can only be rwc",
    ),
    (
        Driver::Sqlite,
        "a.db?vfs=x",
        "the parameter `vfs` is not known",
    ),
];

#[test]
fn what_is_wrong_is_named() {
    for (driver, dsn, expected) in WRONG {
        let fault = fault(driver, dsn);
        assert!(fault.contains(expected), "{dsn}: {fault}");
        assert!(!fault.contains("hunt") && !fault.contains("er2"), "{fault}");
    }
}

#[test]
fn a_password_is_not_shown() {
    let target = parse(Driver::Mysql, "u:hunter2@tcp(db:3306)/bills").unwrap();
    assert_eq!(target.shown(), "mysql db:3306/bills");
    assert!(!format!("{target:?}").contains("hunter2"));
}

#[test]
fn a_table_name_that_could_be_sql_is_refused() {
    for name in ["usage_records", "_", "T1", &"x".repeat(52)] {
        assert_eq!(table_name(name), Ok(()), "{name}");
    }
    for name in [
        "",
        "1st",
        "a-b",
        "a b",
        "a\"b",
        "tabelle_ä",
        "sqlite_x",
        &"x".repeat(53),
    ] {
        assert!(table_name(name).is_err(), "{name}");
    }
}

/// Pieces DSNs are made of, so that random ones get past the first check.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("postgres://".to_owned()),
        Just("mysql://".to_owned()),
        Just("@tcp(".to_owned()),
        Just("host=".to_owned()),
        Just("password='".to_owned()),
        Just("?tls=true&".to_owned()),
        "[\\]\\[@:/?&=%'\\\\() .,a-c0-9é]{0,4}",
    ];
    proptest::collection::vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn nothing_makes_it_panic(text in any::<String>(), pieces in pieces()) {
        for driver in DRIVERS {
            for dsn in [&text, &pieces] {
                if let Ok(target) = parse(driver, dsn) {
                    prop_assert!(target.driver() == driver);
                    prop_assert!(target.shown().starts_with(driver.as_str()));
                }
            }
        }
        prop_assert!(table_name(&text).is_err() || text.is_ascii());
    }

    #[test]
    fn no_fault_shows_a_password(password in "[@:/?&=%'\\\\() ]?Zq[@:/?&=%'\\\\() A-Z]{0,6}Xw", tail in pieces()) {
        for dsn in [
            format!("u:{password}@tcp(h)/b{tail}"),
            format!("mysql://u:{password}@h/b{tail}"),
            format!("postgres://u:{password}@h/b{tail}"),
            format!("user=u password={password} {tail}"),
        ] {
            for driver in DRIVERS {
                if let Err(fault) = parse(driver, &dsn) {
                    prop_assert!(!fault.contains("Zq") && !fault.contains("Xw"), "{dsn}: {fault}");
                }
            }
        }
    }
}
