"""A Hub on the loopback interface, so that the Hub's own client runs in tests."""

import hashlib
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

# Recognisable wherever they leak.
MEMBER_TOKEN = "hf_ThisTokenIsKnownAndGranted"
STRANGER_TOKEN = "hf_ThisTokenIsKnownAndNotGranted"
WRONG_TOKEN = "hf_ThisTokenIsUnknown"

# Of an address that is signed beforehand: whoever has it, has the file.
SIGNATURE = "ThisSignatureOpensTheFile"

COMMIT = "c0ffee00" * 5


@dataclass
class Repository:
    """Files by name, at one commit."""

    files: dict[str, bytes]
    commit: str = COMMIT
    gated: bool = False
    closed: bool = False
    tags: tuple[str, ...] = ()

    @property
    def revisions(self):
        return {"main", self.commit, *self.tags}


@dataclass
class FakeHub:
    """Serves the few answers that a download or a question needs.

    ``requests`` collects (method, path). ``failures`` answers are 503 before the Hub
    recovers; ``cuts`` downloads break half-way; ``message`` is said with each refusal.
    ``storage`` sends downloads on to another server, which "serves" or "refuses" them.
    """

    repositories: dict[str, Repository | list[Repository]] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    failures: int = 0
    cuts: int = 0
    message: str = ""
    storage: str = ""

    def __enter__(self):
        class Handler(_Handler):
            hub = self

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        # A short poll: shutdown waits for it.
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        return self

    def __exit__(self, *exception):
        self.stop()

    def stop(self):
        """Close the door; later connections are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def methods(self):
        return [method for method, _ in self.requests]


class _Handler(BaseHTTPRequestHandler):
    """Answers HEAD and GET of /owner/repository/resolve/revision/file."""

    hub: FakeHub

    def log_message(self, *args):
        """Say nothing."""

    def do_HEAD(self):
        self._answer()

    def do_GET(self):
        self._answer()

    def _answer(self):
        hub = self.hub
        hub.requests.append((self.command, self.path))
        if hub.failures:
            hub.failures -= 1
            return self._refuse(503)
        path, _, query = self.path.partition("?")
        if query and (hub.storage == "refuses" or SIGNATURE not in query):
            return self._refuse(403)
        repo_id, _, rest = unquote(path).lstrip("/").partition("/resolve/")
        revision, _, filename = rest.partition("/")
        if query:
            return self._serve_stored(unquote(path))
        token = self.headers.get("authorization", "").removeprefix("Bearer ")
        if token not in ("", MEMBER_TOKEN, STRANGER_TOKEN):
            return self._refuse(401, text="Invalid credentials in Authorization header")
        known = hub.repositories.get(repo_id)
        if known is None:
            return self._refuse(404 if token else 401, "RepoNotFound")
        versions = known if isinstance(known, list) else [known]
        if versions[0].gated and token != MEMBER_TOKEN:
            return self._refuse(403 if token else 401, "GatedRepo")
        if versions[0].closed:
            return self._refuse(403)
        at = [each for each in versions if revision in each.revisions]
        if not at:
            return self._refuse(404, "RevisionNotFound")
        if filename not in at[0].files:
            return self._refuse(404, "EntryNotFound", commit=at[0].commit)
        if hub.storage and self.command == "GET":
            return self._send_on(f"/storage/{repo_id}/{revision}/{filename}")
        return self._serve(at[0].files[filename], at[0].commit)

    def _send_on(self, path):
        """Answer with the signed address of another server: this one by its name."""
        port = self.hub.url.rpartition(":")[2]
        location = f"http://localhost:{port}{path}?X-Signature={SIGNATURE}"
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _serve_stored(self, path):
        """Serve /storage/owner/repository/revision/file."""
        _, _, owner, name, revision, filename = path.split("/", 5)
        known = self.hub.repositories[f"{owner}/{name}"]
        versions = known if isinstance(known, list) else [known]
        at = next(each for each in versions if revision in each.revisions)
        return self._serve(at.files[filename], at.commit)

    def _refuse(self, status, code="", *, text="", commit=""):
        self.send_response(status)
        headers = {
            "X-Error-Code": code,
            "X-Error-Message": text or self.hub.message,
            "X-Repo-Commit": commit,
            "Content-Length": "0",
        }
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()

    def _serve(self, content, commit):
        asked = self.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            end = f"{len(content) - 1}/{len(content)}"
            self.send_header("Content-Range", f"bytes {start}-{end}")
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = len(content)
        if self.hub.cuts:
            self.hub.cuts -= 1
            stop //= 2
        self.wfile.write(content[start:stop])
