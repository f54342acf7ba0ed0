"""Commands: one per verb. Each reads its settings, calls the verb, prints the folder it made."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from reelm import __version__, asked, note_commands, serve_commands
from reelm.errors import ConfigError, ReelmError, refusal
from reelm.formats import FORMATS
from reelm.options import (
    CatalogOption,
    CitedNotes,
    EdgesOption,
    FeaturesOption,
    NotesOption,
    ProfilesOption,
    Set,
    SettingsFile,
    Work,
)
from reelm.sections import SECTIONS, settings_class

__all__ = ["SECTIONS", "app", "main", "settings_class"]

app = typer.Typer(
    name="reelm",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

KNOWN = ", ".join(FORMATS)
INTERRUPTED = 130  # exit code after Ctrl-C, as shells have it

app.add_typer(serve_commands.commands)
app.add_typer(note_commands.commands)


def _version(wanted: bool) -> bool:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit
    return wanted


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Recommend micro-videos by watching them."""


def main() -> None:
    """Run a command. Our own errors, and places that cannot be written, become one line and exit
    code 2; bugs keep their traceback."""
    try:
        app()
    except ReelmError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            typer.echo("interrupted; the same command goes on where it was stopped", err=True)
        raise
    except Exception as error:
        if (said := refusal(error)) is None:
            raise
        hint = "Make room there or get the right to use it, or name another place (--work, --out)."
        typer.echo(f"error: {said}. {hint}", err=True)
        sys.exit(2)


@app.command()
def world(
    videos: Annotated[int, typer.Option(help="Videos to render.")] = 160,
    people: Annotated[int, typer.Option(help="People who watch.")] = 300,
    seed: Annotated[int, typer.Option(help="Of everything that is drawn by chance.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder to write.")] = Path("work/world"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Render a small micro-video world: clips, a watch log, and the truth kept apart."""
    from reelm.world import render

    raw = asked.raw(
        settings, sets, ("world",), world={"videos": videos, "people": people, "seed": seed}
    )
    _made(render(asked.section("world", raw), out))


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="A log (CSV, Parquet, JSONL) or a folder.")],
    format: Annotated[str | None, typer.Option(help=f"How to read it: {KNOWN}.")] = None,
    videos: Annotated[Path | None, typer.Option(help="Folder of video files.")] = None,
    items: Annotated[Path | None, typer.Option(help="Table of videos: titles and so on.")] = None,
    users: Annotated[Path | None, typer.Option(help="Table of users.")] = None,
    map_: Annotated[
        list[str] | None,
        typer.Option("--map", help="ours=theirs, a column's name, or ours= for none; repeatable."),
    ] = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Check and copy a log and its videos into a catalogue; quarantine what is broken."""
    from reelm import ingest as verb

    given: dict[str, Any] = {"format": format, "videos": videos, "items": items, "users": users}
    given = {name: value for name, value in given.items() if value is not None}
    if map_:
        given["mapping"] = asked.pairs(map_, "--map", empty=True)
    folder = verb.ingest(
        source, work, asked.section("ingest", asked.raw(settings, sets, ("ingest",), ingest=given))
    )
    typer.echo(verb.summary(folder))
    _made(folder)


@app.command()
def encode(
    encoder: Annotated[str, typer.Option(help="Which frozen network or formula.")] = "text",
    input: Annotated[
        str | None, typer.Option(help="What text encoders read: title, notes, values …")
    ] = None,
    notes: NotesOption = None,
    catalog: CatalogOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Turn every video, or its notes, into a vector; run it again to resume."""
    from reelm import encode as verb

    given = {"input": input} if input else {}
    raw = asked.raw(settings, sets, ("encode", "encoder"), encode=given)
    found = asked.catalog(catalog, work)
    chosen = asked.section("encode", raw)
    made = asked.sibling("encoders", encoder, raw, "encoder")
    reads = chosen.input or made.usual
    if notes is None and made.reads == "text" and verb.reads_notes(reads):
        notes = asked.notes_to_encode(work, reads, found)
    folder = verb.encode(found, made, chosen, work, notes)
    typer.echo(verb.summary(folder))
    _made(folder)


@app.command()
def export(
    format: Annotated[str, typer.Argument(help="recbole or mmrec.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; work/export/<format>.")] = None,
    features: FeaturesOption = None,
    catalog: CatalogOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Write interactions, split and features in the files of another library."""
    from reelm import export as verb

    raw = asked.raw(settings, sets, ("export", "dataset", "split"))
    found = asked.sources(raw, catalog, features, work)
    folder = out or work / "export" / format
    verb.export_folders(format, found, asked.section("export", raw), folder)
    typer.echo(verb.summary(folder))
    _made(folder)


@app.command()
def train(
    model: Annotated[str, typer.Option(help="Which recommender.")] = "sasrec",
    features: FeaturesOption = None,
    notes: CitedNotes = None,
    edges: EdgesOption = None,
    profiles: ProfilesOption = None,
    catalog: CatalogOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Fit a recommender on the training part of a catalogue's log."""
    from reelm import models
    from reelm import train as verb

    raw = asked.raw(settings, sets, ("model", "train", "dataset", "split"))
    said = {"edges": edges, "profiles": asked.folders(profiles, "--profiles")}
    found = asked.sources(raw, catalog, features, work, tuple(notes or ()), **said)
    kind = models.find(model)
    chosen = models.settings(model, raw.get("model", {}))
    split = found.read()
    for line in verb.coverage(split.train, kind.needs(chosen)):
        typer.echo(line)
    _made(verb.train_run(split, model, chosen, asked.section("train", raw), work, found))


@app.command()
def distill(
    teacher: Annotated[Path, typer.Option(help="Run folder of a trained model.")],
    student: Annotated[str, typer.Option(help="Which model is taught, such as mf.")] = "mf",
    features: FeaturesOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Teach a small recommender what a trained one would rank and how."""
    from reelm import distill as verb
    from reelm import models, runs

    raw = asked.raw(settings, sets, ("distill", "model", "train"))
    found = asked.sources_of(teacher, features)
    chosen = models.settings(student, raw.get("model", {}))
    how, training = asked.section("distill", raw), asked.section("train", raw)
    given = found.read(), runs.load(teacher), student, chosen
    _made(verb.distill_run(*given, how, training, work, found))


@app.command()
def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Run folder; the newest if none.")] = None,
    features: Annotated[
        list[str] | None,
        typer.Option(help="name=folder of features for evaluate.diversity_by; repeatable."),
    ] = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Open the test split for a run and write its report."""
    from reelm import evaluate as verb
    from reelm import files, runs

    chosen = asked.section("evaluate", asked.raw(settings, sets, ("evaluate",)))
    folder = run or files.latest(work / "runs")
    found = asked.sources_of(folder, features)
    report = verb.test(runs.load(folder), found.read(), work, chosen)
    typer.echo(verb.summary(report))
    _made(report)


@app.command()
def compare(
    model: Annotated[
        list[str] | None, typer.Option(help="Which recommender; repeatable. Or in settings.")
    ] = None,
    catalog: Annotated[
        list[str] | None,
        typer.Option(help="Catalogue folder, or label=folder; repeatable. The newest if none."),
    ] = None,
    features: FeaturesOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Train and test models on datasets with several seeds; say which differences are real."""
    from reelm import compare as verb

    more, told = asked.folders(features, "--features"), ("compare", "train", "evaluate")
    raw = asked.raw(settings, sets, (*told, "dataset", "split"))
    raw = verb.completed(raw, model or [], asked.catalogs(raw, catalog, work), more)
    chosen = [asked.section(name, raw) for name in told]
    folder = verb.compare(chosen[0], work, *chosen[1:])
    typer.echo(f"{verb.summary(folder)}\n{folder}")
    sys.exit(verb.failures(folder) > 0)


@app.command()
def search(
    model: Annotated[str, typer.Option(help="Which recommender.")] = "sasrec",
    features: FeaturesOption = None,
    notes: CitedNotes = None,
    edges: EdgesOption = None,
    profiles: ProfilesOption = None,
    catalog: CatalogOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Try settings of a recommender, judged by validation alone; run it again to go on."""
    from reelm import search as verb
    from reelm.train import coverage

    raw = asked.raw(settings, sets, ("search", "model", "train", "dataset", "split"))
    said = {"edges": edges, "profiles": asked.folders(profiles, "--profiles")}
    found = asked.sources(raw, catalog, features, work, tuple(notes or ()), **said)
    chosen = asked.section("search", raw)
    split = found.read()
    for line in coverage(split.train, verb.needs(model, raw, chosen)):
        typer.echo(line)
    folder = verb.search(split, model, raw, chosen, work, found)
    typer.echo(verb.summary(folder))
    _made(folder)
    sys.exit(verb.fruitless(folder))


@app.command()
def serve(
    run: Annotated[Path | None, typer.Argument(help="Run folder; the newest if none.")] = None,
    host: Annotated[
        str, typer.Option(help="An address of this machine; public ones need a key.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Serve a run's feed and its page until interrupted."""
    from reelm import files
    from reelm.serve import server
    from reelm.serve.keys import Keys

    raw = asked.raw(settings, sets, ("engine", "serve", "uploads"))
    folder = run or files.latest(work / "runs")
    chosen, how = asked.section("engine", raw), asked.section("serve", raw)
    keys = Keys(server.keys_of(server.store_of(folder)))
    access = server.Access(keys, how, asked.section("uploads", raw))
    with server.listening(host, port, keys):
        pass  # what is wrong with the address is said before anything is loaded
    served = server.open_served(folder, chosen, how)
    typer.echo(f"run: {folder}; {served.engine.videos.summary()}", err=True)
    server.serve(served, host, port, lambda at: typer.echo(f"feed: {at}  (Ctrl-C stops)"), access)


@app.command()
def tune(
    on: Annotated[
        Path | None, typer.Option(help="JSON lines of conversations to learn; see docs.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Checkpoint to tune, a folder or a hub id; with --on.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of pocket's material and weights.")] = Path(
        "work/tune"
    ),
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Fine-tune a local language model on conversations; without --on, rebuild pocket."""
    import logging

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    own = on is None and model is None
    told = ("tune", "size", "vision", "language") if own else ("lora",)
    raw = asked.raw(settings, sets, told)
    if own:
        from reelm import tune as verb

        _made(verb.tune(verb.Settings(*[asked.section(n, raw) for n in told]), out) / "model")
        return
    if on is None or model is None:
        raise ConfigError("reelm tune takes --on and --model together, or neither.")
    from reelm.tune import lora

    _made(lora.tune(on, model, asked.section("lora", raw), work))


@app.command()
def demo(
    videos: Annotated[int, typer.Option(help="Videos to render.")] = 160,
    people: Annotated[int, typer.Option(help="People who watch.")] = 300,
    serve: Annotated[bool, typer.Option(help="Serve the feed at the end.")] = True,
    port: Annotated[int, typer.Option(help="Port of the feed page.")] = 8000,
    work: Work = Path("work/demo"),
) -> None:
    """Everything in one go on a rendered world: render, watch, train, compare, serve."""
    from reelm import demo as verb

    verb.demo(verb.DemoConfig(videos=videos, people=people), work, typer.echo)
    if serve:
        verb.serve(work, port, typer.echo)


@app.command()
def papers() -> None:
    """The nineteen papers: where each lives and what was reproduced."""
    import tomllib

    text = Path(__file__).with_name("papers.toml").read_text(encoding="utf-8")
    for paper in tomllib.loads(text)["paper"]:
        typer.echo(f"{paper['name']:20} {paper['status']:8} {paper['lives']}")


@app.command(name="config")
def show_config(
    name: Annotated[str, typer.Argument(help="A section, model, backend or encoder.")],
) -> None:
    """Print a section's settings as commented TOML, ready to be edited."""
    from reelm import config

    kind, section = settings_class(name)
    typer.echo(config.as_toml(kind, section), nl=False)


def _made(folder: Path) -> None:
    typer.echo(str(folder))
