"""An upstream in a process of its own; the request's `model` says how it behaves. Prints its port."""

import json
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

WORDS = ["the ", "river ", "feeds ", "the ", "mill"]


def chunk(model, delta, finish=None):
    choice = {"index": 0, "delta": delta, "text": delta.get("content") or "", "finish_reason": finish}
    return {"id": "chat-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}


def event(data):
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply(200, {"object": "list", "data": [{"id": "twin", "object": "model"}]})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        manner = asked.get("model") if isinstance(asked, dict) else None
        if not isinstance(manner, str):
            self.reply(400, {"error": {"message": "no model", "type": "t", "code": "c"}})
            return
        if manner == "slow":
            time.sleep(0.4)
        if manner == "echo":
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.reply(200, {"model": "twin", "path": self.path, "body": body.decode(), "headers": headers})
        elif manner in ("400", "401", "404", "429", "500", "503"):
            self.reply(int(manner), {"error": {"message": "no", "type": "t", "code": "c"}}, **{"Retry-After": "7"})
        elif manner == "redirect":
            self.reply(307, {}, Location="http://127.0.0.1:1/elsewhere")
        elif manner == "silent":
            time.sleep(3)
        elif manner == "hang-up":
            self.close_connection = True
        elif manner == "garbage":
            self.raw(b"\x00\xff not json", "application/json")
        elif asked.get("stream"):
            self.stream(manner)
        else:
            message = {"role": "assistant", "content": "".join(WORDS)}
            choices = [{"index": 0, "message": message, "text": "".join(WORDS), "finish_reason": "stop"}]
            if manner == "several":  # not in their order
                choices.insert(0, {"index": 1, "message": {"role": "assistant", "content": "something else"}})
            if manner == "calls-tool":
                choices[0]["message"] = {"role": "assistant", "content": None, "tool_calls": [{"id": "call-1"}]}
            self.reply(200, {"id": "chat-1", "created": 1, "model": manner, "choices": choices, "cost": 0.10})

    def stream(self, manner):
        model = "another" if manner == "impostor" else manner
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.part(event(chunk(model, {"role": "assistant", "content": None})))
        for number, word in enumerate(WORDS):
            if number == 2 and manner == "dies":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if number == 2 and manner == "stalls":
                time.sleep(3)
                return
            if number == 2 and manner == "errors":
                self.part(event({"error": {"message": "out of memory"}}))
            if number == 2 and manner == "babbles":
                self.part(b"data: {{{\xff\n\nnonsense without an end\x00")
            if number == 3 and manner == "slow":
                time.sleep(2)
            self.part(event(chunk(model, {"content": word})))
        self.part(event(chunk(model, {}, "stop")))
        if manner != "without-done":
            for piece in (b"da", b"ta: [DO", b"NE]", b"\n", b"\n"):
                self.part(piece)
        self.wfile.write(b"0\r\n\r\n")

    def part(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def reply(self, status, body, **headers):
        self.raw(json.dumps(body).encode(), "application/json", status, **headers)

    def raw(self, body, kind, status=200, **headers):
        self.send_response(status)
        given = {"Content-Type": kind, "Content-Length": str(len(body)), "Set-Cookie": "a=b", **headers}
        for name, value in given.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()
