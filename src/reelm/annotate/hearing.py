"""What is said in a sound track, by a Whisper checkpoint in a local folder.

Source: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak Supervision",
arXiv:2212.04356. Greedy, without the temperatures that are tried there when an answer looks bad.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from reelm import files
from reelm.backends.base import Answer
from reelm.errors import BackendError
from reelm.prompts.speech import NONE

RATE = 16_000  # Hz; what Whisper was trained on
WINDOW = 3000  # frames of the spectrum, 30 s; the language is told by the first so many
IMPROBABLE = -1.0  # mean log-probability of words below which a pause is believed to be one
BAD = (ImportError, OSError, ValueError, TypeError, RuntimeError, AttributeError)

Wave = Float32[np.ndarray, "samples"]


def identity(folder: Path) -> dict[str, Any]:
    """What decides what is heard.

    Raises:
        BackendError: there is no such folder.
    """
    if not (folder / "config.json").is_file():
        raise BackendError(
            "model", f"{folder}: no checkpoint here. Name the folder of a Whisper model that was "
            "saved with its processor."
        )  # fmt: skip
    decoding = {"method": "greedy", "improbable": IMPROBABLE}
    told = {"backend": "whisper", "model": folder.name, "weights": files.weights_hash(folder)}
    return told | {"decoding": decoding}


class Whisper:
    """A loaded checkpoint."""

    def __init__(
        self, folder: Path, language: str | None = None, no_speech: float = 0.6, device: str = "cpu"
    ) -> None:
        """
        Args:
            language: its code, if all speak the same; else it is told by listening.
            no_speech: probability of a pause above which improbable words are not believed.

        Raises:
            BackendError: the folder holds no Whisper model, or no processor of one.
        """
        from transformers import WhisperForConditionalGeneration, WhisperProcessor

        try:
            self._processor: Any = WhisperProcessor.from_pretrained(folder)
            model: Any = WhisperForConditionalGeneration.from_pretrained(folder)
            self._model = model.eval().to(device)
        except BAD as error:
            said = f"{folder}: not a Whisper checkpoint: {type(error).__name__}: {error}"
            raise BackendError("model", said[:400]) from error
        self.device = device
        self._language, self._no_speech = language, no_speech

    def hear(self, waves: Sequence[Wave]) -> list[Answer]:
        """Language, text and pieces with their times, as JSON of the prompt `speech`.

        Args:
            waves: one channel at RATE, none of them empty.
        """
        begun = time.perf_counter()
        inputs = self._spectra(waves)
        with torch.inference_mode():
            languages = self._languages(inputs["input_features"])
            heard = self._model.generate(
                **inputs, **({"language": languages, "task": "transcribe"} if languages else {}),
                return_timestamps=True, return_segments=True, condition_on_prev_tokens=False,
                temperature=0.0, no_speech_threshold=self._no_speech,
                logprob_threshold=IMPROBABLE,
            )  # fmt: skip
        spent = (time.perf_counter() - begun) / len(waves)
        names = languages or ["en"] * len(waves)
        together = zip(waves, heard["segments"], names, strict=True)
        return [self._answer(*one, spent) for one in together]

    def _spectra(self, waves: Sequence[Wave]) -> dict[str, Any]:
        long = max(map(len, waves)) > 30 * RATE
        made = self._processor.feature_extractor(
            list(waves), sampling_rate=RATE, return_tensors="pt", truncation=False,
            padding="longest" if long else "max_length", return_attention_mask=True,
        )  # fmt: skip
        return {name: tensor.to(self.device) for name, tensor in made.items()}

    def _languages(self, spectra: torch.Tensor) -> list[str] | None:
        """A code for each; None where the model knows only one."""
        if not getattr(self._model.generation_config, "is_multilingual", False):
            return None
        if self._language:
            return [self._language] * len(spectra)
        told = self._model.detect_language(spectra[:, :, :WINDOW])
        return [self._processor.tokenizer.decode([token]).strip("<|>") for token in told.tolist()]

    def _answer(self, wave: Wave, segments: Any, language: str, spent: float) -> Answer:
        ends = len(wave) / RATE
        pieces = []
        for segment in segments:
            start, end = float(segment["start"]), float(segment["end"])
            said = self._processor.tokenizer.decode(segment["tokens"], skip_special_tokens=True)
            if said.strip() and start < ends:
                end = round(min(max(start, end), ends), 2)
                pieces.append({"start_s": round(start, 2), "end_s": end, "text": said.strip()})
        text = " ".join(piece["text"] for piece in pieces)
        tokens = sum(len(segment["tokens"]) for segment in segments)
        return Answer(spoken(language if text else NONE, text, pieces), 0, tokens, spent)


def spoken(language: str, text: str, pieces: Sequence[dict[str, Any]]) -> str:
    """An answer to the prompt `speech`."""
    told = {"language": language, "text": text, "pieces": list(pieces)}
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"))
