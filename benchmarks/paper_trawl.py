"""TRAWL: what the contrasts add to the same adapter trained by the recommender's loss.

    REELM_DATA=... python benchmarks/paper_trawl.py tiktok|goodreads|ml1m [--seeds N]
        [--only ARM ...]

tiktok: data and columns are those of paper_graph.py, and so are schedule (but for patience),
temperature and objective: they were not chosen again for this model.
goodreads: the books and users of paper_kar.py, each user's last book the test and the one before
validation, all books ranked. Books are known by their titles or by what GPT-3.5 wrote from these;
`dealt` vectors are those of other books. What a user is known by is the mean of his books.
ml1m: MovieLens-1M in CoLLM's cut, as paper_kar.py has it, titles and genres; learned from are the
liked films alone. AUC and log loss are of the rated places, whose probabilities are the scores by a
slope and a shift that fit validation best.
`loss alone` has the adapter and no contrast; `dealt` contrasts are the placebo, whose partners are
dealt out to others; `no mask` takes what a user chose too for a negative of his; `cosine` compares
items with what a user chose by one table of frozen vectors as they are, which is what the adapter
must beat on items that training never saw.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import paper_graph
import paper_kar
import polars as pl
import study
from paper_graph import FEATURES, SMOOTH, SOFT, TRAIN
from paper_sasrec import SHOP, SHOP_TRAIN
from study import Arm

from reelm import probabilities
from reelm.data.batches import exposed
from reelm.data.exposures import Exposures
from reelm.data.split import Split
from reelm.evaluate.ranking import asking
from reelm.models import find
from reelm.models.base import Retriever

NONE = {"contrast_user": 0.0, "contrast_item": 0.0, "align": 0.0}
BOTH = {"align": 0.0}
GENTLE = {"contrast_user": 0.01, "contrast_item": 0.01, "align": 0.0}
"""What validation chose in the rendered world (content_study.py)."""
WHOLE = TRAIN.model_copy(update={"patience": 15})
"""All epochs: with contrasts validation stands still from the second to the sixth time and rises
afterwards, where the patience of the graph models' table had ended them (LOG.md)."""
UNTRAINED = ("content", "popularity")  # have one row
AGAINST = {
    "tiktok": [
        ("contrasts", "loss alone"),
        ("gentle contrasts", "loss alone"),
        ("contrasts, align", "contrasts"),
        ("no mask", "contrasts"),
        ("dealt", "loss alone"),
    ],
    "goodreads": [
        ("title, loss alone", "lightgcn"),
        ("title, loss alone", "title of others, loss alone"),
        ("said, loss alone", "title, loss alone"),
        ("said, loss alone", "said of others, loss alone"),
        ("title, contrasts", "title, loss alone"),
        ("said, contrasts", "said, loss alone"),
        ("said, contrasts dealt", "said, loss alone"),
        ("said, contrasts", "title, contrasts"),
        ("said, contrasts", "sasrec"),
    ],
    "ml1m": [
        ("title, loss alone", "lightgcn"),
        ("title, loss alone", "title of others, loss alone"),
        ("title, contrasts", "title, loss alone"),
        ("title, contrasts dealt", "title, loss alone"),
        ("title, contrasts", "sasrec"),
        ("sasrec, title", "sasrec"),
    ],
}


def tiktok() -> list[Arm]:
    """The lines of its table."""
    lines = {
        "loss alone": NONE,
        "contrasts": BOTH,
        "gentle contrasts": GENTLE,
        "dealt": BOTH | {"dealt": True},
        "contrasts, align": {},
        "no mask": BOTH | {"mask": False},
    }
    plain = [fixed(f"cosine, {one}", "content", features=one) for one in FEATURES["features"]]
    return [*plain, *(told(name, FEATURES | more) for name, more in lines.items())]


def goodreads() -> list[Arm]:
    """The lines of its table."""
    return told_by("title", "said")


def ml1m() -> list[Arm]:
    """The lines of its table."""
    return told_by("title")


def told_by(*tables: str) -> list[Arm]:
    """Lines over items that are known by these tables of texts."""
    read = {n: n for n in tables} | {f"{n} of others": f"{n}, dealt" for n in tables}
    plain = [fixed(f"cosine, {n}", "content", features=n) for n in tables]
    alone = [
        told(f"{name}, loss alone", {"features": (table,)} | NONE) for name, table in read.items()
    ]
    contrasts = [told(f"{n}, contrasts", {"features": (n,)} | GENTLE) for n in tables]
    last = tables[-1]
    dealt = told(f"{last}, contrasts dealt", {"features": (last,), "dealt": True} | GENTLE)
    peers = [
        Arm("lightgcn", "lightgcn", find("lightgcn").Config(**SMOOTH), TRAIN),
        sequential("sasrec", {}),
        *(sequential(f"sasrec, {n}", {"items": "both", "features": (n,)}) for n in tables),
    ]
    return [fixed("popularity", "popularity"), *plain, *peers, *alone, *contrasts, dealt]


def fixed(name: str, model: str, **settings: Any) -> Arm:
    """A model that is not trained."""
    return Arm(name, model, find(model).Config(**settings), TRAIN)


def told(name: str, settings: Mapping[str, Any]) -> Arm:
    """An adapter over vectors, with the objective of the graph models' table."""
    return Arm(name, "trawl", find("trawl").Config(**(SOFT | dict(settings))), WHOLE)


def sequential(name: str, settings: Mapping[str, Any]) -> Arm:
    """SASRec with the settings of Amazon Beauty, whose size this is."""
    made = type(SHOP)(**(SHOP.model_dump() | {"objective": "softmax"} | dict(settings)))
    return Arm(name, "sasrec", made, SHOP_TRAIN.model_copy(update={"epochs": 80}))


def books() -> Split:
    """The books and users of paper_kar.py with vectors of titles and descriptions."""
    log, features = paper_kar.books(study.folder() / "goodreads_llm")
    return study.held_out(log.with_columns(event=pl.lit("like")), features)


def films() -> Split:
    """MovieLens-1M as paper_kar.py cuts it. Nobody is asked for a list: `rated` stands for it."""
    cut = paper_kar.ml1m()
    return replace(cut, test=cut.test.take(np.zeros(0, np.int64)))


def rated(model: Retriever, data: Split) -> dict[str, Any]:
    """The figures of rated places in place of those of lists."""
    assert data.valid_shown is not None and data.test_shown is not None
    slope, shift = probabilities.fitted(data.valid_shown.label, scores(model, data.valid_shown))
    found, shown = scores(model, data.test_shown), data.test_shown
    likely = probabilities.sigmoid(slope * found + shift)
    figures = probabilities.rate(shown.label, found, likely, shown.user)
    return {"test": {name: round(value, 5) for name, value in figures.items()}}


def scores(model: Retriever, shown: Exposures) -> np.ndarray:
    """What the model says of every place with the history it had."""
    parts = []
    with asking(model):
        for batch in exposed(shown, 256, 50):
            every = model.score(batch.user, batch.history)
            parts.append(every.gather(1, batch.item[:, None])[:, 0].float().numpy())
    return np.concatenate(parts)


RECALL = ("recall@20", "ndcg@20")
DATA: dict[str, tuple[Callable[[], Split], Callable[[], list[Arm]], Any, tuple[str, ...]]] = {
    "tiktok": (study.tiktok, tiktok, paper_graph.parts, RECALL),
    "goodreads": (books, goodreads, None, RECALL),
    "ml1m": (films, ml1m, rated, ("auc", "uauc", "logloss")),
}


def main() -> None:
    """Rows that are missing are made; then the table and the paired differences are printed."""
    asked = study.asked(*DATA)
    read, lines, extra, metrics = DATA[asked.data]
    table, data = f"paper_trawl_{asked.data}", read()
    chosen = study.wanted(lines(), asked.only)
    for seed in range(asked.seeds):
        some = [arm for arm in chosen if not (seed and arm.model in UNTRAINED)]
        study.run(table, data, some, [seed], extra)
    print(study.show(table, metrics))
    made = {row["arm"] for row in study.rows(table)}
    for one, other in AGAINST[asked.data]:
        if {one, other} <= made:
            mean, half, seeds = study.paired(table, one, other, metrics[0])
            print(f"{one} - {other}: {metrics[0]} {mean:+.4f} ± {half:.4f} ({seeds} seeds)")


if __name__ == "__main__":
    main()
