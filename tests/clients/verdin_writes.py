"""PyPI verdin's ingest against a server: arguments are its address and a token that may write. Prints `ok`, or fails."""

import sys

from verdin.client import Client
from verdin.api import ApiError

url, token = sys.argv[1:3]
client = Client(token, api=url)

visits = client.datasource("visits")
records = [{"id": n, "page": f"/p/{n % 3}", "at": "2024-05-01T10:00:00Z"} for n in range(1000)]
sent = visits.send_events(records, wait=True)
assert (sent.successful_rows, sent.quarantined_rows) == (1000, 0), sent.json
sent = client.api.events.send("visits", [{"id": 1000}, {"id": "none", "page": "/"}], compress=True)
assert (sent.successful_rows, sent.quarantined_rows) == (1, 1), sent.json


def rows(sql):
    return client.sql(sql).json().data


assert rows("SELECT count(*) AS n, max(id) AS m FROM visits") == [{"n": 1001, "m": 1000}]
bad = rows("SELECT c__error_column, id FROM visits_quarantine")
assert bad == [{"c__error_column": ["id"], "id": "none"}], bad

# Without a line of names fields are in the columns' order.
assert visits.append_csv([[2000, "/csv", "2024-05-02 10:00:00"], [2001, "/csv, too", ""]]).ok
assert visits.append_ndjson([{"id": 2002, "page": "/nd"}]).ok
answer = client.api.datasources.append("visits", "x,y\n", format="csv")
assert (answer.quarantine_rows, answer.error) == (1, None), answer.json
assert rows("SELECT count(*) AS n FROM visits WHERE id >= 2000") == [{"n": 3}]

assert "visits" in [source["name"] for source in client.api.datasources.list().datasources]
info = client.api.datasources.get_information("visits").info
assert info["statistics"]["row_count"] == 1004, info
assert [column["name"] for column in info["schema"]["columns"]] == ["id", "page", "at"], info

visits.truncate()
assert rows("SELECT count(*) AS n FROM visits") == [{"n": 0}]
try:
    client.api.datasources.truncate("never_made")
    raise AssertionError("there is nothing to truncate")
except ApiError as error:
    assert "never_made" in str(error), error

print("ok")
