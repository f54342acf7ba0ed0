"""What settings may be: ranges as the settings write them, as Optuna has them, as a page draws."""

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from reelm.config import from_toml, to_toml
from reelm.errors import nearest

Value = bool | int | float | str

WORDS = ("choice", "uniform", "loguniform", "int", "logint")
GRAMMAR = "choice(16, 32), uniform(0, 0.5), loguniform(1e-4, 1e-1), int(1, 4) or logint(8, 512)"


@dataclass(frozen=True)
class Range:
    """Some values, or everything between two numbers."""

    word: str
    values: tuple[Any, ...]
    """All of them after choice, else the lowest and the highest, both included."""

    @staticmethod
    def parse(text: str) -> "Range":
        """Read a range such as `int(1, 4)`.

        Raises:
            ValueError: saying what is wrong with it.
        """
        word, opened, inside = text.strip().partition("(")
        if word not in WORDS:
            raise ValueError(f"write it as {GRAMMAR}.{nearest(word, WORDS)}")
        if not opened or not inside.endswith(")"):
            lost = "closing bracket )" if opened else "brackets"
            raise ValueError(f"{word} lacks its {lost}; write it as {GRAMMAR}.")
        values = _values(inside[:-1])
        if word == "choice":
            _check_choices(values)
        else:
            _check_ends(word, values)
        return Range(word, tuple(map(float, values) if word.endswith("uniform") else values))

    def __str__(self) -> str:
        return f"{self.word}({', '.join(map(to_toml, self.values))})"

    @property
    def log(self) -> bool:
        """Whether equal ratios count alike, not equal differences."""
        return self.word.startswith("log")

    def distribution(self) -> Any:
        """The range as Optuna has it."""
        from optuna import distributions

        if self.word == "choice":
            return distributions.CategoricalDistribution(self.values)
        whole = self.word.endswith("int")
        kind: Any = distributions.IntDistribution if whole else distributions.FloatDistribution
        return kind(*self.values, log=self.log)

    def place(self, value: Any) -> float:
        """Where a value lies in the range, 0..1."""
        if self.word == "choice":
            return self.values.index(value) / max(1, len(self.values) - 1)
        low, high = self.values
        if self.log:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)


def flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Tables inside of tables as dotted names: {"model": {"dim": 8}} gives "model.dim", 8."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _values(inside: str) -> list[Any]:
    """What stands between the brackets, as TOML writes it; a bare word is a string."""
    try:
        return tomllib.loads(f"x = [{inside}]")["x"]
    except tomllib.TOMLDecodeError:
        return [from_toml(part.strip()) for part in inside.split(",")]


def _check_choices(values: Sequence[Any]) -> None:
    fit = [isinstance(value, Value) and value != "" for value in values]
    if not values or not all(fit):
        raise ValueError("choice takes numbers, words, true and false.")
    if len(set(values)) < len(values):
        raise ValueError("choice names a value twice.")


def _check_ends(word: str, values: Sequence[Any]) -> None:
    whole = word.endswith("int")
    kinds = (int,) if whole else (int, float)
    fit = [type(value) in kinds and math.isfinite(value) for value in values]
    if len(values) != 2 or not all(fit) or values[0] >= values[1]:
        told = "whole numbers" if whole else "numbers"
        raise ValueError(f"{word} takes two {told}, the lower one first.")
    if word.startswith("log") and values[0] <= 0:
        raise ValueError(f"{word} takes numbers above 0.")
