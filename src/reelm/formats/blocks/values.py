"""Columns of any type as ids, numbers, times and text."""

import polars as pl

from reelm.errors import BadData

NO_ID = ["", "nan", "NaN", "null", "None"]
"""What files say where there is no id."""

EXACT = 2**53
"""Whole numbers up to here are floats without loss."""

TYPICAL = 100_000  # times that are looked at to tell their unit
UNITS = ((1e17, 1e9, "nanoseconds"), (1e14, 1e6, "microseconds"), (1e11, 1e3, "milliseconds"))
"""A typical time above the first number is counted in the second number's share of a second."""

TIMES = (
    "ISO 8601 such as 2025-12-31 10:00 or 2025-12-31T10:00:00+01:00; or seconds, milliseconds, "
    "microseconds or nanoseconds since 1970"
)
"""Times that `seconds` reads, for people."""

CENTURY = (978_307_200.0, 4_102_444_800.0)
"""Seconds UTC from 2001 to 2100."""


def identifier(column: pl.Series) -> pl.Series:
    """Ids as text without blanks around, accents in the composed form (NFC); 12.0 is 12, be it a
    number or text; empty ones, NaN and infinity are null.

    Raises:
        BadData: the column holds neither numbers nor text, or floats too large to be exact.
    """
    if column.dtype.is_float():
        column = _whole(column)
    if column.dtype.is_integer():
        return column.cast(pl.String)
    if column.dtype not in (pl.String, pl.Categorical, pl.Enum, pl.Null):
        raise BadData(f"column {column.name!r} holds {column.dtype}; ids are numbers or text")
    ids = column.cast(pl.String).str.strip_chars()
    if ids.str.ends_with(".0").any():
        ids = ids.str.replace(r"^(-?\d+)\.0$", "${1}")
    if ids.str.len_bytes().sum() != ids.str.len_chars().sum():
        ids = ids.str.normalize("NFC")
    return ids.set(ids.is_in(NO_ID).fill_null(False), None)


def _whole(column: pl.Series) -> pl.Series:
    """Floats as text: whole numbers without a point, null for what is no number."""
    column = column.cast(pl.Float64)
    column = column.set(~column.is_finite().fill_null(True), None)
    if (column.abs() > EXACT).any():
        raise BadData(
            f"column {column.name!r} holds ids as floats above 2^53, which lost digits when they "
            "were written. Store ids as integers or text."
        )
    whole = column.cast(pl.Int64, strict=False)
    is_whole = (column == whole).fill_null(False)
    return whole.cast(pl.String).zip_with(is_whole, column.cast(pl.String))


def number(column: pl.Series | None, rows: int) -> pl.Series:
    """Floats; null where there is none or it cannot be read."""
    if column is None:
        return pl.repeat(None, rows, dtype=pl.Float64, eager=True)
    numbers = column.cast(pl.Float64, strict=False)
    if column.dtype == pl.String and numbers.null_count() > column.null_count():
        return _pointed(column.str.strip_chars()).cast(pl.Float64, strict=False)
    return numbers


def _pointed(column: pl.Series) -> pl.Series:
    """Decimal commas as points, if it is plain that they part no thousands: 2,5 and 0,125 do not,
    and then 2,125 in the same column does not either."""
    plain = column.str.contains(r"^-?(\d+,(\d{1,2}|\d{4,})|0,\d+)$").any()
    return column.str.replace(r"^(-?\d+),(\d+)$", "${1}.${2}") if plain else column


def text(column: pl.Series | None, rows: int) -> pl.Series:
    """Text, lists joined by spaces; empty text is null."""
    if column is None:
        return number(None, rows).cast(pl.String)
    if isinstance(column.dtype, pl.List):
        column = column.cast(pl.List(pl.String)).list.join(" ")
    column = column.cast(pl.String).str.strip_chars()
    return column.set((column == "").fill_null(False), None)


def given(column: pl.Series) -> pl.Series:
    """Where something is written at all."""
    return column.is_not_null() if column.dtype.is_numeric() else text(column, 0).is_not_null()


def seconds(column: pl.Series | None, rows: int, unit: str | None = None) -> tuple[pl.Series, str]:
    """Times as seconds UTC, null where unreadable, and the unit they were taken to be in.

    Numbers are seconds, or smaller parts of one when their size says so; text is a number or an
    ISO 8601 date; a time without a zone is UTC. In a column that has both, the fewer are read in
    their own way too: dates among numbers, and among dates those numbers whose own size makes
    them times of this century, which no date without signs such as 20260301 is.

    Args:
        unit: what an earlier piece of the same column was taken to be in.
    """
    if column is None:
        return number(None, rows), "no time"
    if column.dtype.is_temporal():
        whole = column.cast(pl.Datetime("us")).dt.epoch("us")
        return whole.cast(pl.Float64) / 1e6, "dates"
    numbers = number(column, rows)
    if unit == "dates" or _mostly_words(column, numbers):
        return _dates(column).fill_null(_moments(numbers)), "dates"
    if numbers.null_count() > column.null_count() and column.dtype == pl.String:
        dates = _dates(column.set(numbers.is_not_null(), None))
    else:
        dates = pl.repeat(None, rows, dtype=pl.Float64, eager=True)
    usable = numbers.is_finite() & (numbers >= 0)
    numbers = numbers.set(~usable.fill_null(True), None)
    typical = numbers.drop_nulls().head(TYPICAL).median()
    for least, parts, name in UNITS:
        large = isinstance(typical, float) and typical >= least
        if unit == name or (unit is None and large):
            return (numbers / parts).fill_null(dates), name
    return numbers.fill_null(dates), "seconds"


def forms(column: pl.Series | None, times: pl.Series, unit: str) -> frozenset[str]:
    """How the times that could be read are written: dates, numbers in `unit`, or both.

    Args:
        times: what `seconds` made of the column.
        unit: what it said of it; numbers among dates are each in their own.
    """
    if column is None or not times.count():
        return frozenset()
    read = times.is_not_null()
    numbers = pl.repeat(False, len(times), eager=True)
    if not column.dtype.is_temporal():
        numbers = number(column, 0).is_not_null() & read
    kinds = {"dates"} if (read & ~numbers).any() else set()
    if numbers.any():
        kinds.add("numbers" if unit == "dates" else unit)
    return frozenset(kinds)


def _moments(numbers: pl.Series) -> pl.Series:
    """Numbers as seconds, each in the unit that its own size tells; null outside this century."""
    size, parts = pl.col("size"), pl.lit(1.0)
    for least, count, _ in reversed(UNITS):
        parts = pl.when(size >= least).then(count).otherwise(parts)
    at = size / parts
    frame = pl.DataFrame({"size": numbers})
    return frame.select(pl.when(at.is_between(*CENTURY)).then(at)).to_series()


def _mostly_words(column: pl.Series, numbers: pl.Series) -> bool:
    """Whether most of what is written is no number."""
    if not numbers.null_count():
        return False
    written = given(column)
    return (written & numbers.is_null()).sum() > written.sum() / 2


def _dates(column: pl.Series) -> pl.Series:
    """ISO 8601 dates and times, with `T` or a blank between, with or without a zone."""
    normal = (
        pl.col("at").str.strip_chars().str.replace(r"^(\d{4}-\d\d-\d\d) ", "${1}T")
        .str.replace(r"^(\d{4}-\d\d-\d\d)$", "${1}T00:00:00")
        .str.replace(r"[zZ]$| UTC$", "+0000")
        .str.replace(r"T(\d\d:\d\d)($|[+-])", "T${1}:00${2}")
        .str.replace(r"([+-]\d\d):(\d\d)$", "${1}${2}")
        .str.replace(r"(T\d\d:\d\d:\d\d(?:\.\d+)?)$", "${1}+0000")
    )  # fmt: skip
    parsed = normal.str.strptime(pl.Datetime("us", "UTC"), "%Y-%m-%dT%H:%M:%S%.f%z", strict=False)
    frame = pl.DataFrame({"at": column})
    return frame.select(parsed.dt.epoch("us").cast(pl.Float64) / 1e6).to_series()
