"""Which requests are answered together, and what of them is read only once."""

import hashlib
from collections.abc import Sequence

from reelm.backends.base import Request
from reelm.media.views import Picture


def sights(requests: Sequence[Request]) -> list[list[int]]:
    """Places of requests that begin alike up to their last picture: one watching serves them all.

    Pictures are alike if their pixels are. Requests without pictures stand alone.
    """
    seen: dict[int, bytes] = {}
    groups: dict[object, list[int]] = {}
    for place, request in enumerate(requests):
        groups.setdefault(_beginning(request, seen) or place, []).append(place)
    return list(groups.values())


def batches(
    groups: Sequence[Sequence[int]], lengths: Sequence[int], rows: int, tokens: int
) -> list[list[int]]:
    """Share groups out into batches; groups of like length meet, so that little is padding.

    Args:
        groups: places of requests; a group is split only if it is larger than a batch.
        lengths: tokens of each request, with its answer.
        rows: most requests of a batch.
        tokens: most tokens of a batch, padding counted; a longer request stands alone.
    """
    made: list[list[int]] = []
    for group in sorted(groups, key=lambda g: max(lengths[n] for n in g)):
        longest = max(lengths[n] for n in group)
        most = max(1, min(rows, tokens // max(longest, 1)))
        if made and len(made[-1]) + len(group) <= most:
            made[-1] += group
        else:
            made += [list(group[at : at + most]) for at in range(0, len(group), most)]
    return made


def common(ids: Sequence[Sequence[int]]) -> int:
    """How many tokens all rows begin with; each row keeps at least one token of its own."""
    least = min(map(len, ids)) - 1
    for place in range(least):
        if len({row[place] for row in ids}) > 1:
            return place
    return least


def _beginning(request: Request, seen: dict[int, bytes]) -> tuple[object, ...]:
    shown = [n for n, part in enumerate(request.parts) if isinstance(part, Picture)]
    end = shown[-1] + 1 if shown else 0
    return tuple(
        part if isinstance(part, str) else _pixels(part, seen) for part in request.parts[:end]
    )


def _pixels(picture: Picture, seen: dict[int, bytes]) -> tuple[object, ...]:
    pixels = picture.pixels
    if id(picture) not in seen:
        seen[id(picture)] = hashlib.blake2b(pixels.tobytes(), digest_size=16).digest()
    return pixels.shape, pixels.dtype.str, seen[id(picture)]
