"""What a checkpoint folder tells before its weights are loaded."""

import json
from pathlib import Path
from typing import Any

from reelm import files
from reelm.errors import BackendError

ABOUT = "reelm.json"


def weights_hash(folder: Path) -> str:
    """Twelve hex digits over the files of a checkpoint that can change its answers."""
    known = (".safetensors", ".json", ".jinja", ".model", ".txt", ".bin")
    facts = {p.name: files.sha256(p) for p in sorted(folder.iterdir()) if p.suffix in known}
    return files.digest(json.dumps(facts).encode())


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
