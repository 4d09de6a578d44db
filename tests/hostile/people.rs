//! Somebody else's address and people: sign-ups with the neighbour's address, refresh tokens made up for their session,
//! wrong codes, and imports of people who were erased, again and again.

use crate::siege::{self, Siege};
use crate::support::PASSWORD;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use reqwest::Method;
use serde_json::{Value, json};

/// Sign-ups, sign-ins and so on; what is over a rate is refused, and that's fine.
const TRIES: usize = 12;

async fn attack(siege: &Siege) {
    let (server, victim) = (&siege.server, &siege.neighbour);
    let login = json!({ "email": victim.email, "password": PASSWORD });
    let (status, mine) = server.call(Method::POST, "/v1/auth/login", "", Some(login.clone())).await;
    assert_eq!(status, 200, "{mine}");
    let claims = victim.token.split('.').nth(1).and_then(|claims| BASE64.decode(claims).ok()).expect("claims");
    let claims: Value = serde_json::from_slice(&claims).expect("JSON");
    let session: ingest::id::Uuid = claims["session"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    for number in 0..TRIES {
        let body = json!({
            "name": format!("M{number}"), "adminName": "M", "adminEmail": victim.email, "adminPassword": "guess at this",
        });
        server.call(Method::POST, "/v1/tenants", "", Some(body)).await;
        let wrong = json!({ "email": victim.email, "password": format!("a guess {number}") });
        let (status, _) = server.call(Method::POST, "/v1/auth/login", "", Some(wrong)).await;
        assert!(matches!(status.as_u16(), 401 | 429), "{status}");
        let made_up = format!("rft_{}", BASE64.encode([session.as_bytes().as_slice(), &[7; 32]].concat()));
        let (status, _) =
            server.call(Method::POST, "/v1/auth/refresh", "", Some(json!({ "refresh_token": made_up }))).await;
        assert_eq!(status, 401);
    }
    server.get("/v1/auth/me", &victim.token).await;
    let (status, again) = server.call(Method::POST, "/v1/auth/login", "", Some(login)).await;
    // By address there are so many a minute; that much is the same for everyone who comes from there.
    assert!(status == 200 && again["agent"]["id"] == victim.agent.as_str() || status == 429, "{status} {again}");
}

async fn import_the_erased(siege: &Siege) {
    let (server, token) = (&siege.server, &siege.attacker.token);
    for round in 0..TRIES {
        let line = |chat: String| {
            json!({
                "id": chat, "visitor": { "id": "v", "name": "Zebulon" }, "tags": [], "resolved": true,
                "messages": [{ "at": "2024-01-01T00:00:00Z", "from": "visitor", "text": "secret words" }],
            })
        };
        let lines = line(format!("c{round}")).to_string();
        let request = crate::support::http_client(30).post(format!("{}/v1/import/conversations", server.base));
        let report: Value =
            request.bearer_auth(token).body(lines).send().await.expect("an answer").json().await.expect("JSON");
        assert_eq!(report["imported"], if round == 0 { 1 } else { 0 }, "{report}");
        let chats = server.get("/v1/conversations?status=resolved", token).await;
        let visitor = chats["items"][0]["visitorId"].as_str().expect("an id").to_owned();
        let (status, _) = server.call(Method::DELETE, &format!("/v1/visitors/{visitor}"), token, None).await;
        assert_eq!(status, 200);
        for path in ["/v1/conversations", "/v1/visitors", "/v1/audit"] {
            assert!(!server.get(path, token).await.to_string().contains("secret words"));
        }
    }
}

#[tokio::test]
async fn other_peoples_addresses_and_erased_people() {
    siege::at_default_limits_and_with_rates_off(&[], async |siege| {
        attack(siege).await;
        import_the_erased(siege).await;
    })
    .await;
}
