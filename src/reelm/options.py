"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Work = Annotated[Path, typer.Option(help="Folder that all stages write into.")]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", exists=True, dir_okay=False, help="TOML file of settings."),
]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="One setting, as section.key=value; repeatable.")
]
CatalogOption = Annotated[
    Path | None, typer.Option(help="Catalogue folder; the newest one if not given.")
]
FeaturesOption = Annotated[
    list[str] | None, typer.Option(help="name=folder of features to load; repeatable.")
]
EdgesOption = Annotated[
    Path | None, typer.Option(help="Notes folder of preference edges, for llmrec.")
]
ProfilesOption = Annotated[
    list[str] | None, typer.Option(help="name=folder of features of users; repeatable.")
]
NotesOption = Annotated[
    Path | None, typer.Option(help="Notes folder; the newest one if not given.")
]
CitedNotes = Annotated[
    list[Path] | None,
    typer.Option("--notes", help="Notes folder the service may cite; repeatable."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]
