"""Sections of settings: which class of settings is meant by a name."""

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from reelm import registry
from reelm.errors import UnknownName

SECTIONS: dict[str, str] = {
    "world": "reelm.world:WorldConfig",
    "ingest": "reelm.ingest:IngestConfig",
    "annotate": "reelm.annotate:AnnotateConfig",
    "batch": "reelm.batch_files:BatchConfig",
    "transcribe": "reelm.annotate.transcribing:TranscribeConfig",
    "encode": "reelm.encode:EncodeConfig",
    "export": "reelm.export:ExportConfig",
    "dataset": "reelm.data.dataset:DatasetConfig",
    "split": "reelm.data.split:SplitConfig",
    "train": "reelm.train:TrainConfig",
    "evaluate": "reelm.evaluate:EvaluateConfig",
    "compare": "reelm.compare:CompareConfig",
    "distill": "reelm.distill:DistillConfig",
    "search": "reelm.search:SearchConfig",
    "rerank": "reelm.rerank:RerankConfig",
    "rates": "reelm.bill:RatesConfig",
    "demo": "reelm.demo:DemoConfig",
    "engine": "reelm.serve.engine:EngineConfig",
    "serve": "reelm.serve.gate:ServiceConfig",
    "uploads": "reelm.serve.uploads:UploadConfig",
    "tune": "reelm.tune:TuneConfig",
    "size": "reelm.tune.model:SizeConfig",
    "vision": "reelm.tune.vision:VisionConfig",
    "language": "reelm.tune.language:LanguageConfig",
    "lora": "reelm.tune.adapters:LoraConfig",
}
"""Sections of settings by name. A sibling's section (model, backend, encoder) is its own class."""
PLURALS = ("models", "backends", "encoders")
OF_RUNS = ("run", "features", "profiles")
"""Further sections of a run's config.toml, which may be given as settings again; not read."""


def known(names: Iterable[str]) -> None:
    """See that these are sections of settings.

    Raises:
        UnknownName: one is not, so that nobody would read what stands in it.
    """
    every = [*SECTIONS, *(plural.removesuffix("s") for plural in PLURALS)]
    for name in names:
        if name not in (*every, *OF_RUNS):
            raise UnknownName("section", name, every)


def settings_class(name: str) -> tuple[Any, str]:
    """The class of settings called `name` and the section it is read from.

    A sibling, built in or of an installed package, may be named with its section in front, as
    `encoder.vision`, since there is a section `vision` too.

    Raises:
        UnknownName: nothing is called so.
    """
    if name in SECTIONS:
        module, _, owner = SECTIONS[name].partition(":")
        return getattr(import_module(module), owner), name
    known = [*SECTIONS]
    for plural in PLURALS:
        table, section = import_module(f"reelm.{plural}"), plural.removesuffix("s")
        offered = registry.names(plural, getattr(table, plural.upper()))
        if (wanted := name.removeprefix(f"{section}.")) in offered:
            return table.find(wanted).Config, section
        known += (f"{section}.{one}" if one in SECTIONS else one for one in offered)
    raise UnknownName("settings", name, known)
