"""Chat completions as OpenAI's servers and those like them take and give them: what a request's
body is, and what a reply holds."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from PIL import Image
from pydantic import Field

from reelm.backends.base import Answer, BackendConfig, Failure, Request
from reelm.backends.blocks.dialects import instruction, structure
from reelm.backends.blocks.schema import read_json
from reelm.media.views import Picture


class ChatConfig(BackendConfig):
    """What the body of a request is made by."""

    model: str = Field(examples=["Qwen/Qwen2.5-VL-7B-Instruct"])
    """What the server calls the model."""
    structured: Literal["auto", "json_schema", "json_object", "none"] = "auto"
    """How the server is told to answer in JSON; auto finds out."""
    image_format: Literal["jpeg", "png"] = "jpeg"
    """How pictures travel; png is lossless and several times larger."""
    quality: int = Field(default=90, ge=1, le=100)
    """JPEG quality."""
    extra: dict[str, Any] = Field(default_factory=dict)
    """Further fields of each request's body, as the server understands them."""


def content(request: Request, config: ChatConfig) -> list[dict[str, Any]]:
    """The parts of a request as entries of a message: texts, and pictures as data URIs."""
    return [_entry(part, config) for part in request.parts]


def body(
    request: Request,
    shown: Sequence[dict[str, Any]],
    config: ChatConfig,
    dialect: str,
    more: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What is sent for a request.

    Args:
        shown: its `content`.
        dialect: how a schema is told; see `dialects`. Without a schema it does not matter.
        more: further fields, which those of the settings win over.
    """
    schema, said = request.schema, list(shown)
    if schema is not None and (text := instruction(dialect, schema)):
        said.append({"type": "text", "text": text})
    told = {
        "model": config.model,
        "messages": [{"role": "user", "content": said}],
        "max_tokens": request.max_tokens,
        "temperature": 0,
        **(more or {}),
        **config.extra,
    }
    return told if schema is None else told | structure(dialect, schema)


def read(reply: Mapping[str, Any], request: Request) -> Answer | Failure:
    """What a chat completion holds. The answer may still break the request's schema."""
    spent = tokens(reply)
    try:
        choice = reply["choices"][0]
        message, ended = choice["message"], choice.get("finish_reason")
        text = message.get("content")
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        said = f"not a chat completion: {type(error).__name__}: {error}"
        return Failure("bad_response", said, *spent)
    if message.get("refusal") or ended == "content_filter":
        said = str(message.get("refusal") or "the server's content filter")[:200]
        return Failure("refused", said, *spent)
    if not isinstance(text, str):
        return Failure("bad_response", "the message holds no text", *spent)
    if (
        ended == "length"
        and request.schema
        and isinstance(read_json(text, request.schema), Failure)
    ):
        said = f"no end within {request.max_tokens} tokens; the answer began: {text[:80]!r}"
        return Failure("truncated", said, *spent)
    return Answer(text.strip(), *spent, 0.0)


def tokens(reply: Mapping[str, Any]) -> tuple[int, int]:
    """Tokens that a reply says were read and written; none of what it does not tell."""
    usage = reply.get("usage")
    told = usage if isinstance(usage, Mapping) else {}
    read, written = told.get("prompt_tokens"), told.get("completion_tokens")
    return read if isinstance(read, int) else 0, written if isinstance(written, int) else 0


def _entry(part: str | Picture, config: ChatConfig) -> dict[str, Any]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    out = io.BytesIO()
    options = {"quality": config.quality} if config.image_format == "jpeg" else {}
    Image.fromarray(part.pixels).save(out, format=config.image_format, **options)
    data = base64.b64encode(out.getvalue()).decode()
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/{config.image_format};base64,{data}"},
    }
