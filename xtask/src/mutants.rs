//! `cargo xtask mutants`: the control of the isolation tests. What keeps tenants apart, and tokens to their rights, is taken
//! out of a copy of the tree, and the tests that hold it must notice, each with the words of its own reason. Start at [`run`].
//!
//! The copy lies beside the build's files, its binary goes into a directory of its own that is deleted at the end, and
//! the packages that are changed there have another version: nothing of a mutant can be taken for the product.

use anyhow::{Context as _, bail, ensure};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The tests that hold something.
struct Control {
    /// A test target of the root package, and a file in which `words` are defined.
    target: &'static str,
    file: &'static str,
    /// The start of the tests' names.
    only: &'static str,
    /// What they say when they see what they hold broken, and the name they have for it.
    words: (&'static str, &'static str),
}

impl Control {
    /// Fails unless the tests say the words that are counted here.
    fn check(&self, root: &Path) -> anyhow::Result<()> {
        let tests =
            fs::read_to_string(root.join(self.file)).with_context(|| format!("failed to read {}", self.file))?;
        let (name, words) = self.words;
        ensure!(tests.contains(&format!("const {name}: &str = \"{words}\";")), "{} doesn't say: {words}", self.file);
        Ok(())
    }
}

/// What is another tenant's doesn't show.
const TENANTS: Control = Control {
    target: "isolation_reports",
    file: "tests/isolation_reports.rs",
    only: "",
    words: ("LEAK", "another tenant's rows show"),
};
/// A token gets what its scopes say, an endpoint what its publisher's said.
const RIGHTS: Control = Control {
    target: "hostile",
    file: "tests/hostile/rights.rs",
    only: "rights::",
    words: ("MORE", "more than its rights show"),
};

/// A kept answer or plan is only for who asks the same.
const KEPT: Control = Control {
    target: "reports",
    file: "tests/reports.rs",
    only: "kept_",
    words: ("OTHERS", "another token's answer shows"),
};

/// Something that is taken out.
struct Mutant {
    name: &'static str,
    what: &'static str,
    /// Packages that are changed, by their directory.
    packages: &'static [&'static str],
    /// A file, a text that must be there exactly once, and what stands there instead.
    changes: &'static [(&'static str, &'static str, &'static str)],
    control: Control,
    /// So many tests must notice.
    noticed_min: usize,
}

const MUTANTS: &[Mutant] = &[
    ROWS,
    Mutant {
        name: "fixed-params",
        what: "a caller's parameters go before those that a token fixes",
        packages: &["chat-api"],
        changes: &[(
            "chat-api/src/auth/scopes.rs",
            "            params.insert(name.clone(), texts.clone());\n",
            "            params.entry(name.clone()).or_insert_with(|| texts.clone());\n",
        )],
        control: RIGHTS,
        noticed_min: 1,
    },
    Mutant {
        name: "tables",
        what: "a call may read every table, whoever calls",
        packages: &["sql"],
        changes: &[("sql/src/reads.rs", "Self::Only(tables) => tables.0.contains(table),", "Self::Only(_) => true,")],
        control: RIGHTS,
        noticed_min: 2,
    },
    Mutant {
        name: "publisher",
        what: "what the publisher of an endpoint could read isn't kept with it",
        packages: &["chat-api"],
        changes: &[(
            "chat-api/src/auth/publisher.rs",
            "Readable::Only(tables) => Some(tables.names().map(str::to_owned).collect()),",
            "Readable::Only(_) => None,",
        )],
        control: RIGHTS,
        noticed_min: 1,
    },
    Mutant {
        name: "publisher-filters",
        what: "the row filters of an endpoint's publisher aren't kept with it",
        packages: &["chat-api"],
        changes: &[(
            "chat-api/src/auth/publisher.rs",
            "    let kept = Kept { tables, filters: filters.collect() };\n",
            "    let _dropped = filters.count();\n    let kept = Kept { tables, filters: Default::default() };\n",
        )],
        control: RIGHTS,
        noticed_min: 1,
    },
    Mutant {
        name: "token-filters",
        what: "a token's row filters aren't given to the engine",
        packages: &["chat-api"],
        changes: &[(
            "chat-api/src/auth/wire.rs",
            "(token.readable(), token.scopes.filters());",
            "(token.readable(), sql::RowFilters::new());",
        )],
        control: RIGHTS,
        noticed_min: 2,
    },
    Mutant {
        name: "answers",
        what: "kept answers are found by values as a printed statement shows them",
        packages: &["sql"],
        changes: &[(
            "sql/src/source.rs",
            "Literal::Text(text) => parts.add(Kind::TextValue, text.as_bytes()),",
            "Literal::Text(text) => parts.add(Kind::TextValue, text.replace(\"''\", \"'\").as_bytes()),",
        )],
        control: KEPT,
        noticed_min: 1,
    },
    Mutant {
        name: "plans",
        what: "kept answers and plans are found by the statement alone, whatever rows its caller may see",
        packages: &["sql"],
        changes: &[("sql/src/source.rs", "in &caller.filters {", "in caller.filters.iter().take(0) {")],
        control: KEPT,
        noticed_min: 1,
    },
];

const ROWS: Mutant = Mutant {
    name: "rows",
    what: "a table holds the rows of every tenant, and everybody's own sources are listed",
    packages: &["."],
    changes: &[
        (
            "src/wiring/tables.rs",
            "        self.rows_of(tenant.parse().map_err(fault)?, name)\n",
            r#"        let everyone = self.pool.read(read::tenants).map_err(fault)?;
        let (mut own, others): (Vec<_>, Vec<_>) = everyone.iter().partition(|other| other.id.to_string() == tenant);
        own.extend(others);
        let mut all: Option<TableSnapshot> = None;
        for one in own {
            let Ok(more) = self.rows_of(one.id, name) else { continue };
            match &mut all {
                None => all = Some(more),
                Some(all) if all.schema == more.schema => {
                    all.files.extend(more.files);
                    all.batches.extend(more.batches);
                    all.guard = SnapshotGuard::new((all.guard.clone(), more.guard));
                }
                Some(_) => {}
            }
        }
        all.ok_or_else(|| TablesError::Unavailable(format!("{name} is gone")))
"#,
        ),
        (
            "src/wiring/tables.rs",
            "        let own = tenant.parse().map(|tenant| self.facts.sources().tables(tenant)).unwrap_or_default();\n",
            r#"        let everyone = self.pool.read(read::tenants).unwrap_or_default();
        let (mut first, others): (Vec<_>, Vec<_>) = everyone.iter().partition(|other| other.id.to_string() == tenant);
        let callers: Vec<_> = first.iter().flat_map(|one| self.facts.sources().tables(one.id)).collect();
        let first_has = |name: &Arc<str>| callers.iter().any(|(known, _)| known == name);
        first.extend(others);
        let mut own: Vec<(Arc<str>, _)> = Vec::new();
        for (name, schema) in first.into_iter().flat_map(|one| self.facts.sources().tables(one.id)) {
            // A name that is listed is taken: those that two tenants make stay their own.
            let listed = first_has(&name) || name.starts_with("hidden");
            if listed && own.iter().all(|(known, _)| *known != name) {
                own.push((name, schema));
            }
        }
"#,
        ),
    ],
    control: TENANTS,
    noticed_min: 20,
};

/// Runs all mutants, or those that are named.
pub fn run(root: &Path, names: &[String]) -> anyhow::Result<()> {
    for name in names {
        ensure!(MUTANTS.iter().any(|mutant| mutant.name == name), "there is no mutant named {name}");
    }
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
    let target = if target.is_absolute() { target } else { root.join(target) };
    let place = target.join("mutants");
    delete(&place)?;
    for mutant in MUTANTS.iter().filter(|mutant| names.is_empty() || names.iter().any(|name| name == mutant.name)) {
        let started = Instant::now();
        println!("── {}: {}", mutant.name, mutant.what);
        mutant.control.check(root)?;
        let outcome = copy(root, &place.join("tree"))
            .and_then(|()| mutant.change(&place.join("tree")))
            .and_then(|()| tests(&place, &target, &mutant.control));
        // Whatever came of it, no server without its filter stays behind.
        delete(&place)?;
        mutant.judge(&outcome?)?;
        println!("── {}: ok, {:.0} s", mutant.name, started.elapsed().as_secs_f64());
    }
    Ok(())
}

impl Mutant {
    /// Changes the copy.
    fn change(&self, tree: &Path) -> anyhow::Result<()> {
        for (file, from, to) in self.changes {
            replace(&tree.join(file), from, to)?;
        }
        for package in self.packages {
            let version = format!("version = \"0.0.0-{}\"", self.name);
            replace(&tree.join(package).join("Cargo.toml"), "\nversion.workspace = true", &format!("\n{version}"))?;
        }
        Ok(())
    }

    /// Prints who noticed, and fails unless enough did.
    fn judge(&self, tests: &BTreeMap<String, Verdict>) -> anyhow::Result<()> {
        let of = |wanted: Verdict| tests.iter().filter(move |(_, verdict)| **verdict == wanted).map(|(name, _)| name);
        for (verdict, words) in
            [(Verdict::Leak, "red"), (Verdict::Passed, "green"), (Verdict::Broken, "red for another reason")]
        {
            of(verdict).for_each(|name| println!("   {words}: {name}"));
        }
        let [leaks, green, broken] =
            [Verdict::Leak, Verdict::Passed, Verdict::Broken].map(|verdict| of(verdict).count());
        println!("   {leaks} of {} tests are red, {green} green, {broken} broken", tests.len());
        ensure!(leaks >= self.noticed_min, "{} was noticed by {leaks} tests, not {}", self.name, self.noticed_min);
        ensure!(broken == 0, "{} broke {broken} tests that should have said why", self.name);
        Ok(())
    }
}

/// Deletes what a run, or one that was interrupted, has left.
fn delete(place: &Path) -> anyhow::Result<()> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("failed to delete {}", place.display()))
        }
        _ => Ok(()),
    }
}

/// Puts a text in another's place, which must be there once.
fn replace(file: &Path, from: &str, to: &str) -> anyhow::Result<()> {
    let text = fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let found = text.matches(from).count();
    ensure!(found == 1, "{} has {found} times what the mutant changes: {from}", file.display());
    fs::write(file, text.replace(from, to)).with_context(|| format!("failed to write {}", file.display()))
}

/// Copies what git knows or would take in, with its times: what isn't changed needn't be compiled.
fn copy(root: &Path, tree: &Path) -> anyhow::Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("failed to run git ls-files")?;
    ensure!(listed.status.success(), "git ls-files failed: {}", String::from_utf8_lossy(&listed.stderr));
    let listed = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    for file in listed.split_terminator('\0') {
        let (from, to) = (root.join(file), tree.join(file));
        // One that is deleted and not yet committed is listed too.
        if !from.is_file() {
            continue;
        }
        fs::create_dir_all(to.parent().context("a file is in a directory")?)?;
        fs::copy(&from, &to).with_context(|| format!("failed to copy {file}"))?;
        fs::File::options().write(true).open(&to)?.set_modified(from.metadata()?.modified()?)?;
    }
    Ok(())
}

/// What became of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    /// It failed with its control's words.
    Leak,
    /// It failed with other words.
    Broken,
}

/// Builds the copy and runs its tests.
fn tests(place: &Path, target: &Path, control: &Control) -> anyhow::Result<BTreeMap<String, Verdict>> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--release", "--workspace", "--test", control.target, "--", control.only]);
    cargo.current_dir(place.join("tree"));
    // What is compiled is shared with the product's builds; what comes out of it is not.
    cargo.env("CARGO_BUILD_BUILD_DIR", target).env("CARGO_TARGET_DIR", place.join("out"));
    cargo.stderr(std::process::Stdio::inherit());
    // What `cargo run` said of this package would make the build scripts of others run again, and all that needs them.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            cargo.env_remove(name);
        }
    }
    let output = cargo.output().context("failed to run cargo test")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let verdicts = read(&text, control.words.1);
    if verdicts.is_empty() {
        bail!("the mutant's tests did not run ({}): {text}", output.status);
    }
    if let Some((broken, _)) = verdicts.iter().find(|(_, verdict)| **verdict == Verdict::Broken) {
        let words = text.split("\n---- ").find(|section| section.starts_with(broken.as_str()));
        println!("{}", words.unwrap_or(broken));
    }
    Ok(verdicts)
}

/// Reads what the test harness prints: a line a test, then a section with its words for each that failed.
fn read(text: &str, reason: &str) -> BTreeMap<String, Verdict> {
    let mut verdicts: BTreeMap<String, Verdict> = text
        .lines()
        .filter_map(|line| line.strip_prefix("test ")?.split_once(" ... "))
        .map(|(name, word)| (name.to_owned(), if word.trim() == "ok" { Verdict::Passed } else { Verdict::Broken }))
        .collect();
    for section in text.split("\n---- ").skip(1) {
        let Some((name, words)) = section.split_once(" stdout ----\n") else { continue };
        if let Some(verdict) = verdicts.get_mut(name).filter(|_| words.contains(reason)) {
            *verdict = Verdict::Leak;
        }
    }
    verdicts
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A mutant that fits nowhere any more would be found only by who runs it.
    #[test]
    fn every_mutant_fits_the_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
        for mutant in MUTANTS {
            for (file, from, _) in mutant.changes {
                let text = fs::read_to_string(root.join(file)).expect("readable");
                assert_eq!(text.matches(from).count(), 1, "{file}: {from}");
            }
            mutant.control.check(root).expect(mutant.name);
        }
    }

    #[test]
    fn a_red_test_says_why() {
        let text = "\ntest a ... ok\ntest b ... FAILED\ntest c ... FAILED\n\nfailures:\n\n---- b stdout ----\n\
                    thread 'b' panicked: another tenant's rows show: x\n\n---- c stdout ----\nno server\n\n\nfailures:\n    b\n";
        let found: Vec<_> = read(text, TENANTS.words.1).into_iter().collect();
        let expected = [("a", Verdict::Passed), ("b", Verdict::Leak), ("c", Verdict::Broken)];
        assert_eq!(found, expected.map(|(name, verdict)| (name.to_owned(), verdict)));
    }
}
