"""What would make every trial of a search fail, or some trials for certain: found before the first
one, since a search takes hours."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from reelm.config import Config, to_toml
from reelm.data.split import Split
from reelm.errors import ConfigError, nearest
from reelm.models import refuse_unread
from reelm.models.base import Recommender
from reelm.search.space import Range, Value
from reelm.train import TrainConfig

JUDGES = ("measure", "validate_on", "seed")  # figures under two values of these do not compare

Sections = Mapping[str, Mapping[str, Any]]


def named(model: str, kind: type[Recommender], base: Sections, ranges: Mapping[str, Range]) -> None:
    """See that there is something to search, and that all that is named can be set.

    Raises:
        ConfigError: it is not so.
    """
    if not ranges:
        raise ConfigError(
            "search.space is empty. Name what to search, e.g. "
            "--set 'search.space.train.learning_rate=loguniform(1e-4, 1e-1)'."
        )
    kinds = {"model": kind.Config, "train": TrainConfig}
    told = [f"{section}.{key}" for section, values in base.items() for key in values]
    known = [f"{section}.{key}" for section, kind in kinds.items() for key in kind.model_fields]
    asked = {name.removeprefix("model.") for name in [*ranges, *told] if name.startswith("model.")}
    refuse_unread(model, asked)
    for name in [*ranges, *told]:
        if name not in known:
            hint = nearest(name, known)
            raise ConfigError(f"{name}: {model} has no such setting to search.{hint}")
    for name in (f"train.{key}" for key in JUDGES):
        if name in ranges:
            raise ConfigError(f"search.space: {name} decides how trials are judged; fix it.")


def values(kind: type[Recommender], base: Sections, ranges: Mapping[str, Range]) -> None:
    """See that every choice and both ends of every range are what their setting may be.

    Raises:
        ConfigError: some are not, each with the reason; or a setting that is not searched is not.
    """
    kinds: dict[str, type[Config]] = {"model": kind.Config, "train": TrainConfig}
    wrong = []
    for section, own in kinds.items():
        faults = _faults(own, _first(section, base, ranges))
        wrong += [f"{section}.{k}: {why}" for k, why in faults if f"{section}.{k}" not in ranges]
    for name, one in ranges.items():
        section, _, key = name.partition(".")
        for value in _tried(one):
            told = _first(section, base, ranges) | {key: value}
            why = dict(_faults(kinds[section], told)).get(key)
            if why is not None:
                wrong.append(f"search.space: {name} = {to_toml(value)}: {why}")
    if wrong:
        raise ConfigError("; ".join(wrong))


def needed(kind: type[Recommender], base: Sections, ranges: Mapping[str, Range]) -> tuple[str, ...]:
    """What some trial needs the dataset to be loaded with, as `Recommender.needs` names it."""
    first, found = _first("model", base, ranges), dict[str, None]()
    for name, one in ranges.items():
        section, _, key = name.partition(".")
        changed = (
            [{key: v} for v in one.values] if (section, one.word) == ("model", "choice") else []
        )
        for change in [{}, *changed]:
            try:
                found |= dict.fromkeys(kind.needs(kind.Config.model_validate(first | change)))
            except (ValidationError, ConfigError):  # what does not go together
                continue
    return tuple(found)


def loaded(model: str, needs: Sequence[str], split: Split) -> None:
    """See that a dataset has what trials need.

    Raises:
        MissingInput: it lacks some, and how it is made.
    """
    for need in needs:
        kind, _, name = need.partition(".")
        if kind == "features":
            split.train.feature(name, model)
        elif kind == "profiles":
            split.train.profile(name, model)


def _first(section: str, base: Sections, ranges: Mapping[str, Range]) -> dict[str, Any]:
    """The section of a trial that took the first value of everything."""
    own = {name.partition(".")[2]: one.values[0] for name, one in ranges.items()
           if name.startswith(f"{section}.")}  # fmt: skip
    return dict(base.get(section, {})) | own


def _tried(one: Range) -> tuple[Value, ...]:
    """All choices; or the ends and, of numbers with a fraction, one in between that has one."""
    if not one.word.endswith("uniform"):
        return one.values
    low, high = one.values
    return (low, low + (high - low) * 0.38197, high)


def _faults(kind: type[Config], given: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings and what is wrong with each of them alone; not what does not go together, which a
    trial may choose otherwise."""
    try:
        kind.model_validate(dict(given))
    except ValidationError as error:
        yield from ((str(one["loc"][0]), one["msg"]) for one in error.errors() if one["loc"])
    except ConfigError:
        return
