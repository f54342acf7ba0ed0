"""Checkpoints that cannot be had: said at once, and once."""

import huggingface_hub
import pytest
from huggingface_hub import errors

from reelm import halves, hub
from reelm.backends.transformers import load_model
from reelm.encoders.text import Text, TextConfig
from reelm.encoders.vision import Vision, VisionConfig
from reelm.errors import BackendError


@pytest.fixture
def away(monkeypatch):
    """The hub as a function says it is; how often it was asked."""
    asked = []

    def set_(answer):
        def metadata(url, **_):
            asked.append(url)
            if answer is not None:
                raise answer

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_, **__: None)
        return asked

    return set_


class Response:
    """What errors of the hub are made of."""

    headers, request, status_code, text = {}, None, 404, ""


def refusal(kind):
    return kind("no", response=Response())


@pytest.mark.parametrize(
    "load",
    [
        load_model,
        halves.load_tokenizer,
        lambda name: halves.load_half(name, 0, "lower"),
        lambda name: Text(TextConfig(model=name)),
        lambda name: Vision(VisionConfig(model=name)),
    ],
)
def test_a_hub_that_is_not_there_is_asked_once(away, load):
    asked = away(ConnectionError("Name or service not known"))
    with pytest.raises(BackendError, match=r"cannot be reached .Name or service") as error:
        load("nosuch/model")
    assert len(asked) == 1 and str(error.value).count("Name or service") == 1


def test_what_the_hub_does_not_know_is_told(away):
    away(refusal(errors.RepositoryNotFoundError))
    with pytest.raises(BackendError, match="has no such folder, and as a hub id the hub knows no"):
        hub.reach("nosuch/model")
    with pytest.raises(BackendError, match="knows no such model at v2"):
        hub.reach("nosuch/model", "v2")


@pytest.mark.parametrize("answer", [None, refusal(errors.GatedRepoError)])
def test_what_is_there_is_left_to_the_library(away, answer, tmp_path):
    asked = away(answer)
    hub.reach("owner/model")
    assert len(asked) == 1 and "owner/model/resolve/main/config.json" in asked[0]
    hub.reach(str(tmp_path))
    assert len(asked) == 1, "a folder is no matter of the hub's"


def test_what_was_fetched_before_needs_no_hub(away, monkeypatch):
    asked = away(ConnectionError("no"))
    found = lambda *_, **__: "/cache/config.json"  # noqa: E731
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", found)
    hub.reach("owner/model")
    assert not asked


def test_what_is_no_hub_id_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BackendError, match="it is not written as one"):
        hub.reach("not--a..name")
