"""Runtimes for multimodal language models. A new one is a new file and one line here."""

from typing import TYPE_CHECKING

from reelm import registry

if TYPE_CHECKING:
    from reelm.backends.base import Backend

BACKENDS = {
    "fake": "reelm.backends.fake:Fake",  # canned answers, for tests and dry runs
    "openai_http": "reelm.backends.openai_http:OpenAIHTTP",  # vLLM, SGLang, Ollama, llama.cpp …
    "pocket": "reelm.backends.pocket:Pocket",  # the tiny LLaVA that comes with the package
    "transformers": "reelm.backends.transformers:Transformers",  # any LLaVA-type checkpoint
    "vllm": "reelm.backends.vllm:VLLM",  # the same on a CUDA device, by vLLM's engine
}


def find(name: str) -> "type[Backend]":
    """The class of a backend.

    Raises:
        UnknownName: no table lists it.
    """
    return registry.find("backends", BACKENDS, name)
