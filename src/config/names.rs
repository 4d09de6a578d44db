//! Names of settings: one that nobody knows is a mistake, and the one that was meant is named.

use crate::cli::Cli;
use clap::CommandFactory as _;
use std::collections::BTreeSet;

/// What the names of all variables begin with.
const PREFIX: &str = "PARLANCE_";
/// What logs are written; no command has a flag for it.
const LOG: &str = "PARLANCE_LOG";

/// The flag of a setting by its key in the file.
pub(super) fn flag(key: &str) -> String {
    match key {
        // One of them a flag.
        "limits" => "--limit".to_owned(),
        "quotas" => "--quota".to_owned(),
        key => format!("--{}", key.replace('_', "-")),
    }
}

/// The variable of a setting by its key in the file.
pub(super) fn variable(key: &str) -> String {
    format!("{PREFIX}{}", key.to_uppercase())
}

/// A sentence about a name that isn't known, with the nearest one that is.
pub(super) fn unknown<'a>(kind: &str, name: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let name = super::problems::shown(name);
    match nearest(&name, known.clone()) {
        Some(meant) => format!("there is no {kind} '{name}'; did you mean '{meant}'?"),
        None => format!("there is no {kind} '{name}'; there are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

/// The known name from which the fewest letters differ, if they are few.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (distance, meant) = known.map(|known| (strsim::damerau_levenshtein(name, known), known)).min()?;
    (distance <= 2.max(name.chars().count() / 4)).then_some(meant)
}

/// What is wrong with the environment: variables with our prefix that no command reads, and a filter that is none.
pub(super) fn environment() -> Vec<String> {
    let known = variables();
    let mut problems = Vec::new();
    // A name that isn't text isn't one of ours.
    let set: BTreeSet<String> = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
    for name in set.iter().filter(|name| name.starts_with(PREFIX)) {
        if !known.contains(name.as_str()) && !is_a_service(name) {
            problems.push(unknown("variable", name, known.iter().map(String::as_str)));
        }
    }
    if let Some(filter) = std::env::var_os(LOG) {
        let filter = filter.to_string_lossy();
        if let Err(error) = tracing_subscriber::EnvFilter::try_new(&*filter) {
            let expected = "expected for example info, or debug,hyper=warn";
            problems.push(format!("{LOG} '{}': {expected}: {error}", super::problems::shown(&filter)));
        }
    }
    problems
}

/// Every variable of every command.
fn variables() -> BTreeSet<String> {
    let mut found = BTreeSet::from([LOG.to_owned()]);
    let mut commands = vec![Cli::command()];
    while let Some(command) = commands.pop() {
        let names = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
        found.extend(names.map(str::to_owned));
        commands.extend(command.get_subcommands().cloned());
    }
    found
}

/// Kubernetes and Docker tell every container of the services beside it in variables that begin with a service's name, and
/// one may be called `parlance` or `parlance-…`.
fn is_a_service(name: &str) -> bool {
    let parts: Vec<&str> = name.split('_').collect();
    let is_port = |at: usize| {
        parts.get(at + 1).is_none_or(|number| number.chars().all(|c| c.is_ascii_digit()))
            && parts.get(at + 2).is_none_or(|protocol| ["TCP", "UDP", "SCTP"].contains(protocol))
    };
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || parts.iter().position(|part| *part == "PORT").is_some_and(is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_was_meant_is_named() {
        let known = ["PARLANCE_LISTEN", "PARLANCE_LIMITS", "PARLANCE_MAIL"];
        let about = |name: &str| unknown("variable", name, known.into_iter());
        assert!(about("PARLANCE_LIMIT").ends_with("did you mean 'PARLANCE_LIMITS'?"));
        assert!(about("PARLANCE_LISETN").ends_with("did you mean 'PARLANCE_LISTEN'?"));
        assert!(about("PARLANCE_COMPLETELY_OTHER").contains("there are PARLANCE_LISTEN, PARLANCE_LIMITS"));
    }

    #[test]
    fn services_beside_a_container_are_no_settings() {
        for name in [
            "PARLANCE_SERVICE_HOST",
            "PARLANCE_SERVICE_PORT",
            "PARLANCE_SERVICE_PORT_HTTP",
            "PARLANCE_PORT",
            "PARLANCE_PORT_8080_TCP",
            "PARLANCE_PORT_8080_TCP_ADDR",
            "PARLANCE_PORT_8080_TCP_PORT",
            "PARLANCE_CHAT_SERVICE_HOST",
            "PARLANCE_CHAT_PORT_5432_TCP_PROTO",
        ] {
            assert!(is_a_service(name), "{name}");
        }
        for name in ["PARLANCE_LISTN", "PARLANCE_PORT_LISTEN", "PARLANCE_PORTS", "PARLANCE_HOST", "PARLANCE_PORT_80_X"]
        {
            assert!(!is_a_service(name), "{name}");
        }
    }

    #[test]
    fn every_variable_is_the_one_of_its_key() {
        let known = variables();
        assert!(known.len() > 25, "{known:?}");
        let serve = <super::super::ServeArgs as clap::Args>::augment_args(clap::Command::new("serve"));
        for argument in serve.get_arguments() {
            let key = argument.get_id().as_str();
            let long = argument.get_long().map(|long| format!("--{long}"));
            assert_eq!(long, Some(flag(key)));
            assert_eq!(argument.get_env().and_then(|name| name.to_str()), Some(variable(key).as_str()));
            assert!(known.contains(&variable(key)), "{key}");
        }
    }
}
