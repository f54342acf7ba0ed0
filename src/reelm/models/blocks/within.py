"""Settings of a model that stands within another."""

from typing import Any

from reelm.config import Config, lay_over, parse
from reelm.errors import ConfigError


def settings_within(given: Config, family: type[Config], kind: type[Config], name: str) -> Any:
    """Settings of the model within: what its whole family has comes from the model around it, the
    rest from the latter's `<name>_settings`, each as name=value.

    Args:
        family: whose settings both models have.
        kind: settings of the model within.

    Raises:
        ConfigError: `<name>_settings` names one that `kind` lacks, or that `family` has.
    """
    shared, listed = family.model_fields, f"model.{name}_settings"
    laid = lay_over({}, [f"{name}.{text}" for text in getattr(given, f"{name}_settings")])
    values = laid.get(name, {})
    twice = [one for one in values if one in shared]
    if twice:
        raise ConfigError(f"{listed}: {', '.join(twice)}: set it in [model] itself.")
    return parse(kind, values | {one: getattr(given, one) for one in shared}, listed)
