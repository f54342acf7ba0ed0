"""Which column of a table is meant by which word: well-known names, and the caller's own."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from reelm.errors import BadData, ConfigError, nearest

LOG = {
    "user_id": ["userid", "user", "uid", "userindex", "visitorid", "member", "reviewerid"],
    "video_id": [
        "videoid", "itemid", "video", "item", "iid", "vid", "movieid", "movie", "photoid",
        "noteid", "newsid", "productid", "parentasin", "asin", "gid", "pid",
    ],
    "timestamp": [
        "timestamp", "datetime", "time", "ts", "date", "eventtime", "createdat", "timems",
        "unixtime", "unixreviewtime", "when", "watchedat", "viewedat",
    ],
    "event": ["event", "eventtype", "feedbacktype", "action", "behaviour", "behavior", "type"],
    "value": ["value", "portion", "watchratio", "viewportion", "playportion", "completionrate"],
    "percent": ["percent", "pct", "percentage", "watchpercent", "watchpercentage", "watchpct",
                "percentwatched", "pctwatched", "completionpercent"],
    "watch_time": ["watchtime", "watchtimes", "playtime", "watchtimems", "playtimems",
                   "playduration", "playingtime", "watchseconds"],
    "duration": ["duration", "durations", "durationms", "videoduration", "videodurationms"],
    "rating": ["rating", "weight", "stars", "overall"],
    "split": ["split", "xlabel"],
}  # fmt: skip
"""Roles in a log, each with the names it goes by, best first; compared without case and signs."""

ITEMS = {
    "video_id": LOG["video_id"],
    "path": ["path", "file", "filename", "videopath", "filepath"],
    "title": ["title", "movietitle", "videotitle", "itemtitle", "caption", "name", "description",
              "text"],
    "hashtags": ["hashtags", "tags", "hashtag", "tag", "topics", "genres", "genre",
                 "categories", "category", "class"],
    "creator": ["creator", "creatorid", "author", "authorid", "uploader", "channel"],
    "uploaded_at": ["uploadedat", "uploadtime", "uploaddt", "publishedat", "uploaddate",
                    "createdat", "timestamp"],
    "licence": ["licence", "license"],
    "language": ["language", "lang"],
    "age_rating": ["agerating", "contentrating", "minage", "minimumage"],
}  # fmt: skip
"""Roles in a table of videos."""

COMMENTS = {
    "video_id": LOG["video_id"],
    "text": ["text", "comment", "content", "body", "commenttext"],
    "likes": ["likes", "likecount", "upvotes", "diggcount"],
}
"""Roles in a table of comments."""

USERS = {"user_id": LOG["user_id"]}
"""Roles in a table of users; other columns stay as they are."""


NO_SLIPS = ("watched", "viewed")
"""Words of their own, though they are near a known name."""

TABLES = {"": LOG, "videos.": ITEMS, "users.": USERS}
"""How a caller's mapping names a role: `timestamp` of the log, `videos.title`, `users.user_id`."""


def wanted(mapping: Mapping[str, str], table: str) -> dict[str, str]:
    """The part of a caller's mapping that speaks of one table: "", "videos." or "users.".

    Raises:
        ConfigError: a key is no role of any table.
    """
    known = [table + role for table, roles in TABLES.items() for role in roles]
    for key in mapping:
        if key not in known:
            listed = ", ".join(known)
            raise ConfigError(f"mapping.{key}: no such role.{nearest(key, known)} Known: {listed}.")
    roles = (role for role in TABLES[table] if table + role in mapping)
    return {role: mapping[table + role] for role in roles}


def plain(name: str) -> str:
    """A column's name without case, signs and RecBole's type: `userID:token` is `userid`."""
    return "".join(c for c in name.partition(":")[0].lower() if c.isalnum())


def in_ms(name: str) -> bool:
    """Whether a column of spans is in milliseconds, by its name; others are in seconds."""
    return plain(name).endswith("ms")


def find(
    columns: Iterable[str],
    roles: Mapping[str, list[str]],
    wanted: Mapping[str, str],
    need: Iterable[str],
    where: object,
) -> dict[str, str]:
    """Role to column, the caller's choice before well-known names.

    Args:
        wanted: role to column as the caller says; an empty name says that there is none.
        need: roles without which the table is of no use.

    Raises:
        BadData: a wanted column is not there, or no column fits a needed role.
    """
    columns, need = list(columns), list(need)
    none = {role for role, column in wanted.items() if not column and role not in need}
    wanted = {role: column for role, column in wanted.items() if role not in none}
    known = {plain(c): c for c in reversed(columns) if c not in wanted.values()}
    found = {role: column for role, column in wanted.items() if column in columns}
    for role, names in roles.items():
        match = next((known[name] for name in names if name in known), None)
        if match is not None and role not in wanted and role not in none:
            found[role] = match
    missing = [role for role in (*wanted, *need) if role not in found]
    if missing:
        raise BadData(_explain(missing[0], columns, wanted, where, _prefix(roles)))
    return found


def no_slips(
    columns: Iterable[str],
    roles: Mapping[str, list[str]],
    found: Mapping[str, str],
    wanted: Mapping[str, str],
    where: object,
) -> None:
    """Refuse columns whose names are nearly a known name, when nothing was taken for that role.

    Raises:
        BadData: naming the column, the name it nearly has, and how to say what it is.
    """
    open_roles = {
        name: role
        for role, names in roles.items()
        if role not in found and role not in wanted
        for name in names
        if len(name) > 4
    }
    for column in columns:
        close = get_close_matches(plain(column), open_roles, n=1, cutoff=0.85)
        if column not in found.values() and close and plain(column) not in NO_SLIPS:
            role = open_roles[close[0]]
            raise BadData(
                f"{where}: the column {column!r} looks like {close[0]!r}, and nothing else was "
                f"taken for {role}. Is it? --map {role}={column}. Is it not? --map {role}="
            )


def _prefix(roles: Mapping[str, list[str]]) -> str | None:
    """What a caller's mapping puts before these roles; None if it does not speak of the table."""
    return next((prefix for prefix, table in TABLES.items() if table is roles), None)


def _explain(
    role: str, columns: list[str], wanted: Mapping[str, str], where: object, prefix: str | None
) -> str:
    listed = ", ".join(columns)
    if role in wanted:
        hint = nearest(wanted[role], columns)
        return f"{where}: no column {wanted[role]!r} for {role}.{hint} Columns: {listed}."
    hint = nearest(role, columns)
    named = "Rename it" if prefix is None else f"Say which one it is: --map {prefix}{role}=NAME"
    return f"{where}: no column is known as {role}.{hint} Columns: {listed}. {named}."
