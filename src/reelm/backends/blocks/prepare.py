"""From requests to a model's input tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from reelm.backends.base import Request
from reelm.media.views import Picture

KNOWN = 256  # layouts whose tokens are remembered


class Inputs:
    """Turns requests into a left-padded batch by the checkpoint's own processor.

    Processors of fixed square pictures spend more time on a tiny model's pictures than the model
    does. For them the tokens of a layout (the texts and where pictures stand between them) are
    remembered, and pixels are looked up in a table of what the processor made of each of the 256
    levels. This short way is taken only for layouts where it gave exactly the processor's tensors.
    """

    def __init__(self, processor: Any) -> None:
        """`processor`: of a checkpoint that sees, or the tokenizer of one that only reads."""
        self._processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        self._sees = hasattr(processor, "image_processor")
        self.tokenizer.padding_side = "left"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.pad: int = self.tokenizer.pad_token_id
        self._known: dict[Any, list[int] | None] = {}
        self._lengths: dict[Any, int] = {}
        self._tables: dict[int, np.ndarray | None] = {}

    def __call__(self, requests: Sequence[Request]) -> dict[str, Tensor]:
        """Input tensors of one batch. Pictures follow each other in the order of the requests.

        Raises:
            ValueError, TypeError: a request holds what the processor cannot take.
        """
        ids = self.short_way(requests)
        return self._processed(requests) if ids is None else self.short(ids, requests)

    def short_way(self, requests: Sequence[Request]) -> list[list[int]] | None:
        """Tokens of each request, pictures' places among them; None if one needs the processor."""
        ids = [self._short_way(request) for request in requests]
        known = [one for one in ids if one is not None]
        return known if len(known) == len(ids) else None

    def short(self, ids: Sequence[Sequence[int]], requests: Sequence[Request]) -> dict[str, Tensor]:
        """Input tensors of these tokens and of the requests' pictures, for the short way alone."""
        return self._padded(ids) | {"pixel_values": self._looked_up(requests)}

    def length(self, request: Request) -> int:
        """Tokens of one prompt. For the processor's way it is learned once for each layout.

        Raises:
            ValueError, TypeError: the request holds what the processor cannot take.
        """
        ids = self._short_way(request)
        if ids is not None:
            return len(ids)
        layout = tuple(p if isinstance(p, str) else p.pixels.shape for p in request.parts)
        if layout not in self._lengths:
            while len(self._lengths) >= KNOWN:
                self._lengths.pop(next(iter(self._lengths)))
            self._lengths[layout] = self._processed([request])["input_ids"].shape[-1]
        return self._lengths[layout]

    def text(self, request: Request) -> str:
        """The request as one turn of the chat template, pictures as placeholders.

        Raises:
            ValueError: it has pictures, and the model sees none.
        """
        if not self._sees:
            return self._template("".join(_read(part) for part in request.parts))
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "image"}
            for part in request.parts
        ]
        return self._template(content)

    def _template(self, content: Any) -> str:
        return self._processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )

    def tokens(self, text: str) -> list[int]:
        """Tokens of a text that continues a prompt."""
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def _processed(self, requests: Sequence[Request]) -> dict[str, Tensor]:
        texts = [self.text(request) for request in requests]
        shown = [[_image(picture) for picture in request.pictures] for request in requests]
        begin = self.tokenizer.bos_token
        seen = {"images": shown if any(shown) else None} if self._sees else {}
        out = self._processor(
            text=texts,
            **seen,
            padding=True,
            return_tensors="pt",
            add_special_tokens=not (begin and texts[0].startswith(begin)),
        )
        return dict(out)

    def _short_way(self, request: Request) -> list[int] | None:
        """The request's tokens, if its layout is one that needs no processor."""
        shapes = {picture.pixels.shape for picture in request.pictures}
        if len(shapes) != 1:
            return None
        height, width, _ = shape = shapes.pop()
        if height != width or any(p.pixels.dtype != np.uint8 for p in request.pictures):
            return None
        layout = (shape, *(p if isinstance(p, str) else None for p in request.parts))
        if layout not in self._known:
            while len(self._known) >= KNOWN:
                self._known.pop(next(iter(self._known)))
            self._known[layout] = self._learn(request, height)
        return self._known[layout]

    def _learn(self, request: Request, side: int) -> list[int] | None:
        """Tokens of a layout, if the short way gives exactly what the processor gives."""
        if side not in self._tables:
            self._tables[side] = self._table(side)
        if self._tables[side] is None:
            return None
        out = self._processed([request])
        if set(out) - {"token_type_ids"} != {"input_ids", "attention_mask", "pixel_values"}:
            return None
        same = torch.equal(out["pixel_values"], self._looked_up([request]))
        return out["input_ids"][0].tolist() if same else None

    def _table(self, side: int) -> np.ndarray | None:
        """What the processor makes of each level in each channel, [3 levels]; None if unclear."""
        if side * side < 256:
            return None
        levels = np.resize(np.arange(256, dtype=np.uint8), (side, side))
        picture = Picture("levels", np.repeat(levels[:, :, None], 3, axis=2))
        out = self._processor.image_processor(images=[_image(picture)], return_tensors="pt")
        pixels = out["pixel_values"].numpy()
        if pixels.shape != (1, 3, side, side):
            return None
        return pixels[0].reshape(3, -1)[:, :256].copy()

    def _looked_up(self, requests: Sequence[Request]) -> Tensor:
        pixels = np.stack([p.pixels for request in requests for p in request.pictures])
        table = self._tables[pixels.shape[1]]
        assert table is not None
        return torch.from_numpy(
            np.stack([table[c][pixels[..., c]] for c in range(3)], axis=1)  # n 3 side side
        )

    def _padded(self, rows: Sequence[Sequence[int]]) -> dict[str, Tensor]:
        width = max(map(len, rows))
        return {
            "input_ids": torch.tensor([[self.pad] * (width - len(r)) + list(r) for r in rows]),
            "attention_mask": torch.tensor([[0] * (width - len(r)) + [1] * len(r) for r in rows]),
        }


def _read(part: str | Picture) -> str:
    if not isinstance(part, str):
        raise ValueError("the request has pictures, and this model reads texts alone")
    return part


def _image(picture: Picture) -> Any:
    from PIL import Image

    return Image.fromarray(picture.pixels)
