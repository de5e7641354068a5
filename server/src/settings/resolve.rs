//! The flags, variables and file put together, and secrets kept out of what is said of them.

use super::Settings;
use block_chain_common::work::MAX_DIFFICULTY;
use clap::CommandFactory as _;
use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::Value;
use std::collections::BTreeMap;

/// What variables begin with; the rest is the flag's name.
const PREFIX: &str = "BLOCK_CHAIN_";
/// Flags that are no variable: where the file is, and what `--log` says too.
const NO_VARIABLE: [&str; 2] = ["config", "verbose"];
/// Never shown, not even where they are wrong.
const SECRETS: [&str; 2] = ["join_token", "database_url"];
/// Read as they are: a token or a folder may look like a number.
const TEXT: [&str; 11] = [
    "join_token",
    "database_url",
    "data_dir",
    "tls_cert",
    "tls_key",
    "relay",
    "relay_url",
    "backup_every",
    "backup_to",
    "log",
    "otlp",
];

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(String);

/// The names of the flags that are variables too.
fn names() -> Vec<String> {
    let flags = Settings::command();
    let names = flags.get_arguments().map(|flag| flag.get_id().to_string());
    names
        .filter(|name| !NO_VARIABLE.contains(&name.as_str()))
        .collect()
}

fn variable_of(name: &str) -> String {
    format!("{PREFIX}{}", name.to_uppercase())
}

/// A variable's value by its looks.
fn value(name: &str, text: String) -> Value {
    if TEXT.contains(&name) {
        return Value::from(text);
    }
    match (text.parse::<bool>(), text.parse::<u64>()) {
        (Ok(flag), _) => Value::from(flag),
        (_, Ok(number)) => Value::from(number),
        _ => Value::from(text),
    }
}

/// An error without the secrets that it may quote.
fn described(error: &figment::Error, told: &BTreeMap<String, Value>) -> SettingsError {
    let key = error.path.last().map(String::as_str).unwrap_or_default();
    if SECRETS.contains(&key) {
        return SettingsError(format!("{key} is no text: put it into quotes"));
    }
    if told.contains_key(key) {
        return SettingsError(format!("{}: {}", variable_of(key), error.kind));
    }
    // A parser shows the line that it cannot read: `12 | join_token = …`.
    let is_shown = |line: &&str| {
        let after_number = line.trim_start().trim_start_matches(|c: char| c.is_ascii_digit());
        !after_number.trim_start().starts_with('|')
    };
    let lines: Vec<_> = error
        .to_string()
        .lines()
        .filter(is_shown)
        .map(str::to_owned)
        .collect();
    SettingsError(lines.join(" "))
}

impl Settings {
    /// The flags over the variables over the file.
    ///
    /// # Errors
    /// Where the file or a variable cannot be read, or what they say together cannot be.
    pub fn resolve(self) -> Result<Self, SettingsError> {
        self.resolve_from(|name| Some(std::env::var_os(name)?.to_string_lossy().into_owned()))
    }

    fn resolve_from(self, variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let mut figment = Figment::new();
        if let Some(file) = &self.config {
            figment = figment.merge(Toml::file_exact(file));
        }
        let mut told = BTreeMap::new();
        for name in names() {
            // A secret that is left empty, as by a template that has none, is not given.
            let given = variable(&variable_of(&name))
                .filter(|text| !text.is_empty() || !SECRETS.contains(&name.as_str()));
            if let Some(text) = given {
                told.insert(name.clone(), value(&name, text));
            }
        }
        let merged: Self = figment
            .merge(Serialized::defaults(&told))
            .merge(Serialized::defaults(&self))
            .extract()
            .map_err(|error| described(&error, &told))?;
        merged.check()?;
        Ok(Self {
            config: self.config,
            verbose: self.verbose,
            command: self.command,
            ..merged
        })
    }

    /// What clap checks of flags alone: the file and variables may say it too.
    fn check(&self) -> Result<(), SettingsError> {
        let refused = |reason: &str| Err(SettingsError(reason.to_owned()));
        if self
            .join_token
            .as_deref()
            .is_some_and(|token| token.trim().is_empty())
        {
            return refused("the join token is empty; give one, or --open, or none to have one made");
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return refused("of tls_cert and tls_key one is given; TLS needs both");
        }
        match self.difficulty.filter(|bits| *bits > MAX_DIFFICULTY) {
            Some(bits) => refused(&format!(
                "a difficulty of {bits} bits, at most {MAX_DIFFICULTY} are allowed"
            )),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;

    /// A value that each flag takes.
    const EXAMPLES: [(&str, &str); 24] = [
        ("bind", "127.0.0.1:1"),
        ("data_dir", "12345678"),
        ("database_url", "postgresql://me@host/db"),
        ("join_token", "12345678"),
        ("open", "true"),
        ("tls_cert", "1"),
        ("tls_key", "2"),
        ("tls_self_signed", "true"),
        ("private_way", "true"),
        ("proof", "authority"),
        ("difficulty", "7"),
        ("block_interval_ms", "100"),
        ("reward", "9"),
        ("heartbeat_ms", "300"),
        ("lease_ms", "900"),
        ("evict_after_ms", "5000"),
        ("relay", ""),
        ("relay_url", "http://host:1"),
        ("backup_every", "15m"),
        ("backup_to", "7"),
        ("backup_keep", "3"),
        ("log_format", "json"),
        ("log", "true"),
        ("otlp", "http://host:1"),
    ];

    fn told(variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::default().resolve_from(|asked| {
            let found = variables.iter().find(|(name, _)| asked == variable_of(name));
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_flag_is_a_variable() {
        let names = names();
        assert!(names.len() > 20, "{names:?}");
        for name in names {
            let example = EXAMPLES.iter().find(|(known, _)| *known == name);
            let example = example.unwrap_or_else(|| panic!("an example of {name} is missing"));
            let pair = match name.as_str() {
                "tls_cert" => Some(("tls_key", "2")),
                "tls_key" => Some(("tls_cert", "1")),
                _ => None,
            };
            let variables: Vec<_> = std::iter::once(*example).chain(pair).collect();
            let settings = serde_json::to_value(told(&variables).unwrap()).unwrap();
            let found = settings[&name].to_string();
            assert_eq!(found.trim_matches('"'), example.1, "{}", variable_of(&name));
            assert_eq!(settings.as_object().unwrap().len(), variables.len(), "{settings}");
        }
    }

    #[test]
    fn a_flag_stands_over_its_variable_and_that_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.toml");
        std::fs::write(&file, "reward = 1\nlease_ms = 1\nheartbeat_ms = 1\n").unwrap();
        let flags = ["server", "--config", file.to_str().unwrap(), "--reward", "3"];
        let variable = |name: &str| match name {
            "BLOCK_CHAIN_REWARD" | "BLOCK_CHAIN_LEASE_MS" => Some("2".to_owned()),
            _ => None,
        };
        let settings = Settings::parse_from(flags).resolve_from(variable).unwrap();
        let found = (settings.reward, settings.lease_ms, settings.heartbeat_ms);
        assert_eq!(found, (Some(3), Some(2), Some(1)));
    }

    #[test]
    fn secrets_are_text_and_never_shown() {
        let given = told(&[("join_token", "0123456789012345678901234")]).unwrap();
        assert_eq!(given.join_token.as_deref(), Some("0123456789012345678901234"));
        let none = told(&[("join_token", ""), ("database_url", "")]).unwrap();
        assert!(none.join_token.is_none() && none.database_url.is_none());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("server.toml");
        for (text, said) in [
            ("join_token = 12345678", "join_token is no text"),
            ("database_url = 12345678", "database_url is no text"),
            ("join_token = 12345678x", "line 1"),
            ("open = true\njoin_token = \"12345678", "line 2"),
            ("join_token = \"\"", "empty"),
            ("tls_cert = \"a\"", "tls_key"),
            ("difficulty = 65", "at most"),
            ("jion_token = \"12345678\"", "jion_token"),
        ] {
            std::fs::write(&file, text).unwrap();
            let settings = Settings {
                config: Some(file.clone()),
                ..Settings::default()
            };
            let error = settings.resolve_from(|_| None).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
            assert!(!error.contains("12345678"), "{error}");
        }
        let error = told(&[("difficulty", "many")]).unwrap_err().to_string();
        assert!(error.starts_with("BLOCK_CHAIN_DIFFICULTY: "), "{error}");
    }
}
