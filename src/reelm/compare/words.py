"""Leak detector: texts of videos and users that say what should be found out.

It takes a word for an id if it is one; where ids are short, a name such as "U2" may be one by
chance, so such a finding is a warning unless it gives a held-out pair away.

What it cannot see, in all texts: paraphrases and hints; ids that look like ordinary words or bare
numbers, which it does not take for ids (see `telling`); ids with blanks in them; the texts that
an encoder read if they are not in the catalogue or the notes.
"""

import re

import numpy as np
import polars as pl

from reelm.compare.findings import Evidence, Finding, histories, shared, targets

TOKEN = r"\w(?:[\w:.\-]*\w)?"
KEYS = r"split|fold|label|target|ground[ _]truth|rating|rank|y_true|clicked"
MARK = rf"(?i)\b(?:{KEYS})[\"']?\s*[:=]\s*[\"']?[\w.]+"
WORDS = ("test", "valid", "validation", "train", "target", "label", "heldout", "held-out")
SKIP = ("path", "url", "licence", "language", "age_rating", "sha256", "duplicate_of", "video_codec",
        "audio_codec", "reason")  # fmt: skip
LEAST = 5  # videos with a word from which it may be called telling
TITLE = 8  # characters from which a title in a user's text is more than chance


def telling(ids: pl.Series) -> pl.Series:
    """Those ids that no ordinary text holds by chance, in small letters: with a letter and a
    digit, or with eight characters and a digit."""
    small = ids.str.to_lowercase()
    digit, letter = small.str.contains(r"\d"), small.str.contains(r"[^\W\d_]")
    return small.filter(digit & (letter | (small.str.len_chars() >= 8)))


def video_texts(evidence: Evidence) -> list[Finding]:
    """Titles, notes and other texts of videos: ids of users, ids of other videos, marks such as
    `label: 1`, and words such as "test" that stand nearly only with held-out videos."""
    found = []
    for where, text in _texts(evidence).items():
        tokens = _tokens(text)
        found += _users_named(evidence, where, tokens)
        found += _videos_named(evidence, where, tokens)
        found += _marked(evidence, where, text)
        found += _split_words(evidence, where, tokens)
    return found


def user_texts(evidence: Evidence) -> list[Finding]:
    """Texts about users that hold the id or the title of one of their held-out videos.

    A title counts if it has TITLE characters, two words, and is not also a title of the user's
    training history.
    """
    found = []
    for where, table in _about_users(evidence):
        for part, questions in evidence.asked:
            question, item = targets(questions)
            asked = _asked(evidence, questions.users[question], item)
            hits = table.join(asked, on="user_id", maintain_order="left")
            hits = hits.filter(_holds("id") | _holds("title"))
            if hits.height:
                first = hits.row(0, named=True)
                found.append(
                    Finding(
                        "target in text",
                        "leak",
                        hits.height,
                        f"{where} of user {first['user_id']} holds video {first['video_id']}: "
                        f"{_cut(first['text'])}",
                        f"{shared(hits.height, len(item))} of the {part} targets are named in a "
                        "text about the very user who is asked.",
                        "Make these texts from training interactions only.",
                    )
                )
    return found


def _texts(evidence: Evidence) -> dict[str, pl.DataFrame]:
    """Texts of videos as tables of item row and text, by where they are from."""
    columns = evidence.columns()
    tables = {f"catalogue, column {n}": c for n, c in columns.items() if n not in SKIP}
    rows = pl.int_range(evidence.width, eager=True)
    found = {
        name: pl.DataFrame({"item": rows, "text": text}).drop_nulls()
        for name, text in tables.items()
    }
    ids = pl.DataFrame({"video_id": pl.Series(evidence.split.train.items), "item": rows})
    for number, table in enumerate(evidence.notes):
        if {"video_id", "answer"} <= set(table.columns):
            said = table.join(ids, on="video_id", maintain_order="left")
            found[f"notes {number + 1}"] = said.select("item", text="answer").drop_nulls()
    return found


def _tokens(text: pl.DataFrame) -> pl.DataFrame:
    """Item row and word, each pair once, in small letters."""
    small = text.with_columns(token=pl.col("text").str.to_lowercase().str.extract_all(TOKEN))
    return (
        small.select("item", "token", "text")
        .explode("token")
        .drop_nulls()
        .unique(["item", "token"], maintain_order=True)
    )


def _users_named(evidence: Evidence, where: str, tokens: pl.DataFrame) -> list[Finding]:
    ids = pl.Series("token", evidence.split.train.users, dtype=pl.String)
    rows = pl.DataFrame({"token": ids.str.to_lowercase()}).with_row_index("user")
    rows = rows.filter(pl.col("token").is_in(telling(ids).implode()))
    hits = tokens.join(rows, on="token", maintain_order="left")
    if not hits.height:
        return []
    pair = hits["user"].cast(pl.Int64).to_numpy() * evidence.width + hits["item"].to_numpy()
    held = np.isin(pair, _held_pairs(evidence))
    first = int(held.argmax())
    means = f"{hits.height} times a text of a video holds the id of a user"
    return [
        Finding(
            "user in text",
            "leak" if held.any() else "warning",
            hits.height,
            f"{where}, {evidence.named(pair[first])}: {_cut(hits['text'][first])}",
            f"{means}, {int(held.sum())} times of one for whom this video is held out.",
            "Take the ids of users out of these texts before they are encoded.",
        )
    ]


def _videos_named(evidence: Evidence, where: str, tokens: pl.DataFrame) -> list[Finding]:
    ids = pl.Series("token", evidence.split.train.items, dtype=pl.String)
    rows = pl.DataFrame({"token": ids.str.to_lowercase()}).with_row_index("other")
    rows = rows.filter(pl.col("token").is_in(telling(ids).implode()))
    hits = tokens.join(rows, on="token", maintain_order="left")
    hits = hits.filter(pl.col("other") != pl.col("item"))
    if not hits.height:
        return []
    asked = _asked_by_text(evidence, hits)
    item, first = evidence.split.train.items, hits.row(0, named=True)
    return [
        Finding(
            "other videos in text",
            "leak" if asked else "warning",
            hits.height,
            f"{where} of video {item[first['item']]} names {item[first['other']]}: "
            f"{_cut(first['text'])}",
            f"{hits.height} times a text of a video holds another video's id; {asked} targets are "
            "named so by a video in the history they are asked with.",
            "Take the ids of videos out of these texts before they are encoded.",
        )
    ]


def _marked(evidence: Evidence, where: str, text: pl.DataFrame) -> list[Finding]:
    hits = text.filter(pl.col("text").str.contains(MARK))
    if not hits.height:
        return []
    item, said = hits.row(0)
    mark = re.search(MARK, said)
    return [
        Finding(
            "label in text",
            "warning",
            hits.height,
            f"{where} of video {evidence.split.train.items[item]}: "
            f"{mark.group(0) if mark else _cut(said)}",
            "Texts give a split, label, rating or rank as key and value, as exported tables do.",
            "See whether the value comes from held-out interactions; if so, take it out.",
        )
    ]


def _split_words(evidence: Evidence, where: str, tokens: pl.DataFrame) -> list[Finding]:
    """Words that are natural in titles and suspicious only if they mark what is held out."""
    found = []
    for part, questions in evidence.asked:
        held = np.zeros(evidence.width, bool)
        held[questions.target] = True
        base = held[1:].mean()
        for word in WORDS:
            items = tokens.filter(pl.col("token") == word)["item"].to_numpy()
            if len(items) < LEAST or base > 0.5 or held[items].mean() < 0.9:
                continue
            told = shared(int(held[items].sum()), len(items))
            found.append(
                Finding(
                    "split in text",
                    "leak",
                    len(items),
                    f"{where} of video {evidence.split.train.items[items[0]]}: {word!r}",
                    f"{told} of the texts with the word {word!r} "
                    f"are of {part} targets, and {shared(float(base), 1)} of all videos are.",
                    "Take the word out of these texts, or find out why it marks them.",
                )
            )
    return found


def _asked_by_text(evidence: Evidence, hits: pl.DataFrame) -> int:
    """Targets that a text of some video in their own history names."""
    width, count = evidence.width, 0
    names = hits["item"].to_numpy() * width + hits["other"].cast(pl.Int64).to_numpy()
    named = np.unique(names % width)
    naming = np.unique(names // width)
    for _, questions in evidence.asked:
        question, item = targets(questions)
        row, shown = histories(questions)
        few, some = np.isin(item, named), np.isin(shown, naming)
        left = pl.DataFrame({"question": question[few], "item": item[few]})
        right = pl.DataFrame({"question": row[some], "shown": shown[some]})
        both = left.join(right, on="question")
        pair = both["shown"].to_numpy() * width + both["item"].to_numpy()
        told = both.filter(pl.Series(np.isin(pair, names), dtype=pl.Boolean))
        count += told.unique(["question", "item"]).height
    return count


def _held_pairs(evidence: Evidence) -> np.ndarray:
    """User and item of all targets, as one number each."""
    parts = [np.zeros(0, np.int64)]
    for _, questions in evidence.asked:
        question, item = targets(questions)
        parts.append(questions.users[question] * evidence.width + item)
    return np.concatenate(parts)


def _about_users(evidence: Evidence) -> list[tuple[str, pl.DataFrame]]:
    """Texts about users as tables of user_id and text, by where they are from."""
    tables = []
    if evidence.catalog is not None and evidence.catalog.users is not None:
        tables.append(("catalogue, users", evidence.catalog.users))
    tables += [
        (f"notes {n + 1}", t) for n, t in enumerate(evidence.notes) if "user_id" in t.columns
    ]
    found = []
    for where, table in tables:
        texts = [c for c in table.columns if table.schema[c] == pl.String and c != "user_id"]
        for name in texts:
            user = pl.col("user_id").cast(pl.String)
            told = table.select(user, pl.col(name).str.to_lowercase().alias("text")).drop_nulls()
            found.append((f"{where}, column {name}", told))
    return found


def _asked(evidence: Evidence, user: np.ndarray, item: np.ndarray) -> pl.DataFrame:
    """Ids of users and of their targets, with the words that would give the target away."""
    train = evidence.split.train
    users, items = pl.Series(train.users, dtype=pl.String), pl.Series(train.items, dtype=pl.String)
    ids = items.gather(item)
    small = ids.str.to_lowercase()
    titles = evidence.columns().get("title", pl.Series([None] * len(items), dtype=pl.String))
    title = titles.str.strip_chars().str.to_lowercase()
    long = pl.col("title").str.len_chars().ge(TITLE) & pl.col("title").str.contains(r"\s")
    table = pl.DataFrame(
        {
            "user": user,
            "user_id": users.gather(user),
            "video_id": ids,
            "id": pl.select(pl.when(small.is_in(telling(ids).implode())).then(small)).to_series(),
            "title": title.gather(item),
        }
    )
    known = pl.DataFrame({"user": train.user, "title": title.gather(train.item), "met": True})
    table = table.join(known.unique(), on=["user", "title"], how="left", maintain_order="left")
    told = long & pl.col("met").is_null()
    return table.with_columns(pl.when(told).then(pl.col("title")).alias("title"))


def _holds(name: str) -> pl.Expr:
    """Whether the text holds the column's words, not inside of a longer word."""
    padded = pl.concat_str(
        pl.lit(" "), pl.col("text").str.replace_all(r"[^\w:.\-]+", " "), pl.lit(" ")
    )
    wanted = pl.concat_str(
        pl.lit(" "), pl.col(name).str.replace_all(r"[^\w:.\-]+", " "), pl.lit(" ")
    )
    return padded.str.contains(wanted, literal=True).fill_null(False)


def _cut(text: str) -> str:
    """The first words of a text."""
    return text if len(text) <= 80 else text[:79] + "…"
