"""A URI leads to public addresses only, and not for ever."""

import ipaddress
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from reelm.serve import fetch as module
from reelm.serve.fetch import FetchConfig, RefusedUri, fetch, is_public

OPEN = FetchConfig(private=True, seconds=3.0, max_bytes=1000)


class Site(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append((self.path, self.headers["host"]))
        where = {
            "/loop": "/loop", "/file": "file:///etc/passwd", "/once": "/good",
            "/inside": "http://169.254.169.254/latest", "/nowhere": "",
        }.get(self.path)  # fmt: skip
        if where is not None:
            self.send_response(302)
            self.send_header("location", where)
            self.end_headers()
            return
        self.send_response(404 if self.path == "/gone" else 200)
        self.end_headers()
        try:
            for _ in range({"/long": 20, "/slow": 20}.get(self.path, 1)):
                self.wfile.write(b"x" * 100)
                time.sleep(0.5 if self.path == "/slow" else 0)
        except OSError:
            pass

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def site():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Site)
    server.daemon_threads = True
    server.asked = []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def uri(site, path, host="127.0.0.1"):
    return f"http://{host}:{site.server_address[1]}{path}"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_no_fault_of_the_uri(site):
    with pytest.raises(OSError, match="No space left"):
        fetch(uri(site, "/good"), Path("/dev/full"), OPEN)


def test_a_file_is_fetched_also_by_a_redirect(site, tmp_path):
    fetch(uri(site, "/once"), tmp_path / "v", OPEN)
    assert (tmp_path / "v").read_bytes() == b"x" * 100


@pytest.mark.parametrize(
    ("path", "why"),
    [("/loop", "redirects"), ("/file", "only http"), ("/gone", "status 404"),
     ("/nowhere", "redirects"), ("/long", "longer than 1000")],
)  # fmt: skip
def test_what_is_no_video_is_refused(site, tmp_path, path, why):
    with pytest.raises(RefusedUri, match=why):
        fetch(uri(site, path), tmp_path / "v", OPEN)


def test_a_slow_site_is_left(site, tmp_path):
    begun = time.monotonic()
    with pytest.raises(RefusedUri, match=r"took more|no answer"):
        fetch(uri(site, "/slow"), tmp_path / "v", OPEN.model_copy(update={"seconds": 1.0}))
    assert time.monotonic() - begun < 4


def test_a_redirect_to_a_private_address_is_refused(site, tmp_path, monkeypatch):
    """The site itself counts as public here; where it leads does not."""
    judge = module.is_public
    loopback = ipaddress.ip_address("127.0.0.1")
    monkeypatch.setattr(module, "is_public", lambda a: a == loopback or judge(a))
    with pytest.raises(RefusedUri, match="not a public address"):
        fetch(uri(site, "/inside"), tmp_path / "v", FetchConfig())


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.0.1", "169.254.169.254", "0.0.0.0",
     "100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fd00::1", "ff02::1",
     "::ffff:127.0.0.1", "::ffff:10.0.0.1", "2002:7f00:1::", "64:ff9b::a00:1", "240.0.0.1",
     "2001:0:53aa:64c:0:fbff:f5ff:fffd"],
)  # fmt: skip
def test_private_addresses(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "2606:4700::1111"])
def test_public_addresses(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "where",
    ["file:///etc/passwd", "ftp://a.example/v", "gopher://x", "http://", "http:///x", "nonsense",
     "http://user:word@8.8.8.8/", "http://127.0.0.1/", "http://[::1]/", "http://localhost:8000/",
     "http://2130706433/", "http://0x7f000001/", "http://0177.0.0.1/", "http://127.1/",
     "http://[::ffff:127.0.0.1]/", "http://8.8.8.8:0/", "http://8.8.8.8:99999/", "http://[::1/",
     "http://a b/", "http://8.8.8.8/\r\nhost: x", "http://" + "a" * 300, "http://\u2460.example/",
     "http://no-such-host.invalid/", "data:video/mp4;base64,AAAA"],
)  # fmt: skip
def test_uris_that_are_refused_without_asking(where, tmp_path):
    with pytest.raises(RefusedUri) as said:
        fetch(where, tmp_path / "v", FetchConfig(seconds=1.0))
    assert "no answer" not in str(said.value), "somebody was asked"


def test_a_name_with_one_private_address_is_refused(tmp_path, monkeypatch):
    found = [(2, 1, 6, "", (a, 80)) for a in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    with pytest.raises(RefusedUri, match="not a public"):
        fetch("http://a.example/", tmp_path / "v", FetchConfig())


def test_the_address_that_was_checked_is_the_one_that_is_asked(site, tmp_path, monkeypatch):
    """A name server that answers otherwise the second time is not asked a second time."""
    real, asked = socket.getaddrinfo, []

    def once(host, *rest, **more):
        if host == "a.example":
            asked.append(host)
            host = "127.0.0.1"
        return real(host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", once)
    fetch(uri(site, "/good", "a.example"), tmp_path / "v", OPEN)
    assert asked == ["a.example"]
    assert site.asked[-1] == ("/good", f"a.example:{site.server_address[1]}")
