"""Reading JSON answers: the part of JSON Schema that prompts use, checked without a library."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reelm.backends.base import Answer, Failure, paid

FENCE = re.compile(r"^\s*```(?:json)?\s*(.*?)\s*```\s*$", re.DOTALL)
TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}
BOUNDS = {
    "minLength": ("is shorter than {}", lambda value, bound: len(value) < bound),
    "maxLength": ("is longer than {}", lambda value, bound: len(value) > bound),
    "minItems": ("is fewer than {} items", lambda value, bound: len(value) < bound),
    "maxItems": ("is more than {} items", lambda value, bound: len(value) > bound),
    "minimum": ("is below {}", lambda value, bound: value < bound),
    "maximum": ("is above {}", lambda value, bound: value > bound),
    "pattern": ("does not match {}", lambda value, bound: not re.search(bound, value)),
    "enum": ("is not one of {}", lambda value, bound: value not in bound),
}


def read_json(text: str, schema: Mapping[str, Any]) -> Any | Failure:
    """The value that an answer's text holds; a Markdown fence around it is taken off.

    Returns a Failure of kind `invalid_json` or `schema` if it is not what was asked for.
    """
    fenced = FENCE.match(text)
    try:
        value = json.loads(fenced.group(1) if fenced else text)
    except (ValueError, RecursionError) as error:
        return Failure("invalid_json", f"{error}; the answer began: {text[:80]!r}")
    wrong = faults(value, schema)
    return Failure("schema", "; ".join(wrong)[:400]) if wrong else value


def tidy(answer: Answer, schema: Mapping[str, Any]) -> Answer | Failure:
    """The answer as plain JSON without a blank too many, or what is wrong with it."""
    value = read_json(answer.text, schema)
    if isinstance(value, Failure):
        return paid(value, answer)
    return replace(answer, text=json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def faults(value: Any, schema: Mapping[str, Any], at: str = "answer") -> list[str]:
    """Where `value` breaks `schema`, one sentence each; empty if it does not.

    Known keywords: type, properties, required, additionalProperties, items and those in BOUNDS.
    Source: JSON Schema draft 2020-12.
    """
    kind = schema.get("type")
    if kind is not None and not _is(value, kind):
        return [f"{at} is {type(value).__name__}, not {kind}"]
    wrong = [
        f"{at} {said.format(schema[word])}"
        for word, (said, breaks) in BOUNDS.items()
        if word in schema and breaks(value, schema[word])
    ]
    if isinstance(value, dict):
        wrong += _object_faults(value, schema, at)
    if isinstance(value, list) and "items" in schema:
        for n, item in enumerate(value):
            wrong += faults(item, schema["items"], f"{at}[{n}]")
    return wrong


def _is(value: Any, kind: str) -> bool:
    if isinstance(value, bool):  # a bool is an int in Python, but not in JSON
        return kind == "boolean"
    return isinstance(value, TYPES[kind])


def _object_faults(value: dict[str, Any], schema: Mapping[str, Any], at: str) -> list[str]:
    fields = schema.get("properties", {})
    wrong = [f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value]
    if schema.get("additionalProperties") is False:
        wrong += [f"{at}.{name} is not asked for" for name in value if name not in fields]
    for name, part in fields.items():
        if name in value:
            wrong += faults(value[name], part, f"{at}.{name}")
    return wrong
