"""`transformers serve` on a tiny LLaVA: a real OpenAI-compatible server, spoken to with images."""

import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

import tiny_llava
from reelm.backends.base import Answer, Failure
from reelm.backends.openai_http import OpenAIHTTP, OpenAIHTTPConfig

START_S = 300


@pytest.fixture(scope="module")
def server(folder, tmp_path_factory):
    """The address of a running server, and the folder it is asked for."""
    tool = Path(sys.executable).parent / "transformers"
    if not tool.exists():
        pytest.skip("the transformers command is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = tmp_path_factory.mktemp("serve") / "log.txt"
    command = [tool, "serve", folder, "--device", "cpu", "--host", "127.0.0.1", "--port", port]
    with log.open("w") as out:
        process = subprocess.Popen([str(c) for c in command], stdout=out, stderr=out)
    try:
        url = f"http://127.0.0.1:{port}"
        end = time.monotonic() + START_S
        while not _up(url):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < end, log.read_text()[-2000:]
            time.sleep(0.5)
        yield f"{url}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _up(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health", timeout=5).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.slow
def test_a_real_server_sees_the_pictures_and_says_what_the_local_backend_says(
    server, folder, backend
):
    config = OpenAIHTTPConfig(
        model=str(folder), base_url=server, image_format="png", concurrency=2, timeout_s=300
    )
    remote = OpenAIHTTP(config)
    asked = [tiny_llava.ask(n, pictures=1 + n % 3, max_tokens=8) for n in range(6)]
    here, there = backend.answer(asked), remote.answer(asked)
    assert all(isinstance(a, Answer) for a in there), there
    assert [a.text for a in there] == [a.text for a in here]
    assert [a.tokens_in for a in there] == [a.tokens_in for a in here]
    assert len({a.text for a in there}) > 1

    # It does not enforce schemas and the model is untaught: told as such, after one repair.
    (wrong,) = remote.answer([tiny_llava.ask(1, tiny_llava.FACTS, max_tokens=8)])
    assert isinstance(wrong, Failure) and wrong.kind in ("invalid_json", "truncated")

    remote.close()

    stranger = OpenAIHTTP(config.model_copy(update={"model": "nobody/knows", "retries": 0}))
    (lost,) = stranger.answer([asked[0]])
    stranger.close()
    assert isinstance(lost, Failure) and lost.kind.startswith("http_")
