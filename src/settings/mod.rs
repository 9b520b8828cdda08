//! The settings: flags beat the environment, the environment beats the file, the file beats the defaults.
//!
//! Everything that can be known to be wrong is found here, before anything is started, and is said with the
//! name of the setting. Invariant: a `Settings` that exists is usable, and printing one never shows a secret.

mod error;
mod flags;
mod jwt;
mod layers;
mod limits;
mod names;
mod networks;
mod origins;
mod parse;
mod tls;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

pub use self::{
    error::{Origin, SettingsError},
    flags::Flags,
    jwt::{Jwt, Secret},
    limits::{Limits, Pace, Rate},
    names::{CLIENT_NAMES, SETTINGS, Setting, documented},
    networks::Networks,
    origins::Origins,
    tls::{Clients, Tls},
};
use self::{layers::Layers, names as name};

/// What the server is told from outside.
#[derive(Clone)]
pub struct Settings {
    pub database_url: Option<String>,
    pub listen: SocketAddr,
    pub data_dir: PathBuf,
    pub pg_bin: Option<PathBuf>,
    pub migrate: bool,
    pub checker: bool,
    pub checks: Checks,
    pub log: String,
    pub log_format: LogFormat,
    /// `None` when nobody said: then only loopback may be listened on.
    pub auth: Option<bool>,
    /// Who shows this may do everything.
    pub root_token: Option<Secret>,
    pub limits: Limits,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
    pub jwt: Jwt,
    /// The web pages that may call the API; none where nothing is said.
    pub cors_origins: Option<Origins>,
}

/// Where health checks may go, and what they may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checks {
    /// Nothing but these, where there are any.
    pub allowed: Networks,
    pub denied: Networks,
    /// The programs that may be run; none without a folder.
    pub scripts: Option<PathBuf>,
    /// Connections that are kept between two runs.
    pub connections: Option<usize>,
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, else JSON.
    Auto,
    Json,
    Human,
}

/// The settings, and what should be said about them once there is a log to say it in.
#[derive(Clone, Debug)]
pub struct Loaded {
    pub settings: Settings,
    pub warnings: Vec<String>,
}

impl Settings {
    /// Reads all sources, for one who is going to listen. The environment is an argument, so that a test has one of its
    /// own.
    pub fn load(
        flags: Flags,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, SettingsError> {
        let loaded = Self::load_aside(flags, environment)?;
        loaded.settings.may_listen()?;
        Ok(loaded)
    }

    /// The same for one who only needs to know what a server has been told.
    pub fn load_aside(
        flags: Flags,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Loaded, SettingsError> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let root = rustix::process::geteuid().is_root();
        resolve(&Layers::read(flags, &environment)?, &environment, root)
    }

    /// Beyond loopback only where somebody has decided who may ask.
    fn may_listen(&self) -> Result<(), SettingsError> {
        let listen = self.listen;
        if listen.ip().to_canonical().is_loopback() || self.auth.is_some() {
            return Ok(());
        }
        Err(SettingsError::NotLoopback { listen })
    }

    /// Whether callers must show who they are. Not where nobody said so: then only this machine can reach it.
    pub fn is_auth_required(&self) -> bool {
        self.auth == Some(true)
    }

    /// For tests: a free port on loopback, and nothing taken from the machine.
    pub fn for_tests(database_url: Option<String>, data_dir: PathBuf) -> Self {
        Self {
            database_url,
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            data_dir,
            pg_bin: None,
            migrate: true,
            checker: true,
            checks: Checks::default(),
            log: "info".to_owned(),
            log_format: LogFormat::Auto,
            auth: None,
            root_token: None,
            limits: Limits::default(),
            tls: None,
            jwt: Jwt::default(),
            cors_origins: None,
        }
    }
}

/// By hand: the database's URL holds a password.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Taken apart by name, so that a new field has to be thought about here.
        let Self {
            database_url,
            listen,
            data_dir,
            pg_bin,
            migrate,
            checker,
            checks,
            log,
            log_format,
            auth,
            root_token,
            limits,
            tls,
            jwt,
            cors_origins,
        } = self;
        f.debug_struct("Settings")
            .field("database_url", &database_url.as_deref().map(parse::redacted))
            .field("listen", listen)
            .field("data_dir", data_dir)
            .field("pg_bin", pg_bin)
            .field("migrate", migrate)
            .field("checker", checker)
            .field("checks", checks)
            .field("log", log)
            .field("log_format", log_format)
            .field("auth", auth)
            .field("root_token", root_token)
            .field("limits", limits)
            .field("tls", tls)
            .field("jwt", jwt)
            .field("cors_origins", cors_origins)
            .finish()
    }
}

/// The process's environment as text. A name of ours whose value is not text is an error and not a guess.
pub fn process_environment() -> Result<Vec<(String, String)>, SettingsError> {
    let read = |name: &str| name.starts_with("ROLLCALL_") || documented().any(|setting| setting.name == name);
    let mut environment = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Ok(name) = name.into_string() else { continue };
        match value.into_string() {
            Ok(value) => environment.push((name, value)),
            Err(_) if read(&name) => return Err(SettingsError::NotUnicode { name }),
            Err(_) => {}
        }
    }
    Ok(environment)
}

fn resolve(
    layers: &Layers,
    environment: &BTreeMap<String, String>,
    root: bool,
) -> Result<Loaded, SettingsError> {
    let mut warnings = layers.warnings.clone();
    let auth = value(layers, &name::AUTH, parse::switch)?;
    let listen = required(layers, &name::LISTEN, parse::address)?;
    if !listen.ip().to_canonical().is_loopback() && auth == Some(false) {
        warnings
            .push(format!("ROLLCALL_AUTH is off: whoever reaches {listen} may read and change everything"));
    }
    let root_token = root_token(layers)?;
    match auth {
        Some(true) if root_token.is_none() => warnings.push(
            "ROLLCALL_AUTH is on and ROLLCALL_ROOT_TOKEN is not set: nobody can make tokens but with one that was \
             made before"
                .to_owned(),
        ),
        Some(true) => {}
        _ if root_token.is_some() => warnings.push(
            "ROLLCALL_ROOT_TOKEN is set, but ROLLCALL_AUTH is not on: nobody is asked for a token".to_owned(),
        ),
        _ => {}
    }
    let data_dir = match value(layers, &name::DATA_DIR, parse::path)? {
        Some(folder) => folder,
        None => default_data_dir(environment, root)?,
    };
    let jwt = jwt::resolve(layers)?;
    warnings.extend(jwt::warnings(&jwt, auth));
    let settings = Settings {
        database_url: database_url(layers)?,
        listen,
        data_dir,
        pg_bin: value(layers, &name::PG_BIN, parse::path)?,
        migrate: required(layers, &name::MIGRATE, parse::switch)?,
        checker: required(layers, &name::CHECKER, parse::switch)?,
        checks: Checks {
            allowed: value(layers, &name::CHECK_ALLOW, Networks::parse)?.unwrap_or_default(),
            denied: value(layers, &name::CHECK_DENY, Networks::parse)?.unwrap_or_default(),
            scripts: value(layers, &name::CHECK_SCRIPTS, parse::path)?,
            connections: value(layers, &name::CHECK_CONNECTIONS, parse::count)?,
        },
        log: required(layers, &name::LOG, parse::log_levels)?,
        log_format: required(layers, &name::LOG_FORMAT, parse::log_format)?,
        auth,
        root_token,
        limits: Limits {
            connections: value(layers, &name::MAX_CONNECTIONS, parse::count)?,
            connections_per_address: value(layers, &name::MAX_CONNECTIONS_PER_ADDRESS, parse::count)?,
            requests: required(layers, &name::MAX_REQUESTS, parse::count)?,
            rate: rate(layers, &mut warnings)?,
            ..Limits::default()
        },
        tls: tls::resolve(layers)?,
        jwt,
        cors_origins: value(layers, &name::CORS_ORIGINS, Origins::parse)?,
    };
    Ok(Loaded { settings, warnings })
}

fn rate(layers: &Layers, warnings: &mut Vec<String>) -> Result<Option<Rate>, SettingsError> {
    let per_second = value(layers, &name::RATE_LIMIT, parse::small_count)?;
    let burst = value(layers, &name::RATE_BURST, parse::small_count)?;
    if per_second.is_none() && burst.is_some() {
        warnings.push("ROLLCALL_RATE_BURST is set without ROLLCALL_RATE_LIMIT: it limits nothing".to_owned());
    }
    Ok(per_second.map(|per_second| Rate::new(per_second, burst)))
}

fn value<T>(
    layers: &Layers,
    setting: &Setting,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, SettingsError> {
    let Some((text, origin)) = layers.get(setting) else { return Ok(None) };
    parse(text).map(Some).ok_or_else(|| bad_value(setting, text, origin.clone()))
}

/// For settings with a default: the layers always hold one.
fn required<T>(
    layers: &Layers,
    setting: &Setting,
    parse: impl FnOnce(&str) -> Option<T>,
) -> Result<T, SettingsError> {
    value(layers, setting, parse)?.ok_or_else(|| bad_value(setting, "", Origin::Default))
}

fn bad_value(setting: &Setting, text: &str, origin: Origin) -> SettingsError {
    SettingsError::Value { name: setting.name, value: text.to_owned(), origin, allowed: setting.allowed }
}

fn database_url(layers: &Layers) -> Result<Option<String>, SettingsError> {
    let setting = name::DATABASE_URL;
    let Some((text, origin)) = layers.get(&setting) else { return Ok(None) };
    parse::database_url(text).map(Some).map_err(|reason| SettingsError::Secret {
        name: setting.name,
        reason,
        origin: origin.clone(),
        allowed: setting.allowed,
    })
}

fn root_token(layers: &Layers) -> Result<Option<Secret>, SettingsError> {
    let setting = name::ROOT_TOKEN;
    let Some((text, origin)) = layers.get(&setting) else { return Ok(None) };
    parse::root_token(text).map(|token| Some(Secret::new(token))).map_err(|reason| SettingsError::Secret {
        name: setting.name,
        reason,
        origin: origin.clone(),
        allowed: setting.allowed,
    })
}

fn default_data_dir(environment: &BTreeMap<String, String>, root: bool) -> Result<PathBuf, SettingsError> {
    if root {
        return Ok(PathBuf::from("/var/lib/rollcall"));
    }
    // The XDG rules: a relative path there is to be ignored.
    let folder = |name: &str| environment.get(name).map(Path::new).filter(|path| path.is_absolute());
    folder("XDG_DATA_HOME")
        .map(Path::to_owned)
        .or_else(|| folder("HOME").map(|home| home.join(".local/share")))
        .map(|data| data.join("rollcall"))
        .ok_or(SettingsError::NoHome)
}
