// The demo's page: a visitor's chat through the public API, and the tenant's reports every two seconds.
// Everything a server says is put into the page as text, never as HTML.
"use strict";

const byId = (id) => document.getElementById(id);
const element = (name, text, className) => {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
};

let tenant = null;
let chat = null;

async function api(path, token, body) {
  const response = await fetch(path, {
    method: body ? "POST" : "GET",
    headers: { ...(token && { Authorization: `Bearer ${token}` }), ...(body && { "Content-Type": "application/json" }) },
    body: body && JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.detail || answer.error || response.statusText);
  return answer;
}

class Chat {
  constructor(session) {
    this.token = session.sessionToken;
    this.conversation = session.conversationId;
    this.lastSeq = 0;
    this.open = true;
    this.connect();
  }

  connect() {
    const url = new URL("/v1/realtime", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.onopen = () => this.send({ type: "auth", token: this.token });
    this.socket.onmessage = (message) => this.receive(JSON.parse(message.data));
    // A lost connection resumes after the last event that was shown: nothing is missed, nothing comes twice.
    this.socket.onclose = () => this.open && setTimeout(() => this.connect(), 1000);
  }

  send(frame) {
    this.socket.send(JSON.stringify(frame));
  }

  receive(frame) {
    if (frame.type === "ready") {
      this.send({ type: "subscribe", conversationId: this.conversation, after: this.lastSeq });
      byId("chat-status").textContent = "Connected.";
    } else if (frame.type === "event" && frame.event.seq > this.lastSeq) {
      this.lastSeq = frame.event.seq;
      show(frame.event);
    }
  }

  close() {
    this.open = false;
    this.socket.close();
  }
}

function show(event) {
  if (event.metadata.code === "conversation_started") return;
  const line = element("li", event.content ?? "(erased)", event.type === "message" ? event.authorType : "system");
  if (event.type === "message") {
    const who = event.authorType === "visitor" ? "You" : event.author.name;
    line.append(element("small", `${who}, ${new Date(event.createdAt).toLocaleTimeString()}`));
  }
  byId("events").append(line);
  line.scrollIntoView({ block: "nearest" });
}

byId("composer").addEventListener("submit", async (submitted) => {
  submitted.preventDefault();
  const text = byId("text").value;
  byId("text").value = "";
  try {
    if (chat) {
      await api("/v1/widget/events", chat.token, { content: text, clientId: crypto.randomUUID() });
    } else {
      const response = await fetch("/v1/widget/session", {
        method: "POST",
        headers: { "X-Chatbot-Key": tenant.chatbotKey, "Content-Type": "application/json" },
        body: JSON.stringify({ name: "You", initialMessage: text }),
      });
      const session = await response.json();
      if (!response.ok) throw new Error(session.detail);
      chat = new Chat(session);
    }
  } catch (error) {
    byId("chat-status").textContent = `Not sent: ${error.message}`;
    byId("text").value = text;
  }
});

function numbers(list, row, labels) {
  const tiles = Object.entries(labels).map(([key, label]) => {
    const tile = document.createElement("div");
    tile.append(element("dt", label), element("dd", row[key] === null ? "–" : Number(row[key]).toLocaleString("en")));
    return tile;
  });
  list.replaceChildren(...tiles);
}

const LIVE = { waiting: "waiting", active: "active", online_agents: "agents online", available_slots: "free slots" };
const USAGE = { conversations: "conversations", resolved: "resolved", messages_visitor: "by visitors", messages_agent: "by agents" };
const TIMES = { first_response: "first response", reply_time: "reply", resolution_time: "resolution" };

async function report(name, parameters = {}) {
  const query = new URLSearchParams(parameters);
  return (await api(`/v0/pipes/${name}.json?${query}`, tenant.reportToken)).data;
}

async function refresh() {
  const started = performance.now();
  const day = { date_from: new Date(Date.now() - 864e5).toISOString().slice(0, 19).replace("T", " "), date_to: "2100-01-01", time_zone: "UTC" };
  try {
    const [live, usage, csat, ...times] = await Promise.all([
      report("live"),
      report("usage", { ...day, granularity: "total" }),
      report("csat", { ...day, by: "none" }),
      ...Object.keys(TIMES).map((name) => report(name, { ...day, by: "none" })),
    ]);
    numbers(byId("live"), live[0], LIVE);
    numbers(byId("usage"), { ...usage[0], csat: csat[0].csat === null ? null : Math.round(csat[0].csat * 100) }, { ...USAGE, csat: "CSAT %" });
    const rows = Object.values(TIMES).map((label, place) => {
      const row = document.createElement("tr");
      const heading = element("th", label);
      heading.scope = "row";
      const cells = ["count", "avg_s", "p50_s", "p90_s"].map((key) => {
        const value = times[place][0][key];
        return element("td", value === null ? "–" : key === "count" ? String(value) : value.toFixed(1));
      });
      row.append(heading, ...cells);
      return row;
    });
    byId("times").replaceChildren(...rows);
    byId("fresh").textContent = `Six reports in ${Math.round(performance.now() - started)} ms, at ${new Date().toLocaleTimeString()}.`;
  } catch (error) {
    byId("fresh").textContent = `No numbers: ${error.message}`;
  }
}

function choose(slug, tenants) {
  tenant = tenants.find((found) => found.slug === slug);
  chat?.close();
  chat = null;
  byId("events").replaceChildren();
  byId("chat-status").textContent = "Not connected yet: write the first message.";
  refresh();
}

(async () => {
  const { tenants } = await api("/demo/tenants.json");
  byId("tenant").append(...tenants.map((found) => Object.assign(element("option", found.name), { value: found.slug })));
  byId("tenant").addEventListener("change", (changed) => choose(changed.target.value, tenants));
  choose(tenants[0].slug, tenants);
  setInterval(refresh, 2000);
})();
