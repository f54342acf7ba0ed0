"""Checkpoints by their names: a folder, or a hub id. What was fetched before is loaded without a
word to the hub. Whether the rest can be had is told at once; the library that loads them tries a
hub that is not there again and again."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from reelm.errors import BackendError

PATIENCE_S = 5.0  # for one question to the hub
EVERY = "config.json"  # what each checkpoint has
LACKING = (OSError, ValueError, TypeError, AttributeError)
"""What loaders raise over files that were never fetched."""
CARRIERS = ("httpx", "httpx2", "requests", "urllib3")
"""Packages that carry the requests of the hub's library, whose errors transformers lets through."""


def loaded(
    load: Callable[..., Any],
    model: str,
    revision: str | None = None,
    whole: Callable[[Any], bool] = lambda _: True,
    **how: Any,
) -> Any:
    """What a loader of transformers makes of a checkpoint: from the cache of a hub id if all of it
    is there, even if the hub has a newer one since; a commit as revision says which is meant.

    Args:
        load: a `from_pretrained`.
        whole: whether what came from the cache has all that it needs; of files that a loader can do
            without, nothing tells whether the hub has them.
        how: for the loader.

    Raises:
        BackendError: there is no such folder, the hub has no such model, or there is no way to it.
    """
    found, why = None, None
    if (folder := _fetched(model, revision)) is not None:
        try:  # as a folder: loaders that are told to stay offline ask for adapters all the same
            found = load(str(folder), **how)
        except LACKING as error:
            why = error
    if found is not None:
        if hasattr(found, "name_or_path"):  # what is saved of it tells no place of this machine
            found.name_or_path = model
        if whole(found):
            return found
    try:
        reach(model, revision, why)
    except BackendError:
        if found is None:
            raise
        return found
    return _fetch(load, model, revision=revision, **how)


def _fetch(load: Callable[..., Any], model: str, **how: Any) -> Any:
    """
    Raises:
        BackendError: the way to the hub broke.
    """
    try:
        return load(model, **how)
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in CARRIERS:
            raise
        raise BackendError(
            "model", f"{model}: the way to the hub broke while it was fetched ({_line(error)}). "
            "Run the command again; what came is kept."
        ) from error  # fmt: skip


def reach(model: str, revision: str | None = None, lacks: Exception | None = None) -> None:
    """Return if a checkpoint is a folder, or is on a hub that answers. What is wrong with it, or
    who may have it, is told when it is loaded.

    Args:
        lacks: why what was fetched before does not do.

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
    why = _hub_says(model, revision, lacks)
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


def commit(model: str, revision: str | None = None) -> str | None:
    """The commit of a hub id that was fetched, which tells its weights from those of others."""
    folder = _fetched(model, revision)
    return folder and folder.name


def _fetched(model: str, revision: str | None) -> Path | None:
    """The folder that holds what was fetched of a hub id; None of what is a folder itself."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    if Path(model).is_dir():
        return None
    try:
        found = hub.try_to_load_from_cache(model, EVERY, revision=revision)
    except errors.HFValidationError:
        return None
    return Path(found).parent if isinstance(found, str) else None


def _hub_says(model: str, revision: str | None, lacks: Exception | None) -> str | None:
    """Why a hub id cannot be loaded; None if it may be."""
    import huggingface_hub as hub
    from huggingface_hub import errors

    try:
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
        told = f"what was fetched does not do ({_line(lacks)})" if lacks else "it was never fetched"
        return f"{told}, and {hub.constants.ENDPOINT} cannot be reached ({_line(error)})"
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
