"""Recommenders. One file each; a new model is a new file and one line here."""

from typing import Any

from reelm import registry

MODELS = {
    "content": "reelm.models.content:Content",  # cosine of frozen features with the history
    "item_knn": "reelm.models.item_knn:ItemKNN",  # items watched by the same people
    "mamba4rec": "reelm.models.mamba4rec:Mamba4Rec",  # a selective state space over the history
    "popularity": "reelm.models.popularity:Popularity",  # counts; the floor to beat
    "sasrec": "reelm.models.sasrec:SASRec",  # causal self-attention over the history
}


def find(name: str) -> Any:
    """The recommender class called `name`, built in or offered by an installed package."""
    return registry.find("models", MODELS, name)
