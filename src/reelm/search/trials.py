"""Trials: what was tried and what came of it, kept as lines; and what is to be tried next.

Optuna proposes and holds nothing: the lines are read into a fresh study for each proposal, whose
seed is made of the search's seed and the trial's number. So a killed search, or one that is given
more trials later, tries what an undisturbed one would have tried.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from reelm import files
from reelm.config import Config
from reelm.errors import MissingPackage
from reelm.search.space import Range, Value

NAME, JOURNAL = "trials.jsonl", "study.log"


class Trial(Config):
    """A line of trials.jsonl."""

    number: int
    """0 for the first."""
    state: Literal["running", "done", "failed"]
    """running is written before it is trained, so that a killed search knows what it was at."""
    settings: dict[str, Value]
    """What was proposed: setting -> value."""
    started_at: float
    """Seconds since 1970."""
    valid: float | None = None
    """train.measure at the weights that were kept."""
    run: str | None = None
    """Name of the folder in work/runs, which may have been removed since."""
    cpu_s: float | None = None
    """Processor seconds of its training, validation included; 0 for what was tried before."""
    seconds: float | None = None
    """Wall time of the same, or of what was tried until it failed."""
    reason: str = ""
    """Why it failed, or which earlier trial had the same settings."""


def read(folder: Path) -> list[Trial]:
    """The trials of a search's folder, in order."""
    path = folder / NAME
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [Trial.model_validate_json(line) for line in lines]


def write(folder: Path, trials: Sequence[Trial]) -> None:
    """Write all of them anew, atomically."""
    text = "".join(trial.model_dump_json() + "\n" for trial in trials)
    files.write_text(folder / NAME, text)


def ranked(trials: Sequence[Trial]) -> list[Trial]:
    """Those with a figure, the best first; of equals the earlier one."""
    done = [trial for trial in trials if trial.valid is not None]
    return sorted(done, key=lambda trial: -(trial.valid or 0.0))


def combinations(ranges: Mapping[str, Range]) -> int:
    """How many there are of choices."""
    return math.prod(len(one.values) for one in ranges.values())


def propose(
    ranges: Mapping[str, Range], trials: Sequence[Trial], sampler: str, seed: int
) -> dict[str, Value]:
    """Settings of the next trial."""
    number = len(trials)
    if sampler == "grid":
        drawn = np.random.default_rng(seed).permutation(combinations(ranges))[number]
        places = np.unravel_index(drawn, [len(one.values) for one in ranges.values()])
        pairs = zip(ranges.items(), places, strict=True)
        return {name: one.values[int(place)] for (name, one), place in pairs}
    samplers = optuna().samplers
    kind = samplers.TPESampler if sampler == "tpe" else samplers.RandomSampler
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    study = optuna().create_study(direction="maximize", sampler=kind(seed=own))
    distributions = {name: one.distribution() for name, one in ranges.items()}
    study.add_trials(_frozen(distributions, trials))
    return study.ask(distributions).params


def export(ranges: Mapping[str, Range], trials: Sequence[Trial], folder: Path) -> None:
    """Write the ended trials as a journal that Optuna's own tools read; the study has the
    folder's name."""
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    distributions = {name: one.distribution() for name, one in ranges.items()}
    with files.atomic(folder / JOURNAL) as tmp:
        storage = JournalStorage(JournalFileBackend(str(tmp)))
        study = optuna().create_study(direction="maximize", storage=storage, study_name=folder.name)
        study.add_trials(_frozen(distributions, trials))


def optuna() -> Any:
    """Optuna, saying no more than warnings.

    Raises:
        MissingPackage: it is not installed.
    """
    try:
        import optuna as package
    except ImportError as error:
        raise MissingPackage("optuna", "search", "reelm search") from error
    package.logging.set_verbosity(package.logging.WARNING)
    return package


def _frozen(distributions: Mapping[str, Any], trials: Sequence[Trial]) -> list[Any]:
    """The ended trials as Optuna has them."""
    state = optuna().trial.TrialState
    return [
        optuna().trial.create_trial(
            state=state.COMPLETE if trial.state == "done" else state.FAIL,
            value=trial.valid,
            params=dict(trial.settings),
            distributions=dict(distributions),
            user_attrs={"run": trial.run, "cpu_s": trial.cpu_s, "reason": trial.reason},
        )
        for trial in trials
        if trial.state != "running"
    ]
