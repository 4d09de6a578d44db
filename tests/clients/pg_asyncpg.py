"""asyncpg against the Postgres wire: binary values both ways, typed parameters, portals read in parts, pools."""

import asyncio
import datetime
import decimal
import sys

import asyncpg

host, port, tenant, token = sys.argv[1:]
UTC = datetime.timezone.utc


async def refused(connection, sql, *values):
    try:
        await connection.fetch(sql, *values)
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return "00000"


async def main():
    options = dict(host=host, port=int(port), user=tenant, password=token, database="reports")
    connection = await asyncpg.connect(**options)

    row = await connection.fetchrow(
        """SELECT 'a' AS t, 1 AS i, 1.5::float AS f, true AS b, NULL AS n, date '2024-02-29' AS d,
        timestamp '2024-02-29 12:30:00.25' AS ts,
        arrow_cast('2024-07-01T10:00:00Z', 'Timestamp(Millisecond, Some("UTC"))') AS tz,
        1.25::decimal(10, 2) AS m, -12345.6789::decimal(20, 4) AS m2, interval '1 day' AS v, 7::smallint AS s,
        1::float4 AS f4, tags AS l FROM conversations"""
    )
    assert dict(row) == {
        "t": "a", "i": 1, "f": 1.5, "b": True, "n": None, "d": datetime.date(2024, 2, 29),
        "ts": datetime.datetime(2024, 2, 29, 12, 30, 0, 250000), "tz": datetime.datetime(2024, 7, 1, 10, tzinfo=UTC),
        "m": decimal.Decimal("1.25"), "m2": decimal.Decimal("-12345.6789"), "v": datetime.timedelta(days=1), "s": 7,
        "f4": 1.0, "l": ["vip", "a b"],
    }, dict(row)

    # The types of parameters are the server's to say.
    at = datetime.datetime(2020, 1, 1, tzinfo=UTC)
    assert await connection.fetchval("SELECT count(*) FROM messages WHERE author_type = $1 AND occurred_at > $2", "visitor", at) == 1
    assert await connection.fetchval("SELECT count(*) FROM messages WHERE seq BETWEEN $1 AND $2", 0, 1000) == 1
    assert await connection.fetchval("SELECT count(*) FROM messages WHERE author_type = ANY($1)", ["visitor", "bot"]) == 1
    assert await connection.fetchval("SELECT count(*) FROM messages WHERE seq = ANY($1::bigint[])", [-1]) == 0
    assert len(await connection.fetch("SELECT seq FROM messages LIMIT $1 OFFSET $2", 5, 0)) == 1
    typed = "SELECT $1::int, $2::text, $3::float, $4::bool, $5::date, $6::timestamp, $7::smallint, $8::decimal(10, 3)"
    given = (1, "x' --", 0.5, False, datetime.date(1999, 12, 31), datetime.datetime(2024, 1, 1, 1, 1, 1), -3)
    found = await connection.fetchrow(typed, *given, decimal.Decimal("12.345"))
    assert tuple(found) == (*given, decimal.Decimal("12.345")), found
    assert await connection.fetchval("SELECT $1", "text it is") == "text it is"
    assert await connection.fetchval("SELECT $1::int IS NULL", None) is True

    prepared = await connection.prepare("SELECT $1::bigint + seq AS n FROM messages")
    assert [parameter.name for parameter in prepared.get_parameters()] == ["int8"]
    assert [(a.name, a.type.name) for a in prepared.get_attributes()] == [("n", "int8")]
    first = await prepared.fetchval(1)
    assert await prepared.fetchval(11) == first + 10

    # A list of another type makes the driver ask the catalog.
    assert await connection.fetchval("SELECT array_agg(seq) FROM messages") is not None
    await connection.reload_schema_state()

    # A portal that is read in parts.
    numbers = " UNION ALL ".join(f"SELECT {n} AS n" for n in range(100))
    async with connection.transaction(readonly=True, isolation="repeatable_read"):
        seen = [row["n"] async for row in connection.cursor(f"SELECT n FROM ({numbers}) t ORDER BY n", prefetch=7)]
        assert seen == list(range(100)), seen
        cursor = await connection.cursor(f"SELECT n FROM ({numbers}) t ORDER BY n")
        assert [row["n"] for row in await cursor.fetch(3)] == [0, 1, 2]
        assert (await cursor.fetchrow())["n"] == 3
        async with connection.transaction():
            assert await connection.fetchval("SELECT 1") == 1

    assert await refused(connection, "SELECT * FROM nowhere WHERE a = $1", 1) == "42P01"
    assert await refused(connection, "SELECT 1; SELECT 2") == "42601"
    assert await refused(connection, "DELETE FROM messages WHERE seq = $1", 1) == "42501"
    assert await refused(connection, "SELECT 1 / $1::int", 0) == "22012"
    assert await connection.fetchval("SELECT 1") == 1

    try:
        async with connection.transaction():
            await connection.fetch("SELECT nothing FROM messages")
    except asyncpg.UndefinedColumnError:
        pass
    assert await connection.fetchval("SELECT 1") == 1

    # Cancelling is a second connection of the driver's.
    heavy = "SELECT sum(t0.n * t1.n + t2.n * t3.n + t4.n * t5.n + t6.n) FROM " + ", ".join(
        f"({' UNION ALL '.join(f'SELECT {n} AS n' for n in range(40))}) t{at}" for at in range(7)
    )
    try:
        await connection.fetch(heavy, timeout=0.5)
        raise AssertionError("it ended")
    except asyncio.TimeoutError:
        pass
    assert await connection.fetchval("SELECT 1") == 1
    await connection.close()

    async with asyncpg.create_pool(**options, min_size=1, max_size=4) as pool:
        counts = await asyncio.gather(*[pool.fetchval("SELECT count(*) FROM messages") for _ in range(20)])
        assert counts == [1] * 20, counts

    try:
        await asyncpg.connect(**{**options, "password": "no"})
        raise AssertionError("let in")
    except asyncpg.InvalidPasswordError:
        pass


asyncio.run(main())
print("ok")
