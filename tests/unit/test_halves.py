"""A language model cut in two."""

import pytest
import torch
from transformers import BertConfig, BertModel

import tiny_llava
import tiny_reader
from reelm import halves
from reelm.errors import BackendError


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return str(tiny_reader.save(tmp_path_factory.mktemp("reader")))


def states(half, **read):
    with torch.inference_mode():
        return half(**read, use_cache=False).last_hidden_state


def test_both_halves_are_the_whole(reader):
    ids = torch.tensor([[5, 9, 30, 2]])
    whole = states(halves.load_half(reader, 0, "lower"), input_ids=ids)
    lower = states(halves.load_half(reader, 1, "lower"), input_ids=ids)
    assert not torch.allclose(lower, whole, atol=1e-2)
    top = halves.load_half(reader, 1, "top")
    torch.testing.assert_close(states(top, inputs_embeds=lower), whole)
    assert len(top.layers) == 1


def test_padding_on_the_right_changes_nothing_before_it(reader):
    lower = halves.load_half(reader, 1, "lower")
    short = states(lower, input_ids=torch.tensor([[5, 9, 30]]))
    long = states(lower, input_ids=torch.tensor([[5, 9, 30, 0, 0]]))
    torch.testing.assert_close(long[:, :3], short)
    assert halves.load_tokenizer(reader).padding_side == "right"


def test_of_a_model_that_sees_the_language_model_is_taken(tmp_path):
    folder = str(tiny_llava.save(tmp_path))
    assert halves.load_half(folder, 1, "lower").config.model_type == "qwen2"


def test_adapters_change_nothing_at_first_and_are_all_that_is_trained(reader):
    plain, adapted = halves.load_half(reader, 1, "top"), halves.adapted_top(reader, 1, 4, 8)
    x = torch.randn(2, 5, 32)
    torch.testing.assert_close(states(adapted, inputs_embeds=x), states(plain, inputs_embeds=x))
    assert {n.split(".")[-3] for n, _ in adapted.named_parameters()} == {"lora_A", "lora_B"}
    assert set(adapted.state_dict()) == {n for n, _ in adapted.named_parameters()}


def test_too_many_layers_are_refused(reader):
    with pytest.raises(BackendError, match="has 2 layers, so top must be below that, not 2"):
        halves.load_half(reader, 2, "top")


def test_what_is_no_checkpoint_is_named(tmp_path):
    with pytest.raises(BackendError, match="cannot be loaded"):
        halves.load_half(str(tmp_path), 0, "lower")
    with pytest.raises(BackendError, match="cannot be loaded"):
        halves.load_tokenizer(str(tmp_path))


SMALL = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
         "num_attention_heads": 2, "vocab_size": 50}  # fmt: skip


def test_families_that_have_no_such_layers_are_refused(tmp_path):
    BertModel(BertConfig(**SMALL)).save_pretrained(tmp_path)
    with pytest.raises(BackendError, match="bert model has no layers"):
        halves.load_half(str(tmp_path), 1, "lower")


def test_families_whose_halves_are_not_the_whole_are_refused(reader, monkeypatch):
    """As of a model that scales what it reads, whatever it is."""
    right = halves._states

    def scaling(decoder, **read):
        return right(decoder, **{k: 2 * v if k == "inputs_embeds" else v for k, v in read.items()})

    monkeypatch.setattr(halves, "_states", scaling)
    with pytest.raises(BackendError, match="qwen2 model cut in two"):
        halves.load_half(reader, 1, "lower")
