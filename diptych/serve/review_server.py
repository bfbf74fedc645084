"""The review page's server: HTTP on 127.0.0.1 alone.

Other users and programs of the machine, and web pages in the reviewer's browser, can reach that address, too. So each
path begins with a random token; the Host must be this address (a web page could give its own name the address
127.0.0.1); a decision needs this page as Origin; and images are decoded here and sent as PNG of plain pixels.
"""

import contextlib
import hmac
import http
import json
import logging
import secrets
import signal
import socketserver
import sys
import threading
import urllib.parse
import webbrowser
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from diptych.errors import DataError, InputError
from diptych.overlap.judgements import open_judgements
from diptych.overlap.review_plan import NUM_JUDGEMENTS, ReviewData
from diptych.report.review_page import content_policy, render_review
from diptych.serve.review_session import ReviewSession

_log = logging.getLogger(__name__)
_ADDRESS = "127.0.0.1"
_MAX_BODY = 2**16  # bytes; a decision takes some hundred
_MAX_CONNECTIONS = 32  # a browser opens 6
_PATIENCE = 30  # seconds without a byte, after which a connection is closed
Stop = Callable[[], None]


class ReviewServer(ThreadingHTTPServer):
    """Serves one session: `serve_forever` runs it, `shutdown` from another thread ends it.

    Attributes:
        url: the address of the page, with its token.
    """

    daemon_threads = True
    block_on_close = False  # an idle connection must not delay the end

    def __init__(self, session: ReviewSession, port: int = 0) -> None:
        """
        Args:
            port: 0 takes a free one.
        Raises:
            DataError: the port is in use, or may not be used.
        """
        self.session = session
        self.token = secrets.token_urlsafe(24)
        self._free = threading.BoundedSemaphore(_MAX_CONNECTIONS)
        try:
            super().__init__((_ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            raise DataError(
                f"cannot serve on port {port}: {error}; choose another port, or 0 for a free one"
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (_ADDRESS, "localhost")}
        self.url = f"http://{_ADDRESS}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """Bind without asking a name server for this machine's name, which can take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = _ADDRESS, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a new thread, or close the connection if there are too many."""
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and then allow another connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error; anything else is a mistake here, which is logged."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("the review page failed")


class _Handler(BaseHTTPRequestHandler):
    server: ReviewServer
    protocol_version = "HTTP/1.1"
    timeout = _PATIENCE
    server_version, sys_version = "Diptych", ""

    def do_GET(self) -> None:
        """The page, its state, or an image."""
        path, query = self._checked_path()
        if path is None:
            return
        if path == "":
            nonce = secrets.token_urlsafe(16)
            self._send(render_review(nonce).encode(), "text/html; charset=utf-8", policy=content_policy(nonce))
        elif path == "state":
            self._send_json(self.server.session.state())
        elif path == "image":
            names = urllib.parse.parse_qs(query, errors="surrogatepass", max_num_fields=3)
            side, dataset, key = (names.get(name, [""])[0] for name in ("side", "dataset", "key"))
            try:
                image, size, problem = self.server.session.image(side, dataset, key)
            except KeyError as error:
                self._refuse(http.HTTPStatus.NOT_FOUND, str(error.args[0]))
                return
            headers = {"X-Image-Size": size, "X-Image-Problem": urllib.parse.quote(problem, errors="replace")}
            self._send(image, "image/png", headers=headers)
        else:
            self._refuse(http.HTTPStatus.NOT_FOUND, "there is no such page")

    def do_POST(self) -> None:
        """A decision, or undo."""
        path, _ = self._checked_path()
        if path is None or (body := self._body()) is None:
            return
        actions = {"decide": self.server.session.decide, "undo": self.server.session.undo}
        try:
            if path not in actions:
                raise KeyError("there is no such action")
            request = json.loads(body)
            if not isinstance(request, dict):
                raise ValueError("a request is a JSON object")
            self._send_json(actions[path](request))
        except KeyError as error:
            status = http.HTTPStatus.CONFLICT if path == "undo" else http.HTTPStatus.NOT_FOUND
            self._refuse(status, str(error.args[0]))
        except DataError as error:  # the disk is full; the reviewer is told, and the decision does not hold
            self._refuse(http.HTTPStatus.INSUFFICIENT_STORAGE, str(error))
        except (ValueError, RecursionError) as error:
            self._refuse(http.HTTPStatus.BAD_REQUEST, str(error)[:200])

    def _checked_path(self) -> tuple[str | None, str]:
        """(path behind the token, query); (None, "") after a refusal."""
        host = self.headers.get_all("Host") or []
        if len(host) != 1 or host[0].lower() not in self.server.hosts:
            self._refuse(http.HTTPStatus.MISDIRECTED_REQUEST, "the Host is not this server")
            return None, ""
        origin = self.headers.get("Origin")
        if (origin is not None or self.command == "POST") and origin != f"http://{host[0].lower()}":
            self._refuse(http.HTTPStatus.FORBIDDEN, "the request comes from another page")
            return None, ""
        path, _, query = self.path.partition("?")
        token, slash, rest = path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode()) or not slash:
            self._refuse(http.HTTPStatus.FORBIDDEN, "open the address that the command printed")
            return None, ""
        return rest, query

    def _body(self) -> bytes | None:
        """The body of a request; None after a refusal."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()) or "Transfer-Encoding" in self.headers:
            self._refuse(http.HTTPStatus.LENGTH_REQUIRED, "a request needs a Content-Length")
        elif len(length) > 9 or int(length) > _MAX_BODY:
            self._refuse(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {_MAX_BODY} bytes")
        elif self.headers.get_content_type() != "application/json":
            self._refuse(http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a request is application/json")
        else:
            return self.rfile.read(int(length))
        return None

    def _send_json(self, content: Any) -> None:
        self._send(json.dumps(content).encode(), "application/json")

    def _refuse(self, status: http.HTTPStatus, reason: str) -> None:
        self.close_connection = True  # a body may be left unread
        self._send(json.dumps({"error": reason}).encode(), "application/json", status)

    def _send(
        self,
        content: bytes,
        kind: str,
        status: http.HTTPStatus = http.HTTPStatus.OK,
        policy: str = "default-src 'none'; frame-ancestors 'none'",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        fixed = {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Content-Security-Policy": policy,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
        }
        for name, value in (fixed | (headers or {})).items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *values: Any) -> None:
        """Nothing on the terminal: it shows the address and the end."""
        _log.debug("review page: %s", (format % values).replace(self.server.token, "TOKEN"))


def serve_review(
    data: ReviewData,
    reviewer: str,
    *,
    port: int = 0,
    open_browser: bool = True,
    on_ready: Callable[[str, Stop], object] | None = None,
    num_judgements: int = NUM_JUDGEMENTS,
) -> None:
    """Serve the review page until Ctrl-C or SIGTERM. Decisions are in `judgements/REVIEWER.jsonl` of data.folder.

    Args:
        data: the pairs and images; `image` is called from several threads, one at a time.
        reviewer: name of the reviewer; each reviewer has a file.
        port: on 127.0.0.1; 0 takes a free one.
        open_browser: show the page.
        on_ready: called with the page's address and a function that ends the serving, once the page can be opened.
        num_judgements: of each evaluation set, after which the page says that they suffice.
    Raises:
        InputError: the name cannot be used, or there is no pair.
        DataError: the port cannot be used, the reviewer is at work in another process, or the file is damaged.
    """
    if num_judgements < 1:
        raise InputError(f"num_judgements is {num_judgements}; it must be at least 1")
    with open_judgements(data.folder, reviewer) as judgements:
        server = ReviewServer(ReviewSession(data, judgements, num_judgements), port)

        def stop() -> None:  # `shutdown` waits for `serve_forever`, which a signal's handler interrupts
            threading.Thread(target=server.shutdown, daemon=True).start()

        with contextlib.closing(_Closing(server)), _signals(stop):
            if on_ready is not None:
                on_ready(server.url, stop)
            if open_browser:
                threading.Thread(target=webbrowser.open, args=(server.url,), daemon=True).start()
            server.serve_forever(poll_interval=0.2)


class _Closing:
    """Frees the port of a server, and waits for the decision that is being saved."""

    def __init__(self, server: ReviewServer) -> None:
        self._server = server

    def close(self) -> None:
        self._server.server_close()
        self._server.session.close()


@contextlib.contextmanager
def _signals(stop: Stop) -> Iterator[None]:
    """Call `stop` on Ctrl-C and SIGTERM. Outside the main thread, where Python allows no handlers, do nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: stop()) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
