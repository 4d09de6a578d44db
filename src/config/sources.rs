//! Which text of a setting counts, flag, variable or file, and where it comes from.

use super::args::ServeArgs;
use super::names;
use super::problems::{Problems, shown};
use clap::{Args as _, Command};
use std::path::{Path, PathBuf};
use toml::{Table, Value};

/// What is said elsewhere than by flags and variables, and what is wrong so far.
pub(super) struct Sources {
    file: Table,
    path: PathBuf,
    /// Settings that were given, and whether they are good.
    given: Vec<(&'static str, bool)>,
    pub problems: Problems,
}

/// A value as it was given.
struct Given {
    text: String,
    /// As it's named in an error.
    origin: String,
}

impl Sources {
    /// Reads the TOML file, if there is one.
    pub fn open(config: Option<PathBuf>) -> Self {
        let mut problems = Problems::of_environment();
        let file = config.as_deref().map(|path| read(path, &mut problems)).unwrap_or_default();
        Self { file, path: config.unwrap_or_default(), given: Vec::new(), problems }
    }

    /// # Errors
    /// All that is wrong.
    pub fn finish(self) -> anyhow::Result<()> {
        self.problems.finish()
    }

    /// Whether a setting was given that was read before.
    pub fn has(&self, key: &str) -> bool {
        self.given.iter().any(|(given, _)| *given == key)
    }

    /// Whether one was given and is no good.
    pub fn is_wrong(&self, key: &str) -> bool {
        self.given.iter().any(|(given, good)| *given == key && !good)
    }

    /// One value, if it's given and good.
    pub fn one<T>(
        &mut self,
        key: &'static str,
        given: Option<String>,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.given_one(key, given)?;
        let good = check(&given.text).map_err(|what| format!("{} '{}': {what}", given.origin, shown(&given.text)));
        self.keep(key, good)
    }

    /// The same of a value that may be a secret, or hold one: no error shows it.
    pub fn secret<T>(
        &mut self,
        key: &'static str,
        given: Option<String>,
        check: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let given = self.given_one(key, given)?;
        let good = check(&given.text).map_err(|what| format!("{}: {what}", given.origin));
        self.keep(key, good)
    }

    /// The same of a path.
    pub fn path(
        &mut self,
        key: &'static str,
        given: Option<PathBuf>,
        check: impl FnOnce(&Path) -> Result<(), String>,
    ) -> Option<PathBuf> {
        let (path, origin) = match given {
            Some(path) => {
                let origin = origin(key, &path.to_string_lossy());
                (path, origin)
            }
            None => {
                let given = self.given_one(key, None)?;
                (PathBuf::from(given.text), given.origin)
            }
        };
        let good = check(&path).map_err(|what| format!("{origin} '{}': {what}", shown(&path.to_string_lossy())));
        self.keep(key, good.map(|()| path))
    }

    /// All values of a list; those of flags and variables take the place of the file's.
    pub fn list<T>(
        &mut self,
        key: &'static str,
        given: Vec<String>,
        check: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let mut all: Vec<Given> = given.into_iter().map(|text| Given { origin: origin(key, &text), text }).collect();
        if all.is_empty() {
            all = self.list_of_file(key);
        }
        let mut good = Vec::new();
        for given in all {
            let checked =
                check(&given.text).map_err(|what| format!("{} '{}': {what}", given.origin, shown(&given.text)));
            good.extend(self.keep(key, checked));
        }
        good
    }

    /// Values with names: the file's, and over those the ones of flags or variables, written `NAME=VALUE`.
    pub fn pairs(
        &mut self,
        key: &'static str,
        given: Vec<String>,
        mut set: impl FnMut(&str, &str) -> Result<(), String>,
    ) {
        let mut pairs = self.pairs_of_file(key);
        for text in given {
            let origin = format!("{} '{}'", origin(key, &text), shown(&text));
            match text.split_once('=') {
                Some((name, value)) => pairs.push((origin, name.trim().to_owned(), value.to_owned())),
                None => self.problems.add(format!("{origin}: expected NAME=VALUE")),
            }
        }
        // `all` comes first in the alphabet, so single ones in the file count over it.
        for (origin, name, value) in pairs {
            let checked = set(&name, &value).map_err(|what| format!("{origin}: {what}"));
            self.keep(key, checked);
        }
    }

    fn keep<T>(&mut self, key: &'static str, checked: Result<T, String>) -> Option<T> {
        self.given.push((key, checked.is_ok()));
        checked.map_err(|problem| self.problems.add(problem)).ok()
    }

    fn given_one(&mut self, key: &'static str, given: Option<String>) -> Option<Given> {
        if let Some(text) = given {
            return Some(Given { origin: origin(key, &text), text });
        }
        let value = self.file.get(key)?.clone();
        let origin = self.origin_in_file(key);
        match text_of(&value) {
            Some(text) => Some(Given { text, origin }),
            None => {
                self.keep::<()>(key, Err(format!("{origin}: expected a text or a number, found {}", value.type_str())));
                None
            }
        }
    }

    fn origin_in_file(&self, key: &str) -> String {
        format!("{key} in {}", self.path.display())
    }

    fn list_of_file(&mut self, key: &'static str) -> Vec<Given> {
        let origin = self.origin_in_file(key);
        let values = match self.file.get(key) {
            None => return Vec::new(),
            Some(Value::Array(values)) => values.iter().map(text_of).collect::<Option<Vec<String>>>(),
            Some(_) => None,
        };
        match values {
            Some(values) => values.into_iter().map(|text| Given { text, origin: origin.clone() }).collect(),
            None => {
                self.problems.add(format!("{origin}: expected a list of texts"));
                Vec::new()
            }
        }
    }

    /// Where each comes from and what it says, its name and its value.
    fn pairs_of_file(&mut self, key: &'static str) -> Vec<(String, String, String)> {
        let origin = self.origin_in_file(key);
        let table = match self.file.get(key) {
            None => return Vec::new(),
            Some(Value::Table(table)) => table.clone(),
            Some(_) => {
                self.problems.add(format!("{origin}: expected a table [{key}]"));
                return Vec::new();
            }
        };
        let mut pairs = Vec::new();
        for (name, value) in table {
            match text_of(&value) {
                Some(text) => pairs.push((format!("{name} in {origin} '{}'", shown(&text)), name, text)),
                None => self.problems.add(format!("{name} in {origin}: expected a text")),
            }
        }
        pairs
    }
}

fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) | Value::Array(_) | Value::Table(_) => None,
    }
}

/// A value that clap gives comes from the flag, if that is there, else from the variable.
fn origin(key: &str, text: &str) -> String {
    let (flag, variable) = (names::flag(key), names::variable(key));
    let with_value = format!("{flag}=");
    let is_flag = |argument: &str| argument == flag || argument.starts_with(&with_value);
    let flagged = std::env::args_os().any(|argument| is_flag(&argument.to_string_lossy()));
    let set = std::env::var_os(&variable).is_some_and(|value| value.to_string_lossy().contains(text));
    if set && !flagged { variable } else { flag }
}

/// The file's values; those with names that there aren't are problems.
fn read(path: &Path, problems: &mut Problems) -> Table {
    let origin = origin("config", &path.to_string_lossy());
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            problems.add(format!("{origin} '{}': expected a TOML file: {error}", shown(&path.to_string_lossy())));
            return Table::new();
        }
    };
    let table: Table = match toml::from_str(&text) {
        Ok(table) => table,
        Err(error) => {
            let line = error.span().map_or(1, |span| text[..span.start].lines().count().max(1));
            problems.add(format!("{}, line {line}: {}", path.display(), error.message().replace('\n', " ")));
            return Table::new();
        }
    };
    let serve = ServeArgs::augment_args(Command::new("serve"));
    let known: Vec<&str> = serve.get_arguments().map(|argument| argument.get_id().as_str()).collect();
    let keys = || known.iter().copied().filter(|key| *key != "config");
    for key in table.keys().filter(|key| !keys().any(|known| known == *key)) {
        problems.add(format!("{}: {}", path.display(), names::unknown("key", key, keys())));
    }
    table
}
