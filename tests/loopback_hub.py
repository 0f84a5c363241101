"""A small server on loopback that speaks the hub's endpoints, and clients of it."""

import base64
import contextlib
import hashlib
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from nets import CASES

import keras_resnets as kr

TOKEN = "hf_good"  # May write what "me" owns.
COMMIT = "0123456789abcdef0123456789abcdef01234567"


CHANGES = dict(CASES["basic"].changes)  # A tiny ResNet-18.


class Repository:
    """What the server has under a name, and how it misbehaves."""

    def __init__(self, files, *, status=200, cut=False, damage=0, private=False):
        self.files = files
        self.private = private
        self.status = status  # Of every answer, if not 200.
        self.cut = cut  # Whether the first answer stops in the middle.
        self.damage = damage  # How many answers have a wrong byte.


class Handler(BaseHTTPRequestHandler):
    """`/owner/repository/resolve/revision/file`, with the headers that the client reads."""

    protocol_version = "HTTP/1.1"

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        server = self.server
        name, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, file = rest.partition("/")
        asked = (self.command, name, revision, file, self.headers.get("Range"))
        server.requests.append(asked)
        repository = server.repositories.get(name)
        if repository is None:
            return self.refuse(401, "RepoNotFound")  # The hub does not tell what is private.
        if repository.status != 200:
            code = {401: "RepoNotFound", 403: "GatedRepo"}.get(repository.status)
            return self.refuse(repository.status, code)
        if revision not in ("main", COMMIT):
            return self.refuse(404, "RevisionNotFound")
        if file not in repository.files:
            return self.refuse(404, "EntryNotFound")
        content = repository.files[file]
        large = not file.endswith(".json")
        etag = hashlib.new("sha256" if large else "sha1", content).hexdigest()
        begin = 0
        if self.headers.get("Range"):
            begin = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        self.send_response(206 if begin else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - begin))
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if not with_body:
            return None
        body = bytearray(content[begin:])
        if large and repository.damage:
            repository.damage -= 1
            body[-1] ^= 1  # A value: the file stays well-formed.
        if large and repository.cut:
            repository.cut = False
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)
        return None

    # Writing: a repository is made, large files are put into a store, and a commit names them all.

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else b"".join(self.chunks())
        self.server.requests.append((self.command, self.path))
        if self.path == "/api/validate-yaml":
            return self.reply({"errors": [], "warnings": []})
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.refuse(401, None)
        if self.path == "/api/repos/create":
            return self.create(json.loads(body))
        path = self.path.removeprefix("/api/models/").lstrip("/").partition("?")[0]
        name = "/".join(path.removesuffix("/info/lfs/objects/batch").split("/")[:2])
        repository = self.server.repositories.get(name.removesuffix(".git"))
        if repository is None:
            return self.refuse(401, "RepoNotFound")
        if path.endswith("/info/lfs/objects/batch"):
            return self.batch(json.loads(body))
        if path.endswith("/preupload/main"):
            return self.preupload(json.loads(body))
        return self.commit(repository, name, body)

    def create(self, asked: dict) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if asked["organization"] != "me":
            return self.refuse(403, None)
        status = 409 if name in self.server.repositories else 200
        private = asked.get("visibility") == "private" or asked.get("private") is True
        self.server.repositories.setdefault(name, Repository({}, private=private))
        return self.reply({"url": f"http://{self.headers['Host']}/{name}"}, status)

    def preupload(self, asked: dict) -> None:
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                "shouldIgnore": False,
            }
            for file in asked["files"]
        ]
        return self.reply({"files": modes})

    def batch(self, asked: dict) -> None:
        store = f"http://{self.headers['Host']}/store"
        objects = [
            thing | {"actions": {"upload": {"href": f"{store}/{thing['oid']}"}}}
            for thing in asked["objects"]
        ]
        return self.reply({"transfer": "basic", "objects": objects})

    def do_PUT(self):
        length = int(self.headers.get("Content-Length") or 0)
        content = self.rfile.read(length) if length else b"".join(self.chunks())
        self.server.requests.append((self.command, self.path))
        if hashlib.sha256(content).hexdigest() != self.path.removeprefix("/store/"):
            return self.refuse(400, None)
        self.server.store[self.path.removeprefix("/store/")] = content
        return self.reply({})

    def commit(self, repository: Repository, name: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.store[value["oid"]]
        address = f"http://{self.headers['Host']}/{name}/commit/{COMMIT}"
        return self.reply({"commitUrl": address, "commitOid": COMMIT, "success": True})

    def chunks(self):
        """The parts of a body whose length is not told in front."""
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def reply(self, value: dict, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def refuse(self, status: int, code: str | None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        if code == "EntryNotFound":
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(repositories: dict[str, Repository]):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.repositories, server.requests, server.store = repositories, [], {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


PRELUDE = f"""
import json, os, time, warnings
import numpy as np
import keras_resnets as kr
from keras_resnets.weights import hub
CHANGES = {CHANGES!r}
results = {{}}

def attempt(name, action):
    start = time.monotonic()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result = action()
        except Exception as error:
            result = [type(error).__name__, str(error)]
    results[name] = result
    results[name + " warnings"] = [str(w.message) for w in caught if "licence" in str(w.message)]
    results[name + " seconds"] = time.monotonic() - start

def described(model):
    total = sum(float(np.abs(np.asarray(w)).astype("float64").sum()) for w in model.get_weights())
    return [model.name, list(model.output_shape), total]

def hub_folder(name):
    return os.path.join(os.environ["HF_HOME"], "hub", "models--" + name.replace("/", "--"))

def fetched(source):
    found = hub.fetch(source)
    return [os.path.basename(found.path), os.path.getsize(found.path), found.config]
"""


def client(script: str, endpoint: str, home: Path, **environment: str) -> dict:
    """What a script found out, run beside the server with a cache of its own."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING"))}
    result = subprocess.run(
        [sys.executable, "-c", PRELUDE + script + "\nprint(json.dumps(results))"],
        env=kept
        | dict(
            HF_ENDPOINT=endpoint,
            HF_HOME=str(home),
            HF_HUB_DISABLE_TELEMETRY="1",
            NO_PROXY="127.0.0.1",
            PYTHONPATH=str(Path(kr.__file__).parents[1]),
        )
        | environment,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


def endpoint(server) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"
