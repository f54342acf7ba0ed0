"""What a loss on a cluster is, where no cluster is at hand."""

import pytest

from reelm import cluster
from reelm.errors import BackendError


class TaskError(Exception):
    """As Ray wraps what is raised in an actor."""

    def __init__(self, cause):
        self.cause = cause


@pytest.mark.parametrize(
    ("kind", "over"),
    [("http_401", True), ("http_404", True), ("connection", True), ("model", False)],
)
def test_what_every_actor_would_hear_is_not_tried_again(kind, over):
    assert cluster._closed(TaskError(BackendError(kind, "no"))) is over


def test_what_may_be_a_node_that_ends_is_tried_again():
    assert not cluster._closed(TaskError(OSError("gone")))
    assert not cluster._closed(OSError("gone"))
