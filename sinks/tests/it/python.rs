//! Pythons with a package from PyPI, for tests that need a real server or client. Each is made once a target directory.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn run(command: &mut Command, needs: &str) {
    let output = command.stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => {
            panic!("failed to run {command:?}: {needs}\n{}", String::from_utf8_lossy(&output.stderr))
        }
        Err(error) => panic!("failed to run {command:?}: {error}; {needs}"),
    }
}

/// The folder of an environment with packages, for example `aiosmtpd==1.4.6`, with spaces between them; `bin/python` is
/// in it.
pub fn environment(packages: &str) -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let venv = tmp.join(packages.replace("==", "-").replace(' ', "-"));
    let ready = venv.join("ready");
    // Tests are processes of their own: one makes it, the others wait.
    let lock = File::create(venv.with_extension("lock")).expect("a file in the target directory");
    lock.lock().expect("a lock");
    if !ready.exists() {
        let needs = "the tests need python3 with venv (Debian: python3-venv)";
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv), needs);
        let needs = format!("the tests need the package index, to install {packages} once");
        let mut install = Command::new(venv.join("bin/python"));
        run(install.args(["-m", "pip", "install", "--quiet"]).args(packages.split(' ')), &needs);
        std::fs::write(&ready, "").expect("a file in the environment");
    }
    venv
}
