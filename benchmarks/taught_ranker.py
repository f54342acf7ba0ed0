"""A language model that is taught to rank, from nothing, and then asked Rec-GPT4V's question.

    python benchmarks/taught_ranker.py --work work/study [--ask letters] [--seeds 0 1 2 3 4]

A causal language model with random weights learns lists of other populations, who watch other
videos: it cannot know the test's videos or people and has to read. Stages: people with one clear
taste, a few words a line, candidates alone (Yes or No); more words; then, by `--ask`, still more
of them, or two to ten candidates by letters; then people as they are. One model learns all arms of
titles_study.py: titles clean or noisy, notes, and both. It is trained with the parts of
`reelm.tune`, loaded by the backend `transformers` and asked as `reelm rerank` asks.

Nothing is tested on population 60, which the curve looks at. Lines of
results/taught_ranker_<ask>.jsonl: "curve" during the training, then one arm of one population each;
lines that are there are not made again.
"""

import argparse
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import polars as pl
import study
import torch
import torch.nn.functional as F
from titles_study import arms, row, table, told
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from world_study import VIDEOS, cut

from reelm import rerank
from reelm.backends.transformers import Transformers, TransformersConfig, load_model, load_reader
from reelm.data.dataset import Dataset
from reelm.data.preferences import LETTERS
from reelm.data.split import Split, SplitConfig, global_time
from reelm.lessons import write
from reelm.prompts.attributes import Attributes
from reelm.rerank import Lists, RerankConfig
from reelm.rerank.lists import ABOUT, QUESTION, YES_QUESTION, request
from reelm.rerank.reading import Kept, read
from reelm.tallies import YES_NO, line
from reelm.tune import conversations
from reelm.tune.adapters import ends
from reelm.tune.batches import IGNORED
from reelm.tune.conversations import Sample, Tokens
from reelm.tune.optimise import Optimiser
from reelm.world.clips import Clip, sample_clip, sentence
from reelm.world.people import SPLIT_DAY, simulate
from reelm.world.tables import DAY_S, EPOCH_S, events_table, video_id
from reelm.world.titles import make_uploads
from reelm.world.vocabulary import ATTRIBUTES

DIM, LAYERS, HEADS = 128, 3, 4
LEARNING_RATE = 2e-3
READING = 0.1  # weight of the loss of everything that is read, beside that of the answer
WRONG = 0.017  # share of fields that pocket gets wrong in the rendered world
TEACHERS = range(70, 78)  # populations that are learned from, each with videos of its own
CHOSEN_ON = 60  # the population that the curve is measured on
LESSONS = 50  # of each teacher and arm
BATCH = 12  # of lessons of people
TESTED = RerankConfig(turns=2, questions=100)
GLIMPSE = RerankConfig(turns=1, questions=100)  # of the curve
ASKED = (
    "clean: titles", "clean: both", "clean: both, permuted", "noisy: titles", "noisy: both",
    "noisy: both, permuted", "notes",
)  # fmt: skip
LEARNED = ("clean: titles", "noisy: titles", "notes", "clean: both", "noisy: both")
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}"
    "{{ '' if m['role'] == 'user' else '<|end|>' }}{% endfor %}"
)
DROPPED = "in|the|at|with|text|says|moving|staying|music"  # words that all titles have
FIELDS = "|".join(name for name in ATTRIBUTES if name != "subject")
PIECES = rf"\b(?!(?:{DROPPED})\b)(?!(?:{FIELDS}): )\w+|(?<!\n)\n(?!\n)|- "
"""A token is a word; names of a note's fields are none but the first, where a note begins, so that
a value is the same token in a title and in a note."""


@dataclass(frozen=True)
class Stage:
    """Lessons of people with one clear taste, made up."""

    name: str
    steps: int
    batch: int
    fields: int
    """Fields of a clip that are told."""
    likes: int
    """Values that the person wants; nine in ten watched videos have each of them."""
    watched: int
    shown: tuple[int, ...]
    """Candidates; a lesson draws how many."""
    ask: Literal["letters", "yes"]
    forms: tuple[str, ...] = ("titles", "notes")


Ask = Literal["letters", "yes"]
FIRST = (
    Stage("clear, three fields", 600, 16, 3, 1, 3, (4,), "yes", ("notes",)),
    Stage("clear, six fields", 350, 12, 6, 2, 5, (6,), "yes"),
)
THEN: dict[Ask, tuple[Stage, ...]] = {
    "letters": (
        Stage("clear, two to four letters", 200, 16, 6, 2, 6, (2, 3, 4), "letters"),
        Stage("clear, six to ten letters", 150, 8, 9, 3, 10, (6, 10), "letters"),
    ),
    "yes": (Stage("clear, nine fields", 250, 8, 9, 3, 10, (6,), "yes"),),
}
"""What follows, by the way in which the model is asked in the end."""


def build(folder: Path) -> Path:
    """A checkpoint with random weights and a tokenizer of the world's words."""
    rng = random.Random(0)
    clips = [sample_clip(rng) for _ in range(3000)]
    texts = [*map(sentence, clips), *(line(clip.attributes()) for clip in clips)]
    texts += ["- title: a\n", " ".join([*LETTERS, *YES_NO])]
    raw = Tokenizer(models.WordLevel(unk_token="<|unknown|>"))
    raw.normalizer = normalizers.Lowercase()  # pyright: ignore[reportAttributeAccessIssue]
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(PIECES), "removed", invert=True)
    special = ["<|pad|>", "<|unknown|>", "<|end|>"]
    raw.train_from_iterator(texts, trainers.WordLevelTrainer(special_tokens=special))
    raw.decoder = decoders.ByteLevel()  # grammars ask for one, though nothing is generated
    raw.add_tokens([AddedToken(ABOUT.format(times="") + q) for q in (QUESTION, YES_QUESTION)])
    words: Any = PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="<|pad|>", unk_token="<|unknown|>", eos_token="<|end|>",
        chat_template=TEMPLATE,
    )  # fmt: skip
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=DIM, intermediate_size=2 * DIM,
        num_hidden_layers=LAYERS, num_attention_heads=HEADS, num_key_value_heads=HEADS,
        attention_bias=True,
        tie_word_embeddings=True, max_position_embeddings=1024, initializer_range=0.04,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        pad_token_id=words.pad_token_id, eos_token_id=words.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    words.save_pretrained(folder)
    return folder


def clear(stage: Stage, form: str, rng: random.Random) -> dict:
    """A lesson about a person who wants one or two values and nothing else."""
    names = sorted(rng.sample(list(ATTRIBUTES), stage.fields), key=list(ATTRIBUTES).index)
    count, wanted = rng.choice(stage.shown), rng.sample(names, stage.likes)
    taste = {name: rng.choice(_values(name)) for name in wanted}

    def told_of(chance: float) -> str:
        clip = {name: rng.choice(_values(name, taste)) for name in names}
        clip |= {name: value for name, value in taste.items() if rng.random() < chance}
        return " ".join(["title:", Attributes.as_text(clip)]) if form == "titles" else line(clip)

    liked = [rng.random() < 0.5 for _ in range(count)]
    if stage.ask == "letters":
        right = rng.randrange(count)
        liked = [place == right for place in range(count)]
    videos = [told_of(0.9) for _ in range(stage.watched)] + [told_of(float(x)) for x in liked]
    ids = [str(number) for number in range(len(videos) + 1)]
    lists = Lists(
        np.zeros(1, int), torch.arange(1, stage.watched + 1)[None],
        np.arange(stage.watched + 1, len(ids))[None], np.zeros(1, int),
    )  # fmt: skip
    return {"messages": _turns(stage, lists, ids, dict(zip(ids[1:], videos, strict=True)), liked)}


def _values(name: str, but: Mapping[str, str] | None = None) -> list[str]:
    return [v for v in ATTRIBUTES[name] if v != "none" and v != (but or {}).get(name)]


def _turns(
    stage: Stage, lists: Lists, ids: list[str], told: dict[str, str], liked: list[bool]
) -> list[dict]:
    """One question by letters; or a question about each candidate, the history told once."""
    config = RerankConfig(watched=stage.watched, candidates=max(2, len(liked)), ask=stage.ask)
    orders = [np.arange(len(liked))] if stage.ask == "letters" else np.arange(len(liked))[:, None]
    found = []
    for turn, order in enumerate(orders):
        (text,) = request(lists, 0, order, ids, told, config).parts
        answer = LETTERS[liked.index(True)] if stage.ask == "letters" else YES_NO[not liked[turn]]
        # behind the first question only the candidate is new
        found += [
            {"role": "user", "content": text if not turn else str(text).split("\n\n", 1)[1]},
            {"role": "assistant", "content": answer},
        ]
    return found


def world(number: int) -> tuple[list[Clip], Dataset]:
    """A population of other people and other videos, up to the day that the log is cut at."""
    uploads = make_uploads(VIDEOS, 2000 + number)
    log, _ = simulate(uploads, 300, 5000 + number)
    ids = [video_id(n) for n in range(VIDEOS)]
    data = Dataset.build(events_table(log, number), {}, videos=ids)
    at = EPOCH_S + SPLIT_DAY * DAY_S
    cut = SplitConfig(name="global_time", valid_share=0, test_from=at)
    return [upload.clip for upload in uploads], global_time(data, cut).train


def noted(clip: Clip, rng: random.Random) -> dict[str, str]:
    """What pocket would say of a clip: now and then a field is wrong."""
    return {
        name: rng.choice(ATTRIBUTES[name]) if rng.random() < WRONG else value
        for name, value in clip.attributes().items()
    }


def people(number: int, count: int, ask: Ask) -> dict[str, list[dict]]:
    """`count` lessons of each arm that is not a placebo, of one population."""
    clips, train = world(number)
    rng, ids = random.Random(number), [video_id(n) for n in range(VIDEOS)]
    answers = {video: noted(clip, rng) for video, clip in zip(ids, clips, strict=True)}
    videos = pl.DataFrame({"video_id": ids, "title": [""] * VIDEOS})
    texts = arms(videos, [sentence(clip) for clip in clips], answers, number)
    config = RerankConfig(questions=count, ask=ask)
    return {
        arm: rerank.lessons(train, texts[arm], config.model_copy(update={"seed": n}))
        for n, arm in enumerate(LEARNED)
    }


class Teacher:
    """Trains a checkpoint on lessons, by the parts of `reelm.tune`."""

    def __init__(self, folder: Path, work: Path, step: int, steps: int, table: str) -> None:
        """`step`: of all `steps`, the first that is made here; the step size follows from it.
        `table`: where the curve is kept."""
        self.table = table
        self.words = load_reader(str(folder))
        self.model = load_model(str(folder), dtype="float32").train()
        self.tokens = Tokens(self.words, ends(self.model, self.words), 1024)
        self.among = [
            torch.tensor(self.words.convert_tokens_to_ids([word.lower() for word in some]))
            for some in (YES_NO, LETTERS[: TESTED.candidates])
        ]
        self.optimiser = Optimiser([self.model], LEARNING_RATE)
        self.work, self.step, self.steps = work, step, steps

    def learn(self, name: str, groups: Sequence[Sequence[dict]], size: int, seed: int) -> None:
        """One pass over lessons; a batch is of one group."""
        rng = random.Random(seed)
        batches = [part for group in groups for part in self._batches(group, size, rng)]
        rng.shuffle(batches)
        begun, seen = time.process_time(), []
        for number, samples in enumerate(batches, start=1):
            loss, answered = self._loss(samples)
            self.optimiser.step(loss, self.step / self.steps)
            self.step += 1
            seen.append(answered)
            if number % 50 == 0 or number == len(batches):
                spent = round(time.process_time() - begun, 1)
                nll, right = np.mean(seen, axis=0).round(4).tolist()
                told = {"step": number, "loss": nll, "right": right, "cpu_s": spent}
                study.keep(self.table, {"curve": name} | told)
                seen = []

    def _batches(self, group: Sequence[dict], size: int, rng: random.Random) -> list[list[Sample]]:
        path = self.work / "lessons.jsonl"
        write(path, rng.sample(group, len(group)))
        found, refused = conversations.read(path)
        assert not refused
        samples = [self.tokens.sample(one) for one in found]
        return [samples[at : at + size] for at in range(0, len(samples), size)]

    def _loss(self, samples: Sequence[Sample]) -> tuple[Tensor, tuple[float, float]]:
        """What is learned: the answers, and a little what is read; and the answers' mean loss in
        nats and how many of their first tokens are the likeliest."""
        made, target = conversations.batch(samples, self.tokens.pad)
        hidden = self.model.model(**made).last_hidden_state[:, :-1]
        ids, following = made["input_ids"][:, 1:], target[:, 1:]
        answer = (following != IGNORED) & (following != self.words.eos_token_id)
        real = made["attention_mask"][:, 1:] == 1
        # as it will be asked: the choices stand against each other alone
        among = next(one for one in self.among if following[answer][0] in one)
        logits = self.model.lm_head(hidden[answer])[:, among]
        wanted = (following[answer][:, None] == among).int().argmax(-1)
        loss = F.cross_entropy(logits, wanted)
        reading = F.cross_entropy(self.model.lm_head(hidden[real]), ids[real])
        right = (logits.argmax(-1) == wanted).float().mean()
        return loss + READING * reading, (float(loss.detach()), float(right))

    def save(self, folder: Path) -> Path:
        """Write the checkpoint."""
        self.model.save_pretrained(folder)
        self.words.save_pretrained(folder)
        return folder


def taught(work: Path, ask: Ask) -> Path:
    """The checkpoint that has learned all stages; those that are done are not learned again."""
    folder, lines = work / "taught", table_of(ask)
    folder.mkdir(parents=True, exist_ok=True)
    stages = (*FIRST, *THEN[ask])
    lessons = LESSONS * len(TEACHERS) * (2 if ask == "yes" else 1)
    total = sum(stage.steps for stage in stages) + -(-lessons // BATCH) * len(LEARNED)
    model, step = folder / "new", 0
    if not model.is_dir():
        build(model)
    for number, stage in enumerate(stages):
        before = model
        model = folder / f"{'stage' if number < len(FIRST) else ask}-{number}"
        if not model.is_dir():
            rng = random.Random(number)
            count = stage.steps // len(stage.forms) * stage.batch
            groups = [[clear(stage, form, rng) for _ in range(count)] for form in stage.forms]
            teacher = Teacher(before, folder, step, total, lines)
            teacher.learn(stage.name, groups, stage.batch, number)
            teacher.save(model)
        step += stage.steps
    last = folder / f"{ask}-people"
    if not last.is_dir():
        groups = [[] for _ in LEARNED]
        for number in TEACHERS:
            for group, some in zip(groups, people(number, LESSONS, ask).values(), strict=True):
                group += some
        teacher = Teacher(model, folder, step, total, lines)
        teacher.learn("people", groups, BATCH, len(stages))
        curve(teacher.save(last), work, ask)
    return last


def reader(model: Path) -> Transformers:
    """The model, as `reelm rerank` loads it."""
    return Transformers(TransformersConfig(model=str(model), device="cpu"))


def population(work: Path, seed: int) -> tuple[dict[str, dict[str, str]], Split]:
    """What each arm tells, and the log of one population of the rendered world."""
    ids, found = told(work, seed)
    return found, cut(ids, {}, seed, work)[0]


def curve(model: Path, work: Path, ask: Ask) -> None:
    """A glimpse at a population that nothing is tested on."""
    found, split = population(work, CHOSEN_ON)
    config = GLIMPSE.model_copy(update={"ask": ask})
    lists = rerank.drawn(split.test, split.train.items, found["notes"], config, salt=1)
    asked = Kept(reader(model), work / f"{ask}-glimpse.jsonl")
    for arm in LEARNED:
        scores, _ = read(lists, split.train.items, found[arm], asked, config)
        study.keep(table_of(ask), {"curve": "people"} | row(scores, lists, seed=CHOSEN_ON, arm=arm))


def tested(model: Path, work: Path, seed: int, ask: Ask, done: set[str]) -> None:
    """Every arm of one population, and what places do to the order."""
    found, split = population(work, seed)
    items, config = split.train.items, TESTED.model_copy(update={"ask": ask})
    lists = rerank.drawn(split.test, items, found["notes"], config, salt=1)
    asked = Kept(reader(model), work / f"{ask}-{seed}.jsonl")
    for arm in ASKED:
        if arm not in done:
            scores, moved = read(lists, items, found[arm], asked, config)
            study.keep(table_of(ask), row(scores, lists, seed=seed, arm=arm, moved=moved))
    for place in (0, config.candidates - 1) if ask == "letters" else ():
        arm = f"noisy: both, target at {place + 1}"
        if arm not in done:
            some = put(lists, place)
            scores, moved = read(some, items, found["noisy: both"], asked, config)
            study.keep(table_of(ask), row(scores, some, seed=seed, arm=arm, moved=moved))


def put(lists: Lists, place: int) -> Lists:
    """The same lists with every target in one place, where it changes places with another."""
    items, number = lists.items.copy(), np.arange(len(lists))
    items[number, lists.target] = lists.items[:, place]
    items[:, place] = lists.items[number, lists.target]
    return replace(lists, items=items, target=np.full(len(lists), place))


def table_of(ask: Ask) -> str:
    """The name of the table of one way of asking."""
    return f"taught_ranker_{ask}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--ask", choices=("letters", "yes"), default="yes")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--summary", action="store_true", help="only sum up lines that are there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if not given.summary:
        model = taught(given.work, given.ask)
        for seed in given.seeds:
            done = {one["arm"] for one in answered(given.ask) if one["seed"] == seed}
            tested(model, given.work, seed, given.ask, done)
    print(table(answered(given.ask)))


def answered(ask: Ask) -> list[dict]:
    """Lines of the test that are there."""
    return [line for line in study.rows(table_of(ask)) if "curve" not in line]


if __name__ == "__main__":
    main()
