//! A tenant's settings.

use crate::support::{Call, Server};
use axum::http::Method;
use serde_json::{Value, json};

fn patch(body: Value) -> Call {
    Call::new(Method::PATCH, "/v1/tenants/me").json(body)
}

/// The defaults are the contract's; what is changed stays, what isn't named too.
#[tokio::test]
async fn settings_have_the_contracts_defaults_and_are_changed_one_by_one() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let shown = server.call(Call::get("/v1/tenants/me").token(&acme.token)).await.expect(200);
    let numbers = |tenant: &Value| {
        ["sessionHours", "standbyMinutes", "idleMinutes", "autoCloseDays"].map(|name| tenant[name].as_u64())
    };
    assert_eq!(numbers(&shown), [Some(24), Some(10), Some(30), Some(7)]);
    assert_eq!((&shown["requireEmail"], &shown["openingHours"]), (&json!(false), &json!([])));
    assert_eq!(shown["metricsVersion"], 2);

    let hours = json!([{ "day": "monday", "from": "09:00", "to": "17:30" }]);
    let holidays = json!([{ "date": "2026-12-25", "name": "Christmas" }]);
    let sla = json!({ "firstResponseSeconds": 60, "nextResponseSeconds": null, "resolutionSeconds": 86_400, "businessHours": true });
    let change = json!({
        "sessionHours": 168, "standbyMinutes": 5, "requireEmail": true, "openingHours": hours, "holidays": holidays,
        "slaTargets": sla,
    });
    server.call(patch(change).token(&acme.token)).await.expect(200);
    server.call(patch(json!({ "metricsVersion": 1 })).token(&acme.token)).await.expect(200);
    let changed = server.call(patch(json!({ "idleMinutes": 45 })).token(&acme.token)).await.expect(200);
    assert_eq!(changed["metricsVersion"], 1);
    assert_eq!(numbers(&changed), [Some(168), Some(5), Some(45), Some(7)]);
    assert_eq!((&changed["requireEmail"], &changed["openingHours"]), (&json!(true), &hours));
    assert_eq!((&changed["holidays"], &changed["slaTargets"]), (&holidays, &sla));
    assert_eq!(server.call(Call::get("/v1/tenants/me").token(&acme.token)).await.expect(200), changed);
}

/// A bad value names its field and changes nothing; who may not change settings is told so.
#[tokio::test]
async fn bad_settings_are_refused() {
    let server = Server::start();
    let acme = server.tenant("Acme").await;
    let before = server.call(Call::get("/v1/tenants/me").token(&acme.token)).await.expect(200);
    let bad = [
        (json!({ "name": "Other", "sessionHours": 0 }), "sessionHours"),
        (json!({ "sessionHours": 169 }), "sessionHours"),
        (json!({ "standbyMinutes": 0 }), "standbyMinutes"),
        (json!({ "autoCloseDays": 366 }), "autoCloseDays"),
        (json!({ "metricsVersion": 0 }), "metricsVersion"),
        (json!({ "metricsVersion": 3 }), "metricsVersion"),
        (json!({ "timeZone": "Mars/Olympus" }), "timeZone"),
        (json!({ "openingHours": [{ "day": "monday", "from": "24:00", "to": "09:00" }] }), "openingHours"),
        (json!({ "holidays": [{ "date": "2026-02-30" }] }), "holidays"),
        (json!({ "slaTargets": { "firstResponseSeconds": 0 } }), "slaTargets"),
        (json!({ "surprise": 1 }), "surprise"),
    ];
    for (body, field) in bad {
        let problem = server.call(patch(body).token(&acme.token)).await.expect(422);
        assert_eq!(problem["field"], field, "{problem}");
    }
    assert_eq!(server.call(Call::get("/v1/tenants/me").token(&acme.token)).await.expect(200), before);
    let (_, supervisor) = server.agent(&acme, "Sue", "supervisor").await;
    server.call(patch(json!({ "idleMinutes": 1 })).token(&supervisor)).await.expect(403);
}
