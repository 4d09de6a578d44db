//! The commands on a running server, over its HTTP API.

use crate::cli::{ExportArgs, ImportArgs, RebuildArgs, SqlArgs, TenantCreateArgs, TokenCreateArgs, WhereArgs};
use crate::config;
use crate::offline::{duration_ms, password, print_report, scope};
use crate::output::ExportFile;
use crate::verify::Findings;
use anyhow::{Context as _, bail};
use chat_api::import::ImportReport;
use futures_util::StreamExt as _;
use ingest::time::Timestamp;
use reqwest::{Body, Client, Method, RequestBuilder, Response};
use serde_json::{Value, json};
use std::process::ExitCode;

fn request(place: &WhereArgs, method: Method, path: &str) -> anyhow::Result<RequestBuilder> {
    let (server, token) = config::remote(place.server.clone(), place.credential.clone())?;
    Ok(Client::new().request(method, format!("{server}{path}")).bearer_auth(token))
}

async fn send(request: RequestBuilder) -> anyhow::Result<Response> {
    let response = request.send().await.context("failed to reach the server")?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let problem: Value = response.json().await.unwrap_or_default();
    let detail = problem["detail"].as_str().or(problem["error"].as_str()).unwrap_or("no detail");
    bail!("the server answered {status}: {detail}")
}

async fn json(request: RequestBuilder) -> anyhow::Result<Value> {
    send(request).await?.json().await.context("failed to read the server's answer")
}

/// `tenant create`, with the operator token.
///
/// # Errors
/// The server's.
pub async fn tenant_create(args: &TenantCreateArgs) -> anyhow::Result<()> {
    let (password, made_up) = password(args.password_stdin)?;
    let name = args.email.split('@').next().unwrap_or(&args.email);
    let body = json!({ "name": args.name, "ownerName": name, "ownerEmail": args.email, "ownerPassword": password });
    let made = json(request(&args.place, Method::POST, "/v1/operator/tenants")?.json(&body)).await?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let tenant = &made["tenant"];
    println!("tenant={} slug={} owner={}", text(&tenant["id"]), text(&tenant["slug"]), text(&made["agent"]["id"]));
    if made_up {
        println!("password={password}");
    }
    Ok(())
}

/// `tenant list`, with the operator token.
///
/// # Errors
/// The server's.
pub async fn tenant_list(place: &WhereArgs) -> anyhow::Result<()> {
    let mut path = "/v1/operator/tenants".to_owned();
    loop {
        let tenants = json(request(place, Method::GET, &path)?).await?;
        for tenant in tenants["items"].as_array().into_iter().flatten() {
            let text = |key: &str| tenant[key].as_str().unwrap_or_default().to_owned();
            println!("{}\t{}\t{}\t{}", text("slug"), text("id"), text("timeZone"), text("name"));
        }
        let Some(cursor) = tenants["nextCursor"].as_str() else { return Ok(()) };
        path = format!("/v1/operator/tenants?cursor={cursor}");
    }
}

async fn make_token(args: &TokenCreateArgs) -> anyhow::Result<String> {
    let scopes = args.scope.iter().map(|text| scope(text)).collect::<anyhow::Result<Vec<_>>>()?;
    let life = args.expires.as_deref().map(duration_ms).transpose()?;
    let expires = life.map(|life| Timestamp::now().plus_ms(life).to_string());
    let body = json!({ "name": args.name, "scopes": scopes, "expiresAt": expires });
    let path = format!("/v1/operator/tenants/{}/tokens", args.tenant);
    let made = json(request(&args.place, Method::POST, &path)?.json(&body)).await?;
    Ok(made["token"].as_str().context("the server's answer has no token")?.to_owned())
}

/// `token create`, with the operator token.
///
/// # Errors
/// The server's.
pub async fn token_create(args: &TokenCreateArgs) -> anyhow::Result<()> {
    println!("{}", make_token(args).await?);
    Ok(())
}

/// `import`: with the operator token for any tenant, with a tenant's admin token for its own.
///
/// # Errors
/// The server's, or the file's.
pub async fn import(args: &ImportArgs) -> anyhow::Result<ExitCode> {
    let body = Body::from(tokio::fs::File::from_std(crate::output::open(&args.file)?));
    let query = match &args.tenant {
        Some(slug) => [("tenant", slug.as_str())],
        None => [("tenantField", "tenant")],
    };
    let request = request(&args.place, Method::POST, "/v1/operator/import")?.query(&query);
    let request = request.header("content-type", "application/x-ndjson").body(body);
    let report: ImportReport = send(request).await?.json().await.context("failed to read the server's answer")?;
    Ok(print_report(&report))
}

/// `export`, with a tenant's admin token.
///
/// # Errors
/// The server's, or the file's.
pub async fn export(args: &ExportArgs) -> anyhow::Result<()> {
    let response = send(request(&args.place, Method::GET, "/v1/export/conversations")?).await?;
    let mut out = ExportFile::open(args.file.as_deref())?;
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        out.write_all(&chunk.context("the export was cut off")?)?;
    }
    out.finish()
}

/// `verify`, with the operator token.
///
/// # Errors
/// The server's; damage is exit code 1, as offline.
pub async fn verify(place: &WhereArgs) -> anyhow::Result<ExitCode> {
    let found = json(request(place, Method::POST, "/v1/operator/verify")?).await?;
    let found: Findings = serde_json::from_value(found)?;
    eprintln!("{} events, {} fact files", found.events, found.files);
    println!("state_hash={}", found.state_hash);
    Ok(ExitCode::SUCCESS)
}

/// `rebuild`, with the operator token.
///
/// # Errors
/// The server's.
pub async fn rebuild(args: &RebuildArgs) -> anyhow::Result<()> {
    let body = json!({ "views": args.views });
    let done = json(request(&args.place, Method::POST, "/v1/operator/rebuild")?.json(&body)).await?;
    println!("state_hash={}", done["state_hash"].as_str().unwrap_or_default());
    Ok(())
}

/// `sql`: with a tenant's own token, or with the operator token, which makes one that ends in an hour.
///
/// # Errors
/// The query's own, with its position.
pub async fn sql(args: &SqlArgs) -> anyhow::Result<()> {
    let ask = |place: &WhereArgs| anyhow::Ok(request(place, Method::POST, "/v0/sql")?.query(&[("q", &args.sql)]));
    let answer = match json(ask(&args.place)?).await {
        Ok(answer) => answer,
        Err(refused) => {
            let token = TokenCreateArgs {
                tenant: args.tenant.clone(),
                name: "parlance sql".to_owned(),
                scope: vec!["DATASOURCES:READ:*".to_owned()],
                expires: Some("1h".to_owned()),
                place: args.place.clone(),
            };
            // Only the operator may make one; for everybody else the first refusal is the answer.
            let Ok(token) = make_token(&token).await else { return Err(refused) };
            json(ask(&WhereArgs { credential: Some(token), ..args.place.clone() })?).await?
        }
    };
    let columns: Vec<&str> =
        answer["meta"].as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
    println!("{}", columns.join("\t"));
    for row in answer["data"].as_array().into_iter().flatten() {
        let cells = columns.iter().map(|column| match &row[column] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        println!("{}", cells.collect::<Vec<_>>().join("\t"));
    }
    Ok(())
}
