"""Commands on notes: ask for them here or by batch files, write down speech, look at notes, correct
them, tell where they come from and what they cost."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from reelm import asked
from reelm.errors import ConfigError
from reelm.options import AsJson, CatalogOption, NotesOption, Set, SettingsFile, Work

commands = typer.Typer()
batch = typer.Typer(help="Ask about videos by OpenAI's batch files.", no_args_is_help=True)
commands.add_typer(batch, name="batch")


@commands.command()
def annotate(
    backend: Annotated[str, typer.Option(help="Runtime of the multimodal model.")] = "pocket",
    prompt: Annotated[
        list[str] | None, typer.Option(help="What is asked; repeatable. attributes if not given.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="here, or a Ray cluster: ray://host:port, auto, local.")
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(help="Processes that each hold the model; on a cluster, actors.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Ask again about what failed.")] = False,
    notes: Annotated[
        list[Path] | None,
        typer.Option(help="About users: notes of the videos they watched; repeatable."),
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="For preference_edges: run whose best videos are compared.")
    ] = None,
    catalog: CatalogOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Ask a model about every video, or about every user; run it again to resume.

    The prompts user_profile, preferences, rationale, generated_videos and preference_edges are
    about users: the model reads notes of what they watched in training, as [dataset] and [split]
    cut it. --backend tallies counts instead.
    """
    from reelm import annotate as verb
    from reelm import prompts
    from reelm.annotate import users

    given = {"engine": engine, "replicas": replicas, "retry_failed": retry_failed or None}
    given = {name: value for name, value in given.items() if value is not None}
    chosen = [prompts.find(name) for name in prompt or ["attributes"]]
    of_users = ("dataset", "split") if any(one.about == "user" for one in chosen) else ()
    raw = asked.raw(settings, sets, ("annotate", "backend", *of_users), annotate=given)
    how = asked.section("annotate", raw)
    seen = [one for one in chosen if one.about == "video"]
    lost = False
    if seen:
        found, maker = asked.catalog(catalog, work), asked.maker(backend, raw)
        _fits(backend, found)
        made = verb.annotate_all(found, maker, seen, how, work)
        lost = any([_lost(folder, how.retry_failed) for folder in made])
    for one in (one for one in chosen if one.about == "user"):
        told = tuple(notes or [_newest(work)])
        read = asked.sources(raw, catalog, None, work, told)
        maker = asked.maker(backend, raw, "user")
        folder = users.annotate_users(read, maker, one, how, work, base)
        lost |= _lost(folder, how.retry_failed)
    sys.exit(lost)


@commands.command()
def transcribe(
    model: Annotated[Path | None, typer.Option(help="Folder of a Whisper checkpoint.")] = None,
    retry_failed: Annotated[bool, typer.Option(help="Listen again to what failed.")] = False,
    catalog: CatalogOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Write down what is said in every video, with a local Whisper; run it again to resume."""
    from reelm.annotate import transcribing

    given = {"model": model and str(model), "retry_failed": retry_failed or None}
    given = {name: value for name, value in given.items() if value is not None}
    how = asked.section("transcribe", asked.raw(settings, sets, ("transcribe",), transcribe=given))
    folder = transcribing.transcribe(asked.catalog(catalog, work), how, work)
    sys.exit(_lost(folder, how.retry_failed))


def _newest(work: Path) -> Path:
    """The newest notes about what videos show; it is said which."""
    found = asked.notes(work)
    typer.echo(f"notes: {found}, the newest that fit; --notes names others", err=True)
    return found


def _fits(backend: str, catalog: Any) -> None:
    """Say so where pocket is to watch what it was not made for."""
    if backend == "pocket" and not asked.rendered(catalog):
        typer.echo(
            "pocket was made for the rendered world, and of real clips it says what is not so, in "
            "valid answers; for those name --backend transformers or openai_http",
            err=True,
        )


def _lost(folder: Path, again: bool) -> bool:
    """Tell what came of a notes folder, and last the folder itself; True if every row failed.

    Args:
        again: what had failed before was asked again just now.
    """
    from reelm import files
    from reelm.annotate import summary

    facts = files.manifest(folder)
    typer.echo(summary(folder))
    if facts["failed"] and not again:
        typer.echo(f"--retry-failed asks again about the {facts['failed']} that failed")
    typer.echo(folder)
    return 0 < facts["failed"] == facts["rows"]


@batch.command(name="write")
def batch_write(
    prompt: Annotated[
        list[str] | None, typer.Option(help="What is asked; repeatable. attributes if not given.")
    ] = None,
    retry_failed: Annotated[bool, typer.Option(help="Ask again about what failed.")] = False,
    catalog: CatalogOption = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Write all requests that have no answer yet to files for a batch service.

    Needs backend.model; backend.base_url tells which server speaks for the same model.
    """
    from reelm import files, prompts
    from reelm.annotate import batches

    given = {"retry_failed": True} if retry_failed else {}
    raw = asked.raw(settings, sets, ("annotate", "batch", "backend"), annotate=given)
    how, limits = asked.section("annotate", raw), asked.section("batch", raw)
    chosen = [prompts.find(name) for name in prompt or ["attributes"]]
    backend = asked.sibling("backends", "openai_http", raw, "backend")
    try:
        found = asked.catalog(catalog, work)
        folder = batches.write(found, backend, chosen, how, limits, work)
    finally:
        backend.close()
    if folder is None:
        typer.echo("nothing left to ask")
        return
    facts = files.manifest(folder)
    size = f"{facts['rows']} requests in {len(facts['files'])} files"
    typer.echo(f"{size}, {facts['failed']} videos that cannot be asked about")
    typer.echo(folder)


@batch.command(name="read")
def batch_read(
    folder: Annotated[Path, typer.Argument(help="Folder that `batch write` printed.")],
    results: Annotated[
        list[Path] | None, typer.Argument(help="Files of results and of errors that came back.")
    ] = None,
) -> None:
    """Take the results of a batch into the notes; what has no answer stays open."""
    from reelm import files
    from reelm.annotate import batches, summary

    taken = batches.read(folder, results or [])
    told = ", ".join(f"{count} {name}" for name, count in taken.counts.items())
    typer.echo(told or "nothing had been written out to be answered")
    if taken.open:
        typer.echo(f"{taken.open} left open: write them out again, or ask a server of the model")
    lost = False
    for notes in taken.folders:
        if files.finished(notes):
            typer.echo(summary(notes))
            facts = files.manifest(notes)
            lost |= 0 < facts["failed"] == facts["rows"]
        typer.echo(notes)
    sys.exit(lost)


@commands.command()
def look(
    notes: NotesOption = None,
    limit: Annotated[int, typer.Option(help="Videos on the page.")] = 60,
    out: Annotated[Path | None, typer.Option(dir_okay=False, help="The page to write.")] = None,
    edit: Annotated[
        bool, typer.Option("--edit", help="Serve the page with a form per note instead.")
    ] = False,
    port: Annotated[int, typer.Option(help="Of the page with forms; 0 takes a free one.")] = 8001,
    catalog: CatalogOption = None,
    work: Work = Path("work"),
) -> None:
    """Write a page of what was seen of each video and what was said about it, or correct it."""
    from reelm import editing
    from reelm import look as verb

    if notes is None and (work / "notes").is_dir():
        notes = asked.notes(work)
    if notes is not None:
        asked.about_videos([notes])
    found, where = asked.catalog(catalog, work), notes.parent.parent if notes else work
    if edit:
        gallery = verb.Gallery(found, notes, where, limit)
        editing.edit(gallery, port, lambda at: typer.echo(f"notes: {at}  (Ctrl-C stops)"))
    else:
        typer.echo(verb.look(found, notes, out or work / "look.html", limit, where))


@commands.command()
def correct(
    video: Annotated[str, typer.Argument(help="Id of the video, or of what a note is about.")],
    sets: Annotated[list[str], typer.Option("--set", help="field=value; repeatable.")],
    prompt: Annotated[str, typer.Option(help="Whose answer is corrected.")] = "attributes",
    author: Annotated[
        str | None, typer.Option(help="Who corrects; the name you are logged in with.")
    ] = None,
    why: Annotated[str, typer.Option(help="A word for those who read it later.")] = "",
    notes: NotesOption = None,
    work: Work = Path("work"),
) -> None:
    """Keep a new version of a note; it wins over what models say of the same content."""
    import getpass

    from reelm import correct as verb
    from reelm import files

    folder = notes or files.latest(work / "notes", f"{prompt}-*")
    values = asked.pairs(sets, "--set")
    made = verb.correct(folder, video, values, author or getpass.getuser(), why)
    typer.echo(f"{made.video_id}: {json.dumps(made.fields, ensure_ascii=False)}")
    typer.echo(f"version {made.key}, replaces {made.replaces}")


@commands.command()
def corrections(
    export: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="File of lines to tune a model on; pictures beside it."),
    ] = None,
    prompt: Annotated[str | None, typer.Option(help="Only those of this prompt.")] = None,
    work: Work = Path("work"),
) -> None:
    """List what people corrected, or write it out as material to tune a model on."""
    from reelm import correct as verb

    if export is None:
        for name, made in verb.corrections(work, prompt):
            fields = json.dumps(made.fields, ensure_ascii=False)
            typer.echo(f"{name}  {made.video_id}  {made.author}  {fields}  {made.why}".rstrip())
        return
    done = verb.export(work, export, prompt)
    for video, reason in done.left_out.items():
        typer.echo(f"left out: {video}: {reason}", err=True)
    typer.echo(f"{done.rows} rows, {len(done.left_out)} left out")
    typer.echo(done.path)


@commands.command()
def lessons(
    notes: Annotated[Path, typer.Argument(help="Notes folder, about videos or about users.")],
    out: Annotated[
        Path, typer.Argument(dir_okay=False, help="File of lines to write; pictures beside it.")
    ],
) -> None:
    """Write a notes folder out as material to tune a model on: what a large one said of some, for a
    small one that will be asked about all."""
    from reelm import lessons as verb

    done = verb.lessons(notes, out)
    typer.echo(f"{done.rows} rows, {len(done.left_out)} left out")
    typer.echo(done.path)


@commands.command()
def provenance(
    notes: Annotated[Path, typer.Argument(help="Notes folder.")],
    name: Annotated[str, typer.Argument(help="Id of the video or the user.")],
    frames: Annotated[
        Path | None, typer.Option(help="Folder to write the pictures to that were shown.")
    ] = None,
    catalog: Annotated[
        Path | None, typer.Option(help="Where the files are; that of the notes if not given.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell all that was shown to a model for one note, how it was asked, and who corrected it."""
    from reelm import provenance as verb
    from reelm.data.tables import read_catalog

    told = verb.provenance(notes, name)
    typer.echo(json.dumps(told, indent=2, ensure_ascii=False) if as_json else verb.as_text(told))
    if frames:
        where = read_catalog(catalog) if catalog else None
        for path in verb.save(verb.seen_one(notes, name, where), frames):
            typer.echo(path, err=as_json)


@commands.command()
def cost(
    work: Annotated[Path, typer.Argument(help="Folder that stages wrote into.")] = Path("work"),
    by: Annotated[
        str, typer.Option(help="stage, note (means) or run (with its inputs).")
    ] = "stage",
    plot: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Draw runs by quality and cost: an .html or .png file."),
    ] = None,
    metric: Annotated[str, typer.Option(help="Of the plot, as pool/metric@k.")] = "mixed/recall@10",
    against: Annotated[
        str, typer.Option(help="Of the plot: seconds, device_s, cpu_s, joules, money …")
    ] = "seconds",
    as_json: AsJson = False,
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Tell what stages, notes or runs cost: tokens, seconds, joules, and money by [rates]."""
    from reelm import bill
    from reelm.bill import page

    rates = asked.section("rates", asked.raw(settings, sets, ("rates",)))
    if by not in bill.WAYS:
        raise ConfigError(f"--by {by}: choose one of {', '.join(bill.WAYS)}")
    entries = bill.WAYS[by](work, rates)
    whole = bill.total(entries) if by == "stage" else None
    typer.echo(_as_json(entries, whole, rates) if as_json else
               bill.table(entries, rates.currency, whole))  # fmt: skip
    if plot:
        made = page.plot(work, bill.runs(work, rates), metric, against, rates.currency)
        typer.echo(page.write(made, plot), err=as_json)


def _as_json(entries: Any, whole: Any, rates: Any) -> str:
    told = {"entries": [entry.as_json() for entry in entries], "rates": rates.model_dump()}
    return json.dumps(told | ({"sum": whole.as_json()} if whole else {}), indent=2)


@commands.command()
def rerank(
    run: Annotated[Path, typer.Argument(help="Run folder whose test questions are asked.")],
    backend: Annotated[
        str, typer.Option(help="Language model that reads; or tallies.")
    ] = "tallies",
    notes: Annotated[
        list[Path] | None,
        typer.Option(help="Notes of videos; repeatable. The newest ones if not given."),
    ] = None,
    lessons: Annotated[
        Path | None,
        typer.Option(
            dir_okay=False,
            help="Write lists of training with their answers to this file, for `reelm tune --on`, "
            "and ask nobody.",
        ),
    ] = None,
    work: Work = Path("work"),
    settings: SettingsFile = None,
    sets: Set = None,
) -> None:
    """Let a language model order short lists by notes, beside the order of a run.

    One in ten videos is the one that was watched next. --backend tallies counts instead of reading.
    """
    from reelm import dossiers, runs, sources
    from reelm import lessons as writing
    from reelm import rerank as verb

    raw = asked.raw(settings, sets, ("rerank", "backend"))
    how, found = asked.section("rerank", raw), sources.load(run)
    told = [] if how.show == "titles" else list(notes or [_newest(work)])
    asked.about_videos(told)
    videos = asked.catalog(found.catalog, work).videos
    texts = verb.lines(videos, dossiers.said(told), how.show)
    if lessons:
        made = verb.lessons(found.read().train, texts, how)
        writing.write(lessons, made)
        typer.echo(f"{len(made)} rows")
        typer.echo(lessons)
        return
    reader = asked.maker(backend, raw, "user")
    reader = reader() if backend != "tallies" else reader
    try:
        folder = verb.rerank(runs.load(run), found.read(), texts, reader, how, work)
    finally:
        reader.close()
    typer.echo(verb.summary(folder))
    typer.echo(folder / "report.json")
