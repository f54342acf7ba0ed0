"""OpenAI's batch files: requests written as lines to be answered elsewhere, some time later, and
the files of results read back.

Taken by OpenAI's batch endpoint and by servers that speak its format, such as vLLM's run_batch.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import PositiveInt

from reelm import files
from reelm.backends.base import Answer, Failure, Request
from reelm.backends.blocks.chat import ChatConfig, body, content, read
from reelm.backends.blocks.schema import tidy
from reelm.config import Config
from reelm.errors import BadData

URL = "/v1/chat/completions"
ENDED = {"batch_expired": "timeout", "batch_cancelled": "connection"}
"""Kinds of failure of requests that the batch ended before; they may be asked again."""


class BatchConfig(Config):
    """Section [batch]: how large batch files may become."""

    most_bytes: PositiveInt = 200_000_000
    """Size of a file; OpenAI takes 200 MB."""
    most_lines: PositiveInt = 50_000
    """Requests in a file; OpenAI takes 50,000."""


@dataclass(frozen=True)
class Written:
    """What became of requests."""

    paths: list[Path] = field(default_factory=list)
    """Files, in the order to send them."""
    rows: int = 0
    failed: dict[str, Failure] = field(default_factory=dict)
    """Requests that are in no file, by custom_id, and why."""


@dataclass(frozen=True)
class Results:
    """What came back."""

    outcomes: dict[str, Answer | Failure]
    """One for each request that was asked for, by custom_id."""
    counts: dict[str, int]
    """answered; one per kind of failure; and, beside these, missing (requests without a line),
    duplicate (further lines of the same request), unknown (lines of no request asked for) and
    unreadable (lines that are no result)."""


def write(
    requests: Iterable[tuple[str, Request]], chat: ChatConfig, config: BatchConfig, folder: Path
) -> Written:
    """Write requests as `batch-00000.jsonl` and so on. Only one request is held in memory.

    Args:
        requests: each with its custom_id, by which its answer will be known.
        chat: what their bodies are made by.

    Raises:
        BadData: a custom_id comes twice, or the folder holds batch files already.
    """
    there = sorted(folder.glob("batch-*.jsonl"))
    if there:
        raise BadData(f"{there[0]}: this folder holds batch files already. Name an empty one.")
    failed: dict[str, Failure] = {}
    paths: list[Path] = []
    rows = 0
    try:
        for lines in _files(_lines(requests, chat, config, failed), config):
            path = folder / f"batch-{len(paths):05d}.jsonl"
            with files.atomic(path) as tmp, tmp.open("wb") as file:
                for line in lines:
                    file.write(line)
                    rows += 1
            paths.append(path)
    except BaseException:  # half of a batch must not be sent, nor stand in the way
        for path in paths:
            path.unlink()
        raise
    return Written(paths, rows, failed)


def read_results(paths: Sequence[Path], requests: Mapping[str, Request]) -> Results:
    """What files of results and of errors say of requests; lines and files in any order.

    Answers are checked against the requests' schemas; pictures are not needed. Of several lines
    about one request an answer beats a failure.

    Raises:
        BadData: a file cannot be read, or holds lines and none about these requests.
    """
    found: dict[str, Answer | Failure] = {}
    counts: Counter[str] = Counter()
    for path in paths:
        counts += _read(path, requests, found)
    for name in requests:
        if name not in found:
            counts["missing"] += 1
            said = "no line about this request in the files of results"
            found[name] = Failure("bad_response", said)
    for one in found.values():
        counts["answered" if isinstance(one, Answer) else one.kind] += 1
    counts["bad_response"] -= counts["missing"]
    return Results(found, {name: count for name, count in sorted(counts.items()) if count})


def _lines(
    requests: Iterable[tuple[str, Request]],
    chat: ChatConfig,
    config: BatchConfig,
    failed: dict[str, Failure],
) -> Iterator[bytes]:
    """A line per request; those too long for any file go into `failed`."""
    dialect = "json_schema" if chat.structured == "auto" else chat.structured
    seen: set[str] = set()
    for name, request in requests:
        if name in seen:
            raise BadData(f"batch: the custom_id {name!r} comes twice; answers could not be told.")
        seen.add(name)
        told = body(request, content(request, chat), chat, dialect)
        line = {"custom_id": name, "method": "POST", "url": URL, "body": told}
        text = json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if len(text) > config.most_bytes:
            said = f"{len(text)} bytes; a whole file may have {config.most_bytes}"
            failed[name] = Failure("bad_request", said)
        else:
            yield text


def _files(lines: Iterator[bytes], config: BatchConfig) -> Iterator[Iterator[bytes]]:
    """The same lines, file by file; each must be read to its end before the next."""
    line = next(lines, None)

    def file() -> Iterator[bytes]:
        nonlocal line
        count = size = 0
        while line is not None and count < config.most_lines:
            if size + len(line) > config.most_bytes:
                return
            count, size = count + 1, size + len(line)
            yield line
            line = next(lines, None)

    while line is not None:
        yield file()


def _read(
    path: Path, requests: Mapping[str, Request], found: dict[str, Answer | Failure]
) -> Counter[str]:
    """Add to `found` what a file says; counts of lines that are duplicate, unknown, unreadable."""
    counts: Counter[str] = Counter()
    own = 0
    for line in _read_lines(path):
        name, told = _told(line)
        if name is None:
            counts["unreadable"] += 1
        elif name not in requests:
            counts["unknown"] += 1
        else:
            own += 1
            outcome = _outcome(told, requests[name])
            counts["duplicate"] += name in found
            found[name] = min(found.get(name, outcome), outcome, key=_rank)
    if counts and not own:
        raise BadData(
            f"{path}: none of its {counts.total()} lines is about a request of this batch. "
            "Name the results of the files that lie in the batch's own folder."
        )
    return counts


def _read_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from (line for line in file if line.strip())
    except OSError as error:
        raise BadData(f"{path}: cannot be read as a file of results: {error}") from error


def _told(line: bytes) -> tuple[str | None, dict[str, Any]]:
    """custom_id and the rest of a line; None if it is no line of results."""
    try:
        told = json.loads(line)
    except ValueError:
        return None, {}
    name = told.get("custom_id") if isinstance(told, dict) else None
    return (name, told) if isinstance(name, str) else (None, {})


def _outcome(told: Mapping[str, Any], request: Request) -> Answer | Failure:
    error, response = told.get("error"), told.get("response")
    if error:
        return _error(error)
    if not isinstance(response, dict):
        return Failure("bad_response", "a line with neither a response nor an error")
    status, reply = response.get("status_code", 200), response.get("body")
    if status != 200:
        kind = "rate_limited" if status == 429 else f"http_{status}"
        return Failure(kind, f"status {status}: {json.dumps(reply, ensure_ascii=False)[:200]}")
    if not isinstance(reply, dict):
        return Failure("bad_response", "a response without a body")
    said = read(reply, request)
    if isinstance(said, Failure) or request.schema is None:
        return said
    return tidy(said, request.schema)


def _error(error: Any) -> Failure:
    """A failure of the batch and not of a reply."""
    facts = error if isinstance(error, dict) else {"message": str(error)}
    code = str(facts.get("code") or "")
    said = ": ".join(filter(None, (code, str(facts.get("message") or ""))))
    return Failure(ENDED.get(code, "bad_request"), said[:200] or "an error without a word")


def _rank(one: Answer | Failure) -> tuple[bool, str, str]:
    """Answers first; among equals an order that is not that of the lines."""
    if isinstance(one, Answer):
        return False, "", one.text
    return True, one.kind, one.message
