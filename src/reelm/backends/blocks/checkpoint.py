"""What a checkpoint folder tells before its weights are loaded."""

import json
from pathlib import Path
from typing import Any

from reelm.errors import BackendError

ABOUT = "reelm.json"


def about_folder(model: str) -> dict[str, Any]:
    """How a checkpoint was tuned, by the `reelm.json` beside its weights; empty without one.

    Raises:
        BackendError: the file is not JSON.
    """
    path = Path(model) / ABOUT
    if not path.is_file():
        return {}
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BackendError("model", f"{path}: is not JSON: {error}") from error
