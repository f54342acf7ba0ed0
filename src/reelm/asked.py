"""What a command line asks for: settings, siblings and folders by their names.

Heavy modules are imported where they are used, so that `--help` stays quick.
"""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from reelm.errors import ConfigError
from reelm.sections import settings_class


def raw(path: Path | None, sets: list[str] | None, **options: dict[str, Any]) -> dict[str, Any]:
    """All sections as plain values: file, then options, then --set; the later wins."""
    from reelm import config

    found = config.read(path)
    for name, values in options.items():
        found[name] = found.get(name, {}) | values
    return config.lay_over(found, sets or [])


def section(name: str, raw: dict[str, Any]) -> Any:
    """The settings of one section."""
    from reelm import config

    return config.section(settings_class(name)[0], raw, name)


def sibling(plural: str, name: str, raw: dict[str, Any], section: str) -> Any:
    """The sibling called `name`, built from its section."""
    from reelm import config

    kind: Callable[..., Any] = import_module(f"reelm.{plural}").find(name)
    return kind(config.section(kind.Config, raw, section))  # pyright: ignore[reportFunctionMemberAccess]


def maker(name: str, raw: dict[str, Any]) -> Any:
    """How to make the backend called `name` from section [backend]."""
    from reelm import backends, config
    from reelm.backends.base import Maker

    kind = backends.find(name)
    return Maker(kind, config.section(kind.Config, raw, "backend"))


def catalog(folder: Path | None, work: Path) -> Any:
    """The catalogue in `folder`, or the newest."""
    from reelm import files
    from reelm.data.tables import read_catalog

    return read_catalog(folder or files.latest(work / "catalog"))


def sources(
    raw: dict[str, Any],
    catalog: Path | None,
    features: list[str] | None,
    work: Path,
    notes: tuple[Path, ...] = (),
) -> Any:
    """Folders and rules that a dataset and its split are made of."""
    from reelm import files
    from reelm.sources import Sources

    return Sources(
        catalog=catalog or files.latest(work / "catalog"),
        features={k: Path(v) for k, v in pairs(features or [], "--features").items()},
        notes=notes,
        dataset=section("dataset", raw),
        split=section("split", raw),
    )


def pairs(texts: list[str], option: str) -> dict[str, str]:
    """`name=value` texts as a mapping.

    Raises:
        ConfigError: one of them is written otherwise.
    """
    parts = [text.partition("=") for text in texts]
    for text, (left, _, right) in zip(texts, parts, strict=True):
        if not left or not right:
            raise ConfigError(f"{option} {text}: write it as name=value")
    return {left: right for left, _, right in parts}
