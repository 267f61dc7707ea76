"""Stands in for any of our services: ready on its port, shows its environment, ends with 0 on SIGTERM."""

import json
import os
import signal
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from types import FrameType
from typing import Any


class ShowEnvironment(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"pid": os.getpid(), **os.environ}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name in the base class)
        pass


def end(number: int, _frame: FrameType | None) -> None:
    sys.exit(0)


def once() -> None:
    print("done:", *sys.argv[1:])


def serve(name: str) -> None:
    signal.signal(signal.SIGTERM, end)
    if name == os.environ.get("FAKE_FAILS"):
        sys.exit(f"{name} has a bad day")
    if door := os.environ.get("GATEWAY_LISTEN_FD"):
        public = ThreadingHTTPServer(("127.0.0.1", 0), ShowEnvironment, bind_and_activate=False)
        public.socket.close()
        public.socket = socket.socket(fileno=int(door))
        Thread(target=public.serve_forever, daemon=True).start()
    port = int(os.environ.get("ADMIN_PORT") or os.environ["PROVIDER_PORT"])
    ThreadingHTTPServer(("127.0.0.1", port), ShowEnvironment).serve_forever()
