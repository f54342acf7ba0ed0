"""The description of the interface: fresh, and no request that fits it, or does not, breaks us."""

import json
from pathlib import Path

import pytest
import requests
import schemathesis
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable

from reelm.serve.gate import ServiceConfig
from reelm.serve.served import Parts, Served
from reelm.serve.service import create_app, description
from reelm.serve.store import Store

pytestmark = pytest.mark.filterwarnings(
    "ignore::hypothesis.errors.HypothesisDeprecationWarning"  # schemathesis draws with `random`
)
COPY = Path(__file__).parents[3] / "docs" / "openapi.json"
FEW, MANY = 15, 460
"""Cases for each operation, in the default suite and in the slow one."""


def test_the_copy_in_the_docs_is_fresh():
    said = json.loads(COPY.read_text(encoding="utf-8"))
    assert said == description(), "run: python docs/generate.py"
    assert said["openapi"].startswith("3.1")


@pytest.fixture(scope="module")
def app(run, catalog, notes, tmp_path_factory):
    from .test_uploads import Seer, opened

    folder = tmp_path_factory.mktemp("app")
    served = Served(Parts(run, catalog, notes, Store(folder / "store.sqlite")))
    patient = ServiceConfig(wait_s=0)  # on a slow machine a request may well wait
    yield create_app(served, ("testserver",), opened(served, folder, Seer()), config=patient)
    served.engine.store.close()


def asked(app, count):
    """Statuses of `count` cases for each operation, by operation."""
    schema = schemathesis.openapi.from_dict(description())
    modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE]
    statuses: dict[str, list[int]] = {}
    with TestClient(app, raise_server_exceptions=False) as client:
        for found in schema.get_all_operations():
            operation = found.ok()
            for mode in modes:
                try:
                    cases = operation.as_strategy(generation_mode=mode)
                    _ask(client, cases, count // 2 + 1, statuses.setdefault(operation.label, []))
                except (schemathesis.errors.SchemathesisError, Unsatisfiable):
                    continue  # nothing can be wrong about an operation without parameters
    return statuses


def _ask(client, cases, count, statuses):
    @settings(
        max_examples=count, database=None, derandomize=True,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=cases)
    def each(case):
        try:
            arguments = case.as_transport_kwargs(base_url="http://testserver")
            sent = requests.Request(**arguments).prepare()
            body = sent.body.encode() if isinstance(sent.body, str) else sent.body
            answered = client.request(
                sent.method, sent.url, content=body, headers=dict(sent.headers)
            )
        except (UnicodeError, ValueError, TypeError, requests.RequestException):
            return  # a client cannot even send it
        statuses.append(answered.status_code)
        assert answered.status_code < 500, (sent.method, sent.url, body, answered.text)

    each()


def test_no_request_breaks_the_service(app):
    statuses = asked(app, FEW)
    assert len(statuses) >= 16
    assert sum(map(len, statuses.values())) > 150
    assert max(max(some) for some in statuses.values() if some) < 500


@pytest.mark.slow
def test_no_request_of_thousands_breaks_the_service(app):
    statuses = asked(app, MANY)
    assert sum(map(len, statuses.values())) >= 5000
    assert max(max(some) for some in statuses.values() if some) < 500
