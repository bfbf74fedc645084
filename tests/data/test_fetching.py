"""Images behind URLs: a real server on this machine, which must be allowed; and addresses that must be refused."""

import contextlib
import http.server
import ipaddress
import socket
import threading
import time

import pytest
from colours import encoded
from PIL import Image

from diptych.data import addresses
from diptych.data.addresses import checked_addresses, is_public
from diptych.data.fetching import FetchLimits, fetch
from diptych.data.urls import UrlSource, read_urls
from diptych.errors import DataError
from diptych.records import Broken

PICTURE = encoded(Image.new("RGB", (8, 6), (30, 10, 200)))
LOCAL = FetchLimits(seconds=1.0, num_bytes=1 << 16, retries=1, allow_private=True)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers by the path."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *words):
        pass

    def do_GET(self):
        self.server.paths.append(self.path)
        name, _, argument = self.path[1:].partition("/")
        getattr(self, f"answer_{name}")(argument)

    def send(self, status, body=b"", **headers):
        self.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def answer_picture(self, _):
        self.send(200, PICTURE, Content_Type="text/html")  # it lies

    def answer_page(self, _):
        self.send(200, b"<html>not here</html>", Content_Type="image/png")

    def answer_status(self, status):
        self.send(int(status))

    def answer_to(self, target):
        self.send(302, Location=target)

    def answer_around(self, _):
        self.send(302, Location="/around/")

    def answer_large(self, _):
        self.send(200, bytes(1 << 17))

    def answer_endless(self, _):
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(OSError):
            while True:
                self.wfile.write(bytes(1 << 12))

    def answer_drip(self, _):
        with contextlib.suppress(OSError):
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            for number in range(100):
                self.wfile.write(f"X-{number}: x\r\n".encode())
                time.sleep(0.2)

    def answer_cut(self, _):
        self.send(200, b"half", Content_Length="1000")
        self.close_connection = True

    def answer_flaky(self, _):
        self.send(*((503,) if self.server.paths.count(self.path) < 2 else (200, PICTURE)))


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as one:
        one.paths, one.daemon_threads, one.block_on_close = [], True, False
        threading.Thread(target=one.serve_forever, daemon=True).start()
        one.at = f"http://127.0.0.1:{one.server_port}"
        yield one
        one.shutdown()


def test_a_file_comes_whole_whatever_type_the_server_states(server):
    assert fetch(f"{server.at}/picture/a b?c=d e", LOCAL) == PICTURE
    assert server.paths == ["/picture/a%20b?c=d%20e"]
    assert fetch(f"{server.at}/to//picture/", LOCAL) == PICTURE
    assert fetch(f"{server.at}/flaky/", LOCAL, pause=0) == PICTURE


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("status/404", "answers 404$"),
        ("status/500", r"answers 500 \(2 attempts\)"),
        ("around/", "more than 5 redirects"),
        ("to/file:///etc/passwd", "only http and https are fetched, not file"),
        ("to/http://user:secret@example.com/", "user name or a password"),
        ("large/", "larger than 64 KiB"),
        ("endless/", "larger than 64 KiB"),
        ("drip/", "no complete answer within 1 s"),
        ("cut/", "cut after 4 of 1000 bytes"),
    ],
)
def test_what_cannot_be_fetched_has_a_reason(server, path, words):
    start = time.monotonic()
    with pytest.raises(DataError, match=words):
        fetch(f"{server.at}/{path}", LOCAL, pause=0)
    assert time.monotonic() - start < 8


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "0.0.0.0", "192.168.1.1", "100.64.0.1", "localhost"),
        *("[::ffff:127.0.0.1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[fe80::1]", "[fd00::1]", "2130706433"),
        *("0x7f.1", "224.0.0.1", "[ff02::1]"),
    ],
)
def test_addresses_that_are_not_public_are_refused_before_anything_is_sent(host, monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("a connection was opened"))
    with pytest.raises(DataError, match=r"is not public.*--allow-private"):
        fetch(f"http://{host}/latest/meta-data/")


def test_public_addresses_are_public():
    assert all(is_public(ipaddress.ip_address(one)) for one in ("8.8.8.8", "93.184.215.14", "2606:4700::6810:85e5"))


def test_a_name_that_resolves_to_this_machine_is_refused_and_so_is_a_redirect_there(server, monkeypatch):
    """The resolver and the list of private addresses are real but for one name and one address."""
    resolve = socket.getaddrinfo

    def resolved(host, port, **options):
        return resolve("127.0.0.1" if host == "images.example" else host, port, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with pytest.raises(DataError, match=r"images\.example has the address 127\.0\.0\.1, which is not public"):
        fetch(f"http://images.example:{server.server_port}/picture/")
    assert server.paths == []
    # The first host counts as public; the redirect leads to another name of this machine.
    monkeypatch.setattr(addresses, "is_public", lambda address: address == ipaddress.ip_address("127.0.0.1"))
    with pytest.raises(DataError, match=r"has the address 127\.0\.0\.2, which is not public"):
        fetch(f"{server.at}/to/http://127.0.0.2:{server.server_port}/picture/")
    assert server.paths == [f"/to/http://127.0.0.2:{server.server_port}/picture/"]


def test_the_connection_goes_to_the_address_that_was_checked(server, monkeypatch):
    """A name that resolves to a public address first and to this machine the next time is resolved only once."""
    answers = iter([server.server_address[0]])
    monkeypatch.setattr(
        socket,
        "getaddrinfo",
        lambda host, port, **_: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))],
    )
    assert fetch(f"http://rebinding.example:{server.server_port}/picture/", LOCAL) == PICTURE
    with pytest.raises(StopIteration):
        checked_addresses("rebinding.example", 80, allow_private=True)


@pytest.mark.parametrize("url", ["ftp://example.com/a", "file:///etc/passwd", "http://", "http://[::1", "no url"])
def test_other_urls_are_refused(url):
    with pytest.raises(DataError):
        fetch(url)


def test_a_list_of_urls_is_a_source_in_its_order(server, monkeypatch):
    monkeypatch.setattr("diptych.data.urls.URLS_PER_SHARD", 3)
    urls = tuple(
        f"{server.at}/{path}" for path in ("picture/0", "status/404", "page/", "picture/1", "cut/", "status/200")
    )
    source = UrlSource(urls, FetchLimits(seconds=5, retries=0, allow_private=True), num_threads=4)
    items = [item for index in range(len(source.shards)) for item in source.read(index)]
    assert [item.key for item in items] == list(urls) and len(source.shards) == 2 and source.num_samples == 6
    assert [isinstance(item, Broken) for item in items] == [False, True, False, False, True, True]
    assert items[2].image == b"<html>not here</html>"  # decoding decides


def test_files_of_urls(tmp_path):
    path = tmp_path / "urls.txt"
    path.write_text("\ufeffhttp://a.example/1.jpg\n\n# a comment\nHTTPS://b.example/ü.jpg\nhttp://a.example/1.jpg\n")
    assert read_urls(path) == ("http://a.example/1.jpg", "HTTPS://b.example/ü.jpg")
    for content, words in (("", "has no URLs"), ("/etc/passwd\n", "line 1 of .* is no URL")):
        path.write_text(content)
        with pytest.raises(DataError, match=words):
            read_urls(path)
