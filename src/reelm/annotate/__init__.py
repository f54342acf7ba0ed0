"""Verb: ask a multimodal model about every video, and keep what it said or why it did not.

One row per video, in parts that appear whole; a run that is killed goes on where it stopped. A
video's file is decoded while the model answers about the files before it. Several questions are
asked on one watching. What the model was asked before, about the same content in the same way, it
is not asked again.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reelm import files
from reelm.annotate.asking import Asker, Elsewhere
from reelm.annotate.plan import AnnotateConfig, Notes, Plan, opened, to_watch
from reelm.backends.base import Backend, Maker
from reelm.backends.blocks.about import Absent, about
from reelm.backends.blocks.replicas import Replicas
from reelm.cluster import Cluster
from reelm.data.tables import Catalog
from reelm.engine import Decoder, Video, run
from reelm.errors import ConfigError
from reelm.prompts.base import Prompt

__all__ = ["AnnotateConfig", "annotate", "annotate_all", "summary"]


def annotate(
    catalog: Catalog,
    backend: Backend | Maker,
    prompt: type[Prompt],
    config: AnnotateConfig,
    work: Path,
) -> Path:
    """Fill `work/notes/<prompt>-<key>` and return it; see `annotate_all`."""
    return annotate_all(catalog, backend, [prompt], config, work)[0]


def annotate_all(
    catalog: Catalog,
    backend: Backend | Maker,
    prompts: Sequence[type[Prompt]],
    config: AnnotateConfig,
    work: Path,
) -> list[Path]:
    """Fill a notes folder for each prompt, watching every video once. Run it again after a kill.

    Every usable video gets a row: the answer as JSON, or the kind and text of what went wrong.
    Files that are copies of another, byte by byte, get its answer without being asked about.

    Args:
        backend: a model that is loaded, or how to make one in processes of its own.

    Raises:
        ConfigError: a prompt is about users.
        BackendError: nothing comes through (server down?); run it again later.
        StaleFolder: another process is filling the same folder.
        BadData: there is no file to watch, or texts are to be shown that are not there.
    """
    strange = [prompt.name for prompt in prompts if prompt.about != "video"]
    if strange:
        raise ConfigError(f"{', '.join(strange)}: asked about users; see annotate.users.")
    wanted = to_watch(catalog, config, work)
    with working(backend, prompts, config, work) as (speaker, hands):
        plans = [Plan.of_videos(prompt, speaker, wanted, config, work) for prompt in prompts]
        left = [plan for plan in plans if plan.unfinished(config.retry_failed)]
        if left:
            _fill(left, speaker, wanted, config, work, hands)
        for plan in left:
            plan.finish(catalog=str(catalog.folder))
    return [plan.folder for plan in plans]


def summary(folder: Path) -> str:
    """What came of it, in a line: rows, failures by their kind, and how many of the model's answers
    obeyed the schema, at once or after a repair."""
    facts = files.manifest(folder)
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(facts["failures"].items()))
    told = f"{facts['settings']['prompt']['name']}: {facts['rows']} rows, {facts['failed']} failed"
    told += f" ({kinds})" if kinds else ""
    valid = facts.get("valid") or {}
    if not (total := sum(valid.values())):
        return told
    first, repair, never = (f"{valid[k] / total:.1%}" for k in ("first", "repair", "never"))
    return f"{told}; answers valid at first {first}, after a repair {repair}, never {never}"


def _fill(
    plans: Sequence[Plan],
    speaker: Backend,
    wanted: Sequence[tuple[Video, str]],
    config: AnnotateConfig,
    work: Path,
    hands: Any,
) -> None:
    sheets, todos = opened(plans, wanted, config.retry_failed)
    questions = [plan.question for plan in plans]
    label = f"annotate {', '.join(question.prompt.name for question in questions)}"
    with Decoder(work, speaker.view.moments, config) as decoder:
        asker = Asker(speaker, questions, decoder, config.patience_s)
        run(Notes(sheets, asker, speaker.device), todos, config.part, label, hands)


@contextmanager
def working(
    backend: Backend | Maker, prompts: Sequence[type[Prompt]], config: AnnotateConfig, work: Path
) -> Iterator[tuple[Backend, Any]]:
    """The model, as given, made here, or in processes of its own; and the hands, if not ours."""
    if config.engine != "here":
        with _there(backend, prompts, config, work) as both:
            yield both
    elif isinstance(backend, Backend):
        yield backend, None
    else:
        apart = config.replicas and not backend.kind.remote
        made = Replicas(backend, config.replicas, config.answer_s) if apart else backend()
        try:
            yield made, None
        finally:
            made.close()


@contextmanager
def _there(
    backend: Backend | Maker, prompts: Sequence[type[Prompt]], config: AnnotateConfig, work: Path
) -> Iterator[tuple[Backend, Any]]:
    """What is known here of a model on a cluster, and the cluster's hands.

    Raises:
        ConfigError: the model is loaded already, and here.
    """
    if isinstance(backend, Backend):
        raise ConfigError(
            "annotate.engine: a backend that is loaded here cannot work on a cluster; "
            "give a backends.base.Maker instead."
        )
    names = [prompt.name for prompt in prompts]
    limits = config.answer_s, config.patience_s
    make = Elsewhere(backend, tuple(prompts), config, work.resolve(), *limits)
    with Cluster(config.engine, config.needs) as cluster:
        speaker = Absent(cluster.call(about, backend, names))
        yield speaker, cluster.hands(make, max(1, config.replicas))
