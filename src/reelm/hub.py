"""Checkpoints by their names: a folder, or a hub id. Whether one can be had is told at once; the
library that loads them tries a hub that is not there again and again."""

from pathlib import Path

from reelm.errors import BackendError

PATIENCE_S = 5.0  # for one question to the hub
EVERY = "config.json"  # what each checkpoint has


def reach(model: str, revision: str | None = None) -> None:
    """Return if a checkpoint is a folder, was fetched before, or is on a hub that answers. What is
    wrong with it, or who may have it, is told when it is loaded.

    Raises:
        BackendError: there is no such folder, the hub has no such model, or there is no way to it.
    """
    if Path(model).is_dir():
        return
    if _placed(model):
        raise BackendError(
            "model",
            f"{model}: no such folder. Is the path right, seen from {Path.cwd()}? Name the folder "
            "of a checkpoint, or a hub id, such as owner/name.",
        )
    why = _hub_says(model, revision)
    if why:
        raise BackendError(
            "model",
            f"{model}: cannot be had: {Path.cwd()} has no such folder, and as a hub id {why}. Name "
            "the folder of a checkpoint, or a hub id, such as owner/name, where the hub can be "
            "reached or the model was fetched before.",
        )


def _placed(model: str) -> bool:
    """Whether a model is named by a place on disk and cannot be a hub id."""
    path = Path(model)
    return path.is_absolute() or model.startswith((".", "~")) or len(path.parts) > 2


def _hub_says(model: str, revision: str | None) -> str | None:
    """Why a hub id cannot be loaded; None if it may be."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
        if isinstance(hub.try_to_load_from_cache(model, EVERY, revision=revision), str):
            return None
        place = hub.hf_hub_url(model, EVERY, revision=revision)
        hub.get_hf_file_metadata(place, timeout=PATIENCE_S)
    except errors.HFValidationError as error:
        return f"it is not written as one ({_line(error)})"
    except errors.GatedRepoError:
        return None
    except (
        errors.RepositoryNotFoundError,
        errors.RevisionNotFoundError,
        errors.EntryNotFoundError,
    ):
        at = f" at {revision}" if revision else ""
        return f"the hub knows no such model{at}, or not for who asks"
    except errors.HfHubHTTPError:
        return None
    except Exception as error:  # noqa: BLE001 - whatever carries its requests has its own errors
        return (
            f"it was never fetched, and {hub.constants.ENDPOINT} cannot be reached ({_line(error)})"
        )
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
