//! The demo's visitors and agents. Each is a task with its own dice, so the same seed gives the same traffic.

use super::tenants::SignIn;
use crate::client::{Api, Socket};
use anyhow::Context as _;
use fastrand::Rng;
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;

const OPENERS: [&str; 8] = [
    "Hi, where is my order? It should have been here on Tuesday.",
    "Hello! Can I change the delivery address?",
    "Good morning, your site says my card was declined.",
    "Hey, I forgot my password and the mail never arrives.",
    "Do you ship to Portugal?",
    "I was charged twice for the same thing.",
    "Can I get an invoice with our company's name?",
    "Is there a way to pause my subscription?",
];
const REPLIES: [&str; 8] = [
    "Thanks for getting in touch. Let me have a look.",
    "Could you tell me the number of the order?",
    "I can see it now. One moment, please.",
    "I have sent it again; it should be there in a minute.",
    "That is on us. I have refunded it.",
    "Good question. Yes, that works.",
    "I have changed it for you.",
    "Is there anything else I can do for you?",
];
const ANSWERS: [&str; 7] = [
    "It is 20481.",
    "Sure, I will wait.",
    "Ah, now I see it. Great!",
    "Hm, that doesn't work for me.",
    "Yes, please.",
    "Perfect, thank you so much!",
    "No, that was all. Thanks!",
];
const NAMES: [&str; 8] = ["Mia", "Noah", "Olu", "Priya", "Sven", "Tomás", "Yuki", "Zoë"];

/// An agent's longest conversation.
const REPLIES_MAX: u64 = 6;
/// A visitor gives up on a chat that nobody answers.
const VISITOR_PATIENCE: Duration = Duration::from_secs(120);

/// Dice of one person: the same seed gives the same traffic.
#[must_use]
pub fn dice(seed: u64, place: u64, number: u64) -> Rng {
    Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (place << 32) ^ number)
}

fn one_of<'a>(dice: &mut Rng, words: &[&'a str]) -> &'a str {
    dice.choice(words).copied().unwrap_or_default()
}

/// A pause of 4 to 24 seconds at speed 1.
fn pause(dice: &mut Rng, speed: f64) -> Duration {
    Duration::from_secs_f64((4.0 + 20.0 * dice.f64()) / speed)
}

/// A visitor who starts a conversation, answers, rates, and comes back as somebody else; for ever.
pub async fn visitor(api: Api, chatbot_key: String, mut dice: Rng, speed: f64) {
    loop {
        tokio::time::sleep(pause(&mut dice, speed)).await;
        if let Err(error) = visit(&api, &chatbot_key, &mut dice, speed).await {
            tracing::warn!(error = format!("{error:#}"), "a demo visitor stopped");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn visit(api: &Api, chatbot_key: &str, dice: &mut Rng, speed: f64) -> anyhow::Result<()> {
    let name = one_of(dice, &NAMES);
    let mut body =
        json!({ "name": name, "initialMessage": one_of(dice, &OPENERS), "metadata": { "page": "/pricing" } });
    if dice.u64(..2) == 0 {
        body["email"] = json!(format!("visitor{}@mail.example", dice.u64(..10_000)));
    }
    let session = api.start_session(chatbot_key, &body).await?;
    let token = session["sessionToken"].as_str().context("a session has a token")?;
    let conversation = session["conversationId"].as_str().context("a session has a conversation")?;
    let mut socket = Socket::connect(api.base(), token).await?;
    socket.subscribe(conversation, 0).await?;
    loop {
        let Ok(frame) = tokio::time::timeout(VISITOR_PATIENCE, socket.next()).await else {
            api.post("/v1/widget/end", token, json!({})).await?;
            return Ok(());
        };
        let frame = frame?;
        let event = &frame["event"];
        if event["metadata"]["code"] == "resolved" {
            if dice.u64(..10) < 8 {
                let score = dice.choice([5, 5, 5, 4, 4, 3, 1]).unwrap_or(5);
                api.post("/v1/widget/rating", token, json!({ "score": score })).await?;
            }
            return Ok(());
        }
        if event["type"] == "message" && event["authorType"] == "agent" {
            tokio::time::sleep(pause(dice, speed)).await;
            let text = one_of(dice, &ANSWERS);
            let answer = api.post("/v1/widget/events", token, json!({ "content": text })).await;
            // The agent may have resolved it meanwhile, which the next frame says.
            if let Err(error) = answer {
                tracing::debug!(%error, "a demo visitor came too late");
            }
        }
    }
}

/// An agent who is online, answers whoever is assigned, and resolves; for ever.
pub async fn agent(api: Api, sign_in: SignIn, mut dice: Rng, speed: f64) {
    loop {
        // The access token ends after some minutes and the socket with it; then the agent signs in again.
        if let Err(error) = work(&api, &sign_in, &mut dice, speed).await {
            tracing::debug!(error = format!("{error:#}"), "a demo agent signs in again");
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

async fn work(api: &Api, sign_in: &SignIn, dice: &mut Rng, speed: f64) -> anyhow::Result<()> {
    let token = sign_in.token(api).await?;
    let me = api.get("/v1/auth/me", &token).await?;
    let me = me["id"].as_str().context("an agent has an id")?.to_owned();
    let status = json!({ "status": "online", "acceptingChats": true });
    api.call(Method::PUT, &format!("/v1/agents/{me}/status"), &token, Some(status)).await?;
    let mut socket = Socket::connect(api.base(), &token).await?;
    socket.subscribe_inbox().await?;
    let mut replies: HashMap<String, (u64, u64)> = HashMap::new();
    // What was assigned while this agent was away comes first.
    let open = api.get("/v1/conversations?status=active&limit=200", &token).await?;
    for chat in open["items"].as_array().into_iter().flatten() {
        serve(api, &token, &me, chat, &mut replies, dice, speed).await?;
    }
    loop {
        let frame = socket.next().await?;
        if frame["type"] == "conversation.updated" {
            serve(api, &token, &me, &frame["conversation"], &mut replies, dice, speed).await?;
        }
    }
}

/// Replies to a conversation whose visitor waits for this agent; resolves it after some replies.
async fn serve(
    api: &Api,
    token: &str,
    me: &str,
    chat: &Value,
    replies: &mut HashMap<String, (u64, u64)>,
    dice: &mut Rng,
    speed: f64,
) -> anyhow::Result<()> {
    let mine = chat["assignedAgentId"] == me && chat["status"] == "active";
    let (Some(id), true) = (chat["id"].as_str(), mine) else { return Ok(()) };
    let waiting = chat["lastMessage"]["authorType"] == "visitor";
    let (done, answered) = replies.get(id).copied().unwrap_or_default();
    let seq = chat["lastSeq"].as_u64().unwrap_or_default();
    if !waiting || seq <= answered {
        return Ok(());
    }
    // A quarter of a visitor's pause: agents have several conversations to look after.
    tokio::time::sleep(pause(dice, speed) / 4).await;
    let enough = 2 + dice.u64(..REPLIES_MAX - 1);
    let path = format!("/v1/conversations/{id}");
    if done >= enough {
        replies.remove(id);
        api.post(&format!("{path}/resolve"), token, json!({})).await?;
        return Ok(());
    }
    let Some(thread) = chat["activeThreadId"].as_str() else { return Ok(()) };
    let text = if done == 0 { REPLIES[0] } else { one_of(dice, &REPLIES[1..]) };
    let body = json!({ "type": "message", "content": text });
    let posted = api.post(&format!("/v1/threads/{thread}/events"), token, body).await;
    match posted {
        Ok(event) => drop(replies.insert(id.to_owned(), (done + 1, event["seq"].as_u64().unwrap_or(seq)))),
        Err(error) => tracing::debug!(%error, "a demo agent came too late"),
    }
    Ok(())
}
