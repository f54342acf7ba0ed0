from typing import Literal

import pytest
from pydantic import Field, PositiveInt

from reelm import asked, config
from reelm.errors import ConfigError, UnknownName


class Sample(config.Config):
    """A section."""

    dim: PositiveInt = 64
    """Width of the vectors."""
    kind: Literal["a", "b"] = "a"
    """Which kind."""
    names: tuple[str, ...] = ("x",)
    """Some names."""
    extra: dict[str, int] = Field(default_factory=lambda: {"one": 1})
    """Numbers by name."""
    limit: int | None = None
    """At most so many."""


def test_every_wrong_key_is_named_by_its_dotted_path():
    with pytest.raises(ConfigError) as caught:
        config.section(Sample, {"model": {"dimm": 3, "dim": -1}}, "model")
    assert "model.dimm: no such setting. Did you mean 'dim'?" in str(caught.value)
    assert "model.dim: Input should be greater than 0" in str(caught.value)


def test_overrides_win_over_the_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[model]\ndim = 8\nkind = 'b'\n")
    raw = config.read(path, ["model.dim=16", "model.names=['p', 'q']"])
    assert config.section(Sample, raw, "model") == Sample(dim=16, kind="b", names=("p", "q"))


def test_a_bare_word_is_a_string():
    assert config.read(None, ["model.kind=b"]) == {"model": {"kind": "b"}}


@pytest.mark.parametrize("override", ["dim=3", "model.dim", "model.dim="])
def test_an_override_without_section_key_or_value_is_refused(override):
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        config.read(None, [override])


def test_a_broken_file_is_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("[model\n")
    with pytest.raises(ConfigError, match=r"run\.toml"):
        config.read(path)


def test_printed_defaults_can_be_read_back(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(config.as_toml(Sample, "model"))
    assert "# Width of the vectors." in path.read_text()
    assert config.section(Sample, config.read(path), "model") == Sample()


def test_settings_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Sample().dim = 3


def test_a_setting_outside_of_a_section_is_named(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("epochs = 3\n[model]\ndim = 8\n")
    with pytest.raises(ConfigError, match="epochs: write it below a section"):
        config.read(path)


def test_a_section_that_nobody_reads_is_an_error(tmp_path):
    with pytest.raises(UnknownName, match="Did you mean 'train'"):
        asked.raw(None, ["trian.epochs=3"])
    path = tmp_path / "config.toml"
    path.write_text("[run]\nmodel = 'mf'\n[train]\nepochs = 3\n")
    assert asked.raw(path, None)["train"] == {"epochs": 3}, "a run's own file can be used again"


def test_a_word_where_a_list_is_wanted_is_shown_as_one():
    with pytest.raises(ConfigError, match=r'sample\.names: .*; write it as \["en"\]'):
        config.parse(Sample, {"names": "en"}, "sample")


class Needy(config.Config):
    """A section with settings that have to be given."""

    model: str = Field(examples=["models/llava"])
    """Folder of a checkpoint."""
    inner: dict[str, Sample] = Field(default_factory=dict)
    """Further ones."""


class Bare(config.Config):
    """One without words."""

    name: str


def test_a_setting_that_is_missing_is_told_with_how_to_give_it():
    with pytest.raises(ConfigError) as caught:
        config.parse(Needy, {}, "backend")
    assert str(caught.value) == (
        "backend.model: has to be given (Folder of a checkpoint), such as with "
        "--set backend.model=models/llava"
    )
    with pytest.raises(
        ConfigError, match=r"x\.name: has to be given, such as with --set x\.name=…"
    ):
        config.parse(Bare, {}, "x")
    assert '# model = "models/llava"  (required)' in config.as_toml(Needy, "backend")


def test_every_setting_that_has_to_be_given_has_an_example():
    from reelm import backends
    from reelm.annotate.transcribing import TranscribeConfig

    kinds = [*(backends.find(name).Config for name in backends.BACKENDS), TranscribeConfig]
    needed = [
        field for kind in kinds for field in kind.model_fields.values() if field.is_required()
    ]
    assert len(needed) >= 4 and all(field.examples for field in needed)
