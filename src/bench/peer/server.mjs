// The peer of `bench peer`: support chat as it is usually built, on fastify, PostgreSQL and socket.io.
//
// A message is one transaction, committed durably before the answer: its client id is looked up, the conversation gives
// the next seq, the message is written. Then every socket that follows the conversation gets it.
// Environment: DATABASE_URL. Prints its address when it listens.
import { createHmac, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import Fastify from "fastify";
import pg from "pg";
import { Server } from "socket.io";

const SCHEMA = `
  CREATE TABLE conversations (
    id uuid PRIMARY KEY,
    last_seq bigint NOT NULL DEFAULT 0,
    last_message text,
    updated_at timestamptz NOT NULL DEFAULT now()
  );
  CREATE TABLE messages (
    id uuid PRIMARY KEY,
    conversation_id uuid NOT NULL REFERENCES conversations (id),
    seq bigint NOT NULL,
    client_id text NOT NULL,
    author_type text NOT NULL,
    content text NOT NULL,
    at timestamptz NOT NULL,
    UNIQUE (conversation_id, seq),
    UNIQUE (conversation_id, client_id)
  );`;

const statement = (name, text) => (client, values) => client.query({ name, text, values });
const lookUp = statement(
  "look_up",
  "SELECT id, seq, content, at FROM messages WHERE conversation_id = $1 AND client_id = $2",
);
const next = statement(
  "next",
  "UPDATE conversations SET last_seq = last_seq + 1, last_message = $2, updated_at = now() WHERE id = $1 RETURNING last_seq",
);
const write = statement(
  "write",
  `INSERT INTO messages (id, conversation_id, seq, client_id, author_type, content, at)
   VALUES ($1, $2, $3, $4, 'visitor', $5, now()) RETURNING id, seq, content, at`,
);

const secret = randomBytes(32);
const signature = (id) => createHmac("sha256", secret).update(id).digest("base64url");

/** The conversation that a request's token is for; null for a wrong one. */
function conversationOf(request) {
  const [id, signed] = (request.headers.authorization ?? "").replace(/^Bearer /, "").split(".");
  const [given, right] = [Buffer.from(signed ?? ""), Buffer.from(signature(id))];
  return given.length === right.length && timingSafeEqual(given, right) ? id : null;
}

const pool = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 32 });
await pool.query(SCHEMA);
const app = Fastify();
const io = new Server(app.server, { transports: ["websocket"] });

io.on("connection", (socket) => {
  socket.on("follow", (id, done) => {
    socket.join(id);
    done();
  });
});

app.post("/v1/widget/session", async (_, reply) => {
  const id = randomUUID();
  await pool.query("INSERT INTO conversations (id) VALUES ($1)", [id]);
  return reply.code(201).send({ conversationId: id, sessionToken: `${id}.${signature(id)}` });
});

/** Writes a message, or finds the one that was written under its client id. */
async function post(id, clientId, content) {
  const client = await pool.connect();
  try {
    await client.query("BEGIN");
    const known = (await lookUp(client, [id, clientId])).rows[0];
    if (known) {
      await client.query("COMMIT");
      return known;
    }
    const [{ last_seq: seq }] = (await next(client, [id, content])).rows;
    const message = (await write(client, [randomUUID(), id, seq, clientId, content])).rows[0];
    await client.query("COMMIT");
    return message;
  } catch (error) {
    await client.query("ROLLBACK");
    throw error;
  } finally {
    client.release();
  }
}

const body = {
  type: "object",
  required: ["content", "clientId"],
  properties: {
    content: { type: "string", minLength: 1, maxLength: 20000 },
    clientId: { type: "string", minLength: 1, maxLength: 200 },
  },
};

app.post("/v1/widget/events", { schema: { body } }, async (request, reply) => {
  const id = conversationOf(request);
  if (!id) return reply.code(401).send({ code: "unauthorized" });
  const { clientId, content } = request.body;
  const message = await post(id, clientId, content);
  const event = { type: "message", conversationId: id, clientId, authorType: "visitor", ...message };
  io.to(id).emit("event", event);
  return reply.code(201).send(event);
});

console.log(`peer at ${await app.listen({ port: 0, host: "127.0.0.1" })}`);
