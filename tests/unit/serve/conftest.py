"""A small world to serve: 60 videos of six kinds, 30 users who each watch one kind, a real run."""

import functools

import polars as pl
import pytest

from reelm.data.dataset import Dataset
from reelm.data.tables import Catalog
from reelm.models.item_knn import ItemKNN
from reelm.runs import Run
from reelm.serve.engine import Engine, EngineConfig
from reelm.serve.notes import Notes
from reelm.serve.store import Store

SUBJECTS = ("cat", "car", "ghost", "pizza", "robot", "flower")
COLOURS = ("red", "blue", "white", "orange", "green")
VIDEOS = 60
WATCHED = 48
"""Videos from this one on are in the catalogue but not in the log: new ones."""
USERS = 30


def video(number: int) -> str:
    return f"v{number:03d}"


def kind(number: int) -> int:
    return number % len(SUBJECTS)


def answer(number: int) -> dict[str, str]:
    return {
        "subject": SUBJECTS[kind(number)],
        "colour": COLOURS[number // len(SUBJECTS) % len(COLOURS)],
        "count": "1",
        "scene": ("beach", "city")[number % 2],
        "word": "none",
    }


def events() -> pl.DataFrame:
    rows = []
    for user in range(USERS):
        mine = [n for n in range(WATCHED) if kind(n) == kind(user)]
        for step in range(5):
            watched = mine[(user // len(SUBJECTS) + step) % len(mine)]
            rows.append((f"u{user}", video(watched), 1000.0 * user + step, "watch", 0.9))
    names = ["user_id", "video_id", "timestamp", "event", "value"]
    return pl.DataFrame(rows, schema=names, orient="row")


def videos(folder) -> pl.DataFrame:
    """Video 0 is a copy of 6's file, video 1 was quarantined, all others can be shown."""
    rows = []
    for number in range(VIDEOS):
        path = folder / f"{video(number)}.mp4"
        path.write_bytes(bytes(range(256)) * 4)
        rows.append(
            {
                "video_id": video(number),
                "path": str(path),
                "title": f"<b>clip</b> {number}",
                "hashtags": f"#tag{number % 4} fun",
                "creator": f"creator{number % 7}",
                "uploaded_at": 50.0 * number,
                "duration_s": 4.0,
                "video_codec": "h264",
                "ok": number != 1,
                "duplicate_of": video(6) if number == 0 else None,
            }
        )
    return pl.DataFrame(rows)


@pytest.fixture(scope="session")
def catalog(tmp_path_factory) -> Catalog:
    folder = tmp_path_factory.mktemp("catalog")
    return Catalog(folder, videos(folder), events())


@pytest.fixture(scope="session")
def notes() -> Notes:
    answers = {video(n): answer(n) for n in range(VIDEOS)}
    return Notes(answers, [{"prompt": "attributes", "model": "by hand"}])


@pytest.fixture(scope="session")
def run(catalog) -> Run:
    data = Dataset.build(events(), videos=catalog.videos.drop("duplicate_of"))
    return Run.of("item_knn", ItemKNN(ItemKNN.Config(), data), data)


@pytest.fixture(scope="session")
def postgres():
    """A real server, or a skip that says what is missing."""
    pytest.importorskip("psycopg", reason="pip install 'reelm[postgres]'")
    from postgres import Server, missing

    why = missing()
    if why:
        pytest.skip(why)
    server = Server()
    yield server
    server.close()


@pytest.fixture
def url(postgres):
    """The address of an empty store in PostgreSQL."""
    with postgres.room() as address:
        yield address


@pytest.fixture(params=["sqlite", "postgres"])
def where(request, tmp_path):
    """The address of a store that is not there yet, of each kind."""
    if request.param == "sqlite":
        return tmp_path / "store.sqlite"
    return request.getfixturevalue("url")


@pytest.fixture(autouse=True)
def no_store_stays_open():
    """Closes what a test opened and left open: Python warns of such from 3.13 on."""
    opened, begin = [], Store.__init__

    @functools.wraps(begin)
    def begun(self, *given, **named):
        begin(self, *given, **named)
        opened.append(self)

    with pytest.MonkeyPatch.context() as patch:  # our own, so that the test's is undone before
        patch.setattr(Store, "__init__", begun)
        yield
    for one in opened:
        one.close()


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def engine(run, catalog, notes, store) -> Engine:
    return Engine(run, catalog, notes, store, EngineConfig(new_share=0.2))
