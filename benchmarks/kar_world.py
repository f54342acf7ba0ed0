"""KAR in the rendered world: what is known of people and of videos, in front of a CTR model.

    python benchmarks/kar_world.py --work work/study [--seeds 0 1 2 3 4] [--only ARM ...]
    python benchmarks/kar_world.py --summary

The world of world_study.py: 1,600 rendered videos as `pocket` saw them, and populations of 1,200
people. A watch of at least half is liked, all other watches were not; the log is cut by time at day
22, the two days before it are validation. Knowledge of videos are their notes. Knowledge of people
are the preferences that counting (`--backend tallies`) reads from the notes of the first half of
what each liked, and no place of that half is learned. The control that tells whether reasoning
helps has the lines of notes it was read from as text instead ("raw history"); the placebo deals
both to others. Quality is that of notes: true values, each kept with a chance q.

Each line of results/kar_world.jsonl is an arm and a seed, of people and of training. Weights are
chosen on validation; the test is opened once per line.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import study
import torch
from llmrec_worlds import QUALITIES, Population, population
from paper_kar import SIZE, dealt, encoded

from reelm.backends.base import Answer
from reelm.data.dataset import Dataset, DatasetConfig
from reelm.data.packing import pack
from reelm.data.split import Split, SplitConfig, split
from reelm.data.tables import Features
from reelm.dossiers import Dossier, profile_dossiers
from reelm.models.dcn import DCNConfig
from reelm.models.din import DINConfig
from reelm.models.kar import KAR, KARConfig
from reelm.prompts.attributes import Attributes
from reelm.prompts.preferences import Preferences
from reelm.tallies import WATCHED, Answers, Tallies
from reelm.train import TrainConfig
from reelm.world.people import SPLIT_DAY
from reelm.world.tables import DAY_S, EPOCH_S

TABLE = "kar_world"
VALID_DAY = SPLIT_DAY - 2
TRAIN = TrainConfig(
    epochs=25, batch_size=256, learning_rate=2e-3, weight_decay=0.01, patience=6,
    measure="places/auc",
)  # fmt: skip
CUT, MOST = 0.5, 30  # the paper's half, and its most
ARMS: dict[str, dict[str, str]] = {
    "titles": {"item": "titles"},
    "notes": {"item": "notes"},
    "later halves alone": {"user": "nothing"},
    "notes, later halves alone": {"user": "nothing", "item": "notes"},
    "raw history": {"user": "raw"},
    "notes and raw history": {"user": "raw", "item": "notes"},
    "preferences": {"user": "preferences"},
    "notes and preferences": {"user": "preferences", "item": "notes"},
    "of others (placebo)": {"user": "preferences, dealt", "item": "notes, dealt"},
    **{f"q = {q:g}": {"user": f"preferences {q:g}", "item": f"notes {q:g}"} for q in QUALITIES},
}
BOTH = ("notes", "notes and raw history", "notes and preferences", "of others (placebo)")
"""Arms of either backbone; the others are of din alone."""
PAIRS = (
    ("{}, notes", "{}, titles"),
    ("{}, notes", "{}"),
    ("{}, notes and preferences", "{}, notes"),
    ("{}, notes and preferences", "{}, notes, later halves alone"),
    ("{}, notes and preferences", "{}, notes and raw history"),
    ("{}, notes and preferences", "{}"),
    ("{}, of others (placebo)", "{}"),
    ("{}, q = 1", "{}"),
    ("{}, q = 0", "{}"),
)


@dataclass(frozen=True)
class Known:
    """A population, its exposures, and what is said of people and videos."""

    people: Population

    @cached_property
    def bare(self) -> Split:
        """Without anything that was said."""
        return split(Dataset.of(self._packed, []), self._how)

    def of(self, user: str, item: str) -> Split:
        """With one table of people and one of videos."""
        found = split(Dataset.of(self._packed, [self.item(item)] if item else []), self._how)
        told = [self.user(user)] if user else []
        return replace(found, train=found.train.with_profiles(told))

    def item(self, name: str) -> Features:
        """Titles, or notes of a quality; `dealt` to other videos."""
        if name.endswith(", dealt"):
            return dealt(self.item(name.removesuffix(", dealt")))
        if name == "titles":
            return replace(self.people.titles, name=name)
        notes = self._notes(name.removeprefix("notes"))
        return encoded(name, tuple(notes), [Attributes.as_text(said) for said in notes.values()])

    def user(self, name: str) -> Features:
        """What was said of people, with how much of their history it was made from."""
        if name.endswith(", dealt"):
            mine = self.user(name.removesuffix(", dealt"))
            order = np.random.default_rng(7).permutation(len(mine.ids))
            return replace(mine, name=name, vectors=mine.vectors[order])
        asked = self._asked(self._notes(name.removeprefix("preferences")))
        texts = [raw(one) for one in asked] if name == "raw" else counted(asked)
        found = encoded(name, [one.user for one in asked], texts)
        if name == "nothing":
            found = replace(found, vectors=np.zeros_like(found.vectors))
        return replace(found, read=np.array([one.read for one in asked]))

    @cached_property
    def _packed(self) -> Any:
        return pack([self.people.events], self.people.videos, DatasetConfig(exposures=True))

    @property
    def _how(self) -> SplitConfig:
        valid, test = (EPOCH_S + day * DAY_S for day in (VALID_DAY, SPLIT_DAY))
        return SplitConfig(name="global_time", valid_from=valid, test_from=test)

    def _notes(self, quality: str) -> Answers:
        try:
            return self.people.described[float(quality)]
        except ValueError:  # raw, nothing and preferences are of what `pocket` saw
            return self.people.pocket

    def _asked(self, notes: Answers) -> list[Dossier]:
        return profile_dossiers(self.bare, notes, MOST, Preferences, CUT)


def raw(one: Dossier) -> str:
    """The lines of notes that a question shows."""
    text = str(one.request.parts[0])
    lines = (line for line in text.splitlines() if line.startswith(WATCHED))
    return " ".join(line.removeprefix(WATCHED) for line in lines)


def counted(asked: Sequence[Dossier]) -> list[str]:
    """Preferences by counting, as text."""
    said = Tallies().answer([one.request for one in asked])
    return [Preferences.as_text(json.loads(a.text)) if isinstance(a, Answer) else "-" for a in said]


def arms() -> list[tuple[study.Arm, dict[str, str]]]:
    """The lines of the table, with the tables that each reads."""
    found = []
    for name, kind in {"din": DINConfig, "dcn": DCNConfig}.items():
        found.append((study.Arm(name, name, kind(**SIZE), TRAIN), {}))
        for told, read in ARMS.items():
            if name == "dcn" and told not in BOTH:
                continue
            settings = KARConfig(
                backbone=name,  # pyright: ignore[reportArgumentType]
                user_knowledge=read.get("user", ""),
                item_knowledge=read.get("item", ""),
                **SIZE,
            )
            found.append((study.Arm(f"{name}, {told}", "kar", settings, TRAIN), read))
    return found


def facts(model: Any, data: Split) -> dict[str, Any]:
    """How even the gates are, and what serving costs beside the backbone: the median of 41 batches
    of 1,024 places in turns, processor seconds."""
    if not isinstance(model, KAR):
        return {}
    gates = {side: float(g.max(1).values.mean()) for side, g in model.gates().items()}
    shown = data.test_shown
    assert shown is not None
    rows = torch.randint(len(shown), (1024,), generator=torch.Generator().manual_seed(0))
    user, item = (torch.from_numpy(x[rows.numpy()]).long() for x in (shown.user, shown.item))
    history = torch.from_numpy(np.stack([np.resize(shown.past[-50:], 20)] * 1024)).long()
    told = torch.zeros(1024, 1, model.config.expert_dim * len(model.towers))  # pyright: ignore
    spent: dict[str, list[float]] = {"kar": [], "backbone": []}
    with torch.inference_mode():
        for _ in range(41):
            for name, given in {"kar": (model,), "backbone": (model.backbone, told)}.items():
                begun = time.process_time()
                given[0].rate(user, history, item[:, None], *given[1:])
                spent[name].append(time.process_time() - begun)
    ratio = float(np.median(spent["kar"]) / np.median(spent["backbone"]))
    return {"largest_gate": gates, "serving_ratio": round(ratio, 3)}


def summary() -> None:
    """The table and its paired differences."""
    print(study.show(TABLE, ("auc", "uauc", "logloss", "ece")))
    made = {row["arm"] for row in study.rows(TABLE)}
    for one, other in ((a.format(b), c.format(b)) for b in ("din", "dcn") for a, c in PAIRS):
        if {one, other} <= made:
            mean, half, seeds = study.paired(TABLE, one, other, "auc")
            print(f"{one} - {other}: auc {mean:+.4f} ± {half:.4f} ({seeds} seeds)")


def main() -> None:
    """Rows that are missing are made; then the table is printed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--work", type=Path, default=Path("work/study"))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2, 3, 4])
    parser.add_argument("--only", nargs="*", help="names of the arms to run")
    parser.add_argument("--summary", action="store_true", help="only sum up what is done")
    given = parser.parse_args()
    for seed in () if given.summary else given.seeds:
        known = Known(population(given.work, seed))
        done = {row["arm"] for row in study.rows(TABLE) if row["seed"] == seed}
        for arm, read in arms():
            if arm.name not in done and (not given.only or arm.name in given.only):
                data = known.of(read.get("user", ""), read.get("item", ""))
                study.run(TABLE, data, [arm], [seed], facts)
    summary()


if __name__ == "__main__":
    main()
