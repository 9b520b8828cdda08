//! The list of settings: what each is called, its default, and a line about it.
//!
//! It exists once, so that the file, the environment, the flags, the error texts and `.env.example` cannot
//! drift apart. Invariant: every name that rollcall reads stands here, and nothing else does.

/// One documented setting.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name in the environment, and in every message.
    pub name: &'static str,
    /// The name in the file; it is the flag's name too, with dashes.
    pub key: &'static str,
    /// `None` where there is no default, or where it depends on the machine.
    pub default: Option<&'static str>,
    /// A secret is never printed, not even in the error about it.
    pub secret: bool,
    /// What a value may look like; it ends the error about a bad one.
    pub allowed: &'static str,
    /// The line of explanation.
    pub help: &'static str,
}

const NETWORKS: &str = "networks with commas between them, such as 10.0.0.0/8,192.168.1.7,2001:db8::/32";
const SWITCH: &str = "on or off (true, false, yes, no, 1 and 0 are understood too)";

pub const DATABASE_URL: Setting = Setting {
    name: "DATABASE_URL",
    key: "database_url",
    default: None,
    secret: true,
    allowed: "postgres://user:password@host:5432/database, special characters of the password percent-encoded",
    help: "The PostgreSQL database; without it rollcall runs a PostgreSQL of its own in ROLLCALL_DATA_DIR.",
};

pub const LISTEN: Setting = Setting {
    name: "ROLLCALL_LISTEN",
    key: "listen",
    default: Some("127.0.0.1:8081"),
    secret: false,
    allowed: "an IP address and a port, such as 127.0.0.1:8081, 0.0.0.0:8081 or [::1]:8081",
    help: "Address and port of the HTTP API; any but a loopback address needs ROLLCALL_AUTH.",
};

pub const DATA_DIR: Setting = Setting {
    name: "ROLLCALL_DATA_DIR",
    key: "data_dir",
    default: None,
    secret: false,
    allowed: "the path of a folder",
    help: "Folder for what must outlive a restart; as root /var/lib/rollcall, else ~/.local/share/rollcall.",
};

pub const PG_BIN: Setting = Setting {
    name: "ROLLCALL_PG_BIN",
    key: "pg_bin",
    default: None,
    secret: false,
    allowed: "the path of a folder",
    help: "Folder with initdb and postgres, when rollcall does not find them by itself.",
};

pub const MIGRATE: Setting = Setting {
    name: "ROLLCALL_MIGRATE",
    key: "migrate",
    default: Some("on"),
    secret: false,
    allowed: SWITCH,
    help: "Whether serve brings the database's tables up to date before it starts: on or off.",
};

pub const CHECKER: Setting = Setting {
    name: "ROLLCALL_CHECKER",
    key: "checker",
    default: Some("on"),
    secret: false,
    allowed: SWITCH,
    help: "Whether this replica asks the health URLs of the registered instances: on or off.",
};

pub const CHECK_ALLOW: Setting = Setting {
    name: "ROLLCALL_CHECK_ALLOW",
    key: "check_allow",
    default: None,
    secret: false,
    allowed: NETWORKS,
    help: "Networks that health checks may go to, and no others; by default all but the link's own and metadata services.",
};

pub const CHECK_DENY: Setting = Setting {
    name: "ROLLCALL_CHECK_DENY",
    key: "check_deny",
    default: None,
    secret: false,
    allowed: NETWORKS,
    help: "Networks that health checks may not go to, whatever else is allowed.",
};

pub const CHECK_SCRIPTS: Setting = Setting {
    name: "ROLLCALL_CHECK_SCRIPTS",
    key: "check_scripts",
    default: None,
    secret: false,
    allowed: "the path of a folder",
    help: "Folder of the programs that script checks may run; without it there are no script checks.",
};

pub const CHECK_CONNECTIONS: Setting = Setting {
    name: "ROLLCALL_CHECK_CONNECTIONS",
    key: "check_connections",
    default: None,
    secret: false,
    allowed: COUNT,
    help: "Connections that HTTP checks keep between two runs; by default a tenth of the limit on open files, at most 2048.",
};

pub const LOG: Setting = Setting {
    name: "ROLLCALL_LOG",
    key: "log",
    default: Some("info"),
    secret: false,
    allowed: "a level (error, warn, info, debug, trace, off) or a list such as info,rollcall::log=debug",
    help: "What is logged: a level, or a list of levels by module such as info,rollcall::log=debug.",
};

pub const LOG_FORMAT: Setting = Setting {
    name: "ROLLCALL_LOG_FORMAT",
    key: "log_format",
    default: Some("auto"),
    secret: false,
    allowed: "auto, json or human",
    help: "How it is logged: json, human, or auto (human on a terminal, else json).",
};

pub const AUTH: Setting = Setting {
    name: "ROLLCALL_AUTH",
    key: "auth",
    default: None,
    secret: false,
    allowed: SWITCH,
    help: "Whether callers must show who they are: on or off. Off by default on loopback; beyond it one must be said.",
};

pub const ROOT_TOKEN: Setting = Setting {
    name: "ROLLCALL_ROOT_TOKEN",
    key: "root_token",
    default: None,
    secret: true,
    allowed: "at least 32 visible ASCII characters, such as `openssl rand -hex 32` gives",
    help: "Whoever shows it as a Bearer token may do everything, above all make other tokens.",
};

const COUNT: &str = "a whole number from 1 to 1000000";

pub const MAX_CONNECTIONS: Setting = Setting {
    name: "ROLLCALL_MAX_CONNECTIONS",
    key: "max_connections",
    default: None,
    secret: false,
    allowed: COUNT,
    help: "Connections at a time; by default what the limit on open files leaves room for, at most 16384.",
};

pub const MAX_CONNECTIONS_PER_ADDRESS: Setting = Setting {
    name: "ROLLCALL_MAX_CONNECTIONS_PER_ADDRESS",
    key: "max_connections_per_address",
    default: None,
    secret: false,
    allowed: COUNT,
    help: "The same from one address, or from one /64 of IPv6; by default three quarters of them all.",
};

const CERTIFICATES: &str = "the path of a PEM file with certificates";

pub const TLS_CERT: Setting = Setting {
    name: "ROLLCALL_TLS_CERT",
    key: "tls_cert",
    default: None,
    secret: false,
    allowed: CERTIFICATES,
    help: "PEM file with the server's certificate and those that lead to its authority; with it the API is HTTPS.",
};

pub const TLS_KEY: Setting = Setting {
    name: "ROLLCALL_TLS_KEY",
    key: "tls_key",
    default: None,
    secret: false,
    allowed: "the path of a PEM file with a private key",
    help: "PEM file with the private key of that certificate.",
};

pub const TLS_CLIENT_CA: Setting = Setting {
    name: "ROLLCALL_TLS_CLIENT_CA",
    key: "tls_client_ca",
    default: None,
    secret: false,
    allowed: CERTIFICATES,
    help: "PEM file with the authorities whose clients are known by their certificate.",
};

pub const TLS_CLIENT_AUTH: Setting = Setting {
    name: "ROLLCALL_TLS_CLIENT_AUTH",
    key: "tls_client_auth",
    default: Some("optional"),
    secret: false,
    allowed: "optional or required",
    help: "Whether a client may do without a certificate, when ROLLCALL_TLS_CLIENT_CA is set: optional or required.",
};

pub const JWT_SECRET: Setting = Setting {
    name: "ROLLCALL_JWT_SECRET",
    key: "jwt_secret",
    default: None,
    secret: true,
    allowed: "a text that nobody can guess, of at least 32 bytes",
    help: "The secret that JWTs of the kind HS256 are signed with.",
};

pub const JWT_KEYS: Setting = Setting {
    name: "ROLLCALL_JWT_KEYS",
    key: "jwt_keys",
    default: None,
    secret: false,
    allowed: "the path of a JWKS file",
    help: "A JWKS file with the public keys that JWTs of the kinds RS256 and ES256 are verified by.",
};

pub const JWT_AUDIENCE: Setting = Setting {
    name: "ROLLCALL_JWT_AUDIENCE",
    key: "jwt_audience",
    default: None,
    secret: false,
    allowed: "a text",
    help: "The audience that a JWT must be for; without it the audience is not looked at.",
};

pub const JWT_ISSUER: Setting = Setting {
    name: "ROLLCALL_JWT_ISSUER",
    key: "jwt_issuer",
    default: None,
    secret: false,
    allowed: "a text",
    help: "The issuer that a JWT must be from; without it the issuer is not looked at.",
};

pub const MAX_REQUESTS: Setting = Setting {
    name: "ROLLCALL_MAX_REQUESTS",
    key: "max_requests",
    default: Some("1024"),
    secret: false,
    allowed: COUNT,
    help: "Requests under way at a time; heartbeats may have all of these places, the others fewer.",
};

pub const RATE_LIMIT: Setting = Setting {
    name: "ROLLCALL_RATE_LIMIT",
    key: "rate_limit",
    default: None,
    secret: false,
    allowed: COUNT,
    help: "Requests a second from one address, or from one /64 of IPv6; by default as many as it likes.",
};

pub const RATE_BURST: Setting = Setting {
    name: "ROLLCALL_RATE_BURST",
    key: "rate_burst",
    default: None,
    secret: false,
    allowed: COUNT,
    help: "How many of these may come at once; by default what ROLLCALL_RATE_LIMIT allows in two seconds.",
};

pub const CORS_ORIGINS: Setting = Setting {
    name: "ROLLCALL_CORS_ORIGINS",
    key: "cors_origins",
    default: None,
    secret: false,
    allowed: "*, or origins with commas between them, such as https://console.example,http://localhost:3000",
    help: "Web pages that may call the API from a browser: a list of origins, or * for all; by default none.",
};

/// Where the file is; it cannot stand in the file itself.
pub const CONFIG: Setting = Setting {
    name: "ROLLCALL_CONFIG",
    key: "config",
    default: None,
    secret: false,
    allowed: "the path of a TOML file",
    help: "A TOML file with these settings under their short names (listen, data_dir, …).",
};

/// Every setting that a value can be given for, in the order of the documentation.
pub const SETTINGS: [Setting; 28] = [
    DATABASE_URL,
    LISTEN,
    DATA_DIR,
    PG_BIN,
    MIGRATE,
    CHECKER,
    CHECK_ALLOW,
    CHECK_DENY,
    CHECK_SCRIPTS,
    CHECK_CONNECTIONS,
    LOG,
    LOG_FORMAT,
    AUTH,
    ROOT_TOKEN,
    MAX_CONNECTIONS,
    MAX_CONNECTIONS_PER_ADDRESS,
    TLS_CERT,
    TLS_KEY,
    TLS_CLIENT_CA,
    TLS_CLIENT_AUTH,
    JWT_SECRET,
    JWT_KEYS,
    JWT_AUDIENCE,
    JWT_ISSUER,
    MAX_REQUESTS,
    RATE_LIMIT,
    RATE_BURST,
    CORS_ORIGINS,
];

/// Names of the environment that are the command line client's: the server neither reads nor warns of them.
pub const CLIENT_NAMES: [&str; 2] = ["ROLLCALL_ADDR", "ROLLCALL_TOKEN"];

/// All documented names of the environment that the server reads.
pub fn documented() -> impl Iterator<Item = Setting> {
    std::iter::once(CONFIG).chain(SETTINGS)
}

/// The documented name that was probably meant: at most two slips of the keyboard away.
pub fn nearest_name(unknown: &str) -> Option<&'static str> {
    // `ROLLCALL_DATABASE_URL` is the natural guess for the one name that has no prefix.
    let bare = unknown.strip_prefix("ROLLCALL_").unwrap_or(unknown);
    let candidates = documented().map(|setting| setting.name).chain(CLIENT_NAMES);
    nearest(candidates.flat_map(|name| [(name, distance(unknown, name)), (name, distance(bare, name))]))
}

/// The same for a key of the file.
pub fn nearest_key(unknown: &str) -> Option<&'static str> {
    let bare = unknown.to_lowercase().replace('-', "_");
    let bare = bare.strip_prefix("rollcall_").unwrap_or(&bare);
    nearest(SETTINGS.iter().map(|setting| (setting.key, distance(bare, setting.key))))
}

fn nearest(candidates: impl Iterator<Item = (&'static str, usize)>) -> Option<&'static str> {
    candidates.filter(|(_, slips)| *slips <= 2).min_by_key(|(_, slips)| *slips).map(|(name, _)| name)
}

/// Levenshtein's distance: letters to insert, remove or replace.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (line, letter) in left.chars().enumerate() {
        let mut diagonal = line;
        let mut before = line + 1;
        for (cell, other) in row.iter_mut().skip(1).zip(right.chars()) {
            let above = *cell;
            *cell = (diagonal + usize::from(letter != other)).min(above + 1).min(before + 1);
            diagonal = above;
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = line + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_counts_slips() {
        for (left, right, slips) in
            [("", "", 0), ("a", "", 1), ("", "abc", 3), ("kitten", "sitting", 3), ("LISTEN", "LISTN", 1)]
        {
            assert_eq!(distance(left, right), slips, "{left:?} to {right:?}");
            assert_eq!(distance(right, left), slips, "{right:?} to {left:?}");
        }
    }

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        assert_eq!(nearest_name("ROLLCALL_LISTN"), Some("ROLLCALL_LISTEN"));
        assert_eq!(nearest_name("ROLLCALL_DATADIR"), Some("ROLLCALL_DATA_DIR"));
        assert_eq!(nearest_name("ROLLCALL_DATABASE_URL"), Some("DATABASE_URL"));
        assert_eq!(nearest_name("ROLLCALL_TOKENS"), Some("ROLLCALL_TOKEN"));
        assert_eq!(nearest_name("ROLLCALL_SOMETHING_ELSE"), None);
        assert_eq!(nearest_key("ROLLCALL_LISTEN"), Some("listen"));
        assert_eq!(nearest_key("data-dir"), Some("data_dir"));
        assert_eq!(nearest_key("colour"), None);
    }

    #[test]
    fn name_and_key_of_a_setting_belong_together() {
        for setting in documented() {
            let bare = setting.name.strip_prefix("ROLLCALL_").unwrap_or(setting.name);
            assert_eq!(bare.to_lowercase(), setting.key);
        }
    }
}
