"""psycopg 3 against the Postgres wire: types, parameters, prepared statements, transactions, errors, cancelling."""

import datetime
import sys
import threading
import time

import psycopg
from psycopg.rows import dict_row

host, port, tenant, token, other_tenant, other_token = sys.argv[1:]


def connect(user=tenant, password=token, **more):
    return psycopg.connect(host=host, port=port, user=user, password=password, dbname="reports", **more)


def code(connection, sql, parameters=None):
    try:
        connection.execute(sql, parameters)
    except psycopg.Error as error:
        connection.rollback()
        return error.sqlstate
    return "00000"


ALL_TYPES = """SELECT 'a' AS t, 1 AS i, 1.5::float AS f, true AS b, NULL AS n, date '2024-02-29' AS d,
    timestamp '2024-02-29 12:30:00.25' AS ts, arrow_cast('2024-07-01T10:00:00Z', 'Timestamp(Millisecond, Some("UTC"))') AS tz,
    1.25::decimal(10, 2) AS m, interval '1 day' AS v, 7::smallint AS s, tags AS l, 'é"\\,{' AS w FROM conversations"""
EXPECTED = {
    "t": "a", "i": 1, "f": 1.5, "b": True, "n": None, "d": datetime.date(2024, 2, 29),
    "ts": datetime.datetime(2024, 2, 29, 12, 30, 0, 250000),
    "tz": datetime.datetime(2024, 7, 1, 10, 0, tzinfo=datetime.timezone.utc),
    "v": datetime.timedelta(days=1), "s": 7, "l": ["vip", "a b"], "w": 'é"\\,{',
}

with connect(autocommit=True) as connection:
    # Every type, as text and as binary, says the same.
    for binary in (False, True):
        with connection.cursor(row_factory=dict_row, binary=binary) as cursor:
            row = cursor.execute(ALL_TYPES).fetchone()
            assert float(row.pop("m")) == 1.25, row
            assert row == EXPECTED, (binary, row)

    # Parameters are values: one that looks like SQL is a text.
    count = "SELECT count(*) FROM messages WHERE author_type = %s"
    assert connection.execute(count, ["visitor"]).fetchone() == (1,)
    assert connection.execute(count, ["' OR true --"]).fetchone() == (0,)
    at = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    assert connection.execute("SELECT count(*) FROM messages WHERE occurred_at > %s", [at]).fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM messages WHERE seq >= %s AND seq < %s", [0, 1000]).fetchone() == (1,)
    kinds = ["visitor", "bot"]
    assert connection.execute("SELECT count(*) FROM messages WHERE author_type = ANY(%s)", [kinds]).fetchone() == (1,)
    assert connection.execute("SELECT count(*) FROM messages WHERE author_type <> ALL(%s)", [kinds]).fetchone() == (0,)
    assert connection.execute("SELECT count(*) FROM messages WHERE author_type = ANY(%s)", [[]]).fetchone() == (0,)
    assert connection.execute("SELECT %s::int + 1, %s, %s::float", [1, "x", 0.5]).fetchone() == (2, "x", 0.5)

    # The sixth run is prepared on the server.
    for run in range(8):
        assert connection.execute("SELECT %s::bigint * 2", [run], prepare=run > 2).fetchone() == (run * 2,)
    connection.execute("DEALLOCATE ALL")

    # Many statements in one text.
    cursor = connection.execute("SELECT 1; SELECT 2")
    assert cursor.fetchone() == (1,) and cursor.nextset() and cursor.fetchone() == (2,)

    assert [column.name for column in connection.execute("SELECT seq, occurred_at FROM messages").description] == ["seq", "occurred_at"]
    assert connection.execute("SHOW timezone").fetchone() == ("UTC",)
    connection.execute("SET TIME ZONE 'Europe/Berlin'")
    assert connection.info.parameter_status("TimeZone") == "Europe/Berlin"
    row = connection.execute("SELECT arrow_cast('2024-07-01T10:00:00Z', 'Timestamp(Millisecond, Some(\"UTC\"))')").fetchone()
    assert row[0].isoformat() == "2024-07-01T12:00:00+02:00", row

with connect() as connection:
    # Words of transactions, and a failed one.
    assert connection.execute("SELECT 1").fetchone() == (1,)
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.INTRANS
    connection.commit()
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    try:
        connection.execute("SELECT nothing FROM messages")
        raise AssertionError("no such column")
    except psycopg.errors.UndefinedColumn:
        pass
    try:
        connection.execute("SELECT 1")
        raise AssertionError("the transaction has failed")
    except psycopg.errors.InFailedSqlTransaction:
        connection.rollback()
    assert connection.execute("SELECT 1").fetchone() == (1,)
    with connection.transaction():
        connection.execute("SELECT 2")
    connection.rollback()

wrong = []
with connect() as connection:
    for sql, expected in [
        ("SELEC 1", "42601"),
        ("SELECT * FROM nowhere", "42P01"),
        ("SELECT * FROM pg_catalog.nowhere", "42P01"),
        ("SELECT 1 / 0", "22012"),
        ("SELECT 'x'::int", "22000"),
        ("SELECT no_such_function(1)", "42883"),
        ("CREATE TABLE t (a INT)", "42501"),
        ("DROP TABLE messages", "42501"),
        ("INSERT INTO messages VALUES (1)", "42501"),
        ("UPDATE messages SET seq = 1", "42501"),
        ("DELETE FROM messages", "42501"),
        ("DELETE FROM pg_catalog.pg_class", "42501"),
        ("COPY messages TO STDOUT", "42501"),
        ("COPY messages FROM '/etc/passwd'", "42501"),
        ("CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'", "42501"),
        ("SELECT * FROM '/etc/passwd'", "42501"),
        ("SELECT * FROM globex.public.messages", "42501"),
        ("SELECT * FROM read_csv('/etc/passwd')", "42501"),
        ("SELECT * FROM generate_series(1, 1000000000)", "42501"),
        ("SELECT * FROM messages INTO x", "42601"),
        ("SELECT pg_read_file('/etc/passwd')", "42883"),
        ("WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT * FROM r", "42501"),
        ("SELECT * FROM information_schema.df_settings", "42P01"),
        ("SET datafusion.execution.batch_size = 1", "42704"),
        ("SHOW datafusion.execution.batch_size", "42704"),
        ("SET ROLE postgres", "42501"),
        ("SET SESSION AUTHORIZATION " + '"' + other_tenant + '"', "42501"),
        ("LISTEN x", "42501"),
        ("DECLARE c CURSOR FOR SELECT 1", "42501"),
        ("SELECT " + "(" * 200 + "1" + ")" * 200, "54000"),
        ("SELECT '" + "a" * 70000 + "'", "54000"),
        ("SELECT 1 FORMAT CSV", "42501"),
        ("SELECT m.seq FROM messages m, messages n, conversations c WHERE nothing = 1", "42703"),
    ]:
        found = code(connection, sql)
        if found != expected:
            wrong.append((sql[:80], found, expected))
        assert connection.execute("SELECT 1").fetchone() == (1,), sql
    assert not wrong, wrong
    try:
        connection.execute("SELECT 1,\n  seq FRO messages")
    except psycopg.Error as error:
        assert error.sqlstate == "42601" and error.diag.statement_position is not None, error.diag.statement_position

# A heavy query is cancelled by the client, and by its own time-out; the connection stays.
HEAVY = "SELECT sum(a.n * b.n + c.n * d.n + e.n * f.n + g.n) FROM ({}) a, ({}) b, ({}) c, ({}) d, ({}) e, ({}) f, ({}) g"
HEAVY = HEAVY.format(*[" UNION ALL ".join(f"SELECT {n} AS n" for n in range(40))] * 7)
with connect(autocommit=True) as connection:
    started = time.monotonic()
    threading.Timer(0.5, connection.cancel_safe).start()
    assert code(connection, HEAVY) == "57014"
    assert time.monotonic() - started < 5
    connection.execute("SET statement_timeout = '300ms'")
    assert code(connection, HEAVY) == "57014"
    connection.execute("RESET statement_timeout")
    assert connection.execute("SELECT 1").fetchone() == (1,)

# Who is wrong about anything hears the same.
words = set()
for user, password in [(tenant, other_token), (other_tenant, token), (tenant, "p.no"), ("nobody", token), (tenant, "x" * 3000)]:
    try:
        connect(user, password)
        raise AssertionError("let in")
    except psycopg.OperationalError as error:
        words.add(str(error).split("FATAL:")[1].strip())
assert len(words) == 1, words

# Two tenants see their own.
secret = "SELECT conversation_id FROM messages"
with connect() as mine, connect(other_tenant, other_token) as theirs:
    assert mine.execute(secret).fetchall() != theirs.execute(secret).fetchall()
    assert theirs.execute("SELECT current_user, usename FROM pg_user").fetchall() == [(other_tenant, other_tenant)]

print("ok")
