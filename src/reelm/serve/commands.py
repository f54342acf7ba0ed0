"""Commands about API keys: `reelm keys add`, `list` and `revoke`."""

from pathlib import Path
from typing import Annotated, Any

import typer

keys = typer.Typer(help="API keys of the service.", no_args_is_help=True)
Work = Annotated[Path, typer.Option(help="Folder whose service the keys are for.")]


@keys.command("add")
def keys_add(
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    scope: Annotated[
        list[str] | None, typer.Option(help="feed, write, edit or admin; repeatable.")
    ] = None,
    work: Work = Path("work"),
) -> None:
    """Make an API key and print it; it is not kept and cannot be shown again."""
    typer.echo(_keys(work).add(name, scope or ["feed", "write"]))


@keys.command("list")
def keys_list(work: Work = Path("work")) -> None:
    """Who has a key, and for what."""
    for key in _keys(work).list():
        state = "revoked" if key.revoked_at else "valid"
        typer.echo(f"{key.id}  {state:7}  {','.join(key.scopes):16}  {key.name}")


@keys.command("revoke")
def keys_revoke(
    id: Annotated[str, typer.Argument(help="As `reelm keys list` shows it.")],
    work: Work = Path("work"),
) -> None:
    """Take a key back; a running service refuses it from its next request on."""
    _keys(work).revoke(id)


def _keys(work: Path) -> Any:
    from reelm.serve.keys import Keys

    return Keys(work / "serve" / "keys.json")
