"""The tuning recipe on a handful of clips: shapes, labels, targets, and that it can be resumed."""

import json
import random

import numpy as np
import pytest
import torch

from reelm import tune as verb
from reelm.media.views import motion_pictures
from reelm.tune import language, model, rendered, sheets, vision, wording
from reelm.tune.optimise import schedule
from reelm.world.clips import sample_clip
from reelm.world.vocabulary import ATTRIBUTES

SMALL = model.SizeConfig(vision_dim=32, vision_layers=1, vision_heads=2, dim=32, layers=1, heads=2)


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    return rendered.prepare(folder, 0, 12, 1), sheets.prepare(folder, 0, 12, 1)


@pytest.fixture(scope="module")
def tiny():
    return model.build(SMALL, 0)


def test_clip_number_i_does_not_depend_on_how_many_there_are():
    assert rendered.sample(3, 5) == rendered.sample(3, 9)[:5]
    assert rendered.sample(3, 5) != rendered.sample(4, 5)


def test_labels_and_places_belong_to_their_clips(material):
    clips, _ = material
    for row, clip in enumerate(clips.clips):
        for name, values in ATTRIBUTES.items():
            assert values[int(clips.labels[name][row])] == getattr(clip, name)
        places = clips.places[row]
        assert (places[:, int(clip.count) : 3] == -1).all()
        assert bool((places[:, 3] >= 0).all()) == (clip.word != "none")


def test_frames_went_through_a_codec_and_still_show_the_clip(material):
    from reelm.media.views import squash
    from reelm.world.drawing import draw, layout

    clips, _ = material
    for row in range(4):
        clip = clips.clips[row]
        drawn = np.asarray(draw(clip, layout(clip), 0.25, 180, 320))
        seen = clips.frames[row, 1].astype(int)
        assert 0 < np.abs(seen - squash(drawn, 80)).mean() < 12


def test_sheets_name_what_stands_at_each_token(material):
    _, drawn = material
    assert drawn.pixels.shape[1:] == (80, 80, 3)
    assert ((drawn.places >= -1) & (drawn.places < 25)).all()
    assert (drawn.places[:, :6] >= 0).any(1).all()
    words = drawn.kinds[:, 6:, 0][drawn.places[:, 6:] >= 0]
    assert (words > 0).all() and (words < len(ATTRIBUTES["word"])).all()


def test_a_clip_played_backwards_or_mirrored_moves_the_other_way(material):
    clips, _ = material
    rows = np.arange(len(clips))

    class Always:
        def __init__(self, *values):
            self.values = list(values) * len(rows)

        def random(self):
            return self.values.pop(0)

    plain = vision.composites(clips, rows, Always(0.9, 0.9))
    back = vision.composites(clips, rows, Always(0.1, 0.9))
    mirrored = vision.composites(clips, rows, Always(0.9, 0.1))
    names = ATTRIBUTES["motion"]
    for row in rows:
        before = names[int(plain.motion[row])]
        assert names[int(back.motion[row])] == vision.REVERSED.get(before, before)
        assert names[int(mirrored.motion[row])] == vision.MIRRORED.get(before, before)
    both = len(rows)
    np.testing.assert_array_equal(back.pixels[:both], plain.pixels[both:][..., ::-1])
    np.testing.assert_array_equal(mirrored.pixels, plain.pixels[:, :, ::-1])
    here = plain.places >= 0
    assert (plain.places[here] % 5 + mirrored.places[here] % 5 == 4).all()


def test_normalising_is_what_the_processor_does(tiny):
    _, processor = tiny
    pixels = np.random.default_rng(0).integers(0, 256, (2, 80, 80, 3), dtype=np.uint8)
    made = processor.image_processor(list(pixels), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(vision.normalise(pixels), made, atol=1e-5, rtol=0)


def test_every_value_is_one_token(tiny):
    _, processor = tiny
    tokens = model.value_tokens(processor.tokenizer)
    assert {name: len(ids) for name, ids in tokens.items()} == {
        name: len(values) for name, values in ATTRIBUTES.items()
    }


def test_only_answers_are_learned(tiny):
    _, processor = tiny
    writer = language.Writer(processor.tokenizer)
    pair = wording.Pair(wording.PHRASES["attributes"], '{"subject":"cat"}')
    batch = writer.batch([pair, wording.Pair("What is the main subject?", "cat.")])
    learned = batch.ids[0][batch.target[0] != language.IGNORED]
    assert processor.tokenizer.decode(learned) == '{"subject":"cat"}<|im_end|>'
    pictures = (batch.ids == processor.tokenizer.convert_tokens_to_ids("<image>")).sum(1)
    assert pictures.tolist() == [6 * model.TOKENS] * 2
    assert (batch.target[batch.real == 0] == language.IGNORED).all()


def test_the_prompt_is_the_one_the_chat_template_makes(tiny):
    _, processor = tiny
    content = []
    for name in wording.PICTURES:
        content += [{"type": "text", "text": f"{name}: "}, {"type": "image"},
                    {"type": "text", "text": "\n"}]  # fmt: skip
    content.append({"type": "text", "text": "Which?"})
    turns = [{"role": "user", "content": content}]
    made = processor.apply_chat_template(turns, add_generation_prompt=True)
    assert made == wording.prompt_text("Which?")


def test_the_loss_is_that_of_the_whole_model(tiny, material):
    """Features looked at once and put in by hand, or pixels through the model's own forward."""
    made, processor = tiny
    clips, _ = material
    writer = language.Writer(processor.tokenizer)
    pair = wording.sample_pair(clips.clips[0], random.Random(0))
    batch = writer.batch([pair])
    frames = clips.frames[0]
    sound = np.repeat(clips.sound[0][..., None], 3, -1)
    shown = np.stack([*frames[[0, 2, 4]], sound, *motion_pictures(frames)])
    pixels = vision.normalise(shown)
    with torch.no_grad():
        whole = made(input_ids=batch.ids, pixel_values=pixels, attention_mask=batch.real,
                     labels=batch.target).loss  # fmt: skip
        features = vision.see(made.model.vision_tower, pixels).flatten(0, 1)[None]
        torch.testing.assert_close(language.answer_loss(made, batch, features), whole)


def test_features_backwards_are_those_of_the_reversed_clip(tiny, material):
    made, _ = tiny
    clips, _ = material
    seen = language.look(made.model.vision_tower, clips)
    forwards = [i for i in range(40) if random.Random(i).choice(range(2)) == 0]
    assert forwards and seen.features.shape[:3] == (len(clips), 11, 25)
    turned = {clip.motion for _ in range(30) for clip, _ in [seen.choose(0, random.Random(_))]}
    motion = clips.clips[0].motion
    assert turned == {motion, vision.REVERSED.get(motion, motion)}


def test_whitening_makes_patch_responses_alike(tiny, material):
    made, _ = model.build(SMALL, 1)
    clips, _ = material
    vision.whiten(made.model.vision_tower, clips)
    conv = next(m for m in made.modules() if isinstance(m, torch.nn.Conv2d))
    out = conv(vision.normalise(clips.frames[:, 0])).detach().transpose(0, 1).flatten(1)
    assert float(out.std(1).max() / out.std(1).min()) < 4


def test_the_rate_warms_up_from_the_first_step_on_and_falls():
    rates = [schedule(step, 100) for step in range(100)]
    assert rates[0] == pytest.approx(0.25, abs=1e-3) and rates[3] == pytest.approx(1, abs=0.01)
    assert rates[:4] == sorted(rates[:4]) and rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(0.03) and schedule(0, 1) > 0


@pytest.mark.parametrize("stage", list(verb.READS))
def test_the_first_step_of_a_stage_learns(material, stage):
    clips, drawn = material
    made, processor = model.build(SMALL, 0)
    writer, words = language.Writer(processor.tokenizer), made.model.language_model
    teacher = vision.Teacher.of(made.model.vision_tower)
    one = {name: 1 for name in language.LanguageConfig.model_fields if name.endswith("_steps")}
    config = language.LanguageConfig(**one, batch_size=2)
    sight = vision.VisionConfig(steps=1, frames=2, sounds=2, motions=2, sheets=2)

    def quiet(step, loss):
        pass

    def seen():
        return language.look(made.model.vision_tower, clips)

    run = {
        "vision": lambda: vision.train_vision(teacher, clips, drawn, sight, quiet),
        "text": lambda: language.train_text(made, writer, config, quiet),
        "align": lambda: language.train_align(made, writer, seen(), clips, config, quiet),
        "instruct": lambda: language.train_instruct(made, writer, seen(), config, quiet),
        "joint": lambda: language.train_joint(made, writer, clips, config, quiet),
    }
    taught = {"vision": teacher.probes, "align": made.model.multi_modal_projector}.get(stage, words)
    before = [weight.detach().clone() for weight in taught.parameters()]
    run[stage]()
    pairs = zip(before, taught.parameters(), strict=True)
    assert any(not torch.equal(old, new) for old, new in pairs)


@pytest.mark.slow
def test_tuning_writes_a_checkpoint_that_answers_and_resumes(tmp_path):
    from reelm.backends.base import Answer, Request, show
    from reelm.backends.pocket import Pocket
    from reelm.prompts.attributes import Attributes

    settings = verb.Settings(
        verb.TuneConfig(clips=6, sheets=6, unseen=3, workers=1, threads=1, report_every=1),
        SMALL,
        vision.VisionConfig(steps=2, frames=4, sounds=2, motions=2, sheets=2),
        language.LanguageConfig(
            text_steps=2, align_steps=2, instruct_steps=2, joint_steps=1, batch_size=2
        ),
    )
    out = verb.tune(settings, tmp_path)
    first = (out / "model" / "model.safetensors").read_bytes()
    (out / "model" / "model.safetensors").unlink()
    verb.tune(settings, tmp_path)
    assert (out / "model" / "model.safetensors").read_bytes() == first
    stages = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert sum("resumed" in line for line in stages) == 5
    backend = Pocket(folder=out / "model")
    from reelm.media.views import pictures

    shown = pictures(backend.view, np.zeros((6, 64, 36, 3), np.uint8), None)
    schema = Attributes.schema(backend.vocabulary)
    request = Request("v", show(shown, backend.phrase("attributes")), schema, 200)
    (answer,) = backend.answer([request])
    assert isinstance(answer, Answer) and Attributes.model_validate_json(answer.text)


def test_clips_drawn_for_practice_are_consistent():
    rng = random.Random(0)
    for _ in range(50):
        clip = sample_clip(rng)
        text = wording.reminder_text(clip, wording.sample_pair(clip, rng), rng)
        assert text.count("<|im_end|>") == 2 and "<image>" not in text


def test_a_setting_reruns_the_stages_that_read_it_and_those_after():
    def keys(**changed):
        words = language.LanguageConfig(**changed)
        sight = vision.VisionConfig(steps=5)
        return verb.stage_keys(verb.Settings(verb.TuneConfig(), SMALL, sight, words))

    before, names = keys(), list(keys())
    for field in language.LanguageConfig.model_fields:
        now = keys(**{field: 1})
        first = next(i for i, name in enumerate(names) if field in verb.READS[name])
        assert [now[name] == before[name] for name in names] == [i < first for i in range(5)]
