//! Every setting is checked before anything is opened, wherever it was given: as a flag, as a variable, in the file. Every
//! error is told, a line each, with the setting's name and what it must be.
//!
//! Which settings there are is read off the binary's own help: one that isn't in the table here fails.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use support::{Server, parlance};

/// A file that is there, and is neither a directory, nor keys, nor settings.
const SOME_FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
/// Longer than any path of a database.
const TOO_LONG: &str = "dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd/dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd";

/// A setting: its flag, a value that is good, some that aren't, and a word of what is then expected.
struct Setting {
    flag: &'static str,
    good: &'static str,
    bad: &'static [&'static str],
    expected: &'static str,
}

const COUNTS: &[&str] = &["", "0", "-1", "x", "1.5", "1000001", "99999999999999999999"];
const WAITS: &[&str] = &["", "0", "-1", "x", "1.5", "86401", "99999999999999999999"];
const URLS: &[&str] = &[
    "",
    "javascript:alert(1)",
    "chat.example",
    "ftp://chat.example",
    "https://",
    "https://chat.example\n",
    "https://chat.exa\tmple",
    "https://me:secret@chat.example",
    "https://chat.example?x",
    "https://chat.example#x",
];

const fn setting(
    flag: &'static str,
    good: &'static str,
    bad: &'static [&'static str],
    expected: &'static str,
) -> Setting {
    Setting { flag, good, bad, expected }
}

const SETTINGS: &[Setting] = &[
    setting("data-dir", "", &["", SOME_FILE, TOO_LONG], "directory"),
    setting("key-file", "", &["", "/", SOME_FILE, "/nowhere/at/all/parlance.keys"], "file"),
    setting("config", "", &["", "/nowhere/parlance.toml", "/"], "expected a TOML file"),
    setting(
        "listen",
        "127.0.0.1:0",
        &["", "8080", "localhost:8080", "127.0.0.1", "127.0.0.1:99999"],
        "an address and a port",
    ),
    setting(
        "mail",
        "smtp://me:secret@[::1]:25?tls=off",
        &[
            "",
            "Spool",
            "smpt://h",
            "smtp://",
            "smtp://me@h",
            "smtp://me:secret@h:0",
            "smtp://me:secret@h:x",
            "smtp://me:secret@h?tls=maybe",
            "smtps://me:secret@h?tls=off",
            "smtp://me:secret%zz@h",
            "smtp://me:secret%0a@h",
            "smtp://me:secret@[::1",
            "smtp://me:secret@[x]",
            "smtp://me:secret@h\n",
            "smtp://me:secret@-",
            "javascript:alert(1)",
        ],
        "expected spool, smtp://",
    ),
    setting("mail-from", "Me <me@mail.example>", &["", "nobody", "@", "a@b.example\nBcc: c@d.example"], "an address"),
    setting("public-url", "https://chat.example/support", URLS, "http:// or https:// and a host"),
    setting("operator-token", "secret", &["", "secret secret", "sécret", "secret\n"], "visible ASCII"),
    setting(
        "allowed-origins",
        "https://shop.example",
        &["", "*", "shop.example", "https://shop.example/"],
        "an origin",
    ),
    setting("trusted-proxies", "10.0.0.0/8", &["", "proxy", "10.0.0.0/33", "10.0.0.0/"], "an address or a range"),
    setting(
        "limit",
        "visitor=5+5/s",
        &[
            "visitor",
            "visitor=10",
            "visitor=0+1/s",
            "visitor=1+1/day",
            "visitor=1+9999999999/s",
            "visitor=1+4000000000/s",
        ],
        "expected",
    ),
    setting("limit", "all=off", &["visitors=off", "vistor=5+5/s"], "did you mean 'visitor'?"),
    setting(
        "quota",
        "visitor_text=1MiB/day",
        &["visitor_text", "visitor_text=1GB/day", "visitor_text=-1KiB/day", "visitor_text=0KiB/day"],
        "expected",
    ),
    setting("quota", "tenant_log=1GiB", &["tenant_logs=1GiB"], "did you mean 'tenant_log'?"),
    setting("quota", "all=off", &["visitor_text=1MiB"], "/day"),
    setting("disk-reserve", "1MiB", &["", "2GB", "2", "-1GiB", "99999999999999999999GiB"], "2GiB, or off"),
    setting("sockets-max", "100", COUNTS, "from 1 to 1000000"),
    setting("sockets-per-ip-max", "100", COUNTS, "from 1 to 1000000"),
    setting("connections-max", "100", COUNTS, "from 1 to 1000000"),
    setting("connections-per-ip-max", "100", COUNTS, "from 1 to 1000000"),
    setting("header-wait-s", "5", WAITS, "from 1 to 86400"),
    setting("idle-wait-s", "5", WAITS, "from 1 to 86400"),
    setting("body-wait-s", "5", WAITS, "from 1 to 86400"),
    setting("unread-wait-s", "5", WAITS, "from 1 to 86400"),
    setting("away-after-s", "5", WAITS, "from 1 to 86400"),
    setting("pg-listen", "127.0.0.1:0", &["", "5432", "localhost:5432"], "an address and a port"),
    setting("pg-tls-cert", "", &["", "/nowhere/cert.pem"], "a file that can be read"),
    setting("pg-tls-key", "", &["", "/nowhere/key.pem"], "a file that can be read"),
    setting("pg-connections-max", "10", COUNTS, "from 1 to 1000000"),
    setting("pg-connections-per-tenant-max", "10", COUNTS, "from 1 to 1000000"),
    setting("log-format", "json", &["", "xml", "JSON"], "text or json"),
];

/// How the commands that work on a server are told where it is.
const REMOTE: &[Setting] = &[
    setting("server", "", URLS, "http:// or https:// and a host"),
    setting("token", "", &["", "secret secret", "secret\n"], "visible ASCII"),
];

impl Setting {
    fn key(&self) -> String {
        match self.flag {
            "limit" => "limits".to_owned(),
            "quota" => "quotas".to_owned(),
            flag => flag.replace('-', "_"),
        }
    }

    fn variable(&self) -> String {
        format!("PARLANCE_{}", self.key().to_uppercase())
    }

    /// As it stands in the file; `None` for what can't be said there.
    fn line(&self, value: &str) -> Option<String> {
        let text = |value: &str| serde_json::to_string(value).expect("a text");
        match self.flag {
            "config" => None,
            "limit" | "quota" => {
                let (name, value) = value.split_once('=')?;
                Some(format!("[{}]\n{name} = {}", self.key(), text(value)))
            }
            "allowed-origins" | "trusted-proxies" => Some(format!("{} = [{}]", self.key(), text(value))),
            _ => Some(format!("{} = {}", self.key(), text(value))),
        }
    }
}

fn ended(command: &mut std::process::Command) -> Output {
    command.output().expect("the binary runs")
}

fn help(path: &[String]) -> String {
    let output = ended(parlance().args(path).arg("--help"));
    assert!(output.status.success(), "{path:?}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// The flags of a command.
fn flags(path: &[String]) -> BTreeSet<String> {
    let help = help(path);
    let flag = |line: &str| Some(line.trim_start().strip_prefix("--")?.split([' ', '<']).next()?.to_owned());
    help.lines().filter_map(flag).collect()
}

/// Every command, with those under it.
fn commands(path: &[String]) -> Vec<Vec<String>> {
    let mut found = vec![path.to_vec()];
    let help = help(path);
    let Some((_, list)) = help.split_once("Commands:\n") else { return found };
    let names = list.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| *name != "help") {
        found.extend(commands(&[path, &[name.to_owned()]].concat()));
    }
    found
}

/// A command that must refuse: its code is 1, nothing is made, and every line but the first is about one setting.
fn refused(command: &mut std::process::Command, data_dir: &Path, about: &str) -> Vec<String> {
    let output = ended(command);
    let error = String::from_utf8(output.stderr).expect("UTF-8");
    assert_eq!(output.status.code(), Some(1), "{about}: {error}");
    assert!(!error.contains("panicked"), "{about}: {error}");
    assert!(!data_dir.exists(), "{about}: something was opened");
    let mut lines = error.lines().map(str::to_owned);
    let first = lines.next().unwrap_or_default();
    assert_eq!(first, "parlance: the settings are wrong, nothing was opened", "{about}: {error}");
    lines.collect()
}

#[test]
fn every_setting_is_in_the_table() {
    let in_table: BTreeSet<String> = SETTINGS.iter().map(|setting| setting.flag.to_owned()).collect();
    let own = |path: &str| flags(&[path.to_owned()]);
    assert_eq!(own("serve"), in_table);
    let demo = ["seed", "speed"].map(str::to_owned);
    assert_eq!(own("demo"), in_table.iter().cloned().chain(demo).collect());
    // What any command takes from a variable is a setting.
    let known: BTreeSet<String> = SETTINGS.iter().chain(REMOTE).map(Setting::variable).collect();
    let all = commands(&[]);
    assert!(all.len() > 15, "the help is read: {all:?}");
    for path in all {
        for part in help(&path).split("[env: ").skip(1) {
            let variable = part.split(['=', ']']).next().unwrap_or_default();
            assert!(known.contains(variable), "{path:?} {variable}");
        }
    }
}

#[test]
fn a_bad_value_is_told_by_its_name_wherever_it_was_given() {
    let place = tempfile::tempdir().expect("temp dir");
    let data_dir = place.path().join("data");
    let file = place.path().join("parlance.toml");
    for setting in SETTINGS {
        let key = setting.key();
        for value in setting.bad {
            let mut ways = vec![
                (format!("--{}", setting.flag), vec![format!("--{}={value}", setting.flag)], None, None),
                (setting.variable(), Vec::new(), Some(*value), None),
            ];
            if let Some(line) = setting.line(value) {
                ways.push((format!("{key} in "), Vec::new(), None, Some(line)));
            }
            for (name, arguments, variable, line) in ways {
                let about = format!("{name} {value:?}");
                let mut command = parlance();
                command.arg("serve").args(arguments);
                if setting.flag != "data-dir" {
                    command.arg("--data-dir").arg(&data_dir);
                }
                if let Some(value) = variable {
                    command.env(setting.variable(), value);
                }
                if let Some(line) = line {
                    fs::write(&file, line).expect("written");
                    command.arg("--config").arg(&file);
                }
                let lines = refused(&mut command, &data_dir, &about);
                let said = lines.iter().filter(|line| line.contains(&name) || setting.flag == "config");
                let said: Vec<_> = said.filter(|line| line.contains(setting.expected)).collect();
                assert_eq!(said.len().min(1), 1, "{about}: {lines:#?}");
                let secret = ["mail", "operator-token"].contains(&setting.flag);
                assert!(!secret || lines.iter().all(|line| !line.contains("secret")), "{about}: {lines:#?}");
            }
        }
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let place = tempfile::tempdir().expect("temp dir");
    let data_dir = place.path().join("data");
    let file = place.path().join("parlance.toml");
    fs::write(&file, "listen = \"nowhere\"\nsockets_maks = 5\n[limits]\nvisitors = \"off\"").expect("written");
    let mut command = parlance();
    command.args(["serve", "--public-url", "javascript:alert(1)", "--limit", "agents=off", "--mail", "smtp://"]);
    command.args(["--idle-wait-s", "0"]).arg("--data-dir").arg(&data_dir).arg("--config").arg(&file);
    command.env("PARLANCE_QUOTAS", "tenant_log=1").env("PARLANCE_LISTN", "x").env("PARLANCE_LOG", "a=b=c");
    let lines = refused(&mut command, &data_dir, "all");
    let expected = [
        "'PARLANCE_LISTN'; did you mean 'PARLANCE_LISTEN'?",
        "PARLANCE_LOG 'a=b=c'",
        "'sockets_maks'; did you mean 'sockets_max'?",
        "--idle-wait-s '0'",
        "visitors in limits in",
        "--limit 'agents=off': there is no limit 'agents'; did you mean 'agent'?",
        "PARLANCE_QUOTAS 'tenant_log=1'",
        "listen in",
        "--mail: no host",
        "--public-url 'javascript:alert(1)'",
    ];
    for words in expected {
        assert_eq!(lines.iter().filter(|line| line.contains(words)).count(), 1, "{words}: {lines:#?}");
    }
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
}

/// A name that no command reads is told by every command.
#[test]
fn a_misspelt_variable_is_told_by_every_command() {
    let place = tempfile::tempdir().expect("temp dir");
    let data_dir = place.path().join("data");
    let commands: [&[&str]; 10] = [
        &["serve"],
        &["demo"],
        &["verify"],
        &["rebuild"],
        &["tenant", "list"],
        &["token", "create", "--tenant", "acme"],
        &["import", SOME_FILE, "--tenant", "acme"],
        &["export", "--tenant", "acme"],
        &["sql", "--tenant", "acme", "SELECT 1"],
        &["tenant", "list", "--server", "http://127.0.0.1:9", "--token", "secret"],
    ];
    for arguments in commands {
        let mut command = parlance();
        command.args(arguments).env("PARLANCE_DATADIR", &data_dir).env("PARLANCE_PORT", "tcp://10.0.0.1:80");
        let lines = refused(&mut command, &data_dir, &format!("{arguments:?}"));
        assert_eq!(
            lines,
            ["there is no variable 'PARLANCE_DATADIR'; did you mean 'PARLANCE_DATA_DIR'?"],
            "{arguments:?}"
        );
    }
    let output = ended(parlance().args(["bench", "append", "--seconds", "1"]).env("PARLANCE_DATADIR", &data_dir));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn where_a_server_is_and_its_token_are_checked() {
    let place = tempfile::tempdir().expect("temp dir");
    let good = [("server", "http://127.0.0.1:9"), ("token", "secret")];
    for setting in REMOTE {
        for value in setting.bad {
            let mut command = parlance();
            command.args(["tenant", "list"]);
            for (flag, good) in good {
                command.arg(format!("--{flag}={}", if flag == setting.flag { value } else { good }));
            }
            let lines = refused(&mut command, &place.path().join("data"), value);
            assert!(lines.len() == 1 && lines[0].contains(setting.expected), "{value:?}: {lines:?}");
            assert!(!lines[0].contains("secret") || setting.flag == "server", "{lines:?}");
        }
    }
}

/// The table's good values, all at once.
#[test]
fn good_values_start_a_server() {
    let dir = tempfile::tempdir().expect("temp dir");
    let given = SETTINGS.iter().filter(|setting| !setting.good.is_empty() && setting.flag != "operator-token");
    let arguments: Vec<String> =
        given.filter(|setting| setting.flag != "listen").map(|s| format!("--{}={}", s.flag, s.good)).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::start(&dir.path().join("data"), &arguments).stop();
}

#[test]
fn a_key_file_that_others_may_read_is_refused_with_what_to_run() {
    let place = tempfile::tempdir().expect("temp dir");
    let data_dir = place.path().join("data");
    let keys = place.path().join("kept.keys");
    drop(ingest::seal::KeyFile::open(&keys, true).expect("made"));
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("set");
    let mut command = parlance();
    command.args(["serve", "--data-dir"]).arg(&data_dir).arg("--key-file").arg(&keys);
    let lines = refused(&mut command, &data_dir, "mode 644");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains(&format!("chmod 600 {}", keys.display())), "{lines:?}");
}

/// What can only be known at the start itself ends it as quietly: with a sentence, and no thread that panics.
#[test]
fn a_start_that_fails_later_says_why_and_nothing_else() {
    let dir = tempfile::tempdir().expect("temp dir");
    Server::start(dir.path(), &[]).stop();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = taken.local_addr().expect("an address").to_string();
    let serve = |listen: &str| {
        let output = ended(parlance().args(["serve", "--listen", listen, "--data-dir"]).arg(dir.path()));
        let error = String::from_utf8(output.stderr).expect("UTF-8");
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        error
    };
    assert!(serve(&taken).contains(&format!("failed to listen on {taken}")));
    // Something of ours is where it can't be: the engine runs by then.
    for (name, words) in [("files", "failed to open the files"), ("tmp", "failed to make the directory for spills")] {
        let path = dir.path().join(name);
        drop(fs::remove_dir_all(&path));
        fs::write(&path, "").expect("written");
        let error = serve("127.0.0.1:0");
        assert!(error.contains(words), "{error}");
        fs::remove_file(&path).expect("deleted");
    }
}
