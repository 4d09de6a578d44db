"""Asks DuckDB or ClickHouse's engine (chDB) the questions of the shipped endpoints, of the same Parquet files.

DuckDB is asked in two ways: with the question's text each time, and with a statement that was prepared once.

Standard input: {"engine", "prepared", "threads", "seconds", "tables": {name: [files]}, "questions": [names], "from", "to", "conversation"}.
A line of JSON an answer: {"name", "median_ms", "rows", "sum"}; `sum` adds up every number of the answer, to compare
answers by. Conversations are versions, of which the newest counts, for all engines alike.
"""

import json
import os
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
    quantiles = ", ".join(quantile(engine, column, share) for share in (0.5, 0.9, 0.99))
    facts = f"{table} WHERE occurred_at >= $FROM AND occurred_at < $TO AND {column} IS NOT NULL"
    if by == "tag":
        facts = tagged(engine, facts)
        key = "tag AS k,"
    return f"SELECT {key} count(*), avg({column}), {quantiles} FROM {facts}{grouped(by)}"


def usage(engine, granularity):
    bucket = {
        "duckdb": {"total": "", "day": "CAST(instant AT TIME ZONE 'Europe/Berlin' AS DATE) AS k,",
                   "hour": "date_trunc('hour', instant AT TIME ZONE 'Europe/Berlin') AS k,"},
        "chdb": {"total": "", "day": "toDate(instant, 'Europe/Berlin') AS k,",
                 "hour": "toStartOfHour(toTimeZone(instant, 'Europe/Berlin')) AS k,"},
    }[engine][granularity]
    distinct = {"duckdb": "count(DISTINCT author_id) FILTER (WHERE kind = '{}')",
                "chdb": "uniqExactIf(author_id, kind = '{}')"}[engine]
    counts = [count_if(engine, f"kind = '{kind}'") for kind in ("conversation", "resolve", "visitor", "agent", "bot")]
    counts += [distinct.format(kind) for kind in ("visitor", "agent")]
    period = "{0} >= $FROM AND {0} < $TO"
    return f"""SELECT {bucket} {", ".join(counts)} FROM (
        SELECT started_at AS instant, 'conversation' AS kind, '' AS author_id FROM conversations WHERE {period.format("started_at")}
        UNION ALL SELECT occurred_at, 'resolve', '' FROM resolutions WHERE {period.format("occurred_at")}
        UNION ALL SELECT occurred_at, author_type, author_id FROM messages WHERE {period.format("occurred_at")}
    ) facts{grouped("none" if granularity == "total" else granularity)}"""


def tagged(engine, facts):
    """The facts, once under each tag that their conversation has."""
    unnest = {"duckdb": "unnest(tags)", "chdb": "arrayJoin(tags)"}[engine]
    return f"""(SELECT * FROM {facts}) f
        JOIN (SELECT conversation_id, {unnest} AS tag FROM conversations) t ON t.conversation_id = f.conversation_id"""


def count_if(engine, condition):
    return f"count(*) FILTER (WHERE {condition})" if engine == "duckdb" else f"countIf({condition})"


def quantile(engine, column, share):
    return f"quantile_cont({column}, {share})" if engine == "duckdb" else f"quantileExactInclusive({share})({column})"


def csat(engine, by):
    facts = "ratings WHERE occurred_at >= $FROM AND occurred_at < $TO"
    key = KEYS[engine].get(by, "tag AS k,")
    if by == "tag":
        facts = tagged(engine, facts)
    return f"SELECT {key} count(*), avg(score), {count_if(engine, 'score >= 4')} / count(*) FROM {facts}{grouped(by)}"


def sla(engine, by):
    """The targets that the measured tenants have."""
    counts = []
    for target, seconds in (("first", 60), ("next", 120), ("resolution", 3600)):
        of, met = f"target = '{target}'", f"target = '{target}' AND seconds <= {seconds}"
        counts += [str(seconds), count_if(engine, of), f"{count_if(engine, met)} / nullif({count_if(engine, of)}, 0)"]
    promised = "target = 'first' AND seconds <= 60 OR target = 'resolution' AND seconds <= 3600"
    other = "target <> 'next'"
    counts.append(f"{count_if(engine, promised)} / nullif({count_if(engine, other)}, 0)")
    return f"""SELECT {KEYS[engine][by]} {", ".join(counts)} FROM (
        SELECT CASE WHEN first_response_seconds IS NULL THEN 'next' ELSE 'first' END AS target, occurred_at,
            coalesce(first_response_seconds, reply_seconds) AS seconds FROM messages
        WHERE occurred_at >= $FROM AND occurred_at < $TO
            AND (first_response_seconds IS NOT NULL OR reply_seconds IS NOT NULL)
        UNION ALL SELECT 'resolution', occurred_at, resolution_seconds FROM resolutions
        WHERE occurred_at >= $FROM AND occurred_at < $TO) facts{grouped(by)}"""


def assignment_quality(engine, by):
    again = """(previous_agent_id IS NOT NULL
        OR coalesce(queue_trigger IN ('unassigned', 'agent_offline', 'transferred'), false))"""
    key = "agent_id AS k," if by == "agent" else ""
    cast = {"duckdb": "CAST(agent_load AS DOUBLE)", "chdb": "toFloat64(agent_load)"}[engine]
    by_person = count_if(engine, "actor_type = 'agent'")
    return f"""SELECT {key} count(*), {by_person}, count(waiting_seconds), avg(waiting_seconds),
        {quantile(engine, "waiting_seconds", 0.5)}, {quantile(engine, "waiting_seconds", 0.9)}, {count_if(engine, again)},
        {count_if(engine, again)} / count(*), avg({cast} / nullif(agent_capacity, 0))
        FROM assignments WHERE occurred_at >= $FROM AND occurred_at < $TO{grouped(by)}"""


def notification_outcomes(engine, by):
    outcomes = ("requested", "sent", "delivered", "opened", "bounced", "suppressed", "failed")
    counts = ", ".join(count_if(engine, f"outcome = '{outcome}'") for outcome in outcomes)
    facts = "notifications WHERE occurred_at >= $FROM AND occurred_at < $TO"
    if by == "kind":
        facts = f"""(SELECT notification_id, outcome FROM {facts}) f LEFT JOIN (
            SELECT notification_id, kind FROM notifications WHERE outcome = 'requested') m
            ON m.notification_id = f.notification_id"""
    key = "m.kind AS k," if by == "kind" else KEYS[engine][by]
    return f"SELECT {key} {counts} FROM {facts}{grouped(by)}"


def agent_performance(engine):
    ms = {"duckdb": "epoch_ms({0})", "chdb": "toUnixTimestamp64Milli({0})"}[engine].format
    text = {"duckdb": "CAST(NULL AS VARCHAR)", "chdb": "CAST(NULL AS Nullable(String))"}[engine]
    double = {"duckdb": "CAST(NULL AS DOUBLE)", "chdb": "CAST(NULL AS Nullable(Float64))"}[engine]
    bigint = {"duckdb": "CAST(NULL AS BIGINT)", "chdb": "CAST(NULL AS Nullable(Int64))"}[engine]
    lead = {"duckdb": "lead({0}) OVER (PARTITION BY agent_id ORDER BY {1})",
            "chdb": """leadInFrame(toNullable({0})) OVER (PARTITION BY agent_id ORDER BY {1}
                ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)"""}[engine].format
    change = {"duckdb": "(VALUES (1), (-1)) AS change (more)",
              "chdb": "(SELECT arrayJoin([1, -1]) AS more) AS change"}[engine]
    distinct = {"duckdb": "count(DISTINCT conversation_id) FILTER (WHERE kind = '{}')",
                "chdb": "uniqExactIf(conversation_id, kind = '{}')"}[engine].format
    first, last = ms("$FROM"), ms("$TO")
    inside = "occurred_at >= $FROM AND occurred_at < $TO"
    return f"""WITH points AS (
        SELECT agent_id, CASE WHEN more = 1 THEN begins ELSE ends END AS moment, more AS active, 0 AS online FROM (
            SELECT agent_id, greatest({ms("started_at")}, {first}) AS begins, least({ms("ended_at")}, {last}) AS ends
            FROM activity WHERE ended_at > $FROM AND started_at < $TO
            UNION ALL SELECT agent_id, greatest({ms("active_since")}, {first}), {last}
            FROM conversations WHERE active_since < $TO) slots
        CROSS JOIN {change} WHERE begins < ends
        UNION ALL SELECT agent_id, CASE WHEN more = 1 THEN begins ELSE ends END, 0, more FROM (
            SELECT agent_id, status, greatest({ms("occurred_at")}, {first}) AS begins,
                least(coalesce({lead(ms("occurred_at"), "occurred_at, recorded_at, event_id")}, {last}), {last}) AS ends
            FROM presence WHERE occurred_at < $TO) there
        CROSS JOIN {change} WHERE status = 'online' AND begins < ends
    ), stretches AS (
        SELECT agent_id, {lead("moment", "moment")} - moment AS ms,
            sum(active) OVER (PARTITION BY agent_id ORDER BY moment) AS active,
            sum(online) OVER (PARTITION BY agent_id ORDER BY moment) AS online
        FROM (SELECT agent_id, moment, sum(active) AS active, sum(online) AS online FROM points GROUP BY agent_id, moment) m
    ), work AS (
        SELECT agent_id, 'time' AS kind, {text} AS conversation_id, {double} AS first_response_seconds,
            {double} AS reply_seconds, {double} AS resolution_seconds, {double} AS handle_seconds, {bigint} AS score,
            CASE WHEN online > 0 THEN ms ELSE 0 END AS online_ms, CASE WHEN active > 0 THEN ms ELSE 0 END AS busy_ms,
            CASE WHEN active > 0 AND online > 0 THEN ms ELSE 0 END AS occupied_ms, active * ms AS active_ms
        FROM stretches WHERE ms IS NOT NULL
        UNION ALL SELECT author_id, 'message', NULL, first_response_seconds, reply_seconds, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM messages WHERE author_type = 'agent' AND {inside}
        UNION ALL SELECT agent_id, 'assigned', conversation_id, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
        FROM assignments WHERE {inside}
        UNION ALL SELECT coalesce(agent_id, resolved_by), 'resolved', conversation_id, NULL, NULL, resolution_seconds,
            handle_seconds, NULL, NULL, NULL, NULL, NULL
        FROM resolutions WHERE {inside}
        UNION ALL SELECT agent_id, 'rating', NULL, NULL, NULL, NULL, NULL, score, NULL, NULL, NULL, NULL
        FROM ratings WHERE agent_id IS NOT NULL AND {inside}
    )
    SELECT agent_id, {distinct("assigned")}, {distinct("resolved")}, {distinct("resolved")} / nullif({distinct("assigned")}, 0),
        {count_if(engine, "kind = 'message'")}, count(first_response_seconds), avg(first_response_seconds),
        {quantile(engine, "first_response_seconds", 0.5)}, count(reply_seconds), avg(reply_seconds),
        {quantile(engine, "reply_seconds", 0.5)}, avg(resolution_seconds), avg(handle_seconds), count(score), avg(score),
        {count_if(engine, "score >= 4")} / nullif(count(score), 0), coalesce(sum(online_ms), 0) / 1000,
        coalesce(sum(busy_ms), 0) / 1000, coalesce(sum(active_ms), 0) / 1000,
        sum(occupied_ms) / nullif(sum(online_ms), 0), sum(active_ms) / nullif(sum(busy_ms), 0)
    FROM work GROUP BY agent_id ORDER BY agent_id"""


def busiest_hours(engine):
    local = {"duckdb": "isodow({0} AT TIME ZONE 'Europe/Berlin') AS d, hour({0} AT TIME ZONE 'Europe/Berlin') AS h",
             "chdb": "toDayOfWeek({0}, 0, 'Europe/Berlin') AS d, toHour({0}, 'Europe/Berlin') AS h"}[engine]
    counts = ", ".join(count_if(engine, f"kind = '{kind}'") for kind in ("conversation", "visitor", "agent"))
    return f"""SELECT d, h, {counts} FROM (
        SELECT {local.format("started_at")}, 'conversation' AS kind FROM conversations
        WHERE started_at >= $FROM AND started_at < $TO
        UNION ALL SELECT {local.format("occurred_at")}, author_type FROM messages
        WHERE occurred_at >= $FROM AND occurred_at < $TO) facts GROUP BY d, h"""


def bot_outcomes(engine):
    with_bot = count_if(engine, "messages_bot > 0")
    handed_over = count_if(engine, "messages_bot > 0 AND messages_agent > 0")
    deflected = count_if(engine, "messages_agent = 0")
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
        asked[f"sla by={by}"] = sla(engine, by)
    for by in ("none", "day", "tag"):
        asked[f"csat by={by}"] = csat(engine, by)
    for by in ("none", "agent"):
        asked[f"assignment_quality by={by}"] = assignment_quality(engine, by)
    for by in ("none", "day", "kind"):
        asked[f"notification_outcomes by={by}"] = notification_outcomes(engine, by)
    asked["agent_performance"] = agent_performance(engine)
    asked["busiest_hours"] = busiest_hours(engine)
    asked["bot_outcomes by=none"] = bot_outcomes(engine)
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
    # A table's files lie in one directory.
    directory, names = os.path.dirname(paths[0]), [os.path.basename(path) for path in paths]
    listed = f"{directory}/{{{','.join(names)}}}" if len(names) > 1 else paths[0]
    newest = " ORDER BY version DESC LIMIT 1 BY conversation_id"
    return f"CREATE VIEW p.{table} AS SELECT * FROM file('{listed}', Parquet)" + (newest if table == "conversations" else "")


def open_duckdb(asked):
    import duckdb

    connection = duckdb.connect()
    connection.execute(f"SET threads = {asked['threads']}; SET TimeZone = 'UTC'")
    for table, paths in asked["tables"].items():
        if paths:
            connection.execute(files("duckdb", table, paths))
    statements = {}

    def ask(sql):
        if not asked["prepared"]:
            return connection.execute(sql).fetchall()
        if sql not in statements:
            statements[sql] = f"q{len(statements)}"
            connection.execute(f"PREPARE {statements[sql]} AS {sql}")
        return connection.execute(f"EXECUTE {statements[sql]}").fetchall()

    return ask


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
        print(json.dumps({"name": name, "median_ms": median, "rows": len(rows), "sum": total}), flush=True)


main()
