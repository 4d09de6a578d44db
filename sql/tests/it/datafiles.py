"""Reads datafiles of pipes and renders templates with PyPI tinybird: JSON in, JSON out; null for what it refuses."""

import json
import os
import sys

from tinybird.datafile.common import DatafileKind, parse
from tinybird.sql_template import get_template_and_variables, get_var_names_and_types, render_sql_template

# In a datafile `$NAME` is what the environment says.
os.environ.clear()


def parameters(sql):
    template, _, _ = get_template_and_variables(sql, name="node")
    found = get_var_names_and_types(template)
    return [{"name": p["name"], "type": p["type"], "default": p.get("default")} for p in found]


def file(text):
    try:
        read = parse(text, kind=DatafileKind.pipe).datafile
        read.validate()
        nodes = []
        for node in read.nodes:
            sql = node["sql"].strip()
            is_template = sql.startswith("%")
            nodes.append(
                {
                    "name": node["name"],
                    "description": node.get("description", ""),
                    "sql": sql[1:] if is_template else sql,
                    "endpoint": node.get("type", "").lower() == "endpoint",
                    "parameters": parameters(sql[1:]) if is_template else [],
                }
            )
        return {"description": read.description or "", "nodes": nodes}
    except Exception:
        return None


def rendered(template, values):
    try:
        return render_sql_template(template, values)[0]
    except Exception:
        return None


asked = json.load(sys.stdin)
json.dump(
    {
        "files": [file(text) for text in asked["files"]],
        "templates": [rendered(text, values) for text, values in asked["templates"]],
    },
    sys.stdout,
)
