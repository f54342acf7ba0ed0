"""Settings: typed, frozen, strict. Each verb and each sibling owns its section; no object holds
them all."""

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from reelm.errors import ConfigError, nearest

C = TypeVar("C", bound="Config")


class Config(BaseModel):
    """Base of all settings. Unknown keys are errors; each field's docstring is its help text."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


def read(path: Path | None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read a TOML file, if one is given, and lay `section.key=value` overrides over it.

    Raises:
        ConfigError: the file is not TOML, a setting stands outside of a section, or an override is
            not written as section.key=value.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8")) if path else {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"{path}: cannot be read as TOML: {error}") from error
    bare = [name for name, value in raw.items() if not isinstance(value, dict)]
    if bare:
        raise ConfigError(f"{path}: {', '.join(bare)}: write it below a section, such as [train].")
    return lay_over(raw, overrides)


def lay_over(raw: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """Settings with `section.key=value` overrides laid over them, in place.

    Raises:
        ConfigError: an override is not written as section.key=value.
    """
    for override in overrides:
        dotted, _, value = override.partition("=")
        section, _, name = dotted.partition(".")
        if not name or not value:
            raise ConfigError(f"--set {override}: write it as section.key=value, e.g. model.dim=64")
        raw.setdefault(section, {})[name] = from_toml(value)
    return raw


def section(kind: type[C], raw: dict[str, Any], name: str) -> C:
    """Parse one section.

    Raises:
        ConfigError: naming every wrong key by its dotted path, not only the first.
    """
    return parse(kind, raw.get(name, {}), name)


def parse(kind: type[C], values: dict[str, Any], name: str) -> C:
    """`kind` from plain values; `name` is the section that errors speak of."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        wrong = []
        for item in error.errors():
            key = ".".join(map(str, item["loc"]))
            where = f"{name}.{key}" if key else name  # several settings together have no key
            wrong.append(f"{where}: {_said(kind, name, key, item)}")
        raise ConfigError("; ".join(wrong)) from error


def _said(kind: type[Config], name: str, key: str, item: Mapping[str, Any]) -> str:
    """What is wrong with a setting, and how to write it where that can be told."""
    if item["type"] == "extra_forbidden":
        return "no such setting." + nearest(key, kind.model_fields)
    if item["type"] in ("tuple_type", "list_type"):
        return f"{item['msg']}; write it as {to_toml([item['input']])}"
    if item["type"] == "missing":
        field = kind.model_fields.get(key)
        if field is None:
            return "has to be given"
        about = f" ({field.description.rstrip('.')})" if field.description else ""
        example = field.examples[0] if field.examples else "…"
        return f"has to be given{about}, such as with --set {name}.{key}={example}"
    return item["msg"].removeprefix("Value error, ")


def as_toml(kind: type[Config], name: str) -> str:
    """A commented TOML section with every default, from the field docstrings."""
    lines = [f"[{name}]"]
    for key, field in kind.model_fields.items():
        lines += [f"# {line}" for line in (field.description or "").splitlines()]
        if field.is_required():
            example = to_toml(field.examples[0]) if field.examples else "..."
            lines.append(f"# {key} = {example}  (required)")
        else:
            default = field.get_default(call_default_factory=True)
            lines.append(f"# {key} = unset" if default is None else f"{key} = {to_toml(default)}")
    return "\n".join(lines) + "\n"


def from_toml(text: str) -> Any:
    """A value as TOML writes it; a bare word is a string."""
    try:
        return tomllib.loads(f"x = {text}")["x"]
    except tomllib.TOMLDecodeError:
        return text


def to_toml(value: Any) -> str:
    """A value as TOML writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(to_toml, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k} = {to_toml(v)}" for k, v in value.items()) + "}"
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
