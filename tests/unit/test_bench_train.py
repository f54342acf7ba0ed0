"""The gate by which benchmarks/bench_train.py measures other people's training loops."""

import json
import subprocess
import sys
from pathlib import Path

PEERS = Path(__file__).parents[2] / "benchmarks" / "peers"
LOOP = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from gate import Gate
gate = Gate()
for step in range(1000):
    gate.step(gate.settings["targets"] + step)
    print("a library that talks on stdout")
    if step:  # the first step is cheap, the others are not
        sum(range(1_000_000))
"""


def test_a_loop_goes_as_far_as_it_is_told_and_counts_what_it_learnt():
    command = [sys.executable, "-c", LOOP, str(PEERS), json.dumps({"targets": 10})]
    worker = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert worker.stdin is not None and worker.stdout is not None
    with worker.stdin, worker.stdout:
        answers = [json.loads(worker.stdout.readline())]
        for steps in (1, 6, 2):
            print(json.dumps({"steps": steps}), file=worker.stdin, flush=True)
            answers.append(json.loads(worker.stdout.readline()))
        worker.stdin.close()
        assert worker.wait(timeout=20) == 0  # nobody can ask any more
        assert worker.stdout.read() == ""
    assert [answer["steps"] for answer in answers] == [0, 1, 6, 2]
    assert [answer["interactions"] for answer in answers] == [0, 10, sum(range(11, 17)), 17 + 18]
    ready, cheap, six, two = (answer["cpu_s"] for answer in answers)
    assert cheap < two < six, (ready, cheap, two, six)  # a step's time is its own
    assert 1e6 < answers[-1]["peak_bytes"] < 2e8  # this process's, not its parent's
