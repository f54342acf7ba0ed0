"""The list of faults fits the code as it stands, so that `make mutants` finds work to do."""

import pytest

import mutants


@pytest.mark.parametrize("mutant", mutants.mutants(), ids=lambda mutant: mutant.name)
def test_a_fault_can_be_put_in(mutant):
    assert mutant.misfit() is None
