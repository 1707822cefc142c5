"""Serves one file, and hashes what is uploaded without keeping it.

usage: bulk_server.py PORT FILE
GET /data is the file; PUT or POST /upload answers "LENGTH SHA-256"; GET /open is how many downloads are under way.
"""

import hashlib
import http.server
import os
import sys
import threading

PIECE = 1 << 18
port, path = int(sys.argv[1]), sys.argv[2]
lock = threading.Lock()
downloads = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        global downloads
        if self.path == "/open":
            return self.answer(str(downloads))
        with lock:
            downloads += 1
        try:
            with open(path, "rb") as file:
                self.send_response(200)
                self.send_header("Content-Length", str(os.fstat(file.fileno()).st_size))
                self.end_headers()
                self.wfile.flush()
                self.connection.sendfile(file)
        except ConnectionError:
            self.close_connection = True
        finally:
            with lock:
                downloads -= 1

    def do_POST(self):
        digest, length = hashlib.sha256(), 0
        for piece in self.body():
            digest.update(piece)
            length += len(piece)
        self.answer(f"{length} {digest.hexdigest()}")

    do_PUT = do_POST

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().split(b";")[0], 16):
                yield from self.pieces(size)
                self.rfile.readline()
            while self.rfile.readline() not in (b"\r\n", b"\n", b""):
                pass
        else:
            yield from self.pieces(int(self.headers["Content-Length"]))

    def pieces(self, left):
        while left:
            piece = self.rfile.read(min(left, PIECE))
            if not piece:
                raise ConnectionError("the body ended early")
            left -= len(piece)
            yield piece

    def answer(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
