use std::collections::BTreeMap;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let home = [("HOME", "/home/someone")];
    home.iter().chain(pairs).map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(flags: Flags, pairs: &[(&str, &str)]) -> Result<Loaded, SettingsError> {
    let environment = environment(pairs);
    let loaded = resolve(&Layers::read(flags, &environment)?, &environment, false)?;
    loaded.settings.may_listen()?;
    Ok(loaded)
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    load(Flags::default(), pairs).expect("good settings").settings
}

fn refusal(pairs: &[(&str, &str)]) -> String {
    load(Flags::default(), pairs).expect_err("bad settings").to_string()
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), content).expect("written");
    file
}

fn path(file: &tempfile::NamedTempFile) -> &str {
    file.path().to_str().expect("a path in UTF-8")
}

#[test]
fn nothing_given_means_the_defaults() {
    let settings = settings(&[]);
    assert_eq!(settings.database_url, None);
    assert_eq!(settings.listen.to_string(), "127.0.0.1:8081");
    assert_eq!(settings.data_dir, Path::new("/home/someone/.local/share/rollcall"));
    assert_eq!(settings.pg_bin, None);
    assert!(settings.migrate);
    assert!(settings.checker);
    assert_eq!(settings.log, "info");
    assert_eq!(settings.log_format, LogFormat::Auto);
    assert_eq!(settings.auth, None);
    assert_eq!(settings.limits.connections, None);
    assert_eq!(settings.limits.connections_per_address, None);
    assert_eq!(settings.tls, None);
    assert!(settings.jwt.secret.is_none() && settings.jwt.keys.is_none());
    assert_eq!(settings.limits.requests, Limits::default().requests);
    assert_eq!(settings.limits.rate, None);
    assert_eq!(settings.cors_origins, None);
}

#[test]
fn flags_beat_the_environment_which_beats_the_file_which_beats_the_defaults() {
    let file = file("listen = '127.0.0.1:1'\nlog = 'debug'\n");
    let empty = self::file("");
    for (in_file, in_environment, in_flag, port) in [
        (false, None, None, 8081),
        (true, None, None, 1),
        (false, Some("127.0.0.1:2"), None, 2),
        (true, Some("127.0.0.1:2"), None, 2),
        (false, None, Some("127.0.0.1:3"), 3),
        (true, None, Some("127.0.0.1:3"), 3),
        (true, Some("127.0.0.1:2"), Some("127.0.0.1:3"), 3),
        // An empty one hides nothing.
        (true, Some(""), None, 1),
        (true, Some("127.0.0.1:2"), Some(" "), 2),
        (false, Some(""), Some(""), 8081),
    ] {
        let config = if in_file { &file } else { &empty };
        let mut pairs = vec![("ROLLCALL_CONFIG", path(config))];
        pairs.extend(in_environment.map(|value| ("ROLLCALL_LISTEN", value)));
        let flags = Flags { listen: in_flag.map(str::to_owned), ..Flags::default() };
        let settings = load(flags, &pairs).expect("good settings").settings;
        assert_eq!(settings.listen.port(), port, "{in_file} {in_environment:?} {in_flag:?}");
        // What the other sources leave alone stays the file's.
        assert_eq!(settings.log, if in_file { "debug" } else { "info" });
    }
}

#[test]
fn the_flag_for_the_file_beats_the_environments() {
    let (one, two) = (file("listen = '127.0.0.1:1'"), file("listen = '127.0.0.1:2'"));
    let flags = Flags { config: Some(two.path().to_owned()), ..Flags::default() };
    let settings = load(flags, &[("ROLLCALL_CONFIG", path(&one))]).expect("good settings").settings;
    assert_eq!(settings.listen.port(), 2);
}

fn is_secured(settings: &Settings) {
    let clients = Clients { authorities: "/tls/ca.pem".into(), required: true };
    let tls = Tls { certificate: "/tls/cert.pem".into(), key: "/tls/key.pem".into(), clients: Some(clients) };
    assert_eq!(settings.tls, Some(tls));
    let Jwt { secret, keys, audience, issuer } = &settings.jwt;
    assert_eq!(secret.as_ref().map(Secret::reveal), Some("s3cret"));
    assert_eq!(keys.as_deref(), Some(Path::new("/jwt/keys.json")));
    assert_eq!(audience.as_deref(), Some("rollcall"));
    assert_eq!(issuer.as_deref(), Some("https://issuer.example"));
}

#[test]
fn every_setting_can_be_given_in_the_environment() {
    let settings = settings(&[
        ("DATABASE_URL", "postgres://u:p@db/x"),
        ("ROLLCALL_LISTEN", "[::1]:9000"),
        ("ROLLCALL_DATA_DIR", "/srv/rollcall"),
        ("ROLLCALL_PG_BIN", "/opt/pg/bin"),
        ("ROLLCALL_MIGRATE", "off"),
        ("ROLLCALL_CHECKER", "false"),
        ("ROLLCALL_CHECK_CONNECTIONS", "9000"),
        ("ROLLCALL_LOG", "warn,rollcall=debug"),
        ("ROLLCALL_LOG_FORMAT", "JSON"),
        ("ROLLCALL_AUTH", "off"),
        ("ROLLCALL_MAX_CONNECTIONS", "2000"),
        ("ROLLCALL_MAX_CONNECTIONS_PER_ADDRESS", " 50 "),
        ("ROLLCALL_TLS_CERT", "/tls/cert.pem"),
        ("ROLLCALL_TLS_KEY", "/tls/key.pem"),
        ("ROLLCALL_TLS_CLIENT_CA", "/tls/ca.pem"),
        ("ROLLCALL_TLS_CLIENT_AUTH", "Required"),
        ("ROLLCALL_JWT_SECRET", "s3cret"),
        ("ROLLCALL_JWT_KEYS", "/jwt/keys.json"),
        ("ROLLCALL_JWT_AUDIENCE", "rollcall"),
        ("ROLLCALL_JWT_ISSUER", "https://issuer.example"),
        ("ROLLCALL_MAX_REQUESTS", "300"),
        ("ROLLCALL_RATE_LIMIT", "100"),
        ("ROLLCALL_RATE_BURST", "150"),
        ("ROLLCALL_CORS_ORIGINS", "https://one.example, http://localhost:3000"),
    ]);
    assert_eq!(settings.database_url.as_deref(), Some("postgres://u:p@db/x"));
    assert_eq!(settings.listen.to_string(), "[::1]:9000");
    assert_eq!(settings.data_dir, Path::new("/srv/rollcall"));
    assert_eq!(settings.pg_bin.as_deref(), Some(Path::new("/opt/pg/bin")));
    assert!(!settings.migrate);
    assert!(!settings.checker);
    assert_eq!(settings.checks.connections, Some(9000));
    assert_eq!(settings.log, "warn,rollcall=debug");
    assert_eq!(settings.log_format, LogFormat::Json);
    assert_eq!(settings.auth, Some(false));
    assert_eq!(settings.limits.connections, Some(2000));
    assert_eq!(settings.limits.connections_per_address, Some(50));
    is_secured(&settings);
    assert_eq!(settings.limits.requests, 300);
    assert_eq!(settings.limits.rate, Some(Rate { per_second: 100, burst: 150 }));
    assert_eq!(
        settings.cors_origins,
        Some(Origins::These(vec!["https://one.example".to_owned(), "http://localhost:3000".to_owned()]))
    );
}

#[test]
fn a_burst_is_of_two_seconds_and_of_no_use_without_a_rate() {
    let limited = settings(&[("ROLLCALL_RATE_LIMIT", "7")]);
    assert_eq!(limited.limits.rate, Some(Rate { per_second: 7, burst: 14 }));
    let loaded = load(Flags::default(), &[("ROLLCALL_RATE_BURST", "7")]).expect("good settings");
    assert_eq!(loaded.settings.limits.rate, None);
    assert_eq!(
        loaded.warnings,
        ["ROLLCALL_RATE_BURST is set without ROLLCALL_RATE_LIMIT: it limits nothing"]
    );
}

#[test]
fn every_setting_can_be_given_in_the_file() {
    let file = file(
        "database_url = 'postgres://u:p@db/x'\nlisten = '127.0.0.1:9000'\ndata_dir = '/srv/rollcall'\n\
         pg_bin = '/opt/pg/bin'\nmigrate = false\nchecker = 0\nlog = 'warn'\nlog_format = 'human'\nauth = 'off'\n\
         max_connections = 2000\nmax_connections_per_address = '50'\ntls_cert = '/tls/cert.pem'\n\
         tls_key = '/tls/key.pem'\ntls_client_ca = '/tls/ca.pem'\ntls_client_auth = 'required'\n\
         jwt_secret = 's3cret'\njwt_keys = '/jwt/keys.json'\njwt_audience = 'rollcall'\n\
         jwt_issuer = 'https://issuer.example'\n",
    );
    let settings = settings(&[("ROLLCALL_CONFIG", path(&file))]);
    assert_eq!(settings.database_url.as_deref(), Some("postgres://u:p@db/x"));
    assert_eq!(settings.listen.port(), 9000);
    assert_eq!(settings.data_dir, Path::new("/srv/rollcall"));
    assert_eq!(settings.pg_bin.as_deref(), Some(Path::new("/opt/pg/bin")));
    assert!(!settings.migrate);
    assert!(!settings.checker);
    assert_eq!(settings.log, "warn");
    assert_eq!(settings.log_format, LogFormat::Human);
    assert_eq!(settings.auth, Some(false));
    assert_eq!(settings.limits.connections, Some(2000));
    assert_eq!(settings.limits.connections_per_address, Some(50));
    is_secured(&settings);
}

#[test]
fn a_bad_value_is_refused_with_its_name_its_source_and_what_is_allowed() {
    for (name, value, allowed) in [
        ("ROLLCALL_LISTEN", "8081", "an IP address and a port"),
        ("ROLLCALL_LISTEN", "localhost:8081", "an IP address and a port"),
        ("ROLLCALL_LISTEN", "127.0.0.1:70000", "an IP address and a port"),
        ("ROLLCALL_MIGRATE", "perhaps", "on or off"),
        ("ROLLCALL_CHECKER", "2", "on or off"),
        ("ROLLCALL_AUTH", "jwt", "on or off"),
        ("ROLLCALL_LOG", "inof", "a level"),
        ("ROLLCALL_LOG_FORMAT", "xml", "auto, json or human"),
        ("ROLLCALL_MAX_CONNECTIONS", "0", "a whole number from 1"),
        ("ROLLCALL_MAX_CONNECTIONS", "many", "a whole number from 1"),
        ("ROLLCALL_MAX_CONNECTIONS_PER_ADDRESS", "-1", "a whole number from 1"),
        ("ROLLCALL_MAX_CONNECTIONS_PER_ADDRESS", "1000001", "a whole number from 1"),
        ("ROLLCALL_TLS_CLIENT_AUTH", "on", "optional or required"),
        ("ROLLCALL_MAX_REQUESTS", "0", "a whole number from 1"),
        ("ROLLCALL_RATE_LIMIT", "0.5", "a whole number from 1"),
        ("ROLLCALL_RATE_BURST", "none", "a whole number from 1"),
        ("ROLLCALL_CORS_ORIGINS", "console.example", "*, or origins"),
    ] {
        let text = refusal(&[(name, value)]);
        let start = format!("{name} is {value:?} in the environment, but it takes {allowed}");
        assert!(text.starts_with(&start), "{text}");
    }
    let flags = Flags { migrate: Some("x".to_owned()), ..Flags::default() };
    let text = load(flags, &[]).expect_err("bad settings").to_string();
    assert!(text.starts_with("ROLLCALL_MIGRATE is \"x\" on the command line"), "{text}");

    let file = file("listen = ['127.0.0.1:1']");
    let text = refusal(&[("ROLLCALL_CONFIG", path(&file))]);
    assert!(text.starts_with("ROLLCALL_LISTEN is \"a list or a table\" in the file "), "{text}");
}

#[test]
fn only_loopback_is_listened_on_unless_somebody_decided_about_authentication() {
    for (listen, auth, good) in [
        ("127.0.0.1:8081", None, true),
        ("127.9.9.9:8081", None, true),
        ("[::1]:8081", None, true),
        ("[::ffff:127.0.0.1]:8081", None, true),
        ("0.0.0.0:8081", None, false),
        ("[::]:8081", None, false),
        ("10.0.0.7:8081", Some(""), false),
        ("0.0.0.0:8081", Some("off"), true),
    ] {
        let mut pairs = vec![("ROLLCALL_LISTEN", listen)];
        pairs.extend(auth.map(|value| ("ROLLCALL_AUTH", value)));
        match load(Flags::default(), &pairs) {
            Ok(loaded) => {
                assert!(good, "{listen} {auth:?}");
                // Open to others and without a lock: that is said.
                assert_eq!(loaded.warnings.len(), usize::from(auth.is_some()), "{:?}", loaded.warnings);
            }
            Err(error) => {
                assert!(!good, "{listen} {auth:?}");
                assert!(error.to_string().contains("ROLLCALL_AUTH"), "{error}");
            }
        }
    }
}

#[test]
fn whoever_is_asked_for_a_token_must_be_able_to_have_one() {
    let token = "0123456789abcdef0123456789ABCDEF";
    for (pairs, warned_of) in [
        (&[("ROLLCALL_AUTH", "on"), ("ROLLCALL_ROOT_TOKEN", token)][..], None),
        (&[("ROLLCALL_AUTH", "on"), ("ROLLCALL_ROOT_TOKEN", token), ("ROLLCALL_LISTEN", "0.0.0.0:1")], None),
        (&[("ROLLCALL_AUTH", "on")], Some("nobody can make tokens")),
        (&[("ROLLCALL_ROOT_TOKEN", token)], Some("nobody is asked")),
        (&[("ROLLCALL_AUTH", "off"), ("ROLLCALL_ROOT_TOKEN", token)], Some("nobody is asked")),
    ] {
        let loaded = load(Flags::default(), pairs).expect("good settings");
        let warnings = loaded.warnings.join("\n");
        assert_eq!(warnings.is_empty(), warned_of.is_none(), "{pairs:?}: {warnings}");
        assert!(warnings.contains(warned_of.unwrap_or_default()), "{pairs:?}: {warnings}");
        let auth = pairs.contains(&("ROLLCALL_AUTH", "on"));
        assert_eq!(loaded.settings.is_auth_required(), auth, "{pairs:?}");
        assert!(!format!("{:?}", loaded.settings).contains(token));
    }
    for bad in ["brief", &token[1..], "0123456789abcdef 0123456789abcdef", "0123456789abcdef0123456789abcdeé"]
    {
        let text = refusal(&[("ROLLCALL_ROOT_TOKEN", bad)]);
        assert!(text.contains("ROLLCALL_ROOT_TOKEN") && !text.contains(bad), "{text}");
    }
}

#[test]
fn a_key_that_the_file_must_not_have_is_named_with_the_file() {
    for (content, key, hint) in [
        ("colour = 'red'", "colour", ""),
        ("listn = '127.0.0.1:1'", "listn", "; did you mean listen?"),
        ("ROLLCALL_LOG = 'info'", "ROLLCALL_LOG", "; did you mean log?"),
        ("config = '/elsewhere'", "config", ""),
        ("[log]\nlevel = 'info'\n[server]\nlisten = 'x'", "server", ""),
    ] {
        let file = file(content);
        let text = refusal(&[("ROLLCALL_CONFIG", path(&file))]);
        let expected = format!("the settings file {} has the unknown key {key:?}{hint}", path(&file));
        if content.starts_with("[log]") {
            // Two mistakes: either may be the one that is named.
            assert!(text == expected || text.starts_with("ROLLCALL_LOG is \"a list or a table\""), "{text}");
        } else {
            assert_eq!(text, expected);
        }
    }
}

#[test]
fn a_file_that_cannot_be_read_or_parsed_is_named() {
    let error = load(Flags::default(), &[("ROLLCALL_CONFIG", "/no/such/file.toml")]).expect_err("no file");
    assert_eq!(error.to_string(), "cannot read the settings file /no/such/file.toml");
    assert!(std::error::Error::source(&error).is_some());

    let file = file("log = 'info'\nlisten 127.0.0.1\n");
    let text = refusal(&[("ROLLCALL_CONFIG", path(&file))]);
    assert!(
        text.starts_with(&format!("the settings file {} is not valid TOML: line 2", path(&file))),
        "{text}"
    );
}

#[test]
fn unknown_names_are_warned_of_and_the_clients_are_not() {
    let loaded = load(
        Flags::default(),
        &[
            ("ROLLCALL_ADDR", "http://127.0.0.1:8081"),
            ("ROLLCALL_TOKEN", "s3cret"),
            ("ROLLCALL_LISTN", "s3cret"),
            ("ROLLCALL_WHATEVER", "s3cret"),
            ("PATH", "/bin"),
        ],
    )
    .expect("good settings");
    assert_eq!(
        loaded.warnings,
        [
            "ROLLCALL_LISTN is set, but there is no such setting; did you mean ROLLCALL_LISTEN?",
            "ROLLCALL_WHATEVER is set, but there is no such setting",
        ]
    );
}

#[test]
fn the_data_folder_follows_the_user() {
    let root = |pairs: &[(&str, &str)]| default_data_dir(&environment(pairs), true).expect("a folder");
    assert_eq!(root(&[("XDG_DATA_HOME", "/data")]), Path::new("/var/lib/rollcall"));

    let user = |pairs: &[(&str, &str)]| default_data_dir(&environment(pairs), false);
    assert_eq!(user(&[("XDG_DATA_HOME", "/data")]).expect("a folder"), Path::new("/data/rollcall"));
    assert_eq!(
        user(&[("XDG_DATA_HOME", "data")]).expect("a folder"),
        Path::new("/home/someone/.local/share/rollcall")
    );
    let text = user(&[("HOME", "")]).expect_err("no home").to_string();
    assert!(text.contains("ROLLCALL_DATA_DIR"), "{text}");
    assert!(settings(&[("ROLLCALL_DATA_DIR", "data")]).data_dir.is_absolute());
}

#[test]
fn the_databases_password_is_never_printed() {
    const BROKEN: [&str; 5] = [
        "postgres://rollcall:s3cret@localhost:port/x",
        "rollcall:s3cret@localhost/x",
        "s3cret",
        "postgres://rollcall:s3#cret@localhost/x",
        "mysql://rollcall:s3cret@localhost/x",
    ];
    let mut shown = Vec::new();
    for url in BROKEN {
        let error = load(Flags::default(), &[("DATABASE_URL", url)]).expect_err("a bad URL");
        assert!(error.to_string().starts_with("DATABASE_URL in the environment is not usable: "), "{error}");
        shown.push(format!("{error} {error:?}"));

        let flags = Flags { database_url: Some(url.to_owned()), ..Flags::default() };
        let error = load(flags, &[]).expect_err("a bad URL");
        assert!(error.to_string().starts_with("DATABASE_URL on the command line"), "{error}");
        shown.push(format!("{error} {error:?}"));
    }
    for content in [
        // Neither closed, nor a string, nor flat, nor known.
        "database_url = 'postgres://rollcall:s3cret@localhost/x",
        "database_url = postgres://rollcall:s3cret@localhost/x",
        "database_url = ['postgres://rollcall:s3cret@localhost/x']",
        "database_url = 's3cret'",
        "database_uri = 'postgres://rollcall:s3cret@localhost/x'",
        "database_url = 'postgres://u:s3cret@h/x'\ndatabase_url = 'postgres://u:s3cret@h/x'",
    ] {
        let file = file(content);
        let error =
            load(Flags::default(), &[("ROLLCALL_CONFIG", path(&file))]).expect_err("a bad settings file");
        shown.push(format!("{error} {error:?}"));
    }
    let good = "postgres://rollcall:s3cret@localhost/x?password=s3cret";
    let loaded = load(Flags::default(), &[("DATABASE_URL", good)]).expect("a good URL");
    assert_eq!(loaded.settings.database_url.as_deref(), Some(good));
    shown.push(format!("{loaded:?} {:#?}", loaded.settings));

    for text in shown {
        assert!(!text.contains("s3cr"), "{text}");
    }
}

#[test]
fn half_of_tls_is_an_error_that_names_the_other_half() {
    let (cert, key, ca) =
        (("ROLLCALL_TLS_CERT", "c"), ("ROLLCALL_TLS_KEY", "k"), ("ROLLCALL_TLS_CLIENT_CA", "a"));
    let required = ("ROLLCALL_TLS_CLIENT_AUTH", "required");
    for (pairs, set, needed) in [
        (&[cert][..], "ROLLCALL_TLS_CERT", "ROLLCALL_TLS_KEY"),
        (&[cert, ("ROLLCALL_TLS_KEY", "")], "ROLLCALL_TLS_CERT", "ROLLCALL_TLS_KEY"),
        (&[key], "ROLLCALL_TLS_KEY", "ROLLCALL_TLS_CERT"),
        (&[ca], "ROLLCALL_TLS_CLIENT_CA", "ROLLCALL_TLS_CERT"),
        (&[ca, key], "ROLLCALL_TLS_KEY", "ROLLCALL_TLS_CERT"),
        (&[required], "ROLLCALL_TLS_CLIENT_AUTH", "ROLLCALL_TLS_CLIENT_CA"),
        (&[cert, key, required], "ROLLCALL_TLS_CLIENT_AUTH", "ROLLCALL_TLS_CLIENT_CA"),
    ] {
        let text = refusal(pairs);
        let start = format!("{set} is set in the environment, but {needed} is not: ");
        assert!(text.starts_with(&start), "{text}");
    }
    assert_eq!(settings(&[cert, key]).tls.expect("TLS").clients, None);
    let clients = settings(&[cert, key, ca]).tls.expect("TLS").clients.expect("clients");
    assert!(!clients.required && clients.authorities.is_absolute());
}

#[test]
fn keys_for_tokens_that_protect_little_or_nothing_are_warned_of() {
    let idle = "is set, but ROLLCALL_AUTH is not on: nobody is asked for a token";
    let long = "s3cret".repeat(6);
    for (pairs, expected) in [
        (&[("ROLLCALL_JWT_SECRET", "")][..], vec![]),
        (&[("ROLLCALL_JWT_SECRET", long.as_str())], vec![format!("ROLLCALL_JWT_SECRET {idle}")]),
        (
            &[("ROLLCALL_JWT_SECRET", "s3cret"), ("ROLLCALL_JWT_KEYS", "k")],
            vec![
                "ROLLCALL_JWT_SECRET has 6 bytes: one of less than 32 can be found by trying".to_owned(),
                format!("ROLLCALL_JWT_SECRET {idle}"),
                format!("ROLLCALL_JWT_KEYS {idle}"),
            ],
        ),
    ] {
        assert_eq!(load(Flags::default(), pairs).expect("good settings").warnings, expected);
    }
    let secret = Jwt { secret: Some(Secret::new(&long)), ..Jwt::default() };
    assert_eq!(super::jwt::warnings(&secret, Some(true)).count(), 0);
}

#[test]
fn the_secret_for_tokens_is_never_printed() {
    let loaded = load(Flags::default(), &[("ROLLCALL_JWT_SECRET", "s3cret")]).expect("good settings");
    let file = file("jwt_secret = ['s3cret']");
    let error = load(Flags::default(), &[("ROLLCALL_CONFIG", path(&file))]).expect_err("a list");
    for text in [format!("{loaded:?} {:#?}", loaded.settings), format!("{error} {error:?}")] {
        assert!(!text.contains("s3cr"), "{text}");
    }
}

#[test]
fn settings_for_tests_take_nothing_from_the_machine() {
    let settings = Settings::for_tests(None, PathBuf::from("/tmp/x"));
    assert_eq!(settings.listen.to_string(), "127.0.0.1:0");
    assert!(settings.checker && settings.migrate);
}

/// The example file is the reference that people copy: it names every setting, with its default and a line
/// of explanation, and no name that does not exist.
#[test]
fn the_example_of_the_environment_is_complete() {
    let example = include_str!("../../.env.example");
    let mut above = "";
    let mut found = Vec::new();
    for line in example.lines() {
        if let Some((name, value)) = line.trim_start_matches('#').split_once('=')
            && name.chars().all(|letter| letter.is_ascii_uppercase() || letter == '_')
        {
            let setting = documented().find(|setting| setting.name == name).expect(name);
            assert_eq!(value, setting.default.unwrap_or_default(), "the default of {name}");
            assert_eq!(above.trim_start_matches("# "), setting.help, "the line above {name}");
            found.push(name);
        }
        above = line;
    }
    let expected: Vec<_> = documented().map(|setting| setting.name).collect();
    found.sort_unstable();
    let mut sorted = expected.clone();
    sorted.sort_unstable();
    assert_eq!(found, sorted);
}
