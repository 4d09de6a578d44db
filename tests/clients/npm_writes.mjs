// npm @tinybirdco/sdk and @chronark/zod-bird write to a server: arguments are its address and a token that may. Prints `ok`,
// or fails.

import assert from "node:assert/strict";
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createClient } from "@tinybirdco/sdk";
import { Tinybird } from "@chronark/zod-bird";
import { z } from "zod";

const [baseUrl, token] = process.argv.slice(2);
const client = createClient({ baseUrl, token });
const rows = async (sql) => (await client.sql(`${sql} FORMAT JSON`)).data;

const sent = await client.ingestBatch("clicks", [
  { userId: "u1", at: "2024-05-01 10:00:00", weight: 1.5 },
  { userId: "u2", at: "2024-05-01 10:00:01.5", weight: 2 },
]);
assert.deepEqual(sent, { successful_rows: 2, quarantined_rows: 0 });
assert.deepEqual(await client.ingest("clicks", { userId: "u3", weight: "heavy" }), {
  successful_rows: 0,
  quarantined_rows: 1,
});
assert.deepEqual(await rows("SELECT userId, weight FROM clicks ORDER BY userId"), [
  { userId: "u1", weight: 1.5 },
  { userId: "u2", weight: 2 },
]);

const publish = new Tinybird({ token, baseUrl }).buildIngestEndpoint({
  datasource: "clicks",
  event: z.object({ userId: z.string(), weight: z.number() }),
});
const typed = await publish([{ userId: "u4", weight: 4 }]);
assert.deepEqual(typed, { successful_rows: 1, quarantined_rows: 0 });

const file = join(mkdtempSync(join(tmpdir(), "clicks-")), "clicks.csv");
writeFileSync(file, "userId,weight\nu5,5\n");
const appended = await client.datasources.append("clicks", { file });
assert.ok(appended.import_id);
assert.deepEqual(await rows("SELECT sum(weight) AS s FROM clicks"), [{ s: 12.5 }]);
await client.datasources.replace("clicks", { file });
assert.deepEqual(await rows("SELECT userId, weight FROM clicks"), [{ userId: "u5", weight: 5 }]);
await assert.rejects(client.datasources.append("clicks", { url: "http://127.0.0.1:1/x.csv" }), /not fetched/);
await client.datasources.truncate("clicks");
assert.deepEqual(await rows("SELECT count(*) AS n FROM clicks"), [{ n: 0 }]);

console.log("ok");
