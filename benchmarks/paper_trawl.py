"""TRAWL on TikTok: what the contrasts add to the same adapter trained by the recommender's loss.

    REELM_DATA=... python benchmarks/paper_trawl.py [--seeds N] [--only ARM ...]

Data, schedule and columns are those of paper_graph.py, and so are temperature and objective: they
were not chosen again for this model. `loss alone` has the adapter and no contrast; `dealt` is the
placebo, whose partners are dealt out to others; `no mask` takes what a user chose too for a
negative of his; `cosine` compares videos with what a user watched by one table of frozen vectors
as they are, which is what the adapter must beat on videos that training never saw.
"""

import study
from paper_graph import FEATURES, SOFT, TRAIN, parts
from study import Arm

from reelm.models import find

TABLE = "paper_trawl_tiktok"
NONE = {"contrast_user": 0.0, "contrast_item": 0.0, "align": 0.0}
BOTH = {"align": 0.0}
UNTRAINED = "content"  # has one row
AGAINST = {"contrasts": "loss alone", "contrasts, align": "contrasts", "no mask": "contrasts",
           "dealt": "loss alone"}  # fmt: skip


def arms() -> list[Arm]:
    """The lines of the table."""
    lines = {
        "loss alone": NONE,
        "contrasts": BOTH,
        "dealt": BOTH | {"dealt": True},
        "contrasts, align": {},
        "no mask": BOTH | {"mask": False},
    }
    kind = find("trawl").Config
    plain = [
        Arm(f"cosine, {one}", UNTRAINED, find(UNTRAINED).Config(features=one), TRAIN)
        for one in FEATURES["features"]
    ]
    told = [
        Arm(name, "trawl", kind(**(FEATURES | SOFT | more)), TRAIN) for name, more in lines.items()
    ]
    return [*plain, *told]


def main() -> None:
    """Rows that are missing are made; then the table and the paired differences are printed."""
    asked = study.asked()
    data = study.tiktok()
    chosen = study.wanted(arms(), asked.only)
    for seed in range(asked.seeds):
        some = [arm for arm in chosen if not (seed and arm.model == UNTRAINED)]
        study.run(TABLE, data, some, [seed], parts)
    print(study.show(TABLE, ("recall@20", "ndcg@20")))
    made = {row["arm"] for row in study.rows(TABLE)}
    for one, other in AGAINST.items():
        if {one, other} <= made:
            mean, half, seeds = study.paired(TABLE, one, other, "recall@20")
            print(f"{one} - {other}: recall@20 {mean:+.4f} ± {half:.4f} ({seeds} seeds)")


if __name__ == "__main__":
    main()
