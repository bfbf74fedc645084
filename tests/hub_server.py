"""A server on this machine that speaks the Hugging Face hub's protocol, and can misbehave like a real one.

The hub answers /api/models/REPO with commit, files, sizes and hashes; /REPO/resolve/COMMIT/FILE redirects to a content
network, which serves ranges. The same server offers plain files for fixed addresses (/files/...).
"""

import base64
import contextlib
import dataclasses
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclasses.dataclass
class Repository:
    """A repository; the fields after `license` make it lie or fail."""

    files: dict[str, bytes]
    commit: str = COMMIT
    license: str | None = "mit"
    gated: bool = False
    false_hashes: dict[str, str] = dataclasses.field(default_factory=dict)
    false_sizes: dict[str, int] = dataclasses.field(default_factory=dict)
    sent_instead: dict[str, bytes] = dataclasses.field(default_factory=dict)

    @property
    def siblings(self) -> list[dict]:
        return [self._sibling(name, content) for name, content in self.files.items()]

    def _sibling(self, name: str, content: bytes) -> dict:
        size = self.false_sizes.get(name, len(content))
        entry = {"rfilename": name, "size": size, "blobId": git_hash(content)}
        if _is_large(name):
            sha256 = self.false_hashes.get(name, hashlib.sha256(content).hexdigest())
            entry["blobId"] = git_hash(b"version https://git-lfs.github.com/spec/v1\n")
            entry["lfs"] = {"sha256": sha256, "size": size, "pointerSize": 134}
        return entry


def git_hash(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _is_large(name: str) -> bool:
    """Whether the hub stores a file of that name with git LFS."""
    return name.endswith((".safetensors", ".bin"))


class HubServer(ThreadingHTTPServer):
    """Attributes:
    requests: (method, path, Range, Authorization) of every request.
    cuts: names whose connection breaks, with the number of bytes that get through each time.
    busy: status codes to answer before the next content, one for each request.
    objects, messages: large files that were uploaded, by SHA-256, and the messages of commits.
    """

    daemon_threads = True

    def __init__(self, repositories: dict[str, Repository], files: dict[str, bytes] | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.repositories, self.files = repositories, files or {}
        self.requests: list[tuple[str, str, str | None, str | None]] = []
        self.cuts: dict[str, list[int]] = {}
        self.busy: list[int] = []
        self.objects: dict[str, bytes] = {}
        self.messages: list[str] = []
        self.resumes = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def content_url(self) -> str:
        """The content network: the same server by another name, so that it counts as another host."""
        return f"http://localhost:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is part of the tests."""

    def sent(self, name: str) -> list[str | None]:
        """The ranges in which a file's content was requested."""
        return [
            span for method, path, span, _ in self.requests if path.startswith(("/cdn/", "/files/")) and name in path
        ]


class _Answers(BaseHTTPRequestHandler):
    server: HubServer

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path, self.headers.get("Range"), self.headers.get("Authorization")))
        if about := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)(?:/revision/([\w.-]+))?", path):
            self.describe(about[1], about[2])
        elif file := re.fullmatch(r"/([\w.-]+/[\w.-]+)/resolve/(\w+)/([\w.-]+)", path):
            self.resolve(file[1], file[3])
        elif content := re.fullmatch(r"/cdn/([\w.-]+/[\w.-]+)/([\w.-]+)", path):
            repository = self.server.repositories[content[1]]
            self.send_content(content[2], repository.sent_instead.get(content[2], repository.files[content[2]]))
        elif path.startswith("/files/") and path.removeprefix("/files/") in self.server.files:
            self.send_content(path.rpartition("/")[2], self.server.files[path.removeprefix("/files/")])
        else:
            self.answer(404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        path = self.path.partition("?")[0]
        self.server.requests.append((self.command, path, None, self.headers.get("Authorization")))
        if self.headers.get("Authorization") != "Bearer writer":
            self.answer(403 if self.headers.get("Authorization") else 401)
        elif path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}" if asked.get("organization") else asked["name"]
            known = name in self.server.repositories
            self.server.repositories.setdefault(name, Repository({}))
            self.answer(409 if known else 200, json.dumps({"url": f"{self.server.url}/{name}", "name": name}).encode())
        elif path == "/api/validate-yaml":
            self.answer(200, b'{"errors": [], "warnings": []}')
        elif preupload := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/preupload/main", path):
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if _is_large(file["path"]) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(body)["files"]
            ]
            self.answer(200, json.dumps({"files": files}).encode()) if preupload else None
        elif batch := re.fullmatch(r"/([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch", path):
            objects = [
                {
                    "oid": one["oid"],
                    "size": one["size"],
                    "actions": {"upload": {"href": self.lfs_url(batch[1], one["oid"])}},
                }
                for one in json.loads(body)["objects"]
                if one["oid"] not in self.server.objects
            ]
            self.answer(200, json.dumps({"transfer": "basic", "objects": objects}).encode())
        elif commit := re.fullmatch(r"/api/models/([\w.-]+/[\w.-]+)/commit/main", path):
            self.commit(commit[1], [json.loads(line) for line in body.splitlines()])
        else:
            self.answer(404)

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.requests.append((self.command, self.path, None, None))
        oid = self.path.rpartition("/")[2]
        if self.server.busy:
            self.answer(self.server.busy.pop(0))
        elif hashlib.sha256(body).hexdigest() != oid:
            self.answer(422)
        else:
            self.server.objects[oid] = body
            self.answer(200)

    def lfs_url(self, repository: str, oid: str) -> str:
        return f"{self.server.content_url}/lfs/{repository}/{oid}"

    def commit(self, name: str, lines: list[dict]) -> None:
        files = self.server.repositories[name].files
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            else:
                self.server.messages.append(value["summary"])
        commit = hashlib.sha1(repr(sorted(files)).encode() + b"".join(files.values())).hexdigest()
        self.server.repositories[name].commit = commit
        about = {"commitUrl": f"{self.server.url}/{name}/commit/{commit}", "commitOid": commit, "pullRequestUrl": None}
        self.answer(200, json.dumps(about).encode())

    def describe(self, name: str, revision: str | None) -> None:
        repository = self.server.repositories.get(name)
        if repository is None:  # the hub hides whether a private repository exists
            self.answer(401, headers={"X-Error-Code": "RepoNotFound"})
        elif revision not in (None, "main", repository.commit):
            self.answer(404, headers={"X-Error-Code": "RevisionNotFound"})
        else:
            tags = [f"license:{repository.license}"] if repository.license else []
            about = {"id": name, "sha": repository.commit, "tags": tags, "siblings": repository.siblings}
            self.answer(200, json.dumps(about).encode())

    def resolve(self, name: str, file: str) -> None:
        repository = self.server.repositories.get(name)
        if repository is None or file not in repository.files:
            self.answer(404, headers={"X-Error-Code": "EntryNotFound"})
        elif repository.gated and self.headers.get("Authorization") != "Bearer secret":
            self.answer(401, headers={"X-Error-Code": "GatedRepo"})
        else:
            content = repository.files[file]
            headers = {
                "Location": f"{self.server.content_url}/cdn/{name}/{file}",
                "X-Repo-Commit": repository.commit,
                "X-Linked-Size": str(len(content)),
                "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
            }
            self.answer(302, headers=headers)

    def send_content(self, name: str, content: bytes) -> None:
        if self.server.busy:
            return self.answer(self.server.busy.pop(0))
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        first = int(match[1]) if match and self.server.resumes else 0
        if first >= len(content) and first:
            return self.answer(416)
        headers = {"Accept-Ranges": "bytes"}
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        cut = self.server.cuts[name].pop(0) if self.server.cuts.get(name) else None
        return self.answer(206 if first else 200, content[first:], headers, cut)

    def answer(
        self, status: int, content: bytes = b"", headers: dict[str, str] | None = None, cut: int | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[:cut])
        self.close_connection = True

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(server: HubServer) -> Iterator[HubServer]:
    """Run the server for the time of the block."""
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
