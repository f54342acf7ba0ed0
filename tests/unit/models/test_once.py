"""ONCE: states of a tiny language model, kept or not, and what may be tuned of it."""

import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

import tiny_reader
from circle import circle_shown
from reelm import halves, runs, train
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import pack
from reelm.data.split import SplitConfig, split
from reelm.data.tables import Catalog, Features, read_features
from reelm.encode import EncodeConfig, encode
from reelm.encoders.states import States, StatesConfig
from reelm.errors import BadData, ConfigError
from reelm.evaluate import places
from reelm.models.once import ONCEConfig

TOKENS, VIDEOS = 32, 100
IDS = tuple(f"v{n}" for n in range(VIDEOS))
WORDS = ("red", "blue", "cat", "fish", "hot dog", "beach", "night", "dances")
TEXTS = [f"v{n}; " + " ".join(WORDS[: 1 + n % 4]) for n in range(VIDEOS)]
QUICK = train.TrainConfig(epochs=2, batch_size=32, learning_rate=0.01)


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return tiny_reader.save(tmp_path_factory.mktemp("reader"))


def states(reader, top, ids=IDS, texts=TEXTS, kept_as=np.float16, **settings):
    """What the encoder makes of texts, rounded as it is on disk unless said otherwise."""
    encoder = States(StatesConfig(model=str(reader), top=top, tokens=TOKENS, **settings))
    vectors = encoder.encode(texts).astype(kept_as)
    return Features("states", ids, vectors, encoder=encoder.identity())


def world(*features, profiles=()):
    """A hundred videos, of which 24 people watched some and passed by others."""
    packed = pack([circle_shown(videos=VIDEOS)], list(IDS), DatasetConfig(exposures=True))
    data = Dataset.of(packed, features).with_profiles(profiles)
    return split(data, SplitConfig(name="global_time", valid_from=300.0, test_from=400.0))


def config(reader, top=0, **settings):
    return ONCEConfig(top=top, language_model=str(reader), dim=8, **settings)


def asked(cut, users=4):
    shown = torch.tensor([[0, 0, 1, 2], [0, 3, 4, 5], [0, 0, 0, 0], [6, 7, 8, 9]])[:users]
    return torch.arange(users), shown, torch.arange(1, VIDEOS + 1).expand(users, -1)


@pytest.mark.parametrize("top", [0, 1])
@pytest.mark.parametrize("kept_as", [np.float32, np.float16])
def test_scores_from_kept_states_are_those_of_the_whole_model(reader, top, kept_as):
    """To a thousandth; rounded to float16, as on disk, to a hundredth of what scores vary."""
    cut = world(states(reader, top, kept_as=kept_as))
    model = train.fit(cut, "once", config(reader, top), QUICK).model
    with torch.inference_mode():
        kept = model.score(*asked(cut)).clone()
    whole = halves.load_half(str(reader), 0, "lower")
    if top:  # the layer that was tuned, in its place in the whole
        assert any(p.any() for n, p in model.named_parameters() if "lora_B" in n)
        whole.layers[-1] = model.reader.top.layers[0]
    words, read = halves.load_tokenizer(str(reader)), model.reader
    with torch.inference_mode():
        for video, text in zip(IDS, TEXTS, strict=True):
            ids = words("short video; " + text, return_tensors="pt")["input_ids"]
            assert ids.shape[1] <= TOKENS
            x = read.projected(whole(input_ids=ids).last_hidden_state)
            row = cut.train.items.index(video)
            model.vectors[row] = read.attention(x, torch.ones(1, len(x[0])).bool())[0]
        fresh = model.score(*asked(cut))
    spread = float(fresh.std())
    assert spread > 1e-2
    far = 1e-3 if kept_as is np.float32 else 1e-2 * spread
    torch.testing.assert_close(kept, fresh, atol=far, rtol=0)


def test_adapters_learn_and_the_rest_of_the_language_model_stands_still(reader):
    cut = world(states(reader, 1))
    model = train.build("once", config(reader, 1), cut.train, seed=0)
    frozen = {n: b.clone() for n, b in model.reader.top.named_buffers()}
    train.train(model, cut.train, QUICK)
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not still, f"these weights got no gradient: {still}"
    tuned = [n for n, _ in model.named_parameters() if "lora" in n]
    assert len(tuned) == 2 * 7  # two matrices for each linear layer of the block
    assert all(torch.equal(b, frozen[n]) for n, b in model.reader.top.named_buffers())
    saved = [n for n in model.state_dict() if n.startswith("reader.top.")]
    assert sorted(saved) == sorted(tuned)
    assert "reader.table" not in model.state_dict()


def test_vectors_follow_the_weights(reader):
    cut = world(states(reader, 0))
    model = train.build("once", config(reader), cut.train, seed=0).eval()
    before = scored(model, cut)
    model.train()
    with torch.no_grad():
        model.reader.project.weight.mul_(-2)
    assert not torch.allclose(scored(model.eval(), cut), before, atol=1e-2)


def test_a_saved_run_needs_neither_states_nor_language_model(reader, tmp_path):
    own = shutil.copytree(reader, tmp_path / "own")
    cut = world(states(own, 1))
    folder = train.train_run(cut, "once", config(own, 1), QUICK, tmp_path)
    fresh = train.fit(cut, "once", config(own, 1), QUICK).model
    shutil.rmtree(own)
    run = runs.load(folder)
    with torch.inference_mode():
        assert torch.equal(run.model.score(*asked(cut)), fresh.score(*asked(cut)))


def test_a_killed_training_of_the_top_goes_on_as_if_it_had_not(reader, tmp_path):
    cut, kept = world(states(reader, 1)), QUICK.model_copy(update={"checkpoint_s": 0})
    whole = train.build("once", config(reader, 1), cut.train, seed=0)
    train.train(whole, cut.train, kept)
    half = train.build("once", config(reader, 1), cut.train, seed=0)
    train.train(half, cut.train, kept.model_copy(update={"epochs": 1}), folder=tmp_path)
    again = train.build("once", config(reader, 1), cut.train, seed=0)
    train.train(again, cut.train, kept, folder=tmp_path)
    with torch.inference_mode():
        assert torch.equal(again.score(*asked(cut)), whole.score(*asked(cut)))


def test_states_of_another_cut_length_or_model_are_refused(reader, tmp_path):
    other = tiny_reader.save(tmp_path, seed=1)
    cut = world(states(reader, 1))
    for wrong in (
        config(reader, 0),
        config(reader, 1, tokens=16),
        config(other, 1),
    ):
        with pytest.raises(ConfigError, match=r"features\.states was made with"):
            train.build("once", wrong, cut.train, seed=0)
    unsaid = world(replace(states(reader, 1), encoder={}))
    with pytest.raises(ConfigError, match="nobody says what made"):
        train.build("once", config(reader, 1), unsaid.train, seed=0)
    with pytest.raises(ConfigError, match="not 7 states"):
        train.build("once", config(reader, 0, tokens=7), unsaid.train, seed=0)


def test_what_the_verb_left_is_read(reader, tmp_path):
    videos = pl.DataFrame({"video_id": IDS, "title": TEXTS})
    encoder = States(StatesConfig(model=str(reader), top=1, tokens=TOKENS))
    catalog = Catalog(tmp_path, videos, pl.DataFrame())
    folder = encode(catalog, encoder, EncodeConfig(input="title"), tmp_path)
    cut, direct = world(read_features(folder, "states")), world(states(reader, 1))
    fresh, other = (
        train.build("once", config(reader, 1), one.train, seed=0).eval() for one in (cut, direct)
    )
    torch.testing.assert_close(scored(fresh, cut), scored(other, direct), atol=1e-2, rtol=0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"states": ""},
        {"states": "", "features": ("text",), "top": 1},
        {"states": "", "features": ("text",), "generated": "wanted"},
        {"dim": 10, "heads": 4},
    ],
)
def test_settings_that_read_nothing_are_refused(wrong):
    with pytest.raises(ValidationError):
        ONCEConfig(**wrong)


def test_a_video_without_states_counts_as_nothing(reader):
    cut = world(states(reader, 0, IDS[:50], TEXTS[:50]))
    model = train.build("once", config(reader), cut.train, seed=0).eval()
    with torch.inference_mode():
        model.score(*asked(cut))
    empty = torch.tensor([video not in IDS[:50] for video in cut.train.items])
    assert not model.vectors[empty].any() and model.vectors[~empty].any(1).all()


# ---- what was generated for users


def generated(reader, read, users=range(12)):
    """For each of some users the text of a video, and how much of his history was looked at."""
    ids, texts = tuple(f"u{u}" for u in users), [TEXTS[2 * u] for u in users]
    made = states(reader, 0, ids, texts)
    return replace(made, name="wanted", read=np.full(len(ids), read))


def both(reader, read=1, **settings):
    cut = world(states(reader, 0), profiles=[generated(reader, read)])
    with_it = config(reader, generated="wanted", **settings)
    return cut, with_it


def scored(model, cut, **changed):
    user, history, candidates = asked(cut)
    with torch.inference_mode():
        return model.score(changed.get("user", user), history, candidates).clone()


@pytest.mark.parametrize("joined", ["added", "replaced"])
def test_profiles_are_added_to_the_user_or_stand_in_his_place(reader, joined):
    """What is added is nothing before training and something after it."""
    told = Features("told", ("u0", "u1", "u2"), np.eye(3, dtype=np.float32), np.ones(3, np.int64))
    cut = world(states(reader, 0), profiles=[told])
    settings = config(reader, profiles=("told",), joined=joined)
    model = train.build("once", settings, cut.train, seed=0).eval()
    plain = train.build("once", config(reader), cut.train, seed=0).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(scored(model, cut), scored(plain, cut)) == (joined == "added")
    learned = train.fit(cut, "once", settings, QUICK).model
    nobody = torch.full((4,), -1)
    assert not torch.equal(scored(learned, cut), scored(learned, cut, user=nobody))


@pytest.mark.parametrize("kind", ["text", "nearest"])
def test_only_people_of_few_events_read_what_was_generated(reader, kind):
    cut, with_it = both(reader, generated_as=kind, few=3)
    model = train.build("once", with_it, cut.train, seed=0).eval()
    plain = train.build("once", config(reader), cut.train, seed=0).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    changed = (scored(model, cut) != scored(plain, cut)).any(1)
    assert changed.tolist() == [True, True, True, False]  # the last has four events
    nobody = torch.full((4,), -1)
    assert torch.equal(scored(model, cut, user=nobody), scored(plain, cut, user=nobody))
    without = torch.tensor([cut.train.users.index("u20")] * 4)
    assert torch.equal(scored(model, cut, user=without), scored(plain, cut, user=without))


@pytest.mark.parametrize("kind", ["text", "nearest"])
def test_generated_videos_are_no_negatives(reader, kind):
    cut, with_it = both(reader, read=0, generated_as=kind)
    places = [_places(settings, cut) for settings in (with_it, config(reader))]
    assert places[0] == places[1]
    assert {item for _, item, _ in places[0]} <= set(cut.train.exposures.item.tolist())


def _places(settings, cut):
    """Every place that is learned from."""
    model = train.build("once", settings, cut.train, seed=0)
    batches = list(model.batches(cut.train, 16, torch.Generator().manual_seed(0)))
    columns = [
        torch.cat([getattr(b, n) for b in batches]).tolist() for n in ("user", "item", "label")
    ]
    return sorted(zip(*columns, strict=True))


@pytest.mark.parametrize("kind", ["text", "nearest"])
def test_generated_videos_are_not_counted(reader, kind):
    cut, with_it = both(reader, generated_as=kind)
    model = train.fit(cut, "once", with_it, QUICK).model
    assert model.counts.tolist() == world(states(reader, 0)).train.counts.tolist()
    assert len(model.vectors) == VIDEOS + 1


@pytest.mark.parametrize("kind", ["text", "nearest"])
def test_generated_videos_are_not_evaluated(reader, kind):
    cut, with_it = both(reader, generated_as=kind)
    found = places(train.fit(cut, "once", with_it, QUICK).model, cut.test_shown)
    plain = world(states(reader, 0)).test_shown
    assert np.array_equal(found.shown.item, plain.item)
    assert np.array_equal(found.shown.label, plain.label)


def test_the_nearest_video_is_the_one_that_was_described(reader):
    cut, with_it = both(reader, generated_as="nearest")
    model = train.build("once", with_it, cut.train, seed=0)
    seen = cut.train.counts > 0
    for user, row in zip(cut.train.users, model.wanted.nearest.tolist(), strict=True):
        number = int(user[1:])
        if number >= 12:
            assert row == 0
        elif seen[wanted := cut.train.items.index(IDS[2 * number])]:
            assert row == wanted
        else:
            assert seen[row]


def test_places_that_the_generator_saw_are_not_learned_from(reader):
    cut, with_it = both(reader, read=2)
    shown = cut.train.exposures
    later = shown.stop - shown.start >= 2 * np.isin(
        shown.user, [cut.train.row(f"u{u}") for u in range(12)]
    )
    assert 0 < later.sum() < len(later)
    assert len(_places(with_it, cut)) == later.sum()
    leaks = with_it.model_copy(update={"after": False})
    assert len(_places(leaks, cut)) == len(shown)


def test_what_may_have_seen_everything_is_refused(reader):
    cut, with_it = both(reader)
    everybody = replace(generated(reader, 0, range(24)), read=None)
    train_all = cut.train.with_profiles([everybody])
    with pytest.raises(BadData, match=r"annotate\.cut"):
        train.fit(replace(cut, train=train_all), "once", with_it, QUICK)
