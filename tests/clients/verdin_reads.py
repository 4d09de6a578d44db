"""PyPI verdin against a server: arguments are its address and a token. Prints `ok`, or fails."""

import csv
import io
import sys

from verdin.client import Client
from verdin.api import ApiError
from verdin.query import OutputFormat

url, token = sys.argv[1:3]
client = Client(token, api=url)

period = {"date_from": "2020-01-01", "date_to": "2100-01-01", "granularity": "day"}
pipe = client.pipe("usage")
found = pipe.query(period)
assert not found.empty
assert ("bucket", "Nullable(Date)") in found.meta or ("bucket", "Date") in found.meta, found.meta
assert sum(row["messages_visitor"] for row in found.data) == 1, found.data

for name in ["json", "csv", "ndjson"]:
    rows = client.api.pipes.query("usage", parameters=period, format=name).data
    assert sum(int(row["messages_visitor"]) for row in rows) == 1, (name, rows)
over = client.api.pipes.query("usage", query="SELECT sum(messages_visitor) AS n FROM _", parameters=period)
assert over.data == [{"n": 1}], over.data
# More than 8 KiB of parameters: it sends a form.
large = client.api.pipes.query("usage", parameters=period | {"ignored": "x" * 9000})
assert large.data == found.data

assert "usage" in [pipe["name"] for pipe in client.api.pipes.list().pipes]
assert client.api.pipes.get_information("usage").info["nodes"][0]["params"]

rows = client.sql("SELECT author_type FROM messages").json().data
assert rows == [{"author_type": "visitor"}], rows
text = client.sql("SELECT 'a \"b\", c' AS t, NULL AS n").get(OutputFormat.CSVWithNames).text
assert list(csv.DictReader(io.StringIO(text))) == [{"t": 'a "b", c', "n": "\\N"}], text
assert client.sql("SELECT 1 AS a").get(OutputFormat.TSV).text == "1\n"
assert client.sql("SELECT 1 AS a").get(OutputFormat.JSONEachRow).text == '{"a":1}\n'

try:
    client.api.pipes.query("usage", parameters={"granularity": "decade"})
    raise AssertionError("a bad parameter must be refused")
except ApiError as error:
    assert "granularity" in str(error), error

print("ok")
