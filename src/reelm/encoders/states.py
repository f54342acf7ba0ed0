"""What a local language model makes of each token of a text, up to a layer: kept, not averaged.

Source: Liu et al. 2024, "ONCE: Boosting Content-based Recommendation with Both Open- and
Closed-source Large Language Models", arXiv:2305.06566, section 3.1 (DIRE): the lower layers are
frozen, so that what they give is computed once per item.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float32
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from reelm import device, files, halves, hub
from reelm.encoders.base import Encoder, EncoderConfig


class StatesConfig(EncoderConfig):
    """Section [encoder] for `states`."""

    model: str | None = None
    """Folder or hub id of a language model of transformers; unset takes the pocket model's."""
    top: NonNegativeInt = 0
    """Layers at the top that are left out, for a model that learns them; 0: all are run."""
    max_length: PositiveInt = 128
    """Tokens of a text that are read, its label counted."""
    tokens: PositiveInt = 32
    """States that are kept of a text; of longer ones neighbours are averaged."""
    label: str = "short video; "
    """Put before each text, to say what kind of thing it tells of."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of weights and states while the model runs."""
    device: str = "auto"
    """cpu, cuda …; auto takes an accelerator if there is one."""


class States(Encoder):
    """The states of a text one after the other; one of zeros is none."""

    name: ClassVar[str] = "states"
    Config: ClassVar[type[EncoderConfig]] = StatesConfig
    reads: ClassVar[Literal["text", "video"]] = "text"
    usual: ClassVar[str] = "fields"
    stored: ClassVar[type[np.float16] | type[np.float32]] = np.float16

    def __init__(self, config: StatesConfig | None = None) -> None:
        """Load the lower half of the model.

        Raises:
            BackendError: the model cannot be loaded, or not be cut in two.
        """
        self.config = config or StatesConfig()
        self.device = device.best(self.config.device)
        source = self.config.model or str(halves.POCKET)
        self._tokenizer = halves.load_tokenizer(source)
        dtype = getattr(torch, self.config.precision)
        self._model = halves.load_half(source, self.config.top, "lower", dtype).to(self.device)
        self.dim = self.config.tokens * self._model.config.hidden_size
        self._weights = files.weights_hash(source) or hub.commit(source)

    @torch.inference_mode()
    def encode(self, inputs: Sequence[str]) -> Float32[np.ndarray, "inputs dim"]:
        if not inputs:
            return np.zeros((0, self.dim), np.float32)
        read = self._tokenizer(
            [self.config.label + text for text in inputs],
            padding=True,
            truncation=True,
            max_length=self.config.max_length,
            return_tensors="pt",
        ).to(self.device)
        ids, real = read["input_ids"], read["attention_mask"]
        # causal, with padding on the right: what is real never sees it, so no mask is needed
        states = self._model(input_ids=ids, use_cache=False).last_hidden_state.float()
        sizes = real.sum(1).tolist()
        rows = [self._kept(row[:size]) for row, size in zip(states, sizes, strict=True)]
        return torch.stack(rows).cpu().numpy()

    def identity(self) -> dict[str, Any]:
        facts = self.config.model_dump(exclude={"model", "device"})
        model = Path(self.config.model or halves.POCKET).name
        return {"encoder": self.name, "model": model, "weights": self._weights, **facts}

    def _kept(self, states: Tensor) -> Tensor:
        """The states of one text as its vector."""
        size, tokens = len(states), self.config.tokens
        if size > tokens:
            states = F.adaptive_avg_pool1d(states.T[None], tokens)[0].T
        return F.pad(states, (0, 0, 0, tokens - min(size, tokens))).flatten()
