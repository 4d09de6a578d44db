//! Every route that writes, when somebody has written as much as they may. The table is the list the router is built from.

use super::callers::{Caller, World, body, filled, own_path, wants};
use crate::support::{Call, OPERATOR, PASSWORD, Server, Setup, text};
use axum::http::Method;
use chat_api::http::routes;
use chat_api::http::surface::Way;
use chat_api::limits::Room;
use chat_api::limits::disk::Disk;
use chat_api::limits::quotas::{ByteQuota, ByteQuotas};
use ingest::id::{ChatbotId, TenantId, VisitorId};
use ingest::time::Timestamp;

/// What a tenant may still send when it has written as much as it may: what tidies up, lets somebody in or out, or writes
/// nothing.
const PASSES: &[(&str, &str)] = &[
    ("POST", "/v1/tenants"),
    ("POST", "/v1/auth/login"),
    ("POST", "/v1/auth/refresh"),
    ("POST", "/v1/auth/logout"),
    ("POST", "/v1/auth/otp"),
    ("POST", "/v1/auth/otp/verify"),
    ("POST", "/v1/auth/password/forgot"),
    ("POST", "/v1/auth/password/reset"),
    ("POST", "/v1/auth/password/change"),
    ("POST", "/v1/invitations/accept"),
    ("PUT", "/v1/agents/{id}/status"),
    ("POST", "/v1/chatbots/{id}/rotate-key"),
    ("POST", "/v1/visitors/{id}/block"),
    ("POST", "/v1/conversations/{id}/typing"),
    ("POST", "/v0/sql"),
    ("POST", "/v0/pipes/{name}"),
    ("POST", "/v1/operator/tenants"),
    ("POST", "/v1/conversations/{id}/block"),
    // Without a line nothing is written; with one see below.
    ("POST", "/v1/import/conversations"),
    ("POST", "/v1/operator/import"),
    ("DELETE", "*"),
    ("GET", "*"),
    ("POST", "/v0/datasources/{name}/truncate"),
];

/// Every route that writes, when the quotas of its visitor, its chatbot or its tenant are used up: refused by the quota's
/// name, or one that must go on.
#[tokio::test]
async fn every_route_when_a_quota_is_used_up() {
    let room = Room::new(ByteQuotas::default(), Disk::unwatched());
    let mut world = World::on(Server::start_with(Setup { room, ..Setup::default() })).await;
    let (mut acme, (list, _)) = (world.acme.clone(), routes().take());
    let tenant = *acme.id.parse::<TenantId>().expect("an id").bytes();
    let chatbot = *acme.chatbot.parse::<ChatbotId>().expect("an id").bytes();
    let mut wrong = Vec::new();
    for route in &list {
        let (ids, token) = world.fresh(&acme, &wants(route)).await;
        let visitor = *ids["visitor"].parse::<VisitorId>().expect("an id").bytes();
        let of_tenant = [ByteQuota::TenantText, ByteQuota::TenantRows].map(|quota| (quota, tenant));
        let visits = route.who.iter().any(|way| matches!(way, Way::Visitor | Way::ChatbotKey));
        let (caller, used_up, code) = match route.who {
            who if who.contains(&Way::Visitor) => {
                let caller = Caller::bearer("visitor", &token, None);
                (caller, vec![(ByteQuota::VisitorText, visitor)], "visitor_text_quota")
            }
            who if who.contains(&Way::ChatbotKey) => {
                (Caller::page(&acme), vec![(ByteQuota::ChatbotText, chatbot)], "chatbot_text_quota")
            }
            who if who.contains(&Way::Operator) => (Caller::bearer("operator", OPERATOR, None), of_tenant.to_vec(), ""),
            _ => (Caller::owner(&acme), of_tenant.to_vec(), "tenant_text_quota"),
        };
        let usage = &world.server.app.limiter.room.usage;
        let (much, now) = (1 << 40, Timestamp::now().0);
        usage.add(&used_up, much, now);
        let body = body(route).map(|body| filled(&body.to_string(), &ids));
        let reply = world.call(route, &caller, &own_path(route, &ids), body).await;
        usage.give_back(&used_up, much, now);
        let passes = PASSES.contains(&(route.method, route.path)) || PASSES.contains(&(route.method, "*"));
        let refused = reply.status == 429 && reply.header("retry-after").is_some();
        let named = code.is_empty() || route.path.starts_with("/v0/") || reply.json["code"] == code;
        let right = if passes && !(visits && route.method != "GET") { reply.status != 429 } else { refused && named };
        if !right {
            wrong.push(format!("{} {}: {} {}", route.method, route.path, reply.status, reply.text));
        }
        if matches!(route.path, "/v1/auth/logout" | "/v1/auth/password/change" | "/v1/tenants/me/transfer-ownership") {
            let token = world.server.log_in(&acme, &acme.email, PASSWORD).await.expect(200)["access_token"].clone();
            acme.token = text(&token);
            world.acme.token = text(&token);
        }
    }
    let line =
        r#"{"id":"t","visitor":{"id":"v"},"messages":[{"at":"2020-05-12T17:44:40Z","from":"visitor","text":"a"}]}"#;
    let usage = &world.server.app.limiter.room.usage;
    usage.add(&[(ByteQuota::TenantText, tenant)], 1 << 40, Timestamp::now().0);
    let import = Call::new(Method::POST, "/v1/import/conversations").raw(line).token(&acme.token);
    let refused = world.server.call(import).await.expect(429);
    assert_eq!(refused["code"], "tenant_text_quota");
    assert!(wrong.is_empty(), "{} routes aren't so:\n{}", wrong.len(), wrong.join("\n"));
}
