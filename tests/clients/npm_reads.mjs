// npm @tinybirdco/sdk and @chronark/zod-bird against a server: arguments are its address, a reader's token and an
// admin's. Prints `ok`, or fails.

import assert from "node:assert/strict";
import { createClient } from "@tinybirdco/sdk";
import { Tinybird } from "@chronark/zod-bird";
import { z } from "zod";

const [baseUrl, token, admin] = process.argv.slice(2);
const period = { date_from: "2020-01-01", date_to: "2100-01-01", granularity: "total", time_zone: "UTC" };

const client = createClient({ baseUrl, token });
const usage = await client.query("usage", period);
assert.equal(usage.data.length, 1);
assert.equal(usage.data[0].messages_visitor, 1);
assert.equal(usage.rows, 1);
const rows = await client.sql("SELECT author_type FROM messages FORMAT JSON");
assert.deepEqual(rows.data, [{ author_type: "visitor" }]);
await assert.rejects(client.query("usage", { granularity: "decade" }), /granularity/);
await assert.rejects(client.sql("DROP TABLE messages"));

// A token for one pipe, with a parameter that its holder can't change.
const expiresAt = new Date(Date.now() + 600_000);
const scopes = [{ type: "PIPES:READ", resource: "usage", fixed_params: { granularity: "total" } }];
const made = await createClient({ baseUrl, token: admin }).tokens.createJWT({ name: "front", expiresAt, scopes, limits: { rps: 50 } });
const narrow = createClient({ baseUrl, token: made.token });
const fixed = await narrow.query("usage", { ...period, granularity: "minute" });
assert.equal(fixed.data[0].bucket, "2020-01-01 00:00:00");
await assert.rejects(narrow.query("csat", period));
await assert.rejects(narrow.sql("SELECT * FROM messages"));

// zod-bird is strict about the shape of the answer.
const read = new Tinybird({ token, baseUrl }).buildPipe({
  pipe: "usage",
  parameters: z.object({ granularity: z.string(), date_from: z.string(), date_to: z.string() }),
  data: z.object({ messages_visitor: z.number().int(), conversations: z.number().int() }),
});
const typed = await read(period);
assert.equal(typed.data[0].messages_visitor, 1);
assert.equal(typed.rows, 1);
assert.ok(typed.rows_before_limit_at_least >= 1);
assert.ok(typed.statistics.elapsed > 0);

console.log("ok");
