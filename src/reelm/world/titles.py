"""Who uploads what, under which title: creators with a style, and titles that often say nothing."""

import random
from dataclasses import asdict, dataclass

from reelm.world.clips import Clip, consistent, sample_clip
from reelm.world.vocabulary import ATTRIBUTES

DAYS = 30
"""Days that people watch; uploads begin `HEAD_START_DAYS` earlier and go on evenly to the end."""
HEAD_START_DAYS = 4
VIDEOS_PER_CREATOR = 8
STYLE = ("subject", "scene", "effect", "instrument", "tempo", "motion")
"""What a creator repeats: each of these is the creator's favourite in half of the videos."""

_EMPTY_TITLES = (
    "you won't believe this", "wait for it", "my best one yet", "day in my life",
    "part 2 is crazy", "comment below", "no way",
)  # fmt: skip
_SUBJECT_TITLES = (
    "my {subject} today", "{subject} time", "best {subject} ever", "just a {colour} {subject}",
    "{subject} vs {scene}",
)  # fmt: skip
_SCENE_TITLES = ("one evening in the {scene}", "{scene} vibes", "{scene} moments")
_EMPTY_TAGS = ("fyp", "viral", "trending", "foryou", "xyzbca")


@dataclass(frozen=True)
class Upload:
    """A clip with what its creator and chance added.

    `day` counts from the start of the log and may be negative; `quality` is how much everyone
    likes it beyond taste (normal, mean 0, deviation 0.5).
    """

    clip: Clip
    creator: int
    title: str
    hashtags: tuple[str, ...]
    day: float
    quality: float


def make_uploads(count: int, seed: int) -> list[Upload]:
    """`count` uploads, oldest first; creators' videos resemble each other."""
    rng = random.Random(seed)
    styles = [sample_clip(rng) for _ in range(max(1, count // VIDEOS_PER_CREATOR))]
    days = DAYS + HEAD_START_DAYS
    return [
        _upload(rng, styles, -HEAD_START_DAYS + days * number / count) for number in range(count)
    ]


def _upload(rng: random.Random, styles: list[Clip], day: float) -> Upload:
    creator = rng.randrange(len(styles))
    clip = _in_style(sample_clip(rng), styles[creator], rng)
    title, hashtags = _title(clip, rng), _hashtags(clip, rng)
    return Upload(clip, creator, title, hashtags, day, rng.gauss(0, 0.5))


def _in_style(clip: Clip, style: Clip, rng: random.Random) -> Clip:
    kept = {name: getattr(style, name) for name in STYLE if rng.random() < 0.5}
    return consistent(Clip(**(asdict(clip) | kept)), rng)


def _title(clip: Clip, rng: random.Random) -> str:
    """35 % of titles say nothing, 40 % name the subject, 25 % only the scene."""
    chance = rng.random()
    if chance < 0.35:
        return rng.choice(_EMPTY_TITLES)
    return rng.choice(_SUBJECT_TITLES if chance < 0.75 else _SCENE_TITLES).format(**asdict(clip))


def _hashtags(clip: Clip, rng: random.Random) -> tuple[str, ...]:
    """One that says nothing, some that are true, and now and then one drawn at random."""
    tags = [rng.choice(_EMPTY_TAGS)]
    if rng.random() < 0.5:
        tags.append(clip.subject)
    if rng.random() < 0.35:
        tags.append(clip.scene)
    if rng.random() < 0.25:
        tags.append("quiet" if clip.instrument == "none" else clip.instrument)
    if rng.random() < 0.25:
        tags.append(rng.choice(ATTRIBUTES["subject"] + ATTRIBUTES["scene"]))
    return tuple(f"#{tag}" for tag in dict.fromkeys(tags))
