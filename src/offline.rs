//! The commands on a data directory that no server holds.

use crate::cli::{ExportArgs, ImportArgs, SqlArgs, TenantCreateArgs, TokenCreateArgs, WhereArgs};
use crate::engine::Engine;
use crate::output::{ExportFile, Progress, open};
use anyhow::{Context as _, bail};
use chat_api::auth::wire::metrics_version;
use chat_api::auth::{passwords, tokens};
use chat_api::check;
use chat_api::core::command::{AgentDetails, Command, CommandKind, NewAgent};
use chat_api::core::grants::ScopeKind;
use chat_api::core::state::Tenant;
use chat_api::domain::Submission;
use chat_api::import::{self, Exporter, ImportReport, Owner, Shown, Unpacking};
use chat_api::limits::Intake;
use chat_api::store::read;
use ingest::event::Actor;
use ingest::id::{AgentId, EventId, TenantId, TokenId};
use ingest::payload::{Role, Scope};
use ingest::time::Timestamp;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::process::ExitCode;

async fn with_engine<T>(
    place: &WhereArgs,
    create: bool,
    work: impl AsyncFnOnce(&Engine) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let engine = Engine::open(&place.store.clone().resolve()?, create)?;
    let outcome = work(&engine).await;
    engine.close().await;
    outcome
}

fn tenant(engine: &Engine, slug: &str) -> anyhow::Result<Tenant> {
    let found = engine.pool.read(|connection| read::tenant_by_slug(connection, slug))?;
    found.with_context(|| format!("there is no tenant '{slug}'; see `parlance tenant list`"))
}

async fn submit(engine: &Engine, submission: Submission) -> anyhow::Result<()> {
    match engine.writer.submit(submission).await? {
        Ok(_) => Ok(()),
        Err(rejection) => bail!("{}", rejection.detail),
    }
}

fn command(tenant: TenantId, kind: CommandKind) -> Command {
    Command { tenant, actor: Actor::Operator, first_event: EventId::fresh(), request: None, cause: None, kind }
}

/// A password from standard input, or a made-up one, which is then printed.
///
/// # Errors
/// When standard input can't be read, or holds nothing.
pub fn password(from_stdin: bool) -> anyhow::Result<(String, bool)> {
    if !from_stdin {
        return Ok((hex::encode(tokens::random::<12>()?), true));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("failed to read the password from standard input")?;
    let password = text.trim_end_matches(['\r', '\n']).to_owned();
    check::password("password", &password)?;
    Ok((password, false))
}

/// `tenant create`.
///
/// # Errors
/// Says what is wrong with the name, the address or the password, or who has the name already.
pub async fn tenant_create(args: &TenantCreateArgs) -> anyhow::Result<()> {
    let slug = import::slugify(&args.name);
    if slug.is_empty() {
        bail!("the name needs at least one letter or digit");
    }
    let name = check::name("name", &args.name)?;
    let email = check::email("email", &args.email)?;
    let (password, made_up) = password(args.password_stdin)?;
    with_engine(&args.place, true, async |engine| {
        let (tenant, agent_id) = (TenantId::fresh(), AgentId::fresh());
        let (key, new_key) = engine.keys.get_or_create(agent_id.into())?;
        let email_hmac = import::email_hmac(&engine.key_file, &email);
        let salt = passwords::Salt::of_address(&engine.key_file, &email_hmac);
        let owner = NewAgent {
            agent_id,
            name: key.seal(email.split('@').next().unwrap_or(&email))?,
            email: Some(key.seal(&email)?),
            password_hash: Some(passwords::hash(password.clone(), salt).await?),
            email_hmac: Some(email_hmac),
            role: Role::Owner,
            max_concurrent_chats: 6,
            external_id: None,
            details: AgentDetails::default(),
        };
        let kind =
            CommandKind::CreateTenant { name, slug: slug.clone(), time_zone: "UTC".to_owned(), owner: Some(owner) };
        let keys = new_key.into_iter().collect();
        submit(engine, Submission { command: command(tenant, kind), keys }).await?;
        println!("tenant={tenant} slug={slug} owner={agent_id}");
        if made_up {
            println!("password={password}");
        }
        Ok(())
    })
    .await
}

/// `tenant list`.
///
/// # Errors
/// When the data directory can't be opened.
pub async fn tenant_list(place: &WhereArgs) -> anyhow::Result<()> {
    with_engine(place, false, async |engine| {
        for tenant in engine.pool.read(read::tenants)? {
            println!("{}\t{}\t{}\t{}", tenant.slug, tenant.id, tenant.time_zone, tenant.name);
        }
        Ok(())
    })
    .await
}

/// Reads `30d`, `12h`, `15m` as milliseconds.
///
/// # Errors
/// Says what is expected.
pub fn duration_ms(text: &str) -> anyhow::Result<i64> {
    let expected =
        || format!("failed to read the duration '{text}': expected a number with d, h or m, for example 30d");
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: i64 = number.parse().ok().filter(|number| *number > 0).with_context(expected)?;
    let unit = match unit {
        "d" => 86_400_000,
        "h" => 3_600_000,
        "m" => 60_000,
        _ => bail!(expected()),
    };
    number.checked_mul(unit).with_context(expected)
}

/// Reads `TYPE:RESOURCE`, where the type itself has a colon.
///
/// # Errors
/// Says what is expected.
pub fn scope(text: &str) -> anyhow::Result<Scope> {
    let types = ScopeKind::TEXTS;
    let found = types.iter().find_map(|kind| Some((*kind, text.strip_prefix(kind)?.strip_prefix(':')?)));
    match found {
        Some((kind, resource)) if !resource.is_empty() => Ok(Scope {
            r#type: kind.to_owned(),
            resource: resource.to_owned(),
            fixed_params: BTreeMap::new(),
            filter: None,
        }),
        _ => bail!("failed to read the scope '{text}': expected one of {types:?}, a colon and a name or *"),
    }
}

/// `token create`.
///
/// # Errors
/// Names an unknown tenant, a bad scope or duration.
pub async fn token_create(args: &TokenCreateArgs) -> anyhow::Result<()> {
    let scopes = args.scope.iter().map(|text| scope(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let life = args.expires.as_deref().map(duration_ms).transpose()?;
    with_engine(&args.place, false, async |engine| {
        let tenant = tenant(engine, &args.tenant)?;
        let token = tokens::new_api_token()?;
        let kind = CommandKind::CreateToken {
            token_id: TokenId::fresh(),
            name: check::name("name", &args.name)?,
            sha256: tokens::sha256_hex(&token),
            scopes,
            expires_at: life.map(|life| Timestamp::now().plus_ms(life)),
            limits: None,
        };
        submit(engine, command(tenant.id, kind).into()).await?;
        println!("{token}");
        Ok(())
    })
    .await
}

/// Prints what an import came to; the code says whether lines were quarantined.
#[must_use]
pub fn print_report(report: &ImportReport) -> ExitCode {
    for bad in report.quarantined.iter().take(20) {
        eprintln!("line {}: {}: {}", bad.line, bad.code, bad.detail);
    }
    for field in report.cleaned.iter().take(20) {
        eprintln!("line {}: cleaned {}: {}", field.line, field.code, field.detail);
    }
    let quarantined = report.bad_lines();
    let cleaned = match report.cleaned_fields() {
        0 => String::new(),
        fields => format!(" cleaned={fields}"),
    };
    println!("imported={} skipped={} quarantined={quarantined}{cleaned}", report.imported, report.skipped);
    if quarantined == 0 { ExitCode::SUCCESS } else { ExitCode::from(2) }
}

/// `import`. The code is 2 when lines were quarantined; the others are in.
///
/// # Errors
/// When the file can't be read or the writer fails.
pub async fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let file = open(&args.file)?;
    with_engine(&args.place, true, async |engine| {
        let owner = match &args.tenant {
            Some(slug) => Owner::Tenant(tenant(engine, slug)?.id),
            None => Owner::TenantField,
        };
        let mut progress = Progress::new("lines");
        let bar = progress.bar();
        // Nobody else is on this directory.
        let place = Intake::default().place(TenantId::fresh());
        let input = (file, Unpacking::OWN_FILE);
        let report = engine.importer().run(owner, input, place, move |done| progress.at(done)).await;
        bar.finish_and_clear();
        let report = report?;
        Ok(print_report(&report))
    })
    .await
}

/// `export`.
///
/// # Errors
/// When the data can't be read or the file can't be written.
pub async fn export(args: &ExportArgs) -> anyhow::Result<()> {
    with_engine(&args.place, false, async |engine| {
        let tenant = tenant(engine, &args.tenant)?;
        let mut out = ExportFile::open(args.file.as_deref())?;
        let (mut exporter, mut progress) =
            (Exporter::new(tenant.id, Shown { agents: true, visitors: true }), Progress::new("conversations"));
        let mut bytes = Vec::new();
        while exporter.step(&engine.pool, &engine.views, &mut bytes)? {
            out.write_all(&bytes)?;
            bytes.clear();
            progress.at(exporter.done());
        }
        out.finish()?;
        progress.finish();
        Ok(())
    })
    .await
}

/// `sql`.
///
/// # Errors
/// The query's own, with its position.
pub async fn sql(args: &SqlArgs) -> anyhow::Result<()> {
    with_engine(&args.place, false, async |engine| {
        let tenant = tenant(engine, &args.tenant)?;
        let end = engine.writer.reader().end();
        // A server answers 503 after a second; whoever types a command can wait for the facts to catch up.
        engine.facts.wait_for(end, std::time::Duration::from_secs(600)).await?;
        let reports = engine.reports()?;
        let (id, now_ms) = (tenant.id.to_string(), Timestamp::now().0);
        let caller = sql::Caller {
            tenant: id,
            time_zone: tenant.time_zone,
            now_ms,
            readable: sql::Readable::All,
            filters: sql::RowFilters::new(),
            metrics: metrics_version(&tenant.settings),
        };
        let result = reports.query(&caller, &args.sql).await?;
        println!("{}", arrow::util::pretty::pretty_format_batches_with_schema(result.schema, &result.batches)?);
        Ok(())
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_scopes_say_what_they_expect() {
        assert_eq!(duration_ms("30d").expect("valid"), 30 * 86_400_000);
        assert!(duration_ms("soon").expect_err("no number").to_string().contains("30d"));
        assert!(duration_ms("-3d").is_err());
        assert_eq!(scope("PIPES:READ:usage").expect("valid").resource, "usage");
        assert!(scope("PIPES:usage").is_err());
    }
}
