"""A local language model cut in two: lower layers that run once per text, top ones that may learn.

Source: Liu et al. 2024, "ONCE: Boosting Content-based Recommendation with Both Open- and
Closed-source Large Language Models", arXiv:2305.06566, section 3.1: partial freezing and caching.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from reelm import hub
from reelm.errors import BackendError, MissingPackage

POCKET = Path(__file__).parent / "backends" / "pocket_weights"
"""Its language model is there without a download."""
CLOSE = 1e-3  # share of the largest state that both halves may come out beside the whole
PROBE = 8  # tokens that are tried


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a checkpoint; it pads on the right, so that what is real stays in place.

    Raises:
        BackendError: there is none.
    """
    from transformers import AutoTokenizer

    try:
        with quiet():
            words = hub.loaded(AutoTokenizer.from_pretrained, model, padding_side="right")
    except (OSError, ValueError, ImportError) as error:
        raise BackendError("tokenizer", f"{model}: cannot be loaded: {error}") from error
    if words.pad_token_id is None:
        words.pad_token = words.eos_token
    return words


def load_half(
    model: str, top: int, half: Literal["lower", "top"], dtype: torch.dtype = torch.float32
) -> Any:
    """One half of the language model of a checkpoint, in evaluation mode.

    The lower half takes ids of tokens and gives states; the top half takes these as
    `inputs_embeds` and gives what the whole model would. With `top` 0 the lower half is the whole.

    Args:
        model: folder of a checkpoint of transformers, or a hub id; of one that sees it is the
            language model that is taken.
        top: layers of the top half.

    Raises:
        BackendError: it cannot be loaded, has too few layers, or its halves do not give what the
            whole gives, as in families that scale what they read.
    """
    decoder = _decoder(model, dtype)
    layers, norm = list(decoder.layers), decoder.norm
    cut = len(layers) - top
    if cut < 1:
        raise BackendError(
            "model", f"{model}: has {len(layers)} layers, so top must be below that, not {top}."
        )
    kinds = getattr(decoder.config, "layer_types", None) or ["full_attention"] * len(layers)
    if not top:
        return decoder
    some = torch.arange(PROBE)[None] % decoder.config.vocab_size
    whole = _states(decoder, input_ids=some)
    _hold(decoder, layers[:cut], nn.Identity(), kinds[:cut])
    lower = _states(decoder, input_ids=some)
    _hold(decoder, layers[cut:], norm, kinds[cut:])
    both = _states(decoder, inputs_embeds=lower)
    if not torch.allclose(both, whole, atol=CLOSE * float(whole.abs().max())):
        raise BackendError(
            "model",
            f"{model}: a {decoder.config.model_type} model cut in two does not give what it gives "
            "whole. Set top = 0, or take a model of another family, such as Llama or Qwen.",
        )
    if half == "lower":
        _hold(decoder, layers[:cut], nn.Identity(), kinds[:cut])
    else:
        decoder.embed_tokens = nn.Identity()  # a large table that is not read
    return decoder


def adapted_top(model: str, top: int, rank: int, alpha: int) -> nn.Module:
    """The top half with low-rank adapters that change nothing yet; they are all that is trained.

    The frozen weights are buffers that a state dict leaves out: the model's folder has them.

    Raises:
        BackendError: as `load_half` does.
        MissingPackage: peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise MissingPackage("peft", "lora", "model.top") from error
    half = load_half(model, top, "top")
    linear = [name for name, module in half.named_modules() if isinstance(module, nn.Linear)]
    lora = peft.LoraConfig(r=rank, lora_alpha=alpha, target_modules=linear)
    peft.inject_adapter_in_model(lora, half)
    for module in half.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if not weight.requires_grad:
                delattr(module, name)
                module.register_buffer(name, weight.detach(), persistent=False)
    return half


@contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers from drawing bars, from naming packages that nobody misses, and from
    warning of what peft will have to change."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _decoder(model: str, dtype: torch.dtype) -> Any:
    """The language model of a checkpoint, without the head that scores words."""
    from transformers import AutoModel

    try:
        with quiet():
            whole = hub.loaded(AutoModel.from_pretrained, model, dtype=dtype)
    except (OSError, ValueError, ImportError) as error:
        raise BackendError("model", f"{model}: cannot be loaded: {error}") from error
    decoder = whole.get_decoder()
    if not all(hasattr(decoder, part) for part in ("layers", "norm", "embed_tokens")):
        raise BackendError(
            "model",
            f"{model}: a {whole.config.model_type} model has no layers that could be cut in two. "
            "Take a decoder such as Llama or Qwen.",
        )
    return decoder.eval()


def _hold(decoder: Any, layers: Sequence[nn.Module], norm: nn.Module, kinds: list[str]) -> None:
    """Make these all that the decoder is."""
    decoder.layers, decoder.norm = nn.ModuleList(layers), norm
    decoder.config.num_hidden_layers = len(layers)
    decoder.config.layer_types = kinds


@torch.inference_mode()
def _states(decoder: Any, **read: Tensor) -> Float[Tensor, "1 tokens width"]:
    return decoder(**read, use_cache=False).last_hidden_state
