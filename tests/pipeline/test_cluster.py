"""Notes from a Ray cluster of two nodes, one of which is killed, are those of one process."""

import time

import pytest

import tiny_clips
from reelm import files
from reelm.annotate import AnnotateConfig, annotate
from reelm.backends.base import Maker
from reelm.backends.fake import Fake, FakeConfig
from reelm.cluster import Cluster, ClusterError
from reelm.cost import Ledger
from reelm.data.tables import read_notes
from reelm.errors import ConfigError
from reelm.prompts.attributes import Attributes

pytestmark = pytest.mark.cluster
pytest.importorskip("ray", reason="Ray is not installed: pip install 'reelm[ray]'")
VIDEOS, PART = 48, 2


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    folder = tmp_path_factory.mktemp("catalog")
    return tiny_clips.catalog(folder, tiny_clips.write(folder / "clips", VIDEOS))


@pytest.fixture(scope="module")
def nodes():
    """A head without room for models, and two nodes with room for one each."""
    from ray.cluster_utils import Cluster as Nodes

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        started = Nodes(initialize_head=True, head_node_args={"num_cpus": 0})
        yield started, [started.add_node(num_cpus=1) for _ in range(2)]
        started.shutdown()


def test_notes_of_two_nodes_one_killed_are_those_of_one_process(
    catalog, nodes, tmp_path, monkeypatch
):
    """And those of four processes on one machine."""
    started, (_, second) = nodes
    maker = Maker(Fake, FakeConfig(seconds=0.02))
    config = AnnotateConfig(part=PART, seconds=120)
    alone = annotate(
        catalog, maker, Attributes, config.model_copy(update={"replicas": 0}), tmp_path / "1"
    )
    four = annotate(
        catalog, maker, Attributes, config.model_copy(update={"replicas": 4}), tmp_path / "4"
    )
    kept, killed = Ledger.add, []

    def add(ledger, cost):
        kept(ledger, cost)
        if len(ledger.lines()) == 4:
            killed.append(time.monotonic())
            started.remove_node(second, allow_graceful=False)

    monkeypatch.setattr(Ledger, "add", add)
    there = config.model_copy(update={"replicas": 2, "engine": started.address})
    both = annotate(catalog, maker, Attributes, there, tmp_path / "ray")
    assert killed, "no node was killed"
    tables = [read_notes(folder).drop("seconds") for folder in (alone, four, both)]
    assert len(tables[0]) == VIDEOS and tables[0]["answer"].null_count() == 0
    for table in tables[1:]:
        assert table.equals(tables[0])
    assert alone.name == four.name == both.name
    facts = [files.manifest(folder) for folder in (alone, both)]
    assert all(f["cost"]["tokens_out"] == facts[0]["cost"]["tokens_out"] for f in facts)
    assert sorted(line.part for line in Ledger(both).lines()) == list(range(VIDEOS // PART))


def test_what_is_wrong_there_is_said_here(catalog, nodes, tmp_path):
    started, _ = nodes
    there = AnnotateConfig(engine=started.address)
    with pytest.raises(ConfigError, match="loaded here"):
        annotate(catalog, Fake(FakeConfig()), Attributes, there, tmp_path)
    with pytest.raises(ClusterError, match=r"no Ray cluster at 127\.0\.0\.1:9"):
        Cluster("127.0.0.1:9")
