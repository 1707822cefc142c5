"""A private service: answers at once, or after the number of seconds in the path, and says what it was sent.

usage: service_server.py PORT [ADDRESS]      /hello, /after/SECONDS (says `begun` when it has the call), /authorization
"""

import http.server
import sys
import time


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        parts = self.path.strip("/").split("/")
        if parts[0] == "after":
            print("begun", self.path, flush=True)
            time.sleep(float(parts[1]))
        body = (self.headers.get("Authorization", "") if parts[0] == "authorization" else "the right body").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


port, *address = sys.argv[1:]
http.server.ThreadingHTTPServer((address[0] if address else "127.0.0.1", int(port)), Handler).serve_forever()
