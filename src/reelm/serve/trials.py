"""A/B: which of two runs a user is shown, and what came of it by arm.

The arm follows from a salted hash of the user and the trial's name: the same at every request and
after every restart, and another for the next trial. What the report counts is everybody who was
shown anything since the trial began, by the arm that the hash says, whatever run served them then.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict

from reelm.errors import ConfigError
from reelm.serve.outcomes import Outcome, Trial
from reelm.serve.store import Store
from reelm.unpaired import mismatch_p, welch_interval

Arm = Literal["a", "b"]
UNLIKELY = 0.001
"""A division into arms that chance makes less often than this is an alarm."""


class Told(BaseModel):
    """Base of the parts of a report."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class ArmTold(Told):
    """One arm."""

    runs: dict[str, int]
    """Places shown by each run; more than one where the run was changed meanwhile."""
    users: int
    """Who were shown anything."""
    impressions: int
    """Places that were shown."""
    met: int
    """Places with a watch, like, share or skip."""
    portion: float | None
    """Mean over users of the mean portion of what they watched, replays cut at 1."""
    likes: float | None
    """Mean over users of the share of places met that they like."""
    skips: float | None
    """Mean over users of the share of places met that they skipped."""
    met_each: float | None
    """Places met by each user."""


class Difference(Told):
    """Arm b minus arm a."""

    mean: float
    low: float
    high: float
    """Ends of the 95 % interval over users (Welch); right for one look, not for many."""


class TrialReport(Told):
    """What came of a trial so far."""

    name: str
    share: float
    """Of all users, meant for arm b."""
    began_at: float
    """Seconds UTC."""
    a: ArmTold
    b: ArmTold
    differences: dict[str, Difference]
    """Of portion, likes, skips and met_each, where each arm has two users at least."""
    mismatch_p: float
    """How likely chance divides users at least as unevenly."""
    warnings: list[str]


MEASURES = ("portion", "likes", "skips", "met_each")


def begin(store: Store, name: str, share: float) -> Trial:
    """The trial of that name and share, which goes on if the store knows it."""
    return store.begin_trial(Trial(name, share, time.time()))


def arm_of(store: Store, trial: Trial, user: str) -> Arm:
    """Which arm a user belongs to."""
    return "b" if store.draw(trial.name, user) < trial.share else "a"


def report(store: Store, name: str | None = None) -> TrialReport:
    """What came of a trial, the newest or the newest of that name.

    Raises:
        ConfigError: there is none.
    """
    found = [trial for trial in store.trials() if name in (None, trial.name)]
    if not found:
        which = "no trial" if name is None else f"no trial called {name!r}"
        raise ConfigError(f"{which} was begun in this store. Serve with --set serve.ab=RUN.")
    return _report(store, found[-1])


def text(told: TrialReport) -> str:
    """A report as a table for people."""
    lines = [f"trial {told.name}: {told.share:.0%} of users in arm b", ""]
    lines.append(f"{'':12}{'a':>12}{'b':>12}   b - a, 95 % over users")
    for name in ("users", "impressions", "met", *MEASURES):
        row = f"{name:12}" + "".join(f"{_said(getattr(arm, name)):>12}" for arm in (told.a, told.b))
        if name in told.differences:
            found = told.differences[name]
            row += f"   {found.mean:+.4f} [{found.low:+.4f}, {found.high:+.4f}]"
        lines.append(row)
    for name, arm in (("a", told.a), ("b", told.b)):
        shown = ", ".join(f"{run} ({count})" for run, count in arm.runs.items()) or "nothing yet"
        lines.append(f"arm {name} was shown: {shown}")
    return "\n".join([*lines, *(f"warning: {one}" for one in told.warnings)])


def _said(value: int | float | None) -> str:
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.4f}"


def _report(store: Store, trial: Trial) -> TrialReport:
    by: dict[Arm, list[Outcome]] = {"a": [], "b": []}
    for outcome in store.outcomes(trial.began_at):
        by[arm_of(store, trial, outcome.user_id)].append(outcome)
    users = {arm: _by_user(rows) for arm, rows in by.items()}
    tables = {arm: {n: _table(some, n) for n in MEASURES} for arm, some in users.items()}
    arms: dict[Arm, ArmTold] = {arm: _told(by[arm], users[arm], tables[arm]) for arm in by}
    pairs = {n: (tables["b"][n], tables["a"][n]) for n in MEASURES}
    differences = {n: _difference(*both) for n, both in pairs.items() if min(map(len, both)) > 1}
    p = mismatch_p(arms["a"].users, arms["b"].users, trial.share)
    warnings = _warnings(trial, arms, p)
    return TrialReport(
        name=trial.name, share=trial.share, began_at=trial.began_at, a=arms["a"], b=arms["b"],
        differences=differences, mismatch_p=p, warnings=warnings,
    )  # fmt: skip


def _by_user(rows: Sequence[Outcome]) -> list[Counter[str]]:
    """What each user did, of all runs together."""
    total: dict[str, Counter[str]] = {}
    for row in rows:
        counts = {name: getattr(row, name) for name in Outcome.COUNTED}
        total.setdefault(row.user_id, Counter()).update(counts)
    return list(total.values())


def _table(users: Sequence[Mapping[str, int | float]], measure: str) -> Float[np.ndarray, "users"]:
    """One figure of each user; those about whom it says nothing are left out."""
    if measure == "met_each":
        return np.array([user["met"] for user in users], np.float64)
    above, below = {
        "portion": ("portion", "watched"), "likes": ("liked", "met"), "skips": ("skipped", "met"),
    }[measure]  # fmt: skip
    return np.array([user[above] / user[below] for user in users if user[below]], np.float64)


def _told(
    rows: Sequence[Outcome],
    users: Sequence[Mapping[str, int | float]],
    tables: Mapping[str, Float[np.ndarray, "_"]],
) -> ArmTold:
    runs: Counter[str] = Counter()
    for row in rows:
        runs[row.run] += row.impressions
    means = {n: float(values.mean()) if len(values) else None for n, values in tables.items()}
    met = int(sum(user["met"] for user in users))
    shown = runs.total()
    return ArmTold(
        runs=dict(runs.most_common()), users=len(users), impressions=shown, met=met, **means
    )


def _difference(b: Float[np.ndarray, "users_b"], a: Float[np.ndarray, "users_a"]) -> Difference:
    found = welch_interval(b, a)
    return Difference(mean=float(found.mean), low=float(found.low), high=float(found.high))


def _warnings(trial: Trial, arms: Mapping[Arm, ArmTold], p: float) -> list[str]:
    out = []
    a, b = arms["a"], arms["b"]
    if p < UNLIKELY:
        out.append(
            f"sample ratio mismatch: {b.users} of {a.users + b.users} users are in arm b, "
            f"{trial.share:.1%} were meant to be (p = {p:.2g}). Users of one arm are lost "
            "somewhere: find out where before you believe the differences."
        )
    both = set(a.runs) & set(b.runs)
    if both:
        out.append(f"both arms were shown {', '.join(sorted(both))} since the trial began.")
    return out
