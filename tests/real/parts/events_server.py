"""Sends server-sent events one by one: the next only after POST /acknowledge/N for the last.

usage: events_server.py PORT COUNT
An event that nobody acknowledges within a deadline is followed by an event `stuck`, and the stream ends.
"""

import http.server
import sys
import threading

DEADLINE_SECONDS = 120
port, count = int(sys.argv[1]), int(sys.argv[2])
acknowledged = [threading.Event() for _ in range(count)]


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(count):
            self.chunk(f"id: {number}\nevent: issue\ndata: event {number}\n\n")
            if not acknowledged[number].wait(DEADLINE_SECONDS):
                self.chunk(f"event: stuck\ndata: {number}\n\n")
                break
        self.chunk("")

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        acknowledged[int(self.path.rsplit("/", 1)[1])].set()
        self.send_response(204)
        self.end_headers()

    def chunk(self, text):
        data = text.encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
