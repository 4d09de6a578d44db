"""Prints the doctests of tinybird.sql_template that render a template or call a function of templates, as JSON."""

import ast
import doctest
import json
import re

from tinybird import sql_template

FUNCTIONS = {
    "day_diff",
    "date_diff_in_seconds",
    "date_diff_in_minutes",
    "date_diff_in_hours",
    "date_diff_in_days",
}


def texts(value):
    values = value if isinstance(value, list) else [value]
    return [{True: "true", False: "false"}.get(v, str(v)) if isinstance(v, bool) else str(v) for v in values]


def example(source, want, is_error):
    call = ast.parse(source, mode="eval").body
    if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
        return None
    if call.func.id in FUNCTIONS:
        if "Placeholder" in source:
            return None
        # A function is called in a template of nothing else.
        return {"template": "{{" + source + "}}", "parameters": {}, "sql": None if is_error else want}
    if call.func.id != "render_sql_template":
        return None
    arguments = {keyword.arg: keyword.value for keyword in call.keywords}
    given = call.args[1] if len(call.args) > 1 else arguments.get("variables")
    variables = ast.literal_eval(given) if given is not None else {}
    return {
        "template": ast.literal_eval(call.args[0]),
        "parameters": {name: texts(value) for name, value in variables.items()},
        "sql": None if is_error else ast.literal_eval(want)[0],
    }


found = []
for test in doctest.DocTestFinder().find(sql_template):
    for item in test.examples:
        source = item.source.strip()
        if not re.match(r"[a-z_]+\(", source):
            continue
        made = example(source, item.want.strip(), item.exc_msg is not None)
        if made:
            found.append({"source": source, **made})
print(json.dumps(found))
