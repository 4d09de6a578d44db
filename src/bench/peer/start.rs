//! The peer's processes: a PostgreSQL of its own, and the server in Node.

use anyhow::{Context as _, bail};
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// The server, and the packages it names.
const FILES: [(&str, &str); 4] = [
    ("server.mjs", include_str!("server.mjs")),
    ("package.json", include_str!("package.json")),
    ("package-lock.json", include_str!("package-lock.json")),
    (".npmrc", include_str!(".npmrc")),
];
/// How long PostgreSQL may take to start.
const START_MAX: Duration = Duration::from_secs(30);

/// A database that runs.
pub(super) struct Peer {
    dir: PathBuf,
    binaries: PathBuf,
    port: u16,
    user: Option<(u32, u32)>,
    database: Child,
}

impl Peer {
    /// Installs the packages, makes a database in `dir` and starts it.
    pub(super) async fn start(dir: &Path) -> anyhow::Result<Self> {
        let dir = std::path::absolute(dir)?.join("peer");
        std::fs::create_dir_all(&dir)?;
        for (name, text) in FILES {
            std::fs::write(dir.join(name), text)?;
        }
        let mut install = Command::new("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(&dir);
        done(install, "npm").await?;
        let (binaries, user) = (binaries()?, user()?);
        let data = dir.join("database");
        std::fs::create_dir(&data)?;
        if let Some((uid, gid)) = user {
            // The directories on the way are this user's own.
            for passed in dir.ancestors().take(2) {
                std::fs::set_permissions(passed, Permissions::from_mode(0o711))?;
            }
            std::os::unix::fs::chown(&data, Some(uid), Some(gid))?;
        }
        let mut make = as_user(&binaries.join("initdb"), user);
        make.args(["-U", "bench", "-A", "trust", "--no-sync", "-D"]).arg(&data).current_dir("/");
        done(make, "initdb").await.context("choose a --dir that the user postgres can reach, for example /var/tmp")?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut database = as_user(&binaries.join("postgres"), user);
        database.arg("-D").arg(&data).args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(["-k", ""]);
        let database = database.current_dir("/").stderr(Stdio::null()).stdout(Stdio::null()).kill_on_drop(true);
        let database = database.spawn().context("failed to start postgres")?;
        let peer = Self { dir, binaries, port, user, database };
        let asked = Instant::now();
        while let Err(error) = peer.sql("SELECT 1").await {
            if asked.elapsed() > START_MAX {
                return Err(error.context("PostgreSQL didn't start"));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(peer)
    }

    /// The process that starts all others of the database.
    pub(super) fn database(&self) -> Option<u32> {
        self.database.id()
    }

    /// Starts the server; gives it and its address.
    pub(super) async fn serve(&self) -> anyhow::Result<(Child, String)> {
        let mut server = Command::new("node")
            .arg("server.mjs")
            .env("DATABASE_URL", format!("postgres://bench@127.0.0.1:{}/postgres", self.port))
            .env("NODE_ENV", "production")
            .current_dir(&self.dir)
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("failed to start node")?;
        let out = server.stdout.take().context("the peer has an output")?;
        let line = BufReader::new(out).lines().next_line().await?.context("the peer ended at once")?;
        Ok((server, line.split_whitespace().last().context("the peer says where it is")?.to_owned()))
    }

    /// Has the database copy what its log holds.
    pub(super) async fn checkpoint(&self) -> anyhow::Result<()> {
        self.sql("CHECKPOINT").await
    }

    async fn sql(&self, sql: &str) -> anyhow::Result<()> {
        let mut ask = as_user(&self.binaries.join("psql"), self.user);
        ask.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", "bench", "-d", "postgres", "-q", "-c", sql]);
        ask.current_dir("/");
        done(ask, "psql").await
    }

    /// Stops the database.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.database.start_kill()?;
        self.database.wait().await?;
        Ok(())
    }
}

/// Where Debian puts PostgreSQL's programs: those of the newest version.
fn binaries() -> anyhow::Result<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let found = versions.map(|version| version.path().join("bin")).filter(|bin| bin.join("initdb").exists()).max();
    found.context("the peer needs PostgreSQL: apt-get install postgresql")
}

/// PostgreSQL doesn't run as root: then it's the user that Debian's package made.
fn user() -> anyhow::Result<Option<(u32, u32)>> {
    if std::fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let users = std::fs::read_to_string("/etc/passwd")?;
    let line = users.lines().find(|line| line.starts_with("postgres:")).context("there is no user postgres")?;
    let ids: Vec<u32> = line.split(':').skip(2).take(2).filter_map(|id| id.parse().ok()).collect();
    match ids.as_slice() {
        [uid, gid] => Ok(Some((*uid, *gid))),
        _ => bail!("/etc/passwd has no ids of the user postgres"),
    }
}

fn as_user(program: &Path, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

async fn done(mut command: Command, name: &str) -> anyhow::Result<()> {
    let output = command.stdin(Stdio::null()).output().await.with_context(|| format!("failed to start {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
