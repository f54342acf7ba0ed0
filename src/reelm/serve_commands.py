"""Commands about a service: its API keys, what came of a trial, what it gathered."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from reelm import asked
from reelm.errors import ConfigError
from reelm.options import AsJson, CatalogOption, Set, SettingsFile, Work

commands = typer.Typer()
keys = typer.Typer(help="API keys of the service.", no_args_is_help=True)
commands.add_typer(keys, name="keys")
KeysWork = Annotated[Path, typer.Option(help="Folder whose service the keys are for.")]


@keys.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="feed, write, edit or admin; repeatable.")
    ] = None,
    work: KeysWork = Path("work"),
) -> None:
    """Make an API key and print it; it is not kept and cannot be shown again."""
    typer.echo(_keys(work).add(name, scope or ["feed", "write"]))


@keys.command("list")
def keys_list(work: KeysWork = Path("work")) -> None:
    """Who has a key, and for what."""
    for key in _keys(work).list():
        state = "revoked" if key.revoked_at else "valid"
        typer.echo(f"{key.id}  {state:7}  {','.join(key.scopes):16}  {key.name}")


@keys.command("revoke")
def keys_revoke(
    id: Annotated[str, typer.Argument(help="As `reelm keys list` shows it.")],
    work: KeysWork = Path("work"),
) -> None:
    """Take a key back; a running service refuses it from its next request on."""
    _keys(work).revoke(id)


@commands.command()
def gather(
    catalog: CatalogOption = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write; work/gathered.")] = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Write what a service gathered, with the catalogue it began with, as a log to ingest.

    The service may run meanwhile. `reelm ingest work/gathered` makes the catalogue that the next
    run is trained on; users who were deleted in the service are left out.
    """
    from reelm.serve import gathering

    with _store(work, settings, sets) as store:
        made = gathering.gather(store, asked.catalog(catalog, work), out or work / "gathered")
    typer.echo(gathering.summary(made))
    typer.echo(made)


@commands.command(name="ab-report")
def ab_report(
    name: Annotated[str | None, typer.Argument(help="Trial; the newest if none.")] = None,
    work: Work = Path("work"),
    as_json: AsJson = False,
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """What came of a trial of two runs (serve.ab), by arm, with differences and their intervals."""
    from reelm.serve import trials

    with _store(work, settings, sets) as store:
        found = trials.report(store, name)
    typer.echo(found.model_dump_json(indent=1) if as_json else trials.text(found))


@contextmanager
def _store(work: Path, settings: Path | None, sets: list[str] | None) -> Iterator[Any]:
    """The store that a service keeps, also while it runs."""
    from reelm.serve.store import Store

    how = asked.section("serve", asked.raw(settings, sets, ("serve",)))
    usual = work / "serve" / "store.sqlite"
    if how.store is None and not usual.is_file():
        raise ConfigError(f"no store at {usual}: nothing was served from there. Say --work.")
    where = how.store.get_secret_value() if how.store else usual
    with closing(Store(where, usual.parent)) as store:
        yield store


def _keys(work: Path) -> Any:
    from reelm.serve.keys import Keys

    return Keys(work / "serve" / "keys.json")
