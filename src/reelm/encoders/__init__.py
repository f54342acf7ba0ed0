"""Frozen networks and formulas that turn videos or texts into vectors. A new one is a new file
and one line here."""

from typing import TYPE_CHECKING

from reelm import registry

if TYPE_CHECKING:
    from reelm.encoders.base import Encoder

ENCODERS = {
    "hashing": "reelm.encoders.hashing:Hashing",  # words, no weights: for tests and baselines
    "signal": "reelm.encoders.signal:Signal",  # colour, motion, cuts, loudness; no weights
    "states": "reelm.encoders.states:States",  # what a language model makes of each token
    "text": "reelm.encoders.text:Text",  # sentence-transformers-type models
    "values": "reelm.encoders.values:Values",  # what is noted, a column each; no weights
    "vision": "reelm.encoders.vision:Vision",  # the vision tower of a LLaVA-type checkpoint
}


def find(name: str) -> "type[Encoder]":
    """The class of an encoder.

    Raises:
        UnknownName: no table lists it.
    """
    return registry.find("encoders", ENCODERS, name)
