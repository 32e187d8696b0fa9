"""A receiver that keeps everything of a request: samples, native histograms, exemplars, metadata.

Plain HTTP; accepts one protocol version and answers 415 to the other. Built on the decoder of `wire`.
"""

import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from . import wire
from .wire import fields, varint

TYPES_V1 = ("unknown", "counter", "gauge", "histogram", "gaugehistogram", "summary", "info", "stateset")


def signed(value):
    return value - (1 << 64) if value >> 63 else value


def unzigzag(value):
    return value >> 1 ^ -(value & 1)


def packed(value, kind, read):
    """A repeated number, packed or not."""
    if kind != 2:
        return [value]
    out, at = [], 0
    while at < len(value):
        one, at = read(value, at)
        out.append(one)
    return out


def read_double(data, at):
    return data[at : at + 8].hex(), at + 8


def read_zigzag(data, at):
    value, at = varint(data, at)
    return unzigzag(value), at


def histogram(data):
    """(milliseconds, start milliseconds, everything else as a sorted tuple); doubles as hexadecimal patterns."""
    stamp = start = 0
    rest = {}
    for number, kind, value in fields(data):
        if number == 15:
            stamp = signed(value)
        elif number == 17:
            start = signed(value)
        elif number in (8, 11):
            span = {1: 0, 2: 0}
            for inner, _, part in fields(value):
                span[inner] = part
            rest.setdefault(number, []).append((unzigzag(span[1]), span[2]))
        elif number in (9, 12):
            rest.setdefault(number, []).extend(packed(unzigzag(value) if kind != 2 else value, kind, read_zigzag))
        elif number in (10, 13, 16):
            rest.setdefault(number, []).extend(packed(value.hex() if kind != 2 else value, kind, read_double))
        elif number == 4:
            rest[number] = unzigzag(value)
        else:
            rest[number] = value.hex() if kind == 1 else value
    # proto3 leaves zeros out, or not: one form for both.
    plain = {k: v for k, v in rest.items() if v not in (0, "0" * 16)}
    return stamp, start, tuple(sorted((k, tuple(v) if isinstance(v, list) else v) for k, v in plain.items()))


def stale(value):
    """Whether this is the staleness marker: of a sample its bits, of a histogram its sum."""
    if isinstance(value, int):
        return value == 0x7FF0000000000002
    return dict(value).get(3) == struct.pack("<Q", 0x7FF0000000000002).hex()


class Recording:
    """What one sender sent."""

    def __init__(self):
        self.samples = {}  # labels -> [(milliseconds, bits or histogram)]
        self.exemplars = {}  # labels -> [(milliseconds, bits, labels)]
        self.metadata = set()  # (family, type, help, unit); the family is the series' name in 2.0
        self.starts = {}  # labels -> set of start times
        self.faults, self.requests = [], 0

    def add(self, labels, stamp, value):
        self.samples.setdefault(labels, []).append((stamp, value))

    def v1(self, data):
        for number, _, value in fields(data):
            if number == 3:
                row = {1: 0, 2: b"", 4: b"", 5: b""}
                row.update((inner, part) for inner, _, part in fields(value))
                self.metadata.add((row[2].decode(), TYPES_V1[row[1]], row[4].decode(), row[5].decode()))
            if number != 1:
                continue
            labels, rest = [], []
            for inner, _, part in fields(value):
                if inner == 1:
                    labels.append(wire.label(part))
                else:
                    rest.append((inner, part))
            labels = tuple(labels)
            for inner, part in rest:
                if inner == 2:
                    self.add(labels, *wire.sample(part))
                elif inner == 3:
                    own, bits, stamp = [], 0, 0
                    for n, _, v in fields(part):
                        if n == 1:
                            own.append(wire.label(v))
                        elif n == 2:
                            bits = int.from_bytes(v, "little")
                        else:
                            stamp = signed(v)
                    self.exemplars.setdefault(labels, []).append((stamp, bits, tuple(own)))
                elif inner == 4:
                    stamp, _, rest_of = histogram(part)
                    self.add(labels, stamp, rest_of)

    def v2(self, data):
        symbols, rows = [], []
        for number, _, value in fields(data):
            if number == 4:
                symbols.append(value.decode())
            elif number == 5:
                rows.append(value)

        def named(refs):
            names = [symbols[r] for r in refs]
            return tuple(zip(names[::2], names[1::2]))

        for row in rows:
            labels, rest = (), []
            for inner, kind, part in fields(row):
                if inner == 1:
                    labels += tuple(packed(part, kind, varint))
                else:
                    rest.append((inner, part))
            labels = named(labels)
            for inner, part in rest:
                if inner == 2:
                    self.add(labels, *wire.sample(part))
                    starts = {signed(v) for n, _, v in fields(part) if n == 3}
                    self.starts.setdefault(labels, set()).update(starts - {0})
                elif inner == 3:
                    stamp, start, rest_of = histogram(part)
                    self.add(labels, stamp, rest_of)
                    self.starts.setdefault(labels, set()).update({start} - {0})
                elif inner == 4:
                    refs, bits, stamp = [], 0, 0
                    for n, kind, v in fields(part):
                        if n == 1:
                            refs += packed(v, kind, varint)
                        elif n == 2:
                            bits = int.from_bytes(v, "little")
                        else:
                            stamp = signed(v)
                    self.exemplars.setdefault(labels, []).append((stamp, bits, named(refs)))
                elif inner == 5:
                    about = {1: 0, 3: 0, 4: 0}
                    about.update((n, v) for n, _, v in fields(part))
                    name = dict(labels).get("__name__", "")
                    self.metadata.add((name, TYPES_V1[about[1]], symbols[about[3]], symbols[about[4]]))


class Receiver:
    """`recording` grows with every request; `message` is the one that is accepted."""

    def __init__(self, message):
        self.message, self.recording, self.lock = message, Recording(), threading.Lock()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_POST(self):
                headers = {k.lower(): v for k, v in self.headers.items()}
                body = self.rfile.read(int(headers.get("content-length", "0")))
                status, written = receiver.take(headers, body)
                self.send_response(status)
                for name, count in zip(("Samples", "Histograms", "Exemplars"), written):
                    self.send_header(f"X-Prometheus-Remote-Write-{name}-Written", str(count))
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def take(self, headers, body):
        if wire.message_of(headers) != self.message:
            return 415, ()
        with self.lock:
            recording = self.recording
            before = self.count()
            try:
                data = wire.unsnappy(body)
                (recording.v2 if self.message == wire.V2 else recording.v1)(data)
            except (wire.Malformed, IndexError, UnicodeDecodeError) as e:
                recording.faults.append(f"malformed body: {e}")
                return 400, ()
            recording.requests += 1
            after = self.count()
        return 204, [b - a for a, b in zip(before, after)] if self.message == wire.V2 else ()

    def count(self):
        values = [value for rows in self.recording.samples.values() for _, value in rows]
        floats = sum(isinstance(value, int) for value in values)
        return floats, len(values) - floats, sum(map(len, self.recording.exemplars.values()))
