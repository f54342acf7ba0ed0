"""vLLM in this process: many requests at once on a GPU, prompts' beginnings kept.

For a machine with a CUDA device and the extra `vllm`; a server that others started is spoken to by
`openai_http`. Source: Kwon et al. 2023, "Efficient Memory Management for Large Language Model
Serving with PagedAttention", arXiv:2309.06180. Interface of vLLM 0.12 and later.
"""

import time
from collections.abc import Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, ClassVar, Literal

from PIL import Image
from pydantic import Field, PositiveFloat, PositiveInt

from reelm import files, hub
from reelm.backends.base import Answer, Backend, BackendConfig, Chances, Failure, Request, paid
from reelm.backends.blocks.checkpoint import about_folder
from reelm.backends.blocks.schema import read_json
from reelm.errors import BackendError
from reelm.media.views import View

BAD = (ValueError, TypeError, KeyError)
"""What vLLM raises over requests that it cannot take."""
DEAD = ("EngineDeadError", "EngineGenerateError")
"""Names of what it raises when its engine has ended."""


class VLLMConfig(BackendConfig):
    """Section [backend] for `vllm`."""

    model: str = Field(examples=["llava-hf/llava-1.5-7b-hf"])
    """Folder of a checkpoint, or a hub id."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision; auto is the checkpoint's own."""
    pictures: PositiveInt = 8
    """Most pictures of a request, for which memory is set aside."""
    max_length: PositiveInt | None = None
    """Most tokens of a prompt and its answer; unset takes what the model can read."""
    memory: PositiveFloat = Field(default=0.85, le=1)
    """Share of the device's memory for weights and cache."""
    devices: PositiveInt = 1
    """Devices that the weights are split over."""


class VLLM(Backend):
    """One engine in this process; all requests of a call are its to batch."""

    name: ClassVar[str] = "vllm"
    Config: ClassVar[type[BackendConfig]] = VLLMConfig

    def __init__(self, config: VLLMConfig) -> None:
        """Start the engine.

        Raises:
            BackendError: vLLM is not installed, finds no device, or cannot load the checkpoint.
        """
        self.config = config
        self._vllm = _library()
        self._engine: Any = self._started()
        about = about_folder(config.model)
        self.view = View.of(about.get("view") or {})
        known = about.get("vocabulary")
        self.vocabulary = {k: tuple(v) for k, v in known.items()} if known else None
        self._phrases: dict[str, str] = about.get("phrases") or {}
        self.device = "cuda"

    def answer(self, requests: Sequence[Request]) -> list[Answer | Failure]:
        params = [self._params(**sampling(request)) for request in requests]
        start = time.perf_counter()
        outs = self._asked([messages(request) for request in requests], params)
        seconds = (time.perf_counter() - start) / max(1, len(requests))
        return [
            out if isinstance(out, Failure) else said(request, out, seconds)
            for request, out in zip(requests, outs, strict=True)
        ]

    def choose(
        self, requests: Sequence[Request], choices: Sequence[Sequence[str]]
    ) -> list[Chances | Failure]:
        """See Backend.choose. Each choice is read as the beginning of the model's own turn."""
        asked = [(r, text) for r, given in zip(requests, choices, strict=True) for text in given]
        tokenizer = self._engine.get_tokenizer()
        counts = [len(tokenizer.encode(text, add_special_tokens=False)) for _, text in asked]
        params = self._params(temperature=0.0, max_tokens=1, prompt_logprobs=1)
        start = time.perf_counter()
        outs = self._asked(
            [messages(request, text) for request, text in asked],
            [params] * len(asked),
            add_generation_prompt=False,
            continue_final_message=True,
        )
        seconds = (time.perf_counter() - start) / max(1, len(asked))
        scores = iter([tail(*one, seconds) for one in zip(outs, counts, strict=True)])
        return [together([next(scores) for _ in given]) for given in choices]

    def identity(self) -> dict[str, Any]:
        name, revision = self.config.model, self.config.revision
        local = Path(name).is_dir()
        return {
            "backend": self.name,
            "model": Path(name).name if local else name,
            "weights": files.weights_hash(name)
            if local
            else hub.commit(name, revision) or revision,
            "dtype": self.config.dtype,
            "decoding": {"greedy": True, "engine": self._vllm.__version__},
        }

    def phrase(self, prompt: str) -> str | None:
        return self._phrases.get(prompt)

    def _started(self) -> Any:
        try:
            return self._vllm.LLM(**engine_settings(self.config))
        except (RuntimeError, OSError, ImportError, *BAD) as error:
            raise BackendError("model", f"{self.config.model}: {_why(error)}") from error

    def _params(self, schema: Mapping[str, Any] | None = None, **settings: Any) -> Any:
        if schema is not None:
            from vllm.sampling_params import (  # pyright: ignore[reportMissingImports]
                StructuredOutputsParams,
            )

            settings["structured_outputs"] = StructuredOutputsParams(
                json=dict(schema), disable_any_whitespace=True
            )
        return self._vllm.SamplingParams(**settings)

    def _asked(
        self, talks: Sequence[Any], params: Sequence[Any], **how: Any
    ) -> list[Any | Failure]:
        """Outputs in order. Of a batch that fails, halves are tried until one stands alone.

        Raises:
            BackendError: the engine ended and cannot be started again.
        """
        try:
            return list(self._engine.chat(list(talks), list(params), use_tqdm=False, **how))
        except (RuntimeError, *BAD) as error:
            dead = type(error).__name__ in DEAD
            if dead:
                self._engine = None  # its memory must be free before another can start
                self._engine = self._started()
            if len(talks) <= 1:
                kind = "crashed" if dead else "bad_request" if isinstance(error, BAD) else "model"
                return [Failure(kind, f"{type(error).__name__}: {error}"[:400]) for _ in talks]
        half = len(talks) // 2
        return self._asked(talks[:half], params[:half], **how) + self._asked(
            talks[half:], params[half:], **how
        )


def engine_settings(config: VLLMConfig) -> dict[str, Any]:
    """What the engine is started with."""
    return {
        "model": config.model,
        "revision": config.revision,
        "dtype": config.dtype,
        "max_model_len": config.max_length,
        "gpu_memory_utilization": config.memory,
        "tensor_parallel_size": config.devices,
        "limit_mm_per_prompt": {"image": config.pictures},
        "enable_prefix_caching": True,
        "seed": 0,
    }


def sampling(request: Request) -> dict[str, Any]:
    """How a request is decoded: greedily, and by its schema if it has one."""
    return {"temperature": 0.0, "max_tokens": request.max_tokens, "schema": request.schema}


def messages(request: Request, begun: str | None = None) -> list[dict[str, Any]]:
    """The request as a turn of the user; `begun` is how the model's turn begins."""
    content = [
        {"type": "text", "text": part}
        if isinstance(part, str)
        else {"type": "image_pil", "image_pil": Image.fromarray(part.pixels)}
        for part in request.parts
    ]
    talk: list[dict[str, Any]] = [{"role": "user", "content": content}]
    return talk if begun is None else [*talk, {"role": "assistant", "content": begun}]


def said(request: Request, out: Any, seconds: float) -> Answer | Failure:
    """What an output says; with a schema, only if it obeys."""
    text, tokens = out.outputs[0].text.strip(), out.outputs[0].token_ids
    answer = Answer(text, len(out.prompt_token_ids), len(tokens), seconds)
    if request.schema is not None:
        if out.outputs[0].finish_reason == "length":
            told = f"no end within {request.max_tokens} tokens; the answer began: {text[:80]!r}"
            return paid(Failure("truncated", told), answer)
        value = read_json(text, request.schema)
        if isinstance(value, Failure):
            return paid(value, answer)
    return answer


def tail(out: Any, count: int, seconds: float) -> Chances | Failure:
    """Log-probability of the last `count` tokens of a prompt, in nats."""
    if isinstance(out, Failure):
        return out
    spent = len(out.prompt_token_ids), len(out.outputs[0].token_ids), seconds
    if count == 0:
        return Failure("bad_request", "a choice is empty", *spent)
    told = out.prompt_logprobs[-count:]
    tokens = out.prompt_token_ids[-count:]
    return Chances([float(sum(at[n].logprob for at, n in zip(told, tokens, strict=True)))], *spent)


def together(scores: Sequence[Chances | Failure]) -> Chances | Failure:
    """The scores of a request's choices, or the first failure among them, at the price of all."""
    failed = next((one for one in scores if isinstance(one, Failure)), None)
    logs = [log for one in scores if isinstance(one, Chances) for log in one.logs]
    found, others = failed or Chances(logs), (one for one in scores if one is not failed)
    return reduce(paid, others, found)


def _library() -> Any:
    try:
        import vllm  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise BackendError(
            "model",
            "the vllm backend needs the package vllm, which is not installed: "
            "`pip install 'reelm[vllm]'` on a machine with a CUDA device. Without one take the "
            "transformers backend, or openai_http for a server elsewhere.",
        ) from error
    return vllm


def _why(error: Exception) -> str:
    return (
        f"vLLM cannot start: {type(error).__name__}: {str(error)[:300]}. It needs a CUDA device "
        "with room for the weights; `backend.memory` is the share it takes, "
        "`backend.max_length` bounds its cache."
    )
