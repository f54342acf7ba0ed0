"""Conversations to learn from: JSON lines of messages and pictures, and their tokens.

A line is `{"messages": [{"role": "user", "content": …}, {"role": "assistant", "content": …}],
"images": ["a.png", …]}`. A content is a text, or a list of `{"type": "text", "text": …}` and
`{"type": "image"}`; pictures follow each other as in `images`, whose paths are seen from the file's
folder. What assistants say is learned, all else is read. `video_id` or `user_id`, where a line has
one, keeps lines about the same thing together when some are held out.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, ValidationError
from torch import Tensor

from reelm import files
from reelm.errors import BadData
from reelm.tune.batches import IGNORED, padded

UNREADABLE = (OSError, ValueError, Image.DecompressionBombError)


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")
    type: Literal["text", "image"]
    text: str = ""


class _Message(BaseModel):
    model_config = ConfigDict(extra="ignore")
    role: Literal["system", "user", "assistant"]
    content: str | list[_Part]


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")
    messages: list[_Message]
    images: list[str] = []
    video_id: str | None = None
    user_id: str | None = None


@dataclass(frozen=True)
class Conversation:
    """One line of a file."""

    number: int
    """Of the line, from 1."""
    messages: tuple[dict[str, Any], ...]
    """In the form that chat templates take; contents are lists of parts."""
    images: tuple[Path, ...]
    about: str
    """What the line is about; lines about the same are held out together."""

    def held_out(self, share: float) -> bool:
        """True for this share of all subjects, always the same ones."""
        drawn = int.from_bytes(hashlib.sha256(self.about.encode()).digest()[:4], "big")
        return drawn < share * 2**32


@dataclass(frozen=True)
class Refused:
    """A line that nothing is learned from."""

    number: int
    reason: str


@dataclass(frozen=True)
class Sample:
    """The tokens of a conversation, and what the processor made of its pictures."""

    ids: list[int]
    target: list[int]
    """The same tokens where they are learned, IGNORED elsewhere."""
    pictures: dict[str, Tensor] = field(default_factory=dict)

    @property
    def learned(self) -> int:
        """Tokens that are learned."""
        return sum(token != IGNORED for token in self.target)


def read(path: Path) -> tuple[list[Conversation], list[Refused]]:
    """The conversations of a file, and the lines that are none.

    Raises:
        BadData: there is no such file.
    """
    if not path.is_file():
        raise BadData(f"{path}: no such file. Write one conversation per line as JSON.")
    good: list[Conversation] = []
    bad: list[Refused] = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                good.append(_conversation(path, number, _text(line)))
            except BadData as error:
                bad.append(Refused(number, str(error)))
    return good, bad


def fingerprint(path: Path, conversations: Sequence[Conversation]) -> str:
    """Twelve hex digits that change with the file and with any of its pictures."""
    shown = sorted({image for conversation in conversations for image in conversation.images})
    hashes = [files.sha256(path), *(files.sha256(image) for image in shown)]
    return files.digest("".join(hashes).encode())


def _text(line: bytes) -> str:
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BadData(f"not in UTF-8: {error.reason} at byte {error.start}") from error


def _conversation(path: Path, number: int, line: str) -> Conversation:
    try:
        told = _Line.model_validate_json(line)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise BadData(f"{where}: {first['msg']}") from error
    if not any(message.role == "assistant" for message in told.messages):
        raise BadData("no message of an assistant, so there is nothing to learn")
    messages = tuple(_plain(message) for message in told.messages)
    wanted = sum(part["type"] == "image" for m in messages for part in m["content"])
    if wanted != len(told.images):
        raise BadData(f"{wanted} places for pictures, {len(told.images)} in images")
    images = tuple(path.parent / name for name in told.images)
    for image in images:
        if not image.is_file():
            raise BadData(f"{image}: no such picture")
    about = told.video_id or told.user_id
    return Conversation(
        number, messages, images, about or hashlib.sha256(line.encode()).hexdigest()
    )


def _plain(message: _Message) -> dict[str, Any]:
    parts = message.content
    parts = [_Part(type="text", text=parts)] if isinstance(parts, str) else parts
    content = [p.model_dump(exclude_defaults=p.type == "image") for p in parts]
    return {"role": message.role, "content": content}


class Tokens:
    """Makes samples of conversations by a checkpoint's own template, as it will be asked later.

    What an assistant says is tokenised apart from what stands before it, since that is how the
    model goes on at work: from the tokens of the prompt, by tokens of its own.
    """

    def __init__(self, processor: Any, ends: frozenset[int], longest: int) -> None:
        """`ends`: tokens with which an answer may end; `longest`: tokens of a sample."""
        self._processor, self._ends, self._longest = processor, ends, longest
        self._sees = hasattr(processor, "image_processor")
        self.tokenizer = getattr(processor, "tokenizer", processor)
        pad = self.tokenizer.pad_token_id
        self.pad: int = self.tokenizer.eos_token_id if pad is None else pad

    def sample(self, conversation: Conversation) -> Sample:
        """The sample of a conversation.

        Raises:
            BadData: nothing could be learned from it, and why.
        """
        if conversation.images and not self._sees:
            raise BadData("has pictures, and this model sees none")
        shown = iter(conversation.images)
        ids: list[int] = []
        target: list[int] = []
        pictures: list[dict[str, Tensor]] = []
        for text, count, learned in self._pieces(conversation.messages):
            images = [next(shown) for _ in range(count)]
            if learned:
                said = self._answer(text)
                ids, target = ids + said, target + said
                continue
            tokens, seen = self._read(text, images, first=not ids)
            ids, target = ids + tokens, target + [IGNORED] * len(tokens)
            pictures += [seen] if seen else []
        made = Sample(ids, target, _joined(pictures))
        if len(ids) > self._longest:
            raise BadData(f"{len(ids)} tokens, more than lora.max_length = {self._longest}")
        if not made.learned:
            raise BadData("none of its tokens would be learned")
        return made

    def save(self, folder: Path) -> None:
        """Write what reads the texts and pictures beside a checkpoint."""
        self._processor.save_pretrained(folder)

    def _pieces(self, messages: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int, bool]]:
        """Text, number of pictures in it, and whether it is learned, in order.

        Raises:
            BadData: the template does not write an answer behind the prompt it belongs to.
        """
        done, first = "", 0
        for place, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            asked = self._text(messages[:place], ask=True)
            answered = self._text(messages[: place + 1], ask=False)
            if not (asked.startswith(done) and answered.startswith(asked)):
                raise BadData(
                    "the model's chat template writes this conversation otherwise once it has an "
                    "answer, so what to learn is not known"
                )
            between = messages[first:place]
            count = sum(part["type"] == "image" for m in between for part in m["content"])
            yield asked[len(done) :], count, False
            yield answered[len(asked) :], 0, True
            done, first = answered, place + 1

    def _text(self, messages: Sequence[dict[str, Any]], ask: bool) -> str:
        turns = list(messages) if self._sees else [_flat(message) for message in messages]
        try:
            return self._processor.apply_chat_template(
                turns, add_generation_prompt=ask, tokenize=False
            )
        except Exception as error:  # templates raise what their authors like
            raise BadData(f"the model's chat template refuses it: {error}") from error

    def _answer(self, text: str) -> list[int]:
        """Tokens up to the first that ends an answer; one is added where the template has none."""
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        end = next((n for n, token in enumerate(ids) if token in self._ends), None)
        if not ids or end == 0:
            return []  # an empty answer teaches to say nothing
        return ids[: end + 1] if end is not None else [*ids, self.tokenizer.eos_token_id]

    def _read(
        self, text: str, images: Sequence[Path], first: bool
    ) -> tuple[list[int], dict[str, Tensor]]:
        begin = self.tokenizer.bos_token
        special = first and not (begin and text.startswith(begin))
        if not self._sees:
            return self.tokenizer(text, add_special_tokens=special)["input_ids"], {}
        try:
            shown = [Image.open(path).convert("RGB") for path in images]
            out = self._processor(
                text=[text],
                images=[shown] if shown else None,
                return_tensors="pt",
                add_special_tokens=special,
            )
        except UNREADABLE as error:
            raise BadData(f"a picture cannot be read: {error}") from error
        tokens = out["input_ids"][0].tolist()
        along = tuple(out["input_ids"].shape)
        return tokens, {k: v for k, v in out.items() if tuple(v.shape[:2]) != along}


def batch(samples: Sequence[Sample], pad: int) -> tuple[dict[str, Tensor], Tensor]:
    """What a model reads of some samples, padded on the right, and the targets."""
    made = padded([(sample.ids, sample.target) for sample in samples], pad)
    seen = _joined([sample.pictures for sample in samples if sample.pictures])
    return {"input_ids": made.ids, "attention_mask": made.real, **seen}, made.target


def _joined(pictures: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    if not pictures:
        return {}
    return {name: torch.cat([one[name] for one in pictures]) for name in pictures[0]}


def _flat(message: dict[str, Any]) -> dict[str, str]:
    """A message for templates of models that read texts alone."""
    return {"role": message["role"], "content": "".join(p["text"] for p in message["content"])}


def write(path: Path, refused: Sequence[Refused]) -> None:
    """Write refused lines with their reasons as JSON lines."""
    lines = [json.dumps({"line": one.number, "reason": one.reason}) + "\n" for one in refused]
    files.write_text(path, "".join(lines))
