import pytest

from reelm import registry
from reelm.errors import MissingInput, MissingPackage, UnknownName

TABLE = {"ordered": "collections:OrderedDict"}


def test_a_name_gives_its_class():
    from collections import OrderedDict

    assert registry.find("things", TABLE, "ordered") is OrderedDict


def test_an_unknown_name_is_met_with_the_nearest_one():
    with pytest.raises(UnknownName, match=r"unknown thing 'orderd'\. Did you mean 'ordered'\?"):
        registry.find("things", TABLE, "orderd")


def test_nothing_is_imported_before_it_is_asked_for():
    table = TABLE | {"broken": "no_such_module:Thing"}
    assert registry.names("things", table)["broken"] == "no_such_module:Thing"
    with pytest.raises(ModuleNotFoundError):
        registry.find("things", table, "broken")


def test_errors_say_what_to_do():
    missing = MissingInput("mmssl", "features.image", ["text"], "reelm encode --encoder <name>")
    assert str(missing) == (
        "mmssl needs features.image; loaded: text. Make it with: reelm encode --encoder <name>"
    )
    assert "pip install 'reelm[text]'" in str(MissingPackage("x", "text", "the encoder"))
