"""What can be said of a video in a word or two, as integer columns: tastes and reasons use them.

A facet is a small fact such as subject = cat, colour + subject = red cat, hashtag = #food or
creator = mia. Facets come from notes (the values a model gave), hashtags and creators.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

PAIRS = (("colour", "subject"), ("tempo", "instrument"), ("mood", "instrument"))
"""Fields that say more together; both are still facets of their own."""
SILENT = {"", "none", "unknown", "null", "n/a", "other"}
"""Values that say nothing, so nothing is recommended because of them."""
LONGEST = 40
"""Characters; longer values are free text, not facets."""
TELLING = {"hashtag": 0.5, "creator": 0.7, "light": 0.6, "tempo": 0.8}
"""How good a reason a facet makes, against 1 for a note of what is in the video itself."""
PAIR_TELLING = 1.3
SMOOTHING = 4.0
"""Videos' worth of doubt: how many watched videos it takes to trust a taste half."""

PHRASES: dict[tuple[str, ...], str] = {
    ("colour", "subject"): "with {a} {0} {1}",
    ("tempo", "instrument"): "with {0} {1} music",
    ("mood", "instrument"): "with {0} {1} music",
    ("subject",): "with {a} {0}",
    ("colour",): "with something {0}",
    ("motion",): "with {0} movement",
    ("scene",): "with {a} {0} scene",
    ("light",): "in {0} light",
    ("effect",): "with {0}",
    ("word",): "that say “{0}”",
    ("instrument",): "with {0} music",
    ("tempo",): "with {0} music",
    ("mood",): "with {0} music",
    ("hashtag",): "tagged {0}",
    ("creator",): "by {0}",
}
MOVEMENT = {
    "still": "no", "left": "leftward", "right": "rightward", "up": "upward", "down": "downward",
    "spin": "spinning", "pulse": "pulsing", "bounce": "bouncing",
}  # fmt: skip
"""How kinds of motion are said before "movement"."""
LIGHT = {"day": "by day", "sunset": "at sunset", "night": "at night"}


@dataclass(frozen=True)
class Facet:
    """One fact that several videos may share."""

    fields: tuple[str, ...]
    values: tuple[str, ...]

    def phrase(self) -> str:
        """What follows "clips" in a sentence: `with a red cat`, `tagged #food`."""
        values = self.values
        if self.fields == ("motion",):
            values = tuple(MOVEMENT.get(v, v) for v in values)
        if self.fields == ("light",) and values[0] in LIGHT:
            return LIGHT[values[0]]
        known = PHRASES.get(self.fields)
        if known is None:
            return "with " + " and ".join(
                f"{field.replace('_', ' ')} {value}"
                for field, value in zip(self.fields, values, strict=True)
            )
        article = "an" if values[0][:1].lower() in "aeiou" else "a"
        return known.replace("{a}", article).format(*values)


class Facets:
    """The facets of every row, packed: row r has `facet[offsets[r]:offsets[r + 1]]`."""

    def __init__(
        self, names: Sequence[Facet], row: Int[np.ndarray, "pairs"],
        facet: Int[np.ndarray, "pairs"], rows: int,
    ) -> None:  # fmt: skip
        """
        Args:
            row, facet: which of `rows` rows holds which of `names`, each pair once; by row.
        """
        self.names = tuple(names)
        lengths = np.bincount(row, minlength=rows)
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.facet, self._row = facet.astype(np.int32), row.astype(np.int32)
        held = np.bincount(facet, minlength=len(names))
        self.share = held / max(1, rows)  # of all rows, by facet

    @staticmethod
    def of_rows(
        ids: Sequence[str], noted: "Noted | None" = None,
        hashtags: pl.Series | None = None, creators: pl.Series | None = None,
    ) -> "Facets":  # fmt: skip
        """Facets of each row: those of its video's notes, then its hashtags, then its creator.

        Columns are gone through as columns, as there may be millions of rows.

        Args:
            hashtags: texts as `tags_of` reads them; null for none.
        """
        noted = noted or Noted.of({})
        number = dict(noted.number)
        parts = [noted.rows(ids)]
        for name, column in (("hashtag", _tags(hashtags)), ("creator", _creators(creators))):
            values = column["value"].unique(maintain_order=True)
            codes = [number.setdefault(Facet((name,), (v,)), len(number)) for v in values]
            coded = column["value"].replace_strict(values, codes, return_dtype=pl.Int64)
            parts.append(
                (column["row"].cast(pl.Int64).to_numpy(), coded.to_numpy().astype(np.int64))
            )
        row, facet = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.argsort(row, kind="stable")
        return Facets(tuple(number), row[order], facet[order], len(ids))

    def of(self, row: int) -> Int[np.ndarray, "held"]:
        """The facets that one row has."""
        return self.facet[self.offsets[row] : self.offsets[row + 1]]

    def taste(self, rows: Sequence[int]) -> Float[np.ndarray, "facets"]:
        """How much more often each facet comes in `rows` than by chance: log of the ratio.

        Pulled towards 0 by SMOOTHING; all 0 without rows.
        """
        return self._taste(rows, np.arange(len(self.names)))

    def _taste(
        self, rows: Sequence[int], among: Int[np.ndarray, "facets"]
    ) -> Float[np.ndarray, "facets"]:
        """`taste` of some facets only."""
        held = self._held(np.array(rows, np.int64))[1]
        found = np.bincount(held, minlength=len(self.names))[among]
        expected = np.maximum(self.share[among], 1e-9)
        return np.log((found + SMOOTHING * expected) / ((len(rows) + SMOOTHING) * expected))

    def score(self, taste: Float[np.ndarray, "facets"]) -> Float[np.ndarray, "rows"]:
        """Sum of the tastes for what each row holds; 0 for a row without facets."""
        total = np.bincount(self._row, taste[self.facet], minlength=len(self.offsets) - 1)
        return total.astype(np.float64)

    def liking(
        self, past: Sequence[int], rows: Int[np.ndarray, "chosen"] | None = None
    ) -> Float[np.ndarray, "chosen"]:
        """`score` of these rows, or of all, by the taste that `past` shows."""
        if rows is None:
            return self.score(self.taste(past))
        place, held = self._held(rows)
        total = np.bincount(place, self._taste(past, held), minlength=len(rows))
        return total.astype(np.float64)

    def dense(self, rows: Int[np.ndarray, "chosen"]) -> Bool[np.ndarray, "chosen held"]:
        """Which of the given rows holds which facet; those that none holds are left out."""
        place, held = self._held(rows)
        names, column = np.unique(held, return_inverse=True)
        out = np.zeros((len(rows), len(names)), bool)
        out[place, column] = True
        return out

    def _held(
        self, rows: Int[np.ndarray, "chosen"]
    ) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
        """Place among the given rows, and facet, of all that they hold."""
        return _taken(self.offsets, self.facet, rows)

    def links(self, past: Sequence[int]) -> "Links":
        """What links rows to one user's past."""
        return Links(self, past)


@dataclass(frozen=True, eq=False)
class Noted:
    """The facets of all notes, packed by video: found once, however often rows are made of them."""

    number: Mapping[Facet, int]
    """Of each facet, in the order in which they were found."""
    place: Mapping[str, int]
    """Of each video."""
    offsets: Int[np.ndarray, "ends"]
    facet: Int[np.ndarray, "pairs"]
    """The video at place p has `facet[offsets[p]:offsets[p + 1]]`."""

    @staticmethod
    def of(answers: Mapping[str, Mapping[str, object]], before: "Noted | None" = None) -> "Noted":
        """The facets of these notes by video, and of all others those that were found `before`."""
        before = before or Noted({}, {}, np.zeros(1, np.int64), np.zeros(0, np.int32))
        number, first = dict(before.number), len(before.offsets) - 1
        place = {video: first + at for at, video in enumerate(answers)}
        found = [
            [number.setdefault(one, len(number)) for one in facets_of(answer)]
            for answer in answers.values()
        ]
        ends = before.offsets[-1] + np.cumsum(np.fromiter(map(len, found), np.int64, len(found)))
        facet = np.fromiter((one for some in found for one in some), np.int32)
        return Noted(
            number, {**before.place, **place}, np.concatenate([before.offsets, ends]),
            np.concatenate([before.facet, facet]),
        )  # fmt: skip

    def rows(self, ids: Sequence[str]) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
        """Row and facet of all that these videos hold."""
        place = np.fromiter((self.place.get(video, -1) for video in ids), np.int64, len(ids))
        known = np.flatnonzero(place >= 0)
        at, facet = _taken(self.offsets, self.facet, place[known])
        return known[at], facet


class Links:
    """Which rows of one user's past hold which facet; made once for all places of a page."""

    def __init__(self, facets: Facets, past: Sequence[int]) -> None:
        self._facets, self._past = facets, dict.fromkeys(past)
        rows = list(self._past)
        place, held = facets._held(np.array(rows, np.int64))
        self._holders: dict[int, list[int]] = {}
        for at, facet in zip(place.tolist(), held.tolist(), strict=True):
            self._holders.setdefault(facet, []).append(rows[at])

    def best(self, row: int) -> tuple[Facet, list[int]] | None:
        """The facet that best links a row to the past, with the past rows that hold it.

        The best one is held by many of the past, and by more of them than by chance; a hashtag
        that everybody uses links nothing. None if nothing does.
        """
        most, best = 0.0, None
        others = len(self._past) - (row in self._past)
        for facet in sorted(self._facets.of(row).tolist()):
            found = [other for other in self._holders.get(facet, ()) if other != row]
            strength = len(found) * self._telling(facet, len(found), others) if found else 0.0
            if strength > most:
                most, best = strength, (self._facets.names[facet], found)
        return best

    def _telling(self, facet: int, found: int, rows: int) -> float:
        """How much more often than by chance, and how good a reason that makes."""
        fields = self._facets.names[facet].fields
        weight = TELLING.get(fields[0], 1.0) if len(fields) == 1 else PAIR_TELLING
        expected = max(float(self._facets.share[facet]), 1e-9)
        return weight * math.log((found + SMOOTHING * expected) / ((rows + SMOOTHING) * expected))


def _taken(
    offsets: Int[np.ndarray, "ends"], packed: Int[np.ndarray, "_"], rows: Int[np.ndarray, "chosen"]
) -> tuple[Int[np.ndarray, "pairs"], Int[np.ndarray, "pairs"]]:
    """Place among the chosen rows, and value, of all that a packed column has of them."""
    starts, ends = offsets[rows], offsets[rows + 1]
    lengths = ends - starts
    place = np.repeat(np.arange(len(rows)), lengths)
    shift = np.repeat(starts - (np.cumsum(lengths) - lengths), lengths)
    return place, packed[np.arange(len(place)) + shift]


def facets_of(answer: Mapping[str, object]) -> list[Facet]:
    """Facets of one video's notes: short values, and telling pairs of them."""
    short = {field: value.strip() for field, value in answer.items() if isinstance(value, str)}
    said = {f: v for f, v in short.items() if v.lower() not in SILENT and len(v) <= LONGEST}
    out = [Facet(pair, (said[pair[0]], said[pair[1]])) for pair in PAIRS if set(pair) <= set(said)]
    out += [Facet((field,), (value,)) for field, value in said.items() if field != "count"]
    return out


def _tags(texts: pl.Series | None) -> pl.DataFrame:
    """Row and hashtag, each once; what `tags_of` says, for a column."""
    words = (
        _numbered(texts)
        .select("row", value=pl.col("value").str.extract_all(r"[^\s,]+"))
        .explode("value", empty_as_null=False)
    )
    bare = pl.col("value").str.strip_chars_start("#").str.slice(0, LONGEST)
    found = words.with_columns(bare).filter(pl.col("value") != "")
    return found.with_columns(value=pl.lit("#") + pl.col("value")).unique(maintain_order=True)


def _creators(names: pl.Series | None) -> pl.DataFrame:
    short = _numbered(names).with_columns(pl.col("value").str.slice(0, LONGEST))
    return short.filter(pl.col("value") != "")


def _numbered(column: pl.Series | None) -> pl.DataFrame:
    given = pl.Series([], dtype=pl.String) if column is None else column.cast(pl.String)
    return pl.DataFrame({"value": given}).with_row_index("row").drop_nulls()


def tags_of(hashtags: str | None) -> list[str]:
    """`["#cats", "#fun"]` from "#cats #fun", "cats, fun" and the like; each once."""
    words = (word.lstrip("#")[:LONGEST] for word in (hashtags or "").replace(",", " ").split())
    return list(dict.fromkeys("#" + word for word in words if word))
