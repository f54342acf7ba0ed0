"""How servers are told to answer in JSON. They differ; the answer is checked whatever they say."""

import json
import threading
from typing import Any

ORDER = ("json_schema", "json_object", "none")
NOT_SPOKEN = (400, 404, 415, 422, 501)
"""Statuses by which servers turn down a `response_format` that they do not know."""
TRIES = 2  # of one dialect that only brings 500: some servers say that too


class Dialects:
    """Finds out which `response_format` a server takes: the first that works is kept.

    `json_schema` is OpenAI's, vLLM's, SGLang's and others'; `json_object` with a schema beside it
    is llama-cpp-python's; `none` puts the schema into the question. Safe to use from threads.
    """

    def __init__(self, asked: str) -> None:
        """`asked`: one of ORDER, or `auto` to try them in that order."""
        self._order = ORDER if asked == "auto" else (asked,)
        self._at = 0
        self._proven = len(self._order) == 1
        self._failed = 0
        self._lock = threading.Lock()

    @property
    def current(self) -> str:
        """The dialect to speak now."""
        return self._order[self._at]

    def worked(self, dialect: str) -> None:
        """The server answered in this dialect: stay with it."""
        with self._lock:
            self._proven = self._proven or dialect == self.current

    def refused(self, dialect: str, status: int) -> bool:
        """Note an error status; True if another dialect should be tried with the same request."""
        with self._lock:
            if dialect != self.current:
                return True  # another request went on already
            if self._proven or status < 400:
                return False
            self._failed += status == 500
            if status not in NOT_SPOKEN and self._failed < TRIES:
                return False
            last = self._at + 1 == len(self._order)
            self._at, self._failed = 0 if last else self._at + 1, 0
            return not last  # all are turned down: the request is at fault, so begin anew


def structure(dialect: str, schema: dict[str, Any]) -> dict[str, Any]:
    """What the dialect adds to the body of a request."""
    if dialect == "json_schema":
        wrapped = {"name": "answer", "strict": True, "schema": schema}
        return {"response_format": {"type": "json_schema", "json_schema": wrapped}}
    if dialect == "json_object":
        return {"response_format": {"type": "json_object", "schema": schema}}
    return {}


def instruction(dialect: str, schema: dict[str, Any]) -> str:
    """What the dialect adds to the question."""
    if dialect == "json_schema":
        return ""
    return f"\nAnswer only with JSON that obeys this schema: {json.dumps(schema)}"
