//! What a hostile caller may do to the real server: one story a kind of attack, a file each. A story holds when the server
//! lives, another tenant's queries are answered all the while, and memory stays bounded. Start at
//! [`siege::at_default_limits_and_with_rates_off`].

mod bodies;
#[path = "../../sql/tests/it/support/client.rs"]
mod client;
mod connections;
mod disk;
mod doors;
#[allow(dead_code, clippy::unwrap_used, reason = "shared with the sink's own tests, which use all of it")]
#[path = "../../sinks/tests/it/hostile_mail_server.rs"]
mod hostile_mail_server;
mod mail;
mod pages;
mod people;
mod results;
mod rights;
mod siege;
mod sql_depth;
mod sql_turns;
mod stopping;
#[path = "../support/mod.rs"]
mod support;
mod templates;

/// A tenant that does nothing but what it is invited to: the measure itself holds on a server that nobody attacks.
#[tokio::test]
async fn a_server_that_nobody_attacks_holds() {
    siege::at_default_limits_and_with_rates_off(&[], async |siege| {
        for tenant in [&siege.attacker, &siege.neighbour] {
            let answer = siege.server.get("/v0/sql?q=SELECT%201%20AS%20n", &tenant.report_token).await;
            assert_eq!(answer["data"][0]["n"], 1);
        }
        assert!(siege.dir().join("parlance.db").exists());
    })
    .await;
}
