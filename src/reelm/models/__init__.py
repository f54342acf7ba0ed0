"""Recommenders. One file each; a new model is a new file and one line here."""

from collections.abc import Iterable, Mapping
from typing import Any

from reelm import config, registry
from reelm.errors import ConfigError

MODELS = {
    "content": "reelm.models.content:Content",  # cosine of frozen features with the history
    "dcn": "reelm.models.dcn:DCN",  # rates single places: crosses of fields and a deep network
    "din": "reelm.models.din:DIN",  # rates single places: attention from the video to the history
    "ease": "reelm.models.ease:EASE",  # a linear model of items from items, in closed form
    "freedom": "reelm.models.freedom:FREEDOM",  # that, and vectors smoothed over a content graph
    "item_knn": "reelm.models.item_knn:ItemKNN",  # items watched by the same people
    "kar": "reelm.models.kar:KAR",  # one of these two, and what was said of users and videos
    "lightgcn": "reelm.models.lightgcn:LightGCN",  # vectors smoothed along who chose what
    "llmrec": "reelm.models.llmrec:LLMRec",  # a graph model, and what was said of users and videos
    "mamba4rec": "reelm.models.mamba4rec:Mamba4Rec",  # a selective state space over the history
    "mf": "reelm.models.mf:MF",  # a vector per user and item, ranked pair by pair
    "mmssl": "reelm.models.mmssl:MMSSL",  # a graph per kind of feature, a critic and a contrast
    "once": "reelm.models.once:ONCE",  # rates single places: the top of a language model, tuned
    "popularity": "reelm.models.popularity:Popularity",  # counts; the floor to beat
    "promptmm": "reelm.models.promptmm:PromptMM",  # lightgcn and features, tuned by prompts
    "sasrec": "reelm.models.sasrec:SASRec",  # causal self-attention over the history
    "slim": "reelm.models.slim:SLIM",  # sasrec or mamba4rec, and what was reasoned of users
    "trawl": "reelm.models.trawl:TRAWL",  # mf beside knowledge that an adapter fits to choices
    "vbpr": "reelm.models.vbpr:VBPR",  # mf with a second part made of features
}


def find(name: str) -> Any:
    """The recommender class called `name`, built in or offered by an installed package."""
    return registry.find("models", MODELS, name)


def settings(name: str, values: Mapping[str, Any], section: str = "model") -> Any:
    """The settings of the recommender called `name` from plain values.

    Raises:
        ConfigError: they are not settings of this model; `section` is what the error speaks of.
    """
    refuse_unread(name, values, section)
    return config.parse(find(name).Config, dict(values), section)


def refuse_unread(name: str, keys: Iterable[str], section: str = "model") -> None:
    """
    Raises:
        ConfigError: features or profiles are set of a model that reads none.
    """
    fields = find(name).Config.model_fields
    told = " ".join(str(field.description).lower() for field in fields.values())
    for key, those in (("features", "sasrec or vbpr"), ("profiles", "slim or kar")):
        if key in keys and key not in fields and key.removesuffix("s") not in told:
            raise ConfigError(
                f"{section}.{key}: {name} reads no {key}, so it has no such setting. Take it out, "
                f"or choose a model that reads them, such as {those}."
            )
