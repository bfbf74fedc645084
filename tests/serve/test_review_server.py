"""The review server through real HTTP, and as a process that is killed."""

import contextlib
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image
from review_data import Images, ask, identity, image, state, truth

from diptych.errors import DataError, InputError
from diptych.overlap.judgements import read_judgements
from diptych.serve import serve_review


@contextlib.contextmanager
def served(folder: Path, reviewer: str = "ada", num_judgements: int = 12):
    """Serve in a thread, and end it."""
    ready, found = threading.Event(), []

    def on_ready(*values):
        found.extend(values)
        ready.set()

    def run():
        options = {"open_browser": False, "on_ready": on_ready, "num_judgements": num_judgements}
        serve_review(Images(folder), reviewer, **options)

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(20)
    try:
        yield found[0]
    finally:
        found[1]()
        thread.join(20)
        assert not thread.is_alive()


@contextlib.contextmanager
def process(folder: Path, reviewer: str = "ada", num_judgements: int = 12):
    """Serve in a process of its own."""
    program = [sys.executable, str(Path(__file__).parent / "review_data.py"), str(folder), reviewer]
    with subprocess.Popen([*program, str(num_judgements)], stdout=subprocess.PIPE, text=True) as running:
        try:
            yield running, running.stdout.readline().strip()
        finally:
            if running.poll() is None:
                running.kill()


@pytest.fixture
def url(tmp_path):
    with served(tmp_path) as address:
        yield address


def test_a_whole_review(tmp_path, url):
    asked = []
    while pairs := (now := state(url))["pairs"]:
        asked.append(pairs[0])
        status, _, _ = ask(url + "decide", identity(pairs[0]) | {"decision": truth(pairs[0])})
        assert status == 200
    assert len(asked) == 24 == len({tuple(identity(pair).values()) for pair in asked})
    assert [(row["dataset"], row["judged"], row["wanted"]) for row in now["progress"]] == [
        ("first", 12, 12),
        ("second", 12, 12),
    ]
    for row in now["progress"]:
        assert row["choice"]["threshold"] == pytest.approx(0.9) and row["choice"]["flagged"] == 15
        assert row["choice"]["precision"][0] == 1 > row["choice"]["precision"][1]
    assert len(read_judgements(tmp_path)["ada"]) == 24
    assert "score" not in json.dumps(now)


def test_the_page(url):
    status, headers, content = ask(url)
    policy = headers["Content-Security-Policy"]
    nonce = policy.split("'nonce-")[1].split("'")[0]
    assert status == 200 and f'<script nonce="{nonce}">'.encode() in content and b"src=" not in content.lower()
    assert "unsafe" not in policy and "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
    assert headers["Cache-Control"] == "no-store" and headers["X-Content-Type-Options"] == "nosniff"
    assert nonce.encode() not in ask(url)[2]


def test_undo_acts_once(url):
    first = state(url)["pairs"][0]
    ask(url + "decide", identity(first) | {"decision": "unsure"})
    assert state(url)["last"] == identity(first)
    status, _, content = ask(url + "undo", identity(first))
    assert status == 200 and json.loads(content)["pairs"][0] == first and json.loads(content)["last"] is None
    assert ask(url + "undo", identity(first))[0] == 409


def test_images_are_sent_as_png(url):
    pairs = {int(pair["key"].split("/")[1].split()[0]): pair for pair in all_pairs(url)}
    status, headers, content = ask(url + pairs[0]["evaluation"])
    assert (status, headers["Content-Type"], headers["X-Image-Size"]) == (200, "image/png", "64 x 64")
    assert Image.open(io.BytesIO(content)).tobytes() == image(0).tobytes()
    assert ask(url + pairs[0]["training"])[1]["X-Image-Size"] == "32 x 32"
    assert ask(url + pairs[5]["evaluation"])[1]["X-Image-Size"] == "30 x 20"
    for number, reason in ((1, "missing"), (3, "image")):
        status, headers, content = ask(url + pairs[number]["evaluation"])
        assert status == 200 and reason in headers["X-Image-Problem"] and not headers["X-Image-Size"]
        assert Image.open(io.BytesIO(content)).format == "PNG"


def all_pairs(url: str) -> list[dict]:
    """The first set's pairs, with the paths of their images."""
    pair = state(url)["pairs"][0]
    paths = {side: pair[side].rsplit("key=", 1)[0] for side in ("evaluation", "training")}
    return [
        {
            "key": f"k/{n} ",
            "evaluation": f"{paths['evaluation']}key=k%2F{n}%20%E2%80%AE%3Cb%3E%26",
            "training": f"{paths['training']}key=t%2F{n}%ED%A0%80",
        }
        for n in range(30)
    ]


def test_without_the_token_or_from_elsewhere_nothing_is_told_or_done(tmp_path, url):
    port = urlsplit(url).port
    base = f"http://127.0.0.1:{port}/"
    decision = identity(state(url)["pairs"][0]) | {"decision": "duplicate"}
    token = urlsplit(url).path.strip("/")
    for wrong in (base, base + "x/", base + token[:-1] + "/state", base + token, base + token.swapcase() + "/state"):
        status, _, content = ask(wrong)
        assert status == 403 and token.encode() not in content
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}", ""):
        assert ask(url + "state", Host=host)[0] == 421
        assert ask(url + "decide", decision, Host=host)[0] == 421
    for origin in ("http://evil.example", "null", f"http://localhost:{port}", f"https://127.0.0.1:{port}"):
        assert ask(url + "decide", decision, Origin=origin)[0] == 403
        assert ask(url + "state", Origin=origin)[0] == 403
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(
        "POST", urlsplit(url).path + "decide", json.dumps(decision), {"Content-Type": "application/json"}
    )
    assert connection.getresponse().status == 403
    assert read_judgements(tmp_path) == {}


def test_it_listens_on_loopback_alone(url):
    others = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    for address in {*others, "127.0.0.2"} - {"127.0.0.1"}:
        with pytest.raises(OSError), socket.create_connection((address, urlsplit(url).port), 2):
            pass


@pytest.mark.parametrize(
    "body, status",
    [
        (b"", 400),
        (b"{", 400),
        (b"[1]", 400),
        (b"[" * 60_000, 400),
        (b"\xff\xfe\x00", 400),
        ({"dataset": "first"}, 400),
        ({"dataset": ["first"], "key": {}, "nearest_key": 1, "decision": "duplicate"}, 400),
        ({"dataset": "first", "key": "k/0", "nearest_key": "t/0", "decision": "duplicate"}, 404),
        ({"dataset": "third", "key": "k/0", "nearest_key": "t/0", "decision": "duplicate"}, 404),
        (b" " * 70_000, 413),
    ],
)
def test_bad_requests(tmp_path, url, body, status):
    got, headers, content = ask(url + "decide", body)
    assert got == status and json.loads(content)["error"] and headers["Content-Type"] == "application/json"
    assert ask(url + "state")[0] == 200 and read_judgements(tmp_path) == {}


def test_other_bad_requests(tmp_path, url):
    decision = identity(state(url)["pairs"][0])
    for wrong in ("yes", "undo", None, ["duplicate"], {}):
        assert ask(url + "decide", decision | {"decision": wrong})[0] == 400
    assert ask(url + "decide", decision, **{"Content-Type": "text/plain"})[0] == 415
    assert ask(url + "delete", decision)[0] == 404 and ask(url + "../state")[0] == 404
    for query in (
        "",
        "?side=evaluation",
        "?side=x&dataset=first&key=k",
        "?side=training&dataset=first&key=/etc/passwd",
    ):
        assert ask(url + "image" + query)[0] == 404
    port, path = urlsplit(url).port, urlsplit(url).path
    for length in ("-1", "1e3", "９", "99999999999999999999"):
        head = f"POST {path}decide HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nOrigin: http://127.0.0.1:{port}\r\n"
        with socket.create_connection(("127.0.0.1", port), 20) as connection:
            connection.sendall(f"{head}Content-Length: {length}\r\n\r\n".encode())
            assert connection.recv(100).split()[1] in (b"411", b"413")
    assert read_judgements(tmp_path) == {}


def test_many_idle_connections_do_not_stop_the_server(url):
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(("127.0.0.1", urlsplit(url).port), 20))
        time.sleep(0.5)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, http.client.HTTPException):
            assert ask(url + "state")[0] == 200
            return
    raise AssertionError("the server does not answer any more")


def test_concurrent_posts_are_all_saved_once(tmp_path, url):
    known = Images(tmp_path).pairs("second")
    requests = [
        {"dataset": pair.dataset, "key": pair.key, "nearest_key": pair.nearest_key, "decision": "different"}
        for pair in known
    ]
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda r: ask(url + "decide", r)[0], [r for r in requests for _ in range(8)]))
    assert statuses == [200] * 240
    rows = (tmp_path / "judgements" / "ada.jsonl").read_text().splitlines()
    assert len(rows) == 30 and len(read_judgements(tmp_path)["ada"]) == 30


def test_two_reviewers_at_once_and_the_same_one_twice(tmp_path, url):
    pair = state(url)["pairs"][0]
    with served(tmp_path, "bob") as second:
        ask(url + "decide", identity(pair) | {"decision": "duplicate"})
        ask(second + "decide", identity(pair) | {"decision": "duplicate"})
        (agreement,) = state(second)["agreement"]
        assert agreement == {"reviewer": "ada", "both": 1, "share": 1, "kappa": None}
        with pytest.raises(DataError, match="ada is reviewing in another process"):
            serve_review(Images(tmp_path), "ada", open_browser=False)
    assert {name: len(made) for name, made in read_judgements(tmp_path).items()} == {"ada": 1, "bob": 1}


def test_a_port_in_use(tmp_path, url):
    with pytest.raises(DataError, match="cannot serve on port"):
        serve_review(Images(tmp_path), "bob", port=urlsplit(url).port, open_browser=False)
    with pytest.raises(DataError, match="cannot serve on port 70000"):
        serve_review(Images(tmp_path), "bob", port=70_000, open_browser=False)


def test_nothing_to_review(tmp_path):
    class Nothing(Images):
        datasets = ()

    with pytest.raises(InputError, match="no pair to review"):
        serve_review(Nothing(tmp_path), "ada", open_browser=False)


def test_kill_then_resume_loses_nothing_and_asks_nothing_twice(tmp_path):
    confirmed: list[tuple] = []
    while True:
        with process(tmp_path) as (running, url):
            for _ in range(7):
                if not (pairs := state(url)["pairs"]):
                    break
                assert ask(url + "decide", identity(pairs[0]) | {"decision": truth(pairs[0])})[0] == 200
                confirmed.append(tuple(identity(pairs[0]).values()))
            done = not pairs
            os.kill(running.pid, signal.SIGKILL)
        assert list(read_judgements(tmp_path)["ada"]) == confirmed
        if done:
            break
    assert len(confirmed) == 24 == len(set(confirmed))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_cleanly(tmp_path, number):
    with process(tmp_path) as (running, url), socket.create_connection(("127.0.0.1", urlsplit(url).port)):
        pair = state(url)["pairs"][0]
        assert ask(url + "decide", identity(pair) | {"decision": "unsure"})[0] == 200
        running.send_signal(number)
        assert running.wait(20) == 0 and running.stdout.read() == "ended\n"
    with served(tmp_path) as again:
        assert state(again)["last"] == identity(pair)
