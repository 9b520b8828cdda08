//! The settings as flags of the command line: they beat every other source.
//!
//! All are text here and are parsed where the other sources are, so that a bad value gets one and the same
//! error wherever it came from. `Debug` is not derived: one of them may hold a password.

use std::path::PathBuf;

use super::names::{self, Setting};

#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
pub struct Flags {
    #[arg(long, value_name = "FILE", help = help(&names::CONFIG))]
    pub config: Option<PathBuf>,

    #[arg(long, value_name = "URL", help = help(&names::DATABASE_URL), long_help = secret_help(&names::DATABASE_URL))]
    pub database_url: Option<String>,

    #[arg(long, value_name = "ADDRESS:PORT", help = help(&names::LISTEN))]
    pub listen: Option<String>,

    #[arg(long, value_name = "FOLDER", help = help(&names::DATA_DIR))]
    pub data_dir: Option<String>,

    #[arg(long, value_name = "FOLDER", help = help(&names::PG_BIN))]
    pub pg_bin: Option<String>,

    #[arg(long, value_name = "ON|OFF", help = help(&names::MIGRATE))]
    pub migrate: Option<String>,

    #[arg(long, value_name = "ON|OFF", help = help(&names::CHECKER))]
    pub checker: Option<String>,
    #[arg(long, value_name = "NETWORKS", help = help(&names::CHECK_ALLOW))]
    pub check_allow: Option<String>,
    #[arg(long, value_name = "NETWORKS", help = help(&names::CHECK_DENY))]
    pub check_deny: Option<String>,
    #[arg(long, value_name = "FOLDER", help = help(&names::CHECK_SCRIPTS))]
    pub check_scripts: Option<String>,
    #[arg(long, value_name = "NUMBER", help = help(&names::CHECK_CONNECTIONS))]
    pub check_connections: Option<String>,

    #[arg(long, value_name = "LEVELS", help = help(&names::LOG))]
    pub log: Option<String>,

    #[arg(long, value_name = "FORMAT", help = help(&names::LOG_FORMAT))]
    pub log_format: Option<String>,

    #[arg(long, value_name = "ON|OFF", help = help(&names::AUTH))]
    pub auth: Option<String>,

    #[arg(long, value_name = "TOKEN", help = help(&names::ROOT_TOKEN), long_help = secret_help(&names::ROOT_TOKEN))]
    pub root_token: Option<String>,

    #[arg(long, value_name = "NUMBER", help = help(&names::MAX_CONNECTIONS))]
    pub max_connections: Option<String>,

    #[arg(long, value_name = "NUMBER", help = help(&names::MAX_CONNECTIONS_PER_ADDRESS))]
    pub max_connections_per_address: Option<String>,

    #[arg(long, value_name = "FILE", help = help(&names::TLS_CERT))]
    pub tls_cert: Option<String>,

    #[arg(long, value_name = "FILE", help = help(&names::TLS_KEY))]
    pub tls_key: Option<String>,

    #[arg(long, value_name = "FILE", help = help(&names::TLS_CLIENT_CA))]
    pub tls_client_ca: Option<String>,

    #[arg(long, value_name = "OPTIONAL|REQUIRED", help = help(&names::TLS_CLIENT_AUTH))]
    pub tls_client_auth: Option<String>,

    #[arg(long, value_name = "TEXT", help = help(&names::JWT_SECRET), long_help = secret_help(&names::JWT_SECRET))]
    pub jwt_secret: Option<String>,

    #[arg(long, value_name = "FILE", help = help(&names::JWT_KEYS))]
    pub jwt_keys: Option<String>,

    #[arg(long, value_name = "TEXT", help = help(&names::JWT_AUDIENCE))]
    pub jwt_audience: Option<String>,

    #[arg(long, value_name = "TEXT", help = help(&names::JWT_ISSUER))]
    pub jwt_issuer: Option<String>,

    #[arg(long, value_name = "NUMBER", help = help(&names::MAX_REQUESTS))]
    pub max_requests: Option<String>,

    #[arg(long, value_name = "NUMBER", help = help(&names::RATE_LIMIT))]
    pub rate_limit: Option<String>,

    #[arg(long, value_name = "NUMBER", help = help(&names::RATE_BURST))]
    pub rate_burst: Option<String>,

    #[arg(long, value_name = "ORIGINS", help = help(&names::CORS_ORIGINS))]
    pub cors_origins: Option<String>,
}

impl Flags {
    /// The flags that were given, by their setting.
    pub(super) fn given(self) -> impl Iterator<Item = (Setting, String)> {
        // Taken apart by name, so that a new flag cannot be forgotten here.
        let Self {
            config: _,
            database_url,
            listen,
            data_dir,
            pg_bin,
            migrate,
            checker,
            check_allow,
            check_deny,
            check_scripts,
            check_connections,
            log,
            log_format,
            auth,
            root_token,
            max_connections,
            max_connections_per_address,
            tls_cert,
            tls_key,
            tls_client_ca,
            tls_client_auth,
            jwt_secret,
            jwt_keys,
            jwt_audience,
            jwt_issuer,
            max_requests,
            rate_limit,
            rate_burst,
            cors_origins,
        } = self;
        [
            (names::DATABASE_URL, database_url),
            (names::LISTEN, listen),
            (names::DATA_DIR, data_dir),
            (names::PG_BIN, pg_bin),
            (names::MIGRATE, migrate),
            (names::CHECKER, checker),
            (names::CHECK_ALLOW, check_allow),
            (names::CHECK_DENY, check_deny),
            (names::CHECK_SCRIPTS, check_scripts),
            (names::CHECK_CONNECTIONS, check_connections),
            (names::LOG, log),
            (names::LOG_FORMAT, log_format),
            (names::AUTH, auth),
            (names::ROOT_TOKEN, root_token),
            (names::MAX_CONNECTIONS, max_connections),
            (names::MAX_CONNECTIONS_PER_ADDRESS, max_connections_per_address),
            (names::TLS_CERT, tls_cert),
            (names::TLS_KEY, tls_key),
            (names::TLS_CLIENT_CA, tls_client_ca),
            (names::TLS_CLIENT_AUTH, tls_client_auth),
            (names::JWT_SECRET, jwt_secret),
            (names::JWT_KEYS, jwt_keys),
            (names::JWT_AUDIENCE, jwt_audience),
            (names::JWT_ISSUER, jwt_issuer),
            (names::MAX_REQUESTS, max_requests),
            (names::RATE_LIMIT, rate_limit),
            (names::RATE_BURST, rate_burst),
            (names::CORS_ORIGINS, cors_origins),
        ]
        .into_iter()
        .filter_map(|(setting, value)| Some((setting, value?)))
    }
}

fn help(setting: &Setting) -> String {
    let default = setting.default.map(|value| format!(" [default: {value}]")).unwrap_or_default();
    format!("{}{default} [env: {}]", setting.help, setting.name)
}

fn secret_help(setting: &Setting) -> String {
    format!(
        "{}\n\nFlags can be read in the machine's list of processes: a secret is better kept in the environment.",
        help(setting)
    )
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;

    #[test]
    fn every_setting_has_a_flag_that_names_its_environment_variable() {
        let command = Flags::augment_args(clap::Command::new("rollcall"));
        let flags: Vec<_> = command.get_arguments().collect();
        for setting in names::documented() {
            let long = setting.key.replace('_', "-");
            let flag = flags.iter().find(|flag| flag.get_long() == Some(&long)).expect(setting.name);
            let help = flag.get_help().expect("has a help text").to_string();
            assert!(help.contains(setting.name), "{long}: {help}");
        }
        assert_eq!(flags.len(), names::documented().count());
    }
}
