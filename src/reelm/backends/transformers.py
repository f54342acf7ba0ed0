"""Any LLaVA-type or text-only checkpoint of the transformers library: a folder or a hub id.

Answers are greedy. With a schema, a grammar allows only JSON that obeys it.
Source: Liu et al. 2023, "Visual Instruction Tuning", arXiv:2304.08485, for the kind of model.
"""

import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import Field, PositiveInt
from torch import Tensor

from reelm import device, files, hub
from reelm.backends.base import Answer, Backend, BackendConfig, Chances, Failure, Request
from reelm.backends.blocks import decode, together
from reelm.backends.blocks.checkpoint import about_folder
from reelm.backends.blocks.grammar import Grammars
from reelm.backends.blocks.prepare import Inputs
from reelm.errors import BackendError, MissingPackage
from reelm.halves import quiet
from reelm.media.views import View

T = TypeVar("T")
BAD = (ValueError, TypeError, IndexError, KeyError, AttributeError, OSError)
"""What processors raise over requests that they cannot take."""


class TransformersConfig(BackendConfig):
    """Section [backend] for `transformers`."""

    model: str = Field(examples=["llava-hf/llava-1.5-7b-hf"])
    """Folder of a checkpoint (save_pretrained of model and processor), or a hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    adapter: str | None = None
    """Folder of low-rank adapters to lay over the model, as `reelm tune --on` writes them."""
    device: str = "auto"
    """cpu, cuda, cuda:1, mps …; auto takes an accelerator if there is one."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision; auto is float32 on the processor and the checkpoint's own elsewhere."""
    batch: PositiveInt = 32
    """Most requests that are answered together; halved where memory does not suffice."""
    batch_tokens: PositiveInt = 65536
    """Most tokens of a batch, answers and padding counted; requests of like length meet."""
    share: bool = True
    """Watch once where several requests begin with the same pictures."""
    skip_forced: bool = True
    """Do not ask the model for tokens that the grammar leaves no choice about."""


class Transformers(Backend):
    """One loaded checkpoint. A `reelm.json` beside the weights says how it was tuned."""

    name: ClassVar[str] = "transformers"
    Config: ClassVar[type[BackendConfig]] = TransformersConfig

    def __init__(self, config: TransformersConfig) -> None:
        """Load the checkpoint.

        Raises:
            BackendError: there is none, or its processor needs a package that is missing.
        """
        self.config = config
        self.device = device.best(config.device)
        dtype = config.dtype
        if dtype == "auto" and self.device == "cpu":
            dtype = "float32"
        model = load_model(config.model, config.revision, dtype)
        if config.adapter:
            model = _adapted(model, config.adapter)
        self.model = model.eval().to(self.device)
        self.inputs = Inputs(load_reader(config.model, config.revision))
        about = about_folder(config.model)
        self.view = View.of(about.get("view") or {})
        known = about.get("vocabulary")
        self.vocabulary = {k: tuple(v) for k, v in known.items()} if known else None
        self._phrases: dict[str, str] = about.get("phrases") or {}
        self._grammars = Grammars(
            self.inputs.tokenizer, self.model.get_output_embeddings().out_features
        )
        self._takes = set(inspect.signature(self.model.forward).parameters)
        self._counted = not hasattr(self.model.base_model, "get_rope_index")
        self._image = getattr(self.model.config, "image_token_id", None)
        # a prompt that sees itself from both sides (token_type_ids) cannot be read in two parts
        self._shares = (
            config.share
            and self._counted
            and self._image is not None
            and "token_type_ids" not in self._takes
        )
        self._identity: dict[str, Any] | None = None

    def answer(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        return self._batched(requests, list(requests), self._answer)

    def choose(
        self, requests: Sequence[Request], choices: Sequence[Sequence[str]]
    ) -> list[Chances | Failure]:
        """See Backend.choose. Each prompt is read once, whatever the number of its choices."""
        pairs = list(zip(requests, choices, strict=True))
        return self._batched(requests, pairs, self._choose)

    def identity(self) -> dict[str, Any]:
        if self._identity is None:
            name = self.config.model
            local = Path(name).is_dir()
            self._identity = {
                "backend": self.name,
                "model": Path(name).name if local else name,
                "weights": files.weights_hash(name) or hub.commit(name, self.config.revision),
                **self._adapter(),
                "dtype": str(self.model.dtype).removeprefix("torch."),
                "decoding": {
                    "greedy": True,
                    "grammar": "llguidance",
                    "skip_forced": self.config.skip_forced,
                },
            }
        return self._identity

    def phrase(self, prompt: str) -> str | None:
        return self._phrases.get(prompt)

    def _adapter(self) -> dict[str, str | None]:
        folder = self.config.adapter
        return {"adapter": files.weights_hash(folder)} if folder else {}

    def _batched(
        self, requests: Sequence[Request], asked: list[Any], call: Callable[[list[Any]], list[T]]
    ) -> list[T | Failure]:
        """What `call` makes of `asked`, one for each request, in the order asked."""
        lengths = [self._length(request) for request in requests]
        done: dict[int, T | Failure] = {}
        for places in together.batches(
            together.sights(requests), lengths, self.config.batch, self.config.batch_tokens
        ):
            made = self._halving([asked[n] for n in places], call)
            done.update(zip(places, made, strict=True))
        return [done[n] for n in range(len(asked))]

    def _length(self, request: Request) -> int:
        try:
            return self.inputs.length(request) + request.max_tokens
        except BAD:  # found out again, and told, when it is asked
            return self.config.batch_tokens

    def _halving(self, asked: list[Any], call: Callable[[list[Any]], list[T]]) -> list[T | Failure]:
        """If a batch fails, its halves are tried, until the bad request stands alone."""
        try:
            with torch.inference_mode():
                return list(call(asked))
        except (RuntimeError, *BAD) as error:
            if len(asked) == 1:
                kind = "bad_request" if isinstance(error, BAD) else "model"
                return [Failure(kind, f"{type(error).__name__}: {error}"[:400])]
        half = len(asked) // 2
        return self._halving(asked[:half], call) + self._halving(asked[half:], call)

    def _answer(self, requests: list[Request]) -> list[Answer | Failure]:
        start = time.perf_counter()
        rows = [
            decode.Row(self._grammars.matcher(r.schema) if r.schema else None, r.max_tokens)
            for r in requests
        ]
        state = self._start(requests)
        read = state.lengths
        decode.generate(
            state,
            rows,
            ends(self.model, self.inputs.tokenizer),
            pad=self.inputs.pad,
            skip_forced=self.config.skip_forced,
        )
        seconds = (time.perf_counter() - start) / len(requests)
        return [
            self._said(request, row, tokens, seconds)
            for request, row, tokens in zip(requests, rows, read, strict=True)
        ]

    def _said(
        self, request: Request, row: decode.Row, read: int, seconds: float
    ) -> Answer | Failure:
        text = self.inputs.tokenizer.decode(row.tokens, skip_special_tokens=True)
        if request.schema and not row.done:
            said = f"no end within {request.max_tokens} tokens; the answer began: {text[:80]!r}"
            return Failure("truncated", said, read, len(row.tokens), seconds)
        return Answer(text.strip(), read, len(row.tokens), seconds)

    def _choose(self, pairs: list[tuple[Request, Sequence[str]]]) -> list[Chances]:
        """Of a choice all tokens but the last are read; nothing is written."""
        start = time.perf_counter()
        tokens = [[self.inputs.tokens(text) for text in choices] for _, choices in pairs]
        if any(not choice for given in tokens for choice in given):
            raise ValueError("a choice is empty")
        state = self._start([request for request, _ in pairs])
        read = [n + sum(len(choice) - 1 for choice in given)
                for n, given in zip(state.lengths, tokens, strict=True)]  # fmt: skip
        logs = decode.choices(state, tokens, pad=self.inputs.pad, batch=self.config.batch)
        seconds = (time.perf_counter() - start) / len(pairs)
        return [Chances(row, count, 0, seconds) for row, count in zip(logs, read, strict=True)]

    def _start(self, requests: Sequence[Request]) -> decode.State:
        """The prompts, read. What several begin with is read once and its cache is shared out."""
        groups = together.sights(requests) if self._shares else []
        ids = self.inputs.short_way(requests) if 0 < len(groups) < len(requests) else None
        if ids is None:
            made = self._ready(self.inputs(requests), requests)
            return decode.State(self.model, made, counted=self._counted)
        heads = [together.common([ids[n] for n in group]) for group in groups]
        rows = {n: row for row, group in enumerate(groups) for n in group}
        tails = [ids[n][heads[rows[n]] :] for n in range(len(ids))]
        if any(self._image in tail for tail in tails):
            made = self._ready(self.inputs(requests), requests)
            return decode.State(self.model, made, counted=self._counted)
        self._fits(max(map(len, ids)), requests)
        begun = [ids[group[0]][:head] for group, head in zip(groups, heads, strict=True)]
        made = self.inputs.short(begun, [requests[group[0]] for group in groups])
        state = decode.State(self.model, self._ready(made, requests), counted=self._counted)
        state.keep([rows[n] for n in range(len(ids))])
        state.feed(tails, self.inputs.pad)
        return state

    def _ready(
        self, inputs: Mapping[str, Tensor], requests: Sequence[Request]
    ) -> dict[str, Tensor]:
        """What of the inputs the model takes, on its device.

        Raises:
            ValueError: a prompt and its answer are longer than the model can read.
        """
        made = {k: v for k, v in inputs.items() if k in self._takes}
        self._fits(int(made["attention_mask"].sum(-1).max()), requests)
        floats = {k: v.to(self.model.dtype) for k, v in made.items() if v.is_floating_point()}
        return {k: v.to(self.device) for k, v in (made | floats).items()}

    def _fits(self, prompt: int, requests: Sequence[Request]) -> None:
        length = prompt + max(r.max_tokens for r in requests)
        longest = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if longest and length > longest:
            raise ValueError(f"prompt and answer take {length} tokens; the model reads {longest}")


def ends(model: Any, reader: Any) -> frozenset[int]:
    """Tokens with which the model ends an answer.

    Args:
        reader: the processor or the tokenizer.
    """
    known = model.generation_config.eos_token_id if model.generation_config else None
    known = known if isinstance(known, list) else [known]
    own = getattr(reader, "tokenizer", reader).eos_token_id
    return frozenset(token for token in (*known, own) if token is not None)


def load_reader(model: str, revision: str | None = None) -> Any:
    """The processor of a checkpoint that sees, the tokenizer of one that only reads.

    Raises:
        BackendError: it is missing, has no chat template, or needs torchvision.
    """
    from transformers import AutoProcessor, AutoTokenizer

    kind = AutoProcessor if _sees(model, revision) else AutoTokenizer
    try:
        with quiet():
            reader = hub.loaded(kind.from_pretrained, model, revision, _talks)
    except (ImportError, AttributeError, OSError, ValueError, TypeError) as error:
        raise BackendError("processor", _why(model, error)) from error
    if kind is AutoProcessor and not hasattr(reader, "image_processor"):
        raise BackendError(
            "processor", f"{model}: has no image processor; is it a LLaVA-type model?"
        )
    if not _talks(reader):
        raise BackendError(
            "processor", f"{model}: has no chat template, so its turns are not known."
        )
    return reader


def _talks(reader: Any) -> bool:
    return bool(getattr(reader, "chat_template", None))


def _sees(model: str, revision: str | None) -> bool:
    """Whether a checkpoint takes pictures beside texts.

    Raises:
        BackendError: there is no checkpoint.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES as SEEING,
    )

    try:
        return hub.loaded(AutoConfig.from_pretrained, model, revision).model_type in SEEING
    except (ImportError, OSError, ValueError, TypeError) as error:
        raise BackendError("model", _why(model, error)) from error


def _why(model: str, error: Exception) -> str:
    said = " ".join(str(error).split())
    if "torchvision" in said or "VIDEO_PROCESSOR_MAPPING" in said:
        return (
            f"{model}: its processor has a slot for videos, which needs the package torchvision. "
            "Install the torchvision that fits your torch, take a LLaVA 1.5 type checkpoint, or "
            "serve the model elsewhere and use the openai_http backend."
        )
    here = "" if Path(model).is_dir() else f" as a hub id, and {Path.cwd()} has no such folder"
    return f"{model}: cannot be loaded{here}: {type(error).__name__}: {said[:300]}"


def load_model(model: str, revision: str | None = None, dtype: Any = "auto") -> Any:
    """The weights of a checkpoint.

    Raises:
        BackendError: they are missing or of no known kind.
    """
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    kind = AutoModelForImageTextToText if _sees(model, revision) else AutoModelForCausalLM
    try:
        with quiet():
            return hub.loaded(kind.from_pretrained, model, revision, dtype=dtype)
    except (ImportError, OSError, ValueError, TypeError, RuntimeError) as error:
        raise BackendError("model", _why(model, error)) from error


def _adapted(model: Any, folder: str) -> Any:
    """The model with the adapters of a folder laid over it.

    Raises:
        MissingPackage: peft is not installed.
        BackendError: the adapters are missing or of another model.
    """
    try:
        from peft import PeftModel
    except ImportError as error:
        raise MissingPackage("peft", "lora", "backend.adapter") from error
    try:
        with quiet():
            return PeftModel.from_pretrained(model, folder).merge_and_unload()
    except (OSError, ValueError, TypeError, RuntimeError, KeyError) as error:
        raise BackendError("model", f"{folder}: cannot be laid over the model: {error}") from error
