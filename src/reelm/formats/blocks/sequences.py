"""Logs that are one list of videos per user, as sequential-recommendation papers keep them."""

from pathlib import Path

from reelm.formats.blocks import cleaning, reading


def sequences(path: Path) -> cleaning.Cleaned:
    """One event per place of the list column `items`; a place in the file is a user's row.

    Raises:
        BadData: there is no such column, or none for the user.
    """
    frame = reading.table(path)[0]
    if "items" in frame.columns:
        frame = frame.explode("items", empty_as_null=False)
    return cleaning.events(frame, path, {"video_id": "items"})
