"""tinybird-python-sdk by changing the host: rows appended one by one and as a buffer, read back by SQL."""

import json
import sys
import urllib.parse
import urllib.request

from tb.datasource import Datasource

url, token = sys.argv[1:]


def rows(sql):
    query = urllib.parse.urlencode({"q": sql, "token": token})
    with urllib.request.urlopen(f"{url}/v0/sql?{query}") as answer:
        return json.load(answer)["data"]


with Datasource("visits", token, api_url=url) as visits:
    visits << {"page": "/a", "ms": 12}
    visits += {"page": "/b", "ms": 7.5}
    visits.append('{"page": "it\'s", "ms": null}')
assert rows("SELECT count(*) AS n, sum(ms) AS ms FROM visits") == [{"n": 3, "ms": 19.5}], rows("SELECT * FROM visits")

with Datasource("visits", token, api_url=url) as visits:
    for at in range(500):
        visits << {"page": f"/{at}", "ms": at}
assert rows("SELECT count(*) AS n FROM visits") == [{"n": 503}]
print("ok")
