"""The vision tower of a LLaVA-type checkpoint, averaged over what it sees of a video.

`random = true` keeps the architecture and draws new weights: what remains when nothing was
learned, the control for any claim that a tower's features help.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float, Float32
from PIL import Image
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from reelm import device, files, hub
from reelm.encoders.base import Clip, Encoder, EncoderConfig
from reelm.errors import BackendError
from reelm.halves import POCKET, quiet
from reelm.media.views import Picture, View, pictures

KINDS = ("Frame", "Sound", "Motion")


class VisionConfig(EncoderConfig):
    """Section [encoder] for `vision`."""

    model: str | None = None
    """Folder or hub id of a LLaVA-type checkpoint; unset takes the pocket model."""
    random: bool = False
    """Draw new weights instead of loading the trained ones."""
    seed: NonNegativeInt = 0
    """For the random weights."""
    batch: PositiveInt = 64
    """Pictures that go through the tower together."""
    device: str = "auto"
    """cpu, cuda …; auto takes an accelerator if there is one."""


class Vision(Encoder):
    """One block of unit length for each kind of picture in the view: frames, sound, motion."""

    name: ClassVar[str] = "vision"
    Config: ClassVar[type[EncoderConfig]] = VisionConfig
    reads: ClassVar[Literal["text", "video"]] = "video"

    def __init__(self, config: VisionConfig | None = None) -> None:
        """Load or draw the tower.

        Raises:
            BackendError: there is no such checkpoint, or it has no vision tower of a known kind.
        """
        self.config = config or VisionConfig()
        self.device = device.best(self.config.device)
        self._source = self.config.model or str(POCKET)
        about = Path(self._source) / "reelm.json"
        facts = json.loads(about.read_text()) if about.is_file() else {}
        self.view = View.of(facts["view"]) if facts.get("view") else View(moments=6)
        self._kinds = [
            kind
            for kind, shown in zip(KINDS, (True, self.view.sound, self.view.motion), strict=True)
            if shown
        ]
        self._load()
        self.dim = len(self._kinds) * self._width

    @torch.inference_mode()
    def encode(self, inputs: Sequence[Clip]) -> Float32[np.ndarray, "inputs dim"]:
        shown = [pictures(self.view, clip.frames, clip.sound) for clip in inputs]
        flat = [picture for one in shown for picture in one]
        if not flat:
            return np.zeros((0, self.dim), np.float32)
        seen = torch.cat(
            [
                self._seen(flat[n : n + self.config.batch])
                for n in range(0, len(flat), self.config.batch)
            ]
        )
        rows, at = [], 0
        for one in shown:
            mine, at = seen[at : at + len(one)], at + len(one)
            kinds = [picture.name.split()[0] for picture in one]
            means = [mine[[k == kind for k in kinds]].mean(0) for kind in self._kinds]
            rows.append(torch.cat([torch.nn.functional.normalize(m, dim=0) for m in means]))
        return torch.stack(rows).cpu().numpy()

    def identity(self) -> dict[str, Any]:
        source = Path(self._source)
        if self.config.random:
            weights = f"random, seed {self.config.seed}"
            shape = files.digest(json.dumps(self._shape, sort_keys=True, default=str).encode())
            return {"encoder": self.name, "model": shape, "weights": weights}
        name = source.name if source.is_dir() else self._source
        weights = files.weights_hash(source) or hub.commit(self._source)
        return {"encoder": self.name, "model": name, "weights": weights}

    def _load(self) -> None:
        from transformers import AutoConfig, AutoImageProcessor, AutoModel

        try:
            with quiet():
                config = hub.loaded(AutoConfig.from_pretrained, self._source)
                self._processor = hub.loaded(AutoImageProcessor.from_pretrained, self._source)
                if self.config.random:
                    with torch.random.fork_rng(devices=[]):
                        torch.manual_seed(self.config.seed)
                        tower: Any = AutoModel.from_config(config.vision_config)
                else:
                    tower = _tower(self._source)
        except (OSError, ValueError, ImportError, AttributeError) as error:
            said = f"{self._source}: no vision tower could be loaded: {error}"
            raise BackendError("encoder", said) from error
        self._tower = tower.float().eval().to(self.device)
        self._layer = getattr(config, "vision_feature_layer", -1)
        self._first = (
            1 if getattr(config, "vision_feature_select_strategy", "full") == "default" else 0
        )
        self._width: int = config.vision_config.hidden_size
        self._shape = config.vision_config.to_dict()

    def _seen(self, some: Sequence[Picture]) -> Float[Tensor, "pictures width"]:
        """The states that the language model would be given, averaged over places."""
        images = [Image.fromarray(picture.pixels) for picture in some]
        pixels = self._processor(images=images, return_tensors="pt")["pixel_values"]
        out = self._tower(pixels.to(self.device), output_hidden_states=True)
        layer = self._layer if isinstance(self._layer, int) else self._layer[-1]
        states = out.hidden_states[layer][:, self._first :]
        return torch.nn.functional.layer_norm(states, states.shape[-1:]).mean(1)


def _tower(source: str) -> Any:
    from transformers import AutoModelForImageTextToText

    model = hub.loaded(AutoModelForImageTextToText.from_pretrained, source)
    return model.base_model.vision_tower
