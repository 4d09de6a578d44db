"""Asks DuckDB or ClickHouse's engine (chDB) the questions of the shipped endpoints, of the same Parquet files.

Standard input: {"engine", "threads", "seconds", "tables": {name: [files]}, "questions": [names], "from", "to", "conversation"}.
A line of JSON an answer: {"name", "first_ms", "median_ms", "rows", "sum"}; `sum` adds up every number of the answer, to compare
answers by. Conversations are versions, of which the newest counts, for all engines alike.
"""

import json
import sys
import time

KEYS = {
    "duckdb": {"none": "", "day": "CAST(occurred_at AT TIME ZONE 'Europe/Berlin' AS DATE) AS k,"},
    "chdb": {"none": "", "day": "toDate(occurred_at, 'Europe/Berlin') AS k,"},
}


def grouped(by):
    return "" if by == "none" else " GROUP BY k ORDER BY k"


def durations(engine, table, column, by, agent):
    key = f"{agent} AS k," if by == "agent" else "group_id AS k," if by == "group" else KEYS[engine].get(by)
    quantile = "quantile_cont({0}, {1})" if engine == "duckdb" else "quantileExactInclusive({1})({0})"
    quantiles = ", ".join(quantile.format(column, q) for q in (0.5, 0.9, 0.99))
    facts = f"{table} WHERE occurred_at >= $FROM AND occurred_at < $TO AND {column} IS NOT NULL"
    if by == "tag":
        unnested = {
            "duckdb": "SELECT conversation_id, unnest(tags) AS tag FROM conversations",
            "chdb": "SELECT conversation_id, arrayJoin(tags) AS tag FROM conversations",
        }[engine]
        facts = f"(SELECT * FROM {facts}) f JOIN ({unnested}) t ON t.conversation_id = f.conversation_id"
        key = "tag AS k,"
    return f"SELECT {key} count(*), avg({column}), {quantiles} FROM {facts}{grouped(by)}"


def usage(engine, granularity):
    bucket = {
        "duckdb": {"total": "", "day": "CAST(instant AT TIME ZONE 'Europe/Berlin' AS DATE) AS k,",
                   "hour": "date_trunc('hour', instant AT TIME ZONE 'Europe/Berlin') AS k,"},
        "chdb": {"total": "", "day": "toDate(instant, 'Europe/Berlin') AS k,",
                 "hour": "toStartOfHour(toTimeZone(instant, 'Europe/Berlin')) AS k,"},
    }[engine][granularity]
    count = {"duckdb": "count(*) FILTER (WHERE kind = '{}')", "chdb": "countIf(kind = '{}')"}[engine]
    distinct = {"duckdb": "count(DISTINCT author_id) FILTER (WHERE kind = '{}')",
                "chdb": "uniqExactIf(author_id, kind = '{}')"}[engine]
    counts = [count.format(kind) for kind in ("conversation", "resolve", "visitor", "agent", "bot")]
    counts += [distinct.format(kind) for kind in ("visitor", "agent")]
    period = "{0} >= $FROM AND {0} < $TO"
    return f"""SELECT {bucket} {", ".join(counts)} FROM (
        SELECT started_at AS instant, 'conversation' AS kind, '' AS author_id FROM conversations WHERE {period.format("started_at")}
        UNION ALL SELECT occurred_at, 'resolve', '' FROM resolutions WHERE {period.format("occurred_at")}
        UNION ALL SELECT occurred_at, author_type, author_id FROM messages WHERE {period.format("occurred_at")}
    ) facts{grouped("none" if granularity == "total" else granularity)}"""


def csat(engine, by):
    good = {"duckdb": "count(*) FILTER (WHERE score >= 4)", "chdb": "countIf(score >= 4)"}[engine]
    return f"""SELECT {KEYS[engine][by]} count(*), avg(score), {good} / count(*) FROM ratings
        WHERE occurred_at >= $FROM AND occurred_at < $TO{grouped(by)}"""


def busiest_hours(engine):
    local = {"duckdb": "isodow({0} AT TIME ZONE 'Europe/Berlin') AS d, hour({0} AT TIME ZONE 'Europe/Berlin') AS h",
             "chdb": "toDayOfWeek({0}, 0, 'Europe/Berlin') AS d, toHour({0}, 'Europe/Berlin') AS h"}[engine]
    count = {"duckdb": "count(*) FILTER (WHERE kind = '{}')", "chdb": "countIf(kind = '{}')"}[engine]
    counts = ", ".join(count.format(kind) for kind in ("conversation", "visitor", "agent", "bot"))
    return f"""SELECT d, h, {counts} FROM (
        SELECT {local.format("started_at")}, 'conversation' AS kind FROM conversations
        WHERE started_at >= $FROM AND started_at < $TO
        UNION ALL SELECT {local.format("occurred_at")}, author_type FROM messages
        WHERE occurred_at >= $FROM AND occurred_at < $TO) facts GROUP BY d, h"""


def bot_outcomes(engine):
    count = {"duckdb": "count(*) FILTER (WHERE {})", "chdb": "countIf({})"}[engine]
    with_bot = count.format("messages_bot > 0")
    handed_over = count.format("messages_bot > 0 AND messages_agent > 0")
    deflected = count.format("messages_agent = 0")
    return f"""SELECT count(*), {with_bot}, {handed_over}, {deflected}, {deflected} / count(*) FROM conversations
        WHERE resolved_at >= $FROM AND resolved_at < $TO AND resolve_reason IS NULL"""


def conversation_list(engine):
    columns = """conversation_id, status, visitor_id, agent_id, group_id, chatbot_id, tags, origin, started_at, updated_at,
        resolved_at, first_response_seconds, resolutions, assignments, messages_visitor, messages_agent, messages_bot, rating,
        session_seconds"""
    return f"""SELECT {columns} FROM conversations WHERE started_at >= $FROM AND started_at < $TO
        ORDER BY started_at DESC, conversation_id DESC LIMIT 50"""


def questions(engine):
    asked = {f"usage granularity={by}": usage(engine, by) for by in ("total", "day", "hour")}
    for by in ("none", "day", "agent", "group", "tag"):
        asked[f"reply_time by={by}"] = durations(engine, "messages", "reply_seconds", by, "author_id")
    for by in ("none", "agent"):
        asked[f"first_response by={by}"] = durations(engine, "messages", "first_response_seconds", by, "author_id")
        asked[f"resolution_time by={by}"] = durations(
            engine, "resolutions", "resolution_seconds", by, "coalesce(agent_id, resolved_by)")
        asked[f"handle_time by={by}"] = durations(
            engine, "resolutions", "handle_seconds", by, "coalesce(agent_id, resolved_by)")
        asked[f"waiting_time by={by}"] = durations(engine, "assignments", "waiting_seconds", by, "agent_id")
    for by in ("none", "day"):
        asked[f"csat by={by}"] = csat(engine, by)
    asked["busiest_hours"] = busiest_hours(engine)
    asked["bot_outcomes"] = bot_outcomes(engine)
    asked["conversation_list"] = conversation_list(engine)
    asked["event_stream"] = """SELECT seq, event_id, kind, thread_id, actor_type, actor_id, occurred_at, recorded_at, origin,
        status, agent_id, group_id FROM events WHERE conversation_id = '$CONVERSATION' ORDER BY seq"""
    return asked


def files(engine, table, paths):
    """The table as a view: of conversations, the newest version of each."""
    if engine == "duckdb":
        listed = ", ".join(f"'{path}'" for path in paths)
        newest = " QUALIFY row_number() OVER (PARTITION BY conversation_id ORDER BY version DESC) = 1"
        return f"CREATE VIEW {table} AS SELECT * FROM read_parquet([{listed}])" + (newest if table == "conversations" else "")
    listed = paths[0] if len(paths) == 1 else "{" + ",".join(paths) + "}"
    newest = " ORDER BY version DESC LIMIT 1 BY conversation_id"
    return f"CREATE VIEW p.{table} AS SELECT * FROM file('{listed}', Parquet)" + (newest if table == "conversations" else "")


def open_duckdb(asked):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {asked['threads']}; SET TimeZone = 'UTC'")
    for table, paths in asked["tables"].items():
        if paths:
            connection.execute(files("duckdb", table, paths))
    return lambda sql: connection.execute(sql).fetchall()


def open_chdb(asked):
    from chdb import session

    opened = session.Session()
    opened.query("CREATE DATABASE p ENGINE = Memory")
    for table, paths in asked["tables"].items():
        if paths:
            opened.query(files("chdb", table, paths))
    opened.query("USE p")
    settings = f" SETTINGS max_threads = {asked['threads']}, join_use_nulls = 1"

    def ask(sql):
        answer = opened.query(sql + settings, "JSONCompact")
        return json.loads(bytes(answer.bytes()))["data"]

    return ask


def number(cell):
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        return float(cell)
    try:
        return float(cell)
    except (TypeError, ValueError):
        return 0.0


def main():
    asked = json.load(sys.stdin)
    engine = asked["engine"]
    ask = {"duckdb": open_duckdb, "chdb": open_chdb}[engine](asked)
    literal = "TIMESTAMPTZ '{}+00'" if engine == "duckdb" else "toDateTime64('{}', 3, 'UTC')"
    known = questions(engine)
    for name in asked["questions"]:
        if name not in known:
            continue
        sql = known[name].replace("$FROM", literal.format(asked["from"])).replace("$TO", literal.format(asked["to"]))
        sql = sql.replace("$CONVERSATION", asked["conversation"])
        took, started, rows = [], time.monotonic(), []
        while len(took) < 3 or time.monotonic() - started < asked["seconds"]:
            at = time.monotonic()
            rows = ask(sql)
            took.append((time.monotonic() - at) * 1000)
        total = sum(number(cell) for row in rows for cell in row)
        median = sorted(took[1:])[len(took[1:]) // 2]
        print(json.dumps({"name": name, "first_ms": took[0], "median_ms": median, "rows": len(rows), "sum": total}), flush=True)


main()
