"""What may be shown at all, by columns of the catalogue."""

import time

import numpy as np
from jaxtyping import Bool, Int
from pydantic import NonNegativeInt, PositiveFloat

from reelm.config import Config
from reelm.errors import ConfigError
from reelm.serve.videos import Videos

DAY_S = 86400.0


class Rules(Config):
    """Filters over the catalogue. A video whose value is unknown does not pass, as nobody can say
    that it may be shown; `unknown_passes` lets it."""

    languages: tuple[str, ...] = ()
    """Languages that are shown (column `language`), in any case of letters; empty shows all."""
    licences: tuple[str, ...] = ()
    """Licences that are shown (column `licence`), in any case of letters; empty shows all."""
    max_age_rating: NonNegativeInt | None = None
    """Highest age in years that a video may ask for (column `age_rating`); unset shows all."""
    newest_days: PositiveFloat | None = None
    """Days since its upload (column `uploaded_at`) after which a video is no longer shown."""
    unknown_passes: bool = False
    """Whether a video passes a filter of which its value is unknown."""

    def passing(self, videos: Videos, now: float | None = None) -> Bool[np.ndarray, "rows"]:
        """Which rows may be shown.

        Args:
            now: seconds UTC; the present if not given.

        Raises:
            ConfigError: a filter is set, and no video of the catalogue has its column.
        """
        out = np.ones(len(videos.ids), bool)
        if self.languages:
            out &= self._among(videos, "language", self.languages)
        if self.licences:
            out &= self._among(videos, "licence", self.licences)
        if self.max_age_rating is not None:
            years = self._column(videos, "age_rating", "max_age_rating")
            out &= [self._young_enough(age) for age in years]
        if self.newest_days is not None:
            self._column(videos, "uploaded_at", "newest_days")
            oldest = (time.time() if now is None else now) - DAY_S * self.newest_days
            known = np.isfinite(videos.uploaded)
            out &= np.where(known, videos.uploaded >= oldest, self.unknown_passes)
        return out

    def _among(self, videos: Videos, name: str, shown: tuple[str, ...]) -> Bool[np.ndarray, "rows"]:
        wanted = {value.casefold() for value in shown}
        values = self._column(videos, name, name + "s")
        passes = [
            self.unknown_passes if value in (None, "") else str(value).casefold() in wanted
            for value in values
        ]
        return np.array(passes, bool)

    def _young_enough(self, age: object) -> bool:
        """Ages are numbers, or texts such as "12" and "16+"."""
        digits = str(age).strip().removesuffix("+").removesuffix(".0")
        if age is None or not digits.isdecimal():
            return self.unknown_passes
        assert self.max_age_rating is not None
        return int(digits) <= self.max_age_rating

    def _column(self, videos: Videos, name: str, setting: str) -> list[object]:
        values = videos.column(name)
        if all(value is None for value in values):
            raise ConfigError(
                f"engine.{setting} is set, but no video of the catalogue has a value in column "
                f"{name!r}. Ingest a catalogue with that column, or leave the setting out."
            )
        return values


class Expiry:
    """Videos that grow too old while the service runs."""

    def __init__(self, videos: Videos, days: float | None) -> None:
        """`days` as `Rules.newest_days`."""
        self._days = days
        known = np.flatnonzero(videos.usable & np.isfinite(videos.uploaded))
        self._rows = known[np.argsort(videos.uploaded[known])] if days else known[:0]
        self._times = videos.uploaded[self._rows]

    def rows(self, now: float) -> Int[np.ndarray, "expired"]:
        """Rows that passed when the engine was made and no longer do; `now` in seconds UTC."""
        if self._days is None:
            return self._rows[:0]
        return self._rows[: np.searchsorted(self._times, now - DAY_S * self._days)]
