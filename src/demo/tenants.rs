//! The demo's three tenants: signed up through the API on first start, signed in to on later ones.

use crate::client::Api;
use anyhow::Context as _;
use chat_api::app::App;
use chat_api::store::read;
use reqwest::Method;
use serde_json::{Value, json};

/// Everybody's in the demo, which listens on loopback.
pub const PASSWORD: &str = "parlance-demo";

const TENANTS: [(&str, &str, [&str; 2]); 3] = [
    ("Acme Outdoor", "acme", ["Ada", "Grace"]),
    ("Northwind Bank", "northwind", ["Linus", "Margaret"]),
    ("Globex Travel", "globex", ["Edsger", "Barbara"]),
];

/// A tenant with people at work.
pub struct DemoTenant {
    /// Display name.
    pub name: String,
    /// For the command line.
    pub slug: String,
    /// The owner's address.
    pub email: String,
    /// The widget's key.
    pub chatbot_key: String,
    /// A `/v0` token that reads.
    pub report_token: String,
    /// Refresh tokens would be a page's job; the agents here sign in again, so they keep address and password.
    pub agent_tokens: Vec<SignIn>,
}

/// An agent's sign-in.
#[derive(Clone)]
pub struct SignIn {
    /// The address.
    pub email: String,
    /// The tenant's slug: the same address may work for several.
    pub tenant: String,
}

impl SignIn {
    /// An access token, good for some minutes.
    ///
    /// # Errors
    /// The server's.
    pub async fn token(&self, api: &Api) -> anyhow::Result<String> {
        let body = json!({ "email": self.email, "password": PASSWORD, "tenant": self.tenant });
        let answer = api.post("/v1/auth/login", "", body).await?;
        Ok(answer["access_token"].as_str().context("a sign-in gives a token")?.to_owned())
    }
}

/// Opens or makes the three tenants.
///
/// # Errors
/// The server's.
pub async fn open(api: &Api, app: &App) -> anyhow::Result<Vec<DemoTenant>> {
    let mut tenants = Vec::new();
    for (name, word, agents) in TENANTS {
        tenants.push(open_one(api, app, name, word, &agents).await?);
    }
    Ok(tenants)
}

async fn open_one(api: &Api, app: &App, name: &str, word: &str, agents: &[&str]) -> anyhow::Result<DemoTenant> {
    let slug = chat_api::import::slugify(name);
    let email = format!("owner@{word}.example");
    let known = app.pool.read(|connection| read::tenant_by_slug(connection, &slug))?.is_some();
    let owner = SignIn { email: email.clone(), tenant: slug.clone() };
    if !known {
        let body = json!({ "name": name, "adminName": "Owner", "adminEmail": email, "adminPassword": PASSWORD });
        api.post("/v1/tenants", "", body).await?;
    }
    let token = owner.token(api).await?;
    let mut sign_ins = Vec::new();
    for agent in agents {
        let email = format!("{}@{word}.example", agent.to_lowercase());
        if !known {
            let body = json!({ "name": agent, "email": email, "password": PASSWORD, "role": "agent" });
            api.post("/v1/agents", &token, body).await?;
        }
        sign_ins.push(SignIn { email, tenant: slug.clone() });
    }
    let chatbot_key = chatbot(api, &token, word).await?;
    let body = json!({ "name": "demo", "scopes": [] });
    let report = api.post("/v0/tokens/", &token, body).await?;
    Ok(DemoTenant {
        name: name.to_owned(),
        slug,
        email,
        chatbot_key,
        report_token: report["token"].as_str().context("a token's answer has it")?.to_owned(),
        agent_tokens: sign_ins,
    })
}

async fn chatbot(api: &Api, token: &str, word: &str) -> anyhow::Result<String> {
    let found = api.get("/v1/chatbots", token).await?;
    let (id, key) = match found["items"].as_array().and_then(|items| items.first()) {
        Some(chatbot) => (chatbot["id"].clone(), chatbot["apiKey"].clone()),
        None => {
            let body = json!({
                "name": word, "allowedOrigins": [api.base()], "greeting": "Hi! How can we help?",
                "waitingText": "An agent will join shortly.",
            });
            let made = api.post("/v1/chatbots", token, body).await?;
            (made["id"].clone(), made["apiKey"].clone())
        }
    };
    // The port may be another one than last time, and the demo's page comes from it.
    let path = format!("/v1/chatbots/{}", id.as_str().context("a chatbot has an id")?);
    api.call(Method::PATCH, &path, token, Some(json!({ "allowedOrigins": [api.base()] }))).await?;
    Ok(key.as_str().context("a chatbot has a key")?.to_owned())
}

/// What the demo's page needs to know.
#[must_use]
pub fn describe(tenants: &[DemoTenant]) -> Value {
    let tenants = tenants.iter().map(|tenant| {
        json!({ "name": tenant.name, "slug": tenant.slug, "chatbotKey": tenant.chatbot_key, "reportToken": tenant.report_token })
    });
    json!({ "tenants": tenants.collect::<Vec<_>>() })
}
