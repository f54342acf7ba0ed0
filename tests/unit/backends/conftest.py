"""A tiny checkpoint that the tests of backends share."""

import pytest

import tiny_llava
from reelm.backends.transformers import Transformers, TransformersConfig


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A tiny LLaVA with random weights."""
    return tiny_llava.save(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def backend(folder):
    return Transformers(TransformersConfig(model=str(folder)))
