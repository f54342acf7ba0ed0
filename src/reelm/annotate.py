"""Verb: ask a multimodal model about every video, and keep what it said or why it did not.

One row per video, in parts that appear whole; a run that is killed goes on where it stopped. A
video's file is decoded while the model answers about the files before it.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import PositiveInt, ValidationError

from reelm import files
from reelm.backends.base import Answer, Backend, Failure, Request, repair, show
from reelm.backends.blocks.schema import read_json
from reelm.data.tables import Catalog
from reelm.engine import DecodeConfig, Decoder, Video, run, videos
from reelm.errors import BackendError, MediaError
from reelm.media.views import pictures
from reelm.prompts.base import Prompt

VERSION = 1
MEDIA = "media"  # kind of failure of a file that cannot be decoded
FEW = 8  # from so many lost requests on, and no answer, the way is closed
COLUMNS = {
    "video_id": pl.String,
    "sha256": pl.String,
    "answer": pl.String,
    "error_kind": pl.String,
    "error": pl.String,
    "seconds": pl.Float64,
    "tokens_in": pl.Int64,
    "tokens_out": pl.Int64,
}


class AnnotateConfig(DecodeConfig):
    """Section [annotate]."""

    part: PositiveInt = 64
    """Videos per file of answers; at most this many answers are lost when the run is killed."""
    batch: PositiveInt = 32
    """Requests handed to the backend at once."""
    limit: PositiveInt | None = None
    """Only the first so many videos."""


def annotate(
    catalog: Catalog, backend: Backend, prompt: type[Prompt], config: AnnotateConfig, work: Path
) -> Path:
    """Fill `work/notes/<prompt>-<key>` and return it. Run it again to go on after a kill.

    Every usable video gets a row: the answer as JSON, or the kind and text of what went wrong.
    Files that are copies of another, byte by byte, get its answer without being asked about.

    Raises:
        BackendError: nothing of a whole part came through (server down?); run it again later.
        StaleFolder: another process is filling the same folder.
    """
    wanted = videos(catalog, config.limit)
    question = backend.phrase(prompt.name) or prompt.ask(backend.vocabulary)
    schema = prompt.schema(backend.vocabulary)
    settings = {
        "prompt": {"name": prompt.name, "version": prompt.version, "question": question},
        "schema": files.digest(json.dumps(schema).encode()),
        "max_tokens": prompt.max_tokens,
        "view": asdict(backend.view),
        **config.model_dump(exclude={"workers", "batch", "limit"}),
    }
    inputs = {
        "backend": backend.identity(),
        "videos": files.digest(json.dumps([(v.sha256, *v.ids) for v in wanted]).encode()),
    }
    key = files.key("annotate", VERSION, settings, inputs)
    folder = work / "notes" / f"{prompt.name}-{key}"
    if files.finished(folder):
        return folder
    with Decoder(work, backend.view.moments, config) as decoder:
        stage = _Asking(folder, backend, prompt, (question, schema), decoder, config.batch)
        cost = run(stage, wanted, config.part, f"annotate {prompt.name}")
    return files.finish(
        folder, stage="annotate", version=VERSION, key=key, settings=settings,
        inputs=inputs | {"catalog": str(catalog.folder)}, seconds=cost["seconds"], cost=cost,
        **_outcome(folder),
    )  # fmt: skip


class _Asking:
    """The stage as the engine sees it."""

    def __init__(
        self,
        folder: Path,
        backend: Backend,
        prompt: type[Prompt],
        asked: tuple[str, dict[str, Any]],
        decoder: Decoder,
        batch: int,
    ) -> None:
        self.folder, self.device = folder, backend.device
        self._backend, self._prompt, self._decoder, self._batch = backend, prompt, decoder, batch
        self._question, self._schema = asked

    def path(self, number: int) -> Path:
        return self.folder / f"part-{number:05d}.parquet"

    def load(self, tasks: Sequence[Video]) -> list[tuple[Video, Request | Failure]]:
        """What to ask about each video; a file that cannot be decoded has failed already."""
        loaded: list[tuple[Video, Request | Failure]] = []
        for video, decoded in zip(tasks, self._decoder(tasks), strict=True):
            if isinstance(decoded, MediaError):
                said = ": ".join(filter(None, (decoded.reason, decoded.detail)))
                loaded.append((video, Failure(MEDIA, said)))
                continue
            parts = show(pictures(self._backend.view, *decoded), self._question)
            request = Request(video.id, parts, self._schema, self._prompt.max_tokens)
            loaded.append((video, request))
        return loaded

    def work(
        self, number: int, loaded: Sequence[tuple[Video, Request | Failure]]
    ) -> dict[str, int]:
        requests = [request for _, request in loaded if isinstance(request, Request)]
        said = iter(self._answers(requests))
        outcomes = [(v, next(said) if isinstance(r, Request) else r) for v, r in loaded]
        _must_come_through(number, [outcome for _, outcome in outcomes])
        rows = [row for video, outcome in outcomes for row in _rows(video, outcome)]
        with files.atomic(self.path(number)) as tmp:
            pl.DataFrame(rows, schema=COLUMNS, orient="row").write_parquet(tmp)
        tokens = [sum(row[n] for row in rows) for n in (-2, -1)]
        return {"rows": len(rows), "tokens_in": tokens[0], "tokens_out": tokens[1]}

    def _answers(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        """Checked answers; those that are not what was asked for are asked once more."""
        done: list[Answer | Failure] = []
        for start in range(0, len(requests), self._batch):
            some = requests[start : start + self._batch]
            said = self._backend.answer(some)
            first = [self._checked(r, a) for r, a in zip(some, said, strict=True)]
            second = iter(self._again([o for o in first if isinstance(o, _Invalid)]))
            done += [next(second) if isinstance(o, _Invalid) else o for o in first]
        return done

    def _again(self, invalid: Sequence["_Invalid"]) -> list[Answer | Failure]:
        """The one repair that an answer gets."""
        if not invalid:
            return []
        requests = [repair(one.request, one.said.text, one.why.message) for one in invalid]
        done: list[Answer | Failure] = []
        for one, said in zip(invalid, self._backend.answer(requests), strict=True):
            checked = self._checked(one.request, said)
            if isinstance(checked, Answer):
                checked = _together(one.said, checked)
            done.append(checked.why if isinstance(checked, _Invalid) else checked)
        return done

    def _checked(self, request: Request, said: Answer | Failure) -> "Answer | Failure | _Invalid":
        """The answer with its JSON in one form, or what is wrong with it."""
        if isinstance(said, Failure):
            return said
        value = read_json(said.text, self._schema)
        if isinstance(value, Failure):
            return _Invalid(request, said, value)
        try:
            self._prompt.model_validate(value)
        except ValidationError as error:
            return _Invalid(request, said, Failure("schema", str(error)[:400]))
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        return replace(said, text=text)


@dataclass(frozen=True)
class _Invalid:
    """An answer that is not what its schema asks for."""

    request: Request
    said: Answer
    why: Failure


def _together(first: Answer, second: Answer) -> Answer:
    """The second answer at the price of both."""
    return Answer(
        second.text,
        first.tokens_in + second.tokens_in,
        first.tokens_out + second.tokens_out,
        first.seconds + second.seconds,
    )


def _must_come_through(number: int, outcomes: Sequence[Answer | Failure]) -> None:
    """Stop where the way to the model is closed, instead of writing failures for every video."""
    asked = [o for o in outcomes if not (isinstance(o, Failure) and o.kind == MEDIA)]
    lost = [o for o in asked if isinstance(o, Failure) and o.passing]
    if len(lost) == len(asked) >= FEW:
        raise BackendError(
            lost[0].kind,
            f"nothing of part {number} came through ({lost[0].message}). What was answered before "
            "is kept; see to the server, then run the same command again.",
        )


def _rows(video: Video, outcome: Answer | Failure) -> list[tuple[Any, ...]]:
    """One row for the video and one for each copy, which cost nothing."""
    if isinstance(outcome, Answer):
        said: tuple[Any, ...] = (outcome.text, None, None)
        cost = round(outcome.seconds, 4), outcome.tokens_in, outcome.tokens_out
    else:
        said, cost = (None, outcome.kind, outcome.message), (0.0, 0, 0)
    first = (video.id, video.sha256, *said, *cost)
    return [first, *((name, video.sha256, *said, 0.0, 0, 0) for name in video.copies)]


def _outcome(folder: Path) -> dict[str, Any]:
    """Rows in all, rows that failed, and how many of each kind."""
    parts = sorted(folder.glob("part-*.parquet"))
    kinds = [pl.read_parquet(part, columns=["error_kind"])["error_kind"] for part in parts]
    failures = Counter(kind for column in kinds for kind in column if kind is not None)
    rows = sum(map(len, kinds))
    return {"rows": rows, "failed": failures.total(), "failures": dict(failures)}
