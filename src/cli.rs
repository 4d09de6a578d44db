//! The command line, as in `--help`. Each command is a function of its own; this file only branches.

use crate::config::{Problems, ServeArgs, StoreArgs};
use crate::{bench, demo, offline, rebuild, remote, server, verify};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Self-hosted support chat for many tenants, built log-first.
#[derive(Parser)]
#[command(name = "parlance", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A server with three tenants and live traffic to look at
    Demo(DemoArgs),
    /// Run the server
    Serve(ServeArgs),
    /// Make and list tenants
    #[command(subcommand)]
    Tenant(TenantCommand),
    /// Make /v0 tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Import transcripts (NDJSON, gzip allowed; - for standard input)
    Import(ImportArgs),
    /// Export a tenant's conversations as NDJSON
    Export(ExportArgs),
    /// Read the whole log, its hash chain and every view; print the state's hash
    Verify(WhereArgs),
    /// Delete views and replay the log; sends and appends nothing
    Rebuild(RebuildArgs),
    /// Ask a tenant's catalog
    Sql(SqlArgs),
    /// Measure, beside this disk's own speed
    Bench(bench::BenchArgs),
}

/// Flags of `demo`.
#[derive(Args)]
pub struct DemoArgs {
    /// Conversations go this many times faster than people talk
    #[arg(long, default_value_t = 10.0)]
    pub speed: f64,
    /// The same seed gives the same traffic
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// Where a command works: a data directory, or a running server.
#[derive(Args, Clone)]
pub struct WhereArgs {
    #[command(flatten)]
    pub store: StoreArgs,
    /// Work on this running server instead of a data directory
    #[arg(long, env = "PARLANCE_SERVER", value_name = "URL")]
    pub server: Option<String>,
    /// The tenant's admin token or the operator token, with --server
    #[arg(long = "token", env = "PARLANCE_TOKEN", value_name = "T", hide_env_values = true, requires = "server")]
    pub credential: Option<String>,
}

#[derive(Subcommand)]
enum TenantCommand {
    /// Make a tenant with its owner; prints slug, ids and the password if one was made up
    Create(TenantCreateArgs),
    /// List tenants
    List(WhereArgs),
}

/// Flags of `tenant create`.
#[derive(Args)]
pub struct TenantCreateArgs {
    /// Display name
    #[arg(long)]
    pub name: String,
    /// The owner's address
    #[arg(long)]
    pub email: String,
    /// Read the owner's password from standard input; else one is made up and printed
    #[arg(long)]
    pub password_stdin: bool,
    #[command(flatten)]
    pub place: WhereArgs,
}

#[derive(Subcommand)]
enum TokenCommand {
    /// Make a /v0 token; prints the token and nothing else
    Create(TokenCreateArgs),
}

/// Flags of `token create`.
#[derive(Args)]
pub struct TokenCreateArgs {
    /// The tenant's slug
    #[arg(long, value_name = "SLUG")]
    pub tenant: String,
    /// Display name
    #[arg(long, default_value = "cli")]
    pub name: String,
    /// For example PIPES:READ:usage or DATASOURCES:READ:*; none reads everything
    #[arg(long, value_name = "TYPE:RESOURCE")]
    pub scope: Vec<String>,
    /// For example 30d, 12h
    #[arg(long)]
    pub expires: Option<String>,
    #[command(flatten)]
    pub place: WhereArgs,
}

/// Flags of `import`.
#[derive(Args)]
pub struct ImportArgs {
    /// The file; - for standard input
    pub file: PathBuf,
    /// All lines belong to this tenant
    #[arg(long, value_name = "SLUG", conflicts_with = "tenant_field", required_unless_present = "tenant_field")]
    pub tenant: Option<String>,
    /// Each line names its tenant in this field; missing tenants are made
    #[arg(long, value_name = "FIELD", value_parser = ["tenant"])]
    pub tenant_field: Option<String>,
    #[command(flatten)]
    pub place: WhereArgs,
}

/// Flags of `export`.
#[derive(Args)]
pub struct ExportArgs {
    /// The tenant's slug
    #[arg(long, value_name = "SLUG")]
    pub tenant: String,
    /// The file; standard output if none
    pub file: Option<PathBuf>,
    #[command(flatten)]
    pub place: WhereArgs,
}

/// Flags of `rebuild`.
#[derive(Args)]
pub struct RebuildArgs {
    /// Which views
    #[arg(long, value_delimiter = ',', default_values = ["state", "facts", "metrics"])]
    pub views: Vec<rebuild::View>,
    #[command(flatten)]
    pub place: WhereArgs,
}

/// Flags of `sql`.
#[derive(Args)]
pub struct SqlArgs {
    /// The tenant's slug
    #[arg(long, value_name = "SLUG")]
    pub tenant: String,
    /// One SELECT
    pub sql: String,
    #[command(flatten)]
    pub place: WhereArgs,
}

/// Runs a command; a failure is `Err`, a finding (`verify`) is the code.
pub async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    if !matches!(cli.command, Command::Demo(_) | Command::Serve(_)) {
        server::init_logs(false, "warn");
    }
    match cli.command {
        Command::Demo(args) => demo::run(args).await?,
        Command::Serve(args) => server::run(args).await?,
        Command::Tenant(TenantCommand::Create(args)) if args.place.server.is_some() => {
            remote::tenant_create(&args).await?;
        }
        Command::Tenant(TenantCommand::Create(args)) => offline::tenant_create(&args).await?,
        Command::Tenant(TenantCommand::List(place)) if place.server.is_some() => remote::tenant_list(&place).await?,
        Command::Tenant(TenantCommand::List(place)) => offline::tenant_list(&place).await?,
        Command::Token(TokenCommand::Create(args)) if args.place.server.is_some() => {
            remote::token_create(&args).await?;
        }
        Command::Token(TokenCommand::Create(args)) => offline::token_create(&args).await?,
        Command::Import(args) if args.place.server.is_some() => return remote::import(&args).await,
        Command::Import(args) => return offline::import(&args).await,
        Command::Export(args) if args.place.server.is_some() => remote::export(&args).await?,
        Command::Export(args) => offline::export(&args).await?,
        Command::Verify(place) if place.server.is_some() => return remote::verify(&place).await,
        Command::Verify(place) => return verify::run(place.store),
        Command::Rebuild(args) if args.place.server.is_some() => remote::rebuild(&args).await?,
        Command::Rebuild(args) => rebuild::run(args.place.store, &args.views).await?,
        Command::Sql(args) if args.place.server.is_some() => remote::sql(&args).await?,
        Command::Sql(args) => offline::sql(&args).await?,
        Command::Bench(args) => {
            Problems::of_environment().finish()?;
            bench::run(args).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
