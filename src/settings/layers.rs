//! Defaults, file, environment and flags laid over each other; the result still knows where each value is from.
//!
//! Invariant: an empty value is no value, in every layer, so it hides nothing of the layers below. That is
//! what shells and compose files mean by `NAME=`.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use config::{Config, File, FileFormat, Map, Source, Value, ValueKind};

use super::{
    error::{Origin, SettingsError, did_you_mean},
    flags::Flags,
    names::{self, CLIENT_NAMES, SETTINGS, Setting},
};

/// The merged values, as text.
#[derive(Default)]
pub struct Layers {
    values: BTreeMap<&'static str, (String, Origin)>,
    pub warnings: Vec<String>,
}

impl Layers {
    pub fn read(flags: Flags, environment: &BTreeMap<String, String>) -> Result<Self, SettingsError> {
        let from_environment = environment.get(names::CONFIG.name).map(PathBuf::from);
        let path = flags.config.clone().or(from_environment).filter(|path| !path.as_os_str().is_empty());

        let mut config = Config::builder().add_source(defaults());
        if let Some(path) = path {
            config = config.add_source(file(&path)?);
        }
        let merged = config
            .add_source(Layer::of(
                &Origin::Environment,
                SETTINGS
                    .into_iter()
                    .filter_map(|setting| Some((setting, environment.get(setting.name)?.clone()))),
            ))
            .add_source(Layer::of(&Origin::Flag, flags.given()))
            .build()
            .and_then(|config| config.collect())
            // Each layer holds flat text under known keys: there is nothing left to disagree about.
            .unwrap_or_default();

        let mut layers = Self { values: BTreeMap::new(), warnings: unknown_names(environment) };
        for setting in SETTINGS {
            if let Some(value) = merged.get(setting.key) {
                layers.values.insert(setting.key, (text(value), origin(value)));
            }
        }
        Ok(layers)
    }

    /// The value of a setting, and where it is from.
    pub fn get(&self, setting: &Setting) -> Option<(&str, &Origin)> {
        self.values.get(setting.key).map(|(value, origin)| (value.as_str(), origin))
    }
}

/// One source of values for the `config` crate.
#[derive(Clone)]
struct Layer(Map<String, Value>);

impl Layer {
    fn of(origin: &Origin, values: impl IntoIterator<Item = (Setting, String)>) -> Self {
        let origin = encode(origin);
        Self(
            values
                .into_iter()
                .filter(|(_, value)| !value.trim().is_empty())
                .map(|(setting, value)| (setting.key.to_owned(), Value::new(Some(&origin), value)))
                .collect(),
        )
    }
}

/// By hand, because a derived one would print the database's password.
impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, config::ConfigError> {
        Ok(self.0.clone())
    }
}

fn defaults() -> Layer {
    Layer::of(
        &Origin::Default,
        SETTINGS.into_iter().filter_map(|setting| Some((setting, setting.default?.to_owned()))),
    )
}

fn file(path: &Path) -> Result<Layer, SettingsError> {
    let content = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
    let parsed = File::from_str(&content, FileFormat::Toml)
        .collect()
        .map_err(|error| SettingsError::NotToml { path: path.to_owned(), place: place(&error) })?;

    let origin = Origin::File(path.to_owned());
    let mut values = Vec::new();
    for (key, value) in parsed {
        let Some(setting) = SETTINGS.into_iter().find(|setting| setting.key == key) else {
            let suggestion = names::nearest_key(&key);
            return Err(SettingsError::UnknownKey { path: path.to_owned(), key, suggestion });
        };
        if matches!(value.kind, ValueKind::Table(_) | ValueKind::Array(_)) {
            let (name, allowed) = (setting.name, setting.allowed);
            return Err(if setting.secret {
                SettingsError::Secret { name, reason: "it is a list or a table", origin, allowed }
            } else {
                SettingsError::Value { name, value: "a list or a table".to_owned(), origin, allowed }
            });
        }
        values.push((setting, text(&value)));
    }
    Ok(Layer::of(&origin, values))
}

/// The place alone: the parser's whole text quotes the line, and that line may hold a password.
fn place(error: &config::ConfigError) -> String {
    let text = error.to_string();
    let digits = |label: &str| {
        let rest = text.split_once(label)?.1;
        let number: String = rest.chars().take_while(char::is_ascii_digit).collect();
        (!number.is_empty()).then_some(number)
    };
    match (digits("at line "), digits(", column ")) {
        (Some(line), Some(column)) => format!(": line {line}, column {column}"),
        _ => String::new(),
    }
}

fn text(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => text.clone(),
        ValueKind::Nil => String::new(),
        other => other.to_string(),
    }
}

fn encode(origin: &Origin) -> String {
    match origin {
        Origin::Default => "default".to_owned(),
        Origin::Environment => "environment".to_owned(),
        Origin::Flag => "flag".to_owned(),
        Origin::File(path) => format!("file:{}", path.display()),
    }
}

fn origin(value: &Value) -> Origin {
    match value.origin() {
        Some("environment") => Origin::Environment,
        Some("flag") => Origin::Flag,
        Some(other) => {
            other.strip_prefix("file:").map_or(Origin::Default, |path| Origin::File(PathBuf::from(path)))
        }
        None => Origin::Default,
    }
}

/// Names that belong to authentication, which this release has not got: whoever sets one relies on it.
const PROTECTING: [&str; 1] = ["ROLLCALL_ROOT_TOKEN"];

fn unknown_names(environment: &BTreeMap<String, String>) -> Vec<String> {
    environment
        .keys()
        .filter(|name| name.starts_with("ROLLCALL_"))
        .filter(|name| !names::documented().any(|setting| setting.name == *name))
        .filter(|name| !CLIENT_NAMES.contains(&name.as_str()))
        .map(|name| {
            if PROTECTING.contains(&name.as_str()) {
                format!("{name} is set, but authentication is not in this release: it protects nothing")
            } else {
                let suggestion = names::nearest_name(name);
                format!("{name} is set, but there is no such setting{}", did_you_mean(suggestion))
            }
        })
        .collect()
}
