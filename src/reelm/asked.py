"""What a command line asks for: settings, siblings and folders by their names.

Heavy modules are imported where they are used, so that `--help` stays quick.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from reelm.errors import BadData, ConfigError
from reelm.sections import known, settings_class


def raw(
    path: Path | None,
    sets: list[str] | None,
    reads: Sequence[str] | None = None,
    **options: dict[str, Any],
) -> dict[str, Any]:
    """All sections as plain values: file, then options, then --set; the later wins.

    Args:
        reads: sections that the command reads. A file may hold those of others too.

    Raises:
        ConfigError: the file or a --set is not written as it should be, or a --set is of a section
            that the command does not read.
        UnknownName: there is no such section.
    """
    from reelm import config

    found = config.read(path)
    for name, values in options.items():
        found[name] = found.get(name, {}) | values
    laid = config.lay_over(found, sets or [])
    known(laid)
    for override in sets or []:
        name = override.partition("=")[0].partition(".")[0]
        if reads is not None and name not in reads:
            raise ConfigError(
                f"--set {override}: this command does not read section [{name}], so nothing would "
                f"change. It reads {', '.join(f'[{one}]' for one in reads)}."
            )
    return laid


def section(name: str, raw: dict[str, Any]) -> Any:
    """The settings of one section."""
    from reelm import config

    return config.section(settings_class(name)[0], raw, name)


def sibling(plural: str, name: str, raw: dict[str, Any], section: str) -> Any:
    """The sibling called `name`, built from its section."""
    from reelm import config

    kind: Callable[..., Any] = import_module(f"reelm.{plural}").find(name)
    return kind(config.section(kind.Config, raw, section))  # pyright: ignore[reportFunctionMemberAccess]


def maker(name: str, raw: dict[str, Any], about: str = "video") -> Any:
    """How to make the backend called `name` from section [backend]; of users `tallies` too, which
    is there at once.

    Raises:
        ConfigError: videos are to be watched by what only counts.
    """
    if name == "tallies":
        from reelm.tallies import COUNTED, Tallies

        if about != "user":
            known = ", ".join(prompt.name for prompt in COUNTED)
            raise ConfigError(
                "--backend tallies: it counts notes about users and cannot watch videos. Take it "
                f"with --prompt {known} or preference_edges."
            )
        return Tallies()
    from reelm import backends, config
    from reelm.backends.base import Maker

    kind = backends.find(name)
    return Maker(kind, config.section(kind.Config, raw, "backend"))


def catalog(folder: Path | None, work: Path) -> Any:
    """The catalogue in `folder`, or the newest."""
    from reelm.data.tables import read_catalog

    return read_catalog(folder or newest_catalog(work))


def rendered(catalog: Any) -> bool:
    """Whether all files of a catalogue lie in worlds as `reelm world` leaves them: beside the
    folder of videos its settings and the truth."""
    table = catalog.videos
    paths = table["path"].drop_nulls().to_list() if "path" in table.columns else []
    homes = {Path(path).parent.parent for path in paths}
    return all((home / "world.json").is_file() and (home / "truth").is_dir() for home in homes)


def catalogs(raw: dict[str, Any], named: list[str] | None, work: Path) -> list[str]:
    """Catalogues to compare on beside those of the settings: the named ones, or the newest where
    there is no other."""
    given = named or raw.get("compare", {}).get("datasets")
    return named or ([] if given else [str(newest_catalog(work))])


def newest_catalog(work: Path) -> Path:
    """The catalogue that was finished last; it is named where there are others, since a catalogue
    that was asked for again does not become newer.

    Raises:
        BadData: there is none.
    """
    from reelm import files

    found = files.latest(work / "catalog")
    if len([*found.parent.glob(f"*/{files.MANIFEST}")]) > 1:
        said = f"catalogue: {found}, the newest of several; --catalog names another"
        typer.echo(said, err=True)
    return found


def notes(work: Path) -> Path:
    """The newest notes about what videos show that hold an answer, or, where none do, the newest;
    transcripts have to be named by --notes.

    Raises:
        BadData: there are none.
    """
    from reelm import files

    try:
        return files.latest(work / "notes", keep=lambda facts: _of_pictures(facts, said=True))
    except BadData:
        return files.latest(work / "notes", keep=_of_pictures)


def notes_to_encode(work: Path, reads: str, catalog: Any) -> Path:
    """The newest notes that an encoder can read; it is said which, and if they are not about all
    videos.

    Args:
        reads: the encoder's input; for `values`, notes without a short field (captions, summaries)
            are passed over.
        catalog: whose videos are to be encoded.

    Raises:
        BadData: there are none.
    """
    from reelm import files
    from reelm.encode import holds_values

    def valued(facts: Mapping[str, Any]) -> bool:
        return _of_pictures(facts, said=True) and (
            "schema" not in facts or holds_values(facts["schema"])
        )

    found = notes(work)
    if reads == "values" and not valued(files.manifest(found)):
        try:
            found = files.latest(work / "notes", keep=valued)
        except BadData as error:
            raise BadData(
                f"{found}: the newest notes have no short field, and --input values reads nothing "
                "else. Ask for some with `reelm annotate --prompt attributes`, or take --encoder "
                "text --input notes."
            ) from error
    part = _part(found, catalog)
    typer.echo(f"notes: {found}, the newest that fit{part}; --notes names others", err=True)
    return found


def about_videos(folders: Sequence[Path]) -> None:
    """
    Raises:
        BadData: some of these folders hold no notes.
        ConfigError: some of these notes are about users.
    """
    from reelm import files

    told = [(folder, files.manifest(files.of(folder, "notes"))) for folder in folders]
    strange = [str(folder) for folder, facts in told if _about_users(facts)]
    if strange:
        raise ConfigError(
            f"--notes {strange[0]}: notes about users, where notes about videos are read. Give "
            "preference edges with --edges, and profiles with --profiles once they are encoded; "
            "`reelm provenance` shows a single one."
        )


def sources(
    raw: dict[str, Any],
    catalog: Path | None,
    features: list[str] | None,
    work: Path,
    notes: tuple[Path, ...] = (),
    **said: Any,
) -> Any:
    """Folders and rules that a dataset and its split are made of.

    Args:
        said: `edges` and `profiles` of `Sources`.

    Raises:
        ConfigError: some of the notes are about users.
    """
    from reelm.sources import Sources

    about_videos(notes)
    return Sources(
        catalog=catalog or newest_catalog(work),
        features=folders(features, "--features"),
        notes=notes,
        dataset=section("dataset", raw),
        split=section("split", raw),
        **said,
    )


def sources_of(run: Path, features: list[str] | None) -> Any:
    """Folders and rules that a run was made from, with more features.

    Raises:
        BadData: there is no such run, or it does not tell.
    """
    from reelm import sources

    found, more = sources.load(run), folders(features, "--features")
    return found.model_copy(update={"features": found.features | more})


def folders(texts: list[str] | None, option: str) -> dict[str, Path]:
    """`name=folder` texts as a mapping."""
    return {n: Path(folder) for n, folder in pairs(texts or [], option, of="folder").items()}


def pairs(texts: list[str], option: str, empty: bool = False, of: str = "value") -> dict[str, str]:
    """`name=value` texts as a mapping; with `empty` the value may be nothing. `of` says what the
    values are.

    Raises:
        ConfigError: one of them is written otherwise.
    """
    parts = [text.partition("=") for text in texts]
    for text, (left, sign, right) in zip(texts, parts, strict=True):
        if not left or not (right or (empty and sign)):
            raise ConfigError(f"{option} {text}: write it as name={of}")
    return {left: right for left, _, right in parts}


def _part(notes: Path, catalog: Any) -> str:
    """That notes are about a part of a catalogue's videos only, if they are: they were asked for
    with annotate.limit, or of another catalogue."""
    from reelm.data.tables import read_notes
    from reelm.engine import videos

    wanted = {name for video in videos(catalog) for name in (video.id, *video.copies)}
    there = len(wanted & set(read_notes(notes)["video_id"]))
    if there == len(wanted):
        return ""
    return f", though about {there} of {len(wanted)} videos only (annotate.limit?)"


def _of_pictures(facts: Mapping[str, Any], said: bool = False) -> bool:
    """Whether a notes folder with this manifest is about what videos show and, with `said`, holds
    an answer."""
    if said and facts.get("failed", 0) >= facts.get("rows", 1):
        return False
    from reelm.prompts.speech import Speech

    prompt = facts.get("settings", {}).get("prompt", {}).get("name")
    return prompt != Speech.name and not _about_users(facts)


def _about_users(facts: Mapping[str, Any]) -> bool:
    """Whether a notes folder with this manifest is about users."""
    return facts.get("settings", {}).get("about") == "user"
