"""An event handler that leaves tokens to the guard in front of it: it answers each event with who sent what."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MAX_EVENT = (1 << 20) + (64 << 10)  # bytes: a message of 1 MiB and what is around it


class Handler(BaseHTTPRequestHandler):
    def do_OPTIONS(self):  # the endpoint validation; the guard let it in, so its token was good
        self.send_response(200)
        self.send_header("WebHook-Allowed-Origin", self.headers.get("WebHook-Request-Origin", "*"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_POST(self):
        size = int(self.headers.get("Content-Length", 0))
        if size > MAX_EVENT:
            self.send_error(413)
            return
        body = self.rfile.read(size)
        kind = self.headers.get("ce-type", "")
        text = b""
        if kind.startswith("azure.webpubsub.user."):
            text = f"{self.headers.get('ce-userId', 'somebody')} said ".encode() + body
        self.send_response(200 if text else 204)
        if text:
            self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


if __name__ == "__main__":
    ThreadingHTTPServer(("", 3000), Handler).serve_forever()
