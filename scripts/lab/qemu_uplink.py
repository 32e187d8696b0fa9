"""This machine's side of the uplink in scripts/qemu-test: a target that counts, a receiver that can be dead, a clock, a hand at the switch."""

import http.server
import socket
import struct
import threading
import time

from . import wire


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        """A peer whose power was cut is no error here."""


class Target:
    """Counts its scrapes: what it answered, and when."""

    def __init__(self):
        self.served = {}  # number -> seconds
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                number = len(outer.served) + 1
                outer.served[number] = time.time()
                body = f"# TYPE qemu_scrape counter\nqemu_scrape_total {number}\n".encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Receiver:
    """Takes remote write, or answers nothing at all."""

    def __init__(self):
        self.up = threading.Event()
        self.numbers = {}  # scrape number -> [milliseconds]
        self.node = {}  # milliseconds of the box's own node_exporter being up
        self.failed = []  # milliseconds of scrapes of the counting target that the box itself says failed
        self.durations = {}  # milliseconds of a scrape of the counting target -> seconds it took, by the box
        self.requests = 0
        self.unordered = 0
        self.newest = {}
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if not outer.up.is_set():
                    # The link is dead: no answer, the connection goes.
                    self.close_connection = True
                    return
                outer.take(self.headers, body)
                count = str(outer.count)
                self.send_response(204)
                for name in ("Samples", "Histograms", "Exemplars"):
                    self.send_header(f"X-Prometheus-Remote-Write-{name}-Written", count if name == "Samples" else "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, headers, body):
        series, _ = wire.decode(headers, body)
        with self.lock:
            self.requests += 1
            self.count = sum(len(samples) for _, samples in series)
            for labels, samples in series:
                labels = dict(labels)
                key = tuple(sorted(labels.items()))
                for stamp, bits in samples:
                    if stamp <= self.newest.get(key, -1):
                        self.unordered += 1
                    self.newest[key] = max(stamp, self.newest.get(key, -1))
                    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
                    if labels["__name__"] == "qemu_scrape_total" and value == value:
                        self.numbers.setdefault(int(value), []).append(stamp)
                    if labels["__name__"] == "up" and labels.get("job") == "node" and value == 1:
                        self.node[stamp] = True
                    if labels["__name__"] == "scrape_duration_seconds" and labels.get("job") == "count":
                        self.durations[stamp] = value
                    if labels["__name__"] == "up" and labels.get("job") == "count" and value == 0:
                        self.failed.append(stamp)


class Clock:
    """Answers with the time, once asked."""

    def __init__(self):
        self.asked = 0.0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.answer, daemon=True).start()

    def answer(self):
        while True:
            peer, _ = self.listener.accept()
            self.asked = time.time()
            peer.sendall(f"{self.asked:.3f}\n".encode())
            peer.close()


class Control:
    """Hangs up when something is to be killed."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.peers = []
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            self.peers.append(self.listener.accept()[0])

    def kill(self):
        while self.peers:
            self.peers.pop().close()
        return time.time()
