"""The route by which people put right what a model said of a video."""

import threading
from typing import Annotated

from fastapi import FastAPI, Request
from fastapi import Path as PathValue

from reelm.correct import amend
from reelm.data.corrections import Correction
from reelm.errors import BadData, ReelmError
from reelm.serve.keys import Key
from reelm.serve.messages import Id, NoteIn, NoteNow
from reelm.serve.notes import Notes
from reelm.serve.screening import written
from reelm.serve.served import Served

NOBODY = "local"
"""Author where the service asks for no key."""
VideoId = Annotated[Id, PathValue()]
Prompt = Annotated[str, PathValue(pattern=r"^[a-z0-9_]{1,64}$")]


class UnknownNote(ReelmError):
    """There is no note of that prompt about that video that could be corrected."""

    def __init__(self, video: str, prompt: str, known: list[str]) -> None:
        super().__init__(
            f"{video!r} has no note to prompt {prompt!r} that can be corrected. Prompts of this "
            f"run's notes: {', '.join(known) or 'none'}."
        )
        self.video, self.prompt = video, prompt


def add_corrections(app: FastAPI, served: Served) -> None:
    """Add the route; what it keeps are the files of `reelm correct`."""
    one_at_a_time = threading.Lock()

    @app.put("/v1/videos/{video:path}/notes/{prompt}", tags=["videos"])
    def correct(request: Request, video: VideoId, prompt: Prompt, body: NoteIn) -> NoteNow:
        """Correct a note. The correction is checked as the model's answer would be, kept as a
        new version with its author (the name of the key), and wins from the next request on.
        """
        key: Key | None = getattr(request.state, "key", None)
        with one_at_a_time, written():
            made = _keep(served, video, prompt, body, key.name if key else NOBODY)
            served.refresh(notes=True)
        now = served.engine.videos.answers(video)
        return NoteNow(
            item_id=video, prompt=prompt, version=made.key, author=made.author, time=made.time,
            replaces=made.replaces, note={name: now.get(name) for name in made.answer},
        )  # fmt: skip


def _keep(served: Served, video: str, prompt: str, body: NoteIn, author: str) -> Correction:
    """
    Raises:
        UnknownVideo, UnknownNote: there is nothing to correct.
        ConfigError: the schema does not allow it, or it changes nothing.
        StaleFolder: somebody else was faster.
    """
    engine = served.engine
    engine.known(video)
    notes = engine.videos.notes
    folder = notes.folder(video, prompt) if served.parts else None
    if folder is None:
        raise UnknownNote(video, prompt, _prompts(notes, video))
    try:
        return amend(folder, video, body.fields, author, body.why, body.expected)
    except BadData as error:  # its words name a folder of this machine
        raise UnknownNote(video, prompt, _prompts(notes, video)) from error


def _prompts(notes: Notes, video: str) -> list[str]:
    found = [str(one["prompt"]) for one in notes.sources(video) if one.get("prompt")]
    return list(dict.fromkeys(found))
