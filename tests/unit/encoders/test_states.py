"""States of tokens: what a folder of them hangs on, and how they are kept."""

import json
import shutil

import numpy as np
import polars as pl
import pytest
import torch

import tiny_reader
from reelm import encode as verb
from reelm import halves
from reelm.data.tables import Catalog, read_features
from reelm.encode import EncodeConfig, encode
from reelm.encoders.states import States, StatesConfig

SETTINGS = {"top": 1, "tokens": 8, "max_length": 24}


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return tiny_reader.save(tmp_path_factory.mktemp("reader"))


@pytest.fixture
def catalog(tmp_path):
    videos = pl.DataFrame({"video_id": ["v1", "v2"], "title": ["a red cat", "a blue fish"]})
    return Catalog(tmp_path / "catalog", videos, pl.DataFrame())


def made(catalog, reader, work, said="title", **settings):
    config = StatesConfig(model=str(reader), **{**SETTINGS, **settings})
    return encode(catalog, States(config), EncodeConfig(input=said), work)


def test_whatever_can_change_them_is_another_folder(catalog, reader, tmp_path):
    first = made(catalog, reader, tmp_path)
    assert made(catalog, reader, tmp_path) == first
    other = shutil.copytree(reader, tmp_path / "other")
    words = other / "tokenizer_config.json"
    words.write_text(json.dumps(json.loads(words.read_text()) | {"split_special_tokens": True}))
    changed = [
        made(catalog, reader, tmp_path, label="clip: "),  # the template
        made(catalog, other, tmp_path),  # the tokenizer
        made(catalog, tiny_reader.save(tmp_path / "weights", seed=1), tmp_path),
        made(catalog, reader, tmp_path, max_length=16),
        made(catalog, reader, tmp_path, precision="bfloat16"),
        made(catalog, reader, tmp_path, top=0),
        made(catalog, reader, tmp_path, tokens=4),
        made(catalog, reader, tmp_path, said="video_id"),
    ]
    assert len({first, *changed}) == 1 + len(changed)


def test_they_are_kept_in_half_precision_with_what_made_them(catalog, reader, tmp_path):
    found = read_features(made(catalog, reader, tmp_path), "states")
    assert found.vectors.dtype == np.float16
    encoder = States(StatesConfig(model=str(reader), **SETTINGS))
    assert dict(found.encoder) == encoder.identity()
    np.testing.assert_allclose(found.vectors[0], encoder.encode(["a red cat"])[0], rtol=1e-3)


def test_short_texts_keep_every_state_and_long_ones_the_means_of_neighbours(reader):
    encoder = States(StatesConfig(model=str(reader), **SETTINGS | {"label": ""}))
    lower, words = halves.load_half(str(reader), 1, "lower"), halves.load_tokenizer(str(reader))
    lengths = []
    for text in ("a cat", "a red cat dances on the beach at night, blue fish"):
        ids = words(text, return_tensors="pt")["input_ids"][:, :24]
        with torch.inference_mode():
            states = lower(input_ids=ids).last_hidden_state[0].numpy()
        kept = encoder.encode([text])[0].reshape(8, -1)
        lengths.append(len(states))
        if len(states) <= 8:
            np.testing.assert_allclose(kept[: len(states)], states, atol=1e-5)
            assert not kept[len(states) :].any()
        else:
            edges = [(n * len(states) // 8, -(-(n + 1) * len(states) // 8)) for n in range(8)]
            means = [states[a:b].mean(0) for a, b in edges]
            np.testing.assert_allclose(kept, means, atol=1e-5)
    assert lengths[0] <= 8 < lengths[1]


def test_a_state_too_large_for_its_place_is_a_failure(catalog, reader, tmp_path, monkeypatch):
    large = {"a red cat": 1e5, "a blue fish": 1.0}
    monkeypatch.setattr(States, "encode", lambda self, texts: np.array(
        [np.full(self.dim, large[text]) for text in texts]))  # fmt: skip
    folder = made(catalog, reader, tmp_path)
    ((video, reason),) = pl.read_parquet(folder / "failed.parquet").rows()
    assert video == "v1" and "not finite as float16" in reason
    assert States.usual == verb.FIELDS
