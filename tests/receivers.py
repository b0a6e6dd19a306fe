"""Servers that take what notices are sent to: an HTTP server and a mail server, real and of this process, each on a port of its own."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Hook:
    """What arrived, and what is answered: the first of `answers` and then, when there are no more, 200."""

    port: int = 0
    answers: list[int] = field(default_factory=list)
    location: str = ""
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    arrived: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"


@contextmanager
def hook() -> Iterator[Hook]:
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.requests.append((self.path, {name.lower(): value for name, value in self.headers.items()}, body))
            status = made.answers.pop(0) if made.answers else 200
            self.send_response(status)
            if made.location:
                self.send_header("Location", made.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            made.arrived.set()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@dataclass
class Mailbox:
    """What was mailed. `refuses`: what every recipient is answered with, such as `550 nobody`."""

    port: int = 0
    refuses: str = ""
    mails: list[tuple[str, Message]] = field(default_factory=list)
    """Recipient and mail."""


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Speaks as much SMTP as smtplib needs to hand over a mail."""
    made = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def answer(self, line: str) -> None:
            self.wfile.write(line.encode() + b"\r\n")

        def handle(self) -> None:
            self.answer("220 ready")
            recipient = ""
            while line := self.rfile.readline():
                word = line.strip().decode().upper()
                if word.startswith("RCPT TO"):
                    recipient = line.decode().partition("<")[2].partition(">")[0]
                    self.answer(made.refuses or "250 ok")
                elif word.startswith("DATA"):
                    self.answer("354 go on")
                    data = b""
                    while (more := self.rfile.readline()) not in (b".\r\n", b""):
                        data += more
                    made.mails.append((recipient, message_from_bytes(data)))
                    self.answer("250 taken")
                elif word.startswith("QUIT"):
                    self.answer("221 bye")
                    return
                else:
                    self.answer("250 ok")

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
