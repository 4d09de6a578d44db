//! All that is wrong with the settings, a line each.

use super::names;
use std::fmt;

/// Characters of a value that an error repeats.
const SHOWN_CHARS: usize = 80;

/// What is wrong; an error if there is anything.
#[derive(Debug)]
pub struct Problems(Vec<String>);

impl Problems {
    /// Those of the environment, which are the same whatever the command.
    #[must_use]
    pub fn of_environment() -> Self {
        Self(names::environment())
    }

    /// One more, a line that names the setting and what it expects.
    pub fn add(&mut self, problem: String) {
        self.0.push(problem);
    }

    /// Whether there are none.
    ///
    /// # Errors
    /// All of them.
    pub fn finish(self) -> anyhow::Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(self.into()) }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings are wrong, nothing was opened")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl std::error::Error for Problems {}

/// A value as an error shows it: on one line, and not all of a long one.
pub(super) fn shown(value: &str) -> String {
    let escaped: String = value.chars().take(SHOWN_CHARS).flat_map(char::escape_debug).collect();
    if value.chars().count() > SHOWN_CHARS { format!("{escaped}…") } else { escaped }
}
