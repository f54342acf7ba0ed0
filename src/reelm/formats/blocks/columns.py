"""Which column of a table is meant by which word: well-known names, and the caller's own."""

from collections.abc import Iterable, Mapping

from reelm.errors import BadData, ConfigError, nearest

LOG = {
    "user_id": ["userid", "user", "uid", "userindex", "visitorid", "member", "reviewerid"],
    "video_id": [
        "videoid", "itemid", "video", "item", "iid", "vid", "movieid", "movie", "photoid",
        "noteid", "newsid", "productid", "parentasin", "asin", "gid", "pid",
    ],
    "timestamp": [
        "timestamp", "datetime", "time", "ts", "date", "eventtime", "createdat", "timems",
        "unixtime", "unixreviewtime",
    ],
    "event": ["event", "eventtype", "feedbacktype", "action", "behaviour", "behavior", "type"],
    "value": ["value", "portion", "watchratio", "viewportion", "playportion", "completionrate"],
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
    "title": ["title", "caption", "name", "description", "text"],
    "hashtags": ["hashtags", "tags", "hashtag", "tag", "topics", "genres", "categories",
                 "category", "class"],
    "creator": ["creator", "creatorid", "author", "authorid", "uploader", "channel"],
    "uploaded_at": ["uploadedat", "uploadtime", "uploaddt", "publishedat", "uploaddate",
                    "createdat", "timestamp"],
    "licence": ["licence", "license"],
}  # fmt: skip
"""Roles in a table of videos."""

USERS = {"user_id": LOG["user_id"]}
"""Roles in a table of users; other columns stay as they are."""


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


def find(
    columns: Iterable[str],
    roles: Mapping[str, list[str]],
    wanted: Mapping[str, str],
    need: Iterable[str],
    where: object,
) -> dict[str, str]:
    """Role to column, the caller's choice before well-known names.

    Args:
        wanted: role to column as the caller says.
        need: roles without which the table is of no use.

    Raises:
        BadData: a wanted column is not there, or no column fits a needed role.
    """
    columns = list(columns)
    known = {plain(c): c for c in reversed(columns) if c not in wanted.values()}
    found = {role: column for role, column in wanted.items() if column in columns}
    for role, names in roles.items():
        match = next((known[name] for name in names if name in known), None)
        if match is not None and role not in wanted:
            found[role] = match
    missing = [role for role in (*wanted, *need) if role not in found]
    if missing:
        raise BadData(_explain(missing[0], columns, wanted, where))
    return found


def _explain(role: str, columns: list[str], wanted: Mapping[str, str], where: object) -> str:
    listed = ", ".join(columns)
    if role in wanted:
        hint = nearest(wanted[role], columns)
        return f"{where}: no column {wanted[role]!r} for {role}.{hint} Columns: {listed}."
    return (
        f"{where}: no column is known as {role}. Columns: {listed}. "
        f'Say which one it is: mapping = {{{role} = "…"}}'
    )
