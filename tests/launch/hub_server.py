#!/usr/bin/env python3
"""A small Hugging Face hub on this machine, for tests/launch/test_cli_fetch.c: it speaks the part of the API that
`cadvlm data fetch` uses, and misbehaves on demand.

    hub_server.py LOG

Prints its two ports, of the hub and of the storage that large files are redirected to, and ends when standard input does.
Every request becomes a line in LOG: place, path, Range, If-Range, whether a token came, status. How a repository behaves
follows from its name (REPOS, and the functions of Hub); its files hold the lines "PATH 00000000", "PATH 00000001", …"""

import collections
import functools
import hashlib
import http.server
import json
import os
import socket
import sys
import threading
import time
import urllib.parse

KB = 1000
TOKEN = "hf_right"
COMMIT, NEXT_COMMIT = "c0ffee" + 34 * "0", "c0ffee" + 34 * "1"
BIG = [("config.json", 200), ("model.safetensors", 3000 * KB)]

REPOS = {
    "test/model": [("config.json", 200), ("model.safetensors", 300 * KB), ("tokenizer.json", 5 * KB), ("README.md", 10),
                   ("vision_tower/config.json", 150), ("empty/config.json", 0), ("modeling.py", 100), ("pytorch_model.bin", 200 * KB),
                   ("training_args.bin", 50), ("runs/events", 70)],
    "test/only-bin": [("config.json", 200), ("pytorch_model.bin", 1 * KB)],
    "datasets/test/data": [("data/part one#1 ü?.txt", 40 * KB), ("images/a.png", 100), ("images/b.png", 200), (".gitattributes", 30),
                           ("load.py", 10)],
}
for name in ("cut", "no-range", "wrong-once", "wrong", "reset", "changed", "new-etag", "stall", "slow", "other-range", "other-total", "endless", "longer",
             "shorter", "busy", "gated", "loop", "downgrade", "drip"):
    REPOS["test/" + name] = BIG
# Lists that are not to be believed: path, size, hash (None: as it is).
HOSTILE = {
    "up": ("../evil.json", 10, None), "inside": ("a/../../evil.json", 10, None), "root": ("/tmp/evil.json", 10, None),
    "git": ("x/.git/hooks/config.json", 10, None), "control": ("a\u001b[31m.json", 10, None), "c1": ("a\u009b31m.json", 10, None),
    "turned": ("a\u202egpj.json", 10, None),
    "zero": ("config.json\u0000.png", 10, None),
    "empty-part": ("a//config.json", 10, None), "long": (300 * "x" + "/config.json", 10, None), "none": ("", 10, None),
    "negative": ("config.json", -1, None), "huge": ("config.json", 1 << 60, None), "no-space": ("config.json", 1 << 43, None),
    "float": ("config.json", 1.5, None), "hash": ("config.json", 10, "../../../../x"), "no-hash": ("config.json", 10, ""),
    "own-name": ("config.json.incomplete", 10, None),
}

counts = collections.Counter()
lock = threading.Lock()


def count(key):
    """How often this has been asked, from 1."""
    with lock:
        counts[key] += 1
        return counts[key]


@functools.lru_cache(None)
def content(path, size):
    lines = "".join(f"{path} {i:08d}\n" for i in range(size // (len(path.encode()) + 10) + 1))
    return lines.encode()[:size]


def is_large(path):
    return path.endswith((".safetensors", ".bin"))


@functools.lru_cache(None)
def hash_of(path, data):
    if is_large(path):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def note(self, status):
        place = "hub" if self.server is hub else "storage"
        token = self.headers.get("Authorization", "-").replace("Bearer ", "")
        with lock:
            log.write(f"{place} {self.path} range={self.headers.get('Range', '-')} if={self.headers.get('If-Range', '-')} "
                      f"token={token} {status}\n")
            log.flush()

    def answer(self, status, body=b"", headers=(), length=None, send=None):
        """`length`: announced instead of the real one; `send`: so many bytes of it, then the connection ends."""
        self.note(status)
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        self.wfile.write(body if send is None else body[:send])
        if send is not None:
            self.drop()

    def drop(self):
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def redirect(self, to):
        self.answer(302, b"moved", [("Location", to)])

    def do_GET(self):
        try:
            path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
            if "/test/renamed/" in path:
                self.redirect(self.path.replace("/test/renamed/", "/test/model/"))
            elif path.startswith("/api/"):
                self.list_files(path)
            else:
                self.send_file(path)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    # ---- the list ----

    def list_files(self, path):
        kind, _, rest = path.removeprefix("/api/").partition("/")
        repo, _, revision = rest.partition("/revision/")
        repo = ("datasets/" if kind == "datasets" else "") + repo
        name = repo.removeprefix("test/")
        n = count(("list", repo))
        if not self.path.lower().endswith("?blobs=true"):
            return self.answer(400)
        if name == "busy" and n < 3:
            return self.answer(429, b"slowly", [("Retry-After", "1")]) if n == 1 else self.answer(500, 100 * KB * b"x")
        if name == "down":
            return self.answer(503)
        if name == "tomorrow":
            return self.answer(429, b"", [("Retry-After", "100000")])
        if name == "many-headers":
            return self.answer(200, b"{}", [(f"X-{i}", 500 * "y") for i in range(400)])
        if name == "no-json":
            return self.answer(200, b"<html>")
        if name == "endless-list":
            return self.endless(b'{"siblings": [' + 1 * KB * KB * b" ", 200)
        if name.startswith("hostile-"):
            path, size, digest = HOSTILE[name.removeprefix("hostile-")]
            blob = hash_of("x", content("x", 10)) if digest is None else digest
            good = {"rfilename": "README.md", "size": 10, "blobId": hash_of("x", content("README.md", 10))}
            bad = {"rfilename": path, "size": size, "blobId": blob}
            return self.send_list([good] + [bad] * (1000 if name == "hostile-no-space" else 1))
        if repo not in REPOS:
            return self.answer(401, b"no", [("X-Error-Code", "RepoNotFound")])
        if revision not in ("main", "v1", "refs/pr/1", COMMIT):
            return self.answer(404, b"no", [("X-Error-Code", "RevisionNotFound")])
        files = []
        for file, size in REPOS[repo]:
            data = self.content_of(repo, file, size)
            entry = {"rfilename": file, "size": size, "blobId": hash_of("x", data)}
            if is_large(file):
                entry["lfs"] = {"sha256": hash_of(file, data), "size": size, "pointerSize": 134}
            files.append(entry)
        return self.send_list(files, NEXT_COMMIT if name == "changed" and n > 1 else COMMIT)

    def send_list(self, files, commit=COMMIT):
        self.answer(200, json.dumps({"id": "x", "sha": commit, "siblings": files}).encode())

    def content_of(self, repo, file, size):
        """test/changed has other weights from the second list on."""
        changed = repo == "test/changed" and is_large(file) and counts[("list", repo)] > 1
        return content("changed" if changed else file, size)

    # ---- a file ----

    def send_file(self, path):
        repo, _, rest = path[1:].partition("/resolve/")
        commit, _, file = rest.partition("/")
        name = repo.removeprefix("test/")
        sizes = dict(REPOS.get(repo, ()))
        if commit not in (COMMIT, NEXT_COMMIT) or file not in sizes:
            return self.answer(404, b"no", [("X-Error-Code", "EntryNotFound")])
        if name == "gated" and self.server is hub and self.headers.get("Authorization") != "Bearer " + TOKEN:
            refused = 403 if "Authorization" in self.headers else 401
            return self.answer(refused, b"no", [("X-Error-Code", "GatedRepo")])
        if is_large(file) and self.server is hub:
            if name == "loop":
                return self.redirect(self.path)
            if name == "downgrade":
                return self.redirect("file:///etc/passwd")
            return self.redirect(f"http://localhost:{storage.server_port}{self.path}")
        data = self.content_of(repo, file, sizes[file])
        if is_large(file):
            return self.misbehave(name, file, data)
        return self.serve(file, data)

    def serve(self, file, data, etag=None, ranges=True, **how):
        etag = etag or f'"{hash_of(file, data)}"'
        wanted, condition = self.headers.get("Range"), self.headers.get("If-Range", etag)
        if not ranges or not wanted or condition != etag:
            return self.answer(200, data, [("ETag", etag)], **how)
        first = int(wanted.removeprefix("bytes=").rstrip("-"))
        if first >= len(data):
            return self.answer(416)
        span = f"bytes {first}-{len(data) - 1}/{len(data)}"
        return self.answer(206, data[first:], [("ETag", etag), ("Content-Range", span)], **how)

    def misbehave(self, name, file, data):
        """Large files of the repositories whose name says how."""
        n = count((name, file))
        wrong = data[:1000] + b"#" + data[1001:]
        if name == "cut" and n <= 3:
            return self.serve(file, data, send=700 * KB)
        if name == "no-range":
            return self.serve(file, data, ranges=False, send=700 * KB if n == 1 else None)
        if name == "reset":
            return self.serve(file, data, send=700 * KB if n <= 100 else None)
        if name in ("changed", "new-etag") and n == 1:
            return self.serve(file, data, etag='"first"', send=700 * KB)
        if name == "wrong" or (name == "wrong-once" and n == 1):
            return self.serve(file, wrong)
        if name == "other-range" and n <= 2:
            self.note(206)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes 5-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - 5))
            self.end_headers()
            return self.wfile.write(data[5:])
        if name == "other-total" and n == 1:
            return self.serve(file, data, send=700 * KB)
        if name == "other-total" and n == 2:
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
            return self.answer(206, data[first:], [("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data) + 1}")])
        if name == "longer":
            return self.serve(file, data + b"more")
        if name == "shorter":
            return self.serve(file, data[:-1])
        if name == "endless":
            return self.endless(data, 1000)
        if name == "drip":
            return self.serve(file, data, ranges=False, send=10 * KB)
        if name == "stall" and n == 1:
            self.serve(file, data[:500 * KB], length=len(data))
            return time.sleep(20)
        if name == "slow" and n == 1:
            return self.serve_slowly(file, data)
        if name == "busy" and n <= 2:
            return self.answer(503 if n == 1 else 403)
        return self.serve(file, data)

    def serve_slowly(self, file, data):
        self.note(200)
        self.send_response(200)
        self.send_header("ETag", f'"{hash_of(file, data)}"')
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        for at in range(0, len(data), 20 * KB):
            self.wfile.write(data[at:at + 20 * KB])
            time.sleep(0.1)

    def endless(self, piece, times):
        """No Content-Length, and more than anyone asked for."""
        self.note(200)
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for _ in range(times):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        self.wfile.write(b"0\r\n\r\n")


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass              # a client that went away


log = open(sys.argv[1], "w", encoding="utf-8")
hub, storage = (Server(("127.0.0.1", 0), Handler) for _ in range(2))
for server in (hub, storage):
    threading.Thread(target=server.serve_forever, daemon=True).start()
print(f"{hub.server_port:05d} {storage.server_port:05d}", flush=True)
sys.stdin.read()
os._exit(0)
