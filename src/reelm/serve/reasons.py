"""Why a video is in a feed, in one sentence that cites notes and events that exist."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from reelm.serve.facets import Links
from reelm.serve.past import Past
from reelm.serve.videos import Videos

VERBS = {"watch": "watched", "rating": "rated"}
"""Kind of event to what its user did; of other kinds we say "chose"."""


@dataclass(frozen=True)
class Reason:
    """One sentence and what it rests on."""

    sentence: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """Field to value, as said of this video and of those in `because`."""
    because: tuple[str, ...] = ()
    """Videos of the user's past that share these facts, newest first."""


class Reasons:
    """Writes the sentences; says only what the columns in front of it say."""

    def __init__(self, videos: Videos, kinds: Collection[str], personal: bool = True) -> None:
        """
        Args:
            kinds: events of the log, which decide between watched, rated and chose.
            personal: whether the model looks at what the user did.
        """
        self._videos, self._personal = videos, personal
        self._verb = next((VERBS[kind] for kind in VERBS if kind in kinds), "chose")
        self._noun = "clip" if videos.has_files else "video"

    def of(self, source: str, row: int, past: Past, links: Links) -> Reason:
        """The reason for a row that came from "ranked", "model", "new" or "fallback".

        Args:
            links: those of the past's rows.
        """
        if source == "fallback" or (source == "model" and not self._personal):
            return Reason(self._popular(row))
        opening = "New here, and you" if source == "new" else "Because you"
        link = links.best(row)
        if link is None:
            return Reason(self._unlinked(source, past))
        facet, rows = link
        sentence = f"{opening} {self._did(rows, past)} {self._many(len(rows))} {facet.phrase()}."
        because = tuple(self._videos.ids[r] for r in reversed(rows))
        return Reason(sentence, dict(zip(facet.fields, facet.values, strict=True)), because)

    def _unlinked(self, source: str, past: Past) -> str:
        if source == "new":
            return "New here: nobody had seen it when the model was trained."
        count = len(past.rows)
        which = "one" if count == 1 else self._many(count)
        return f"Predicted from the last {which} you {self._did(past.rows, past)}."

    def _popular(self, row: int) -> str:
        count = int(self._videos.counts[row])
        if not count:
            return "Something fresh: it was not in the log yet."
        return f"Popular: {self._verb} {'once' if count == 1 else f'{count:,} times'} in the log."

    def _did(self, rows: Sequence[int], past: Past) -> str:
        if past.liked.issuperset(rows):
            return "liked"
        return "finished" if past.finished.issuperset(rows) else self._came(rows, past)

    def _came(self, rows: Sequence[int], past: Past) -> str:
        """How these rows came to be interactions, in a word that is true of all of them."""
        new = past.newer.intersection(rows)
        if not new:
            return self._verb
        alike = self._verb == "watched" or new.issuperset(rows)
        return "watched" if alike and past.watched.issuperset(new) else "chose"

    def _many(self, count: int) -> str:
        return f"a {self._noun}" if count == 1 else f"{count} {self._noun}s"
