"""Targets whose every value is a function of target, series and scrape number.

350 series each, shaped like node_exporter's: about 100 bytes of text a sample, a sixth of them histogram series, a quarter
of the values new in each scrape, in all the number forms that exporters write.
"""

import gzip
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SERIES = 350
SEQ = "soak_seq"
NORMAL_NAN = 0x7FF8000000000001
STALE_NAN = 0x7FF0000000000002
# Written as Prometheus normalises them, so that the labels are the same whether a sender normalises or not.
BOUNDS = ("0.005", "0.01", "0.05", "0.1", "0.5", "1.0", "2.5", "5.0", "10.0", "+Inf")
MODES = ("idle", "iowait", "irq", "nice", "softirq", "steal", "system", "user")


def mix(*numbers):
    """64 well-mixed bits."""
    x = 0x9E3779B97F4A7C15
    for n in numbers:
        x = (x ^ (n + 0x9E3779B97F4A7C15 + (x << 6) + (x >> 2))) & (2**64 - 1)
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        x ^= x >> 27
    return x


def layout():
    """(name, labels as pairs) of each series, in exposition order."""
    rows = [(SEQ, ())]
    for h in range(5):
        name = f"soak_http_request_duration_{h}_seconds"
        rows += [(f"{name}_bucket", (("handler", "/api/v1/query"), ("le", bound))) for bound in BOUNDS]
        rows += [(f"{name}_sum", (("handler", "/api/v1/query"),)), (f"{name}_count", (("handler", "/api/v1/query"),))]
    n = 0
    while len(rows) < SERIES:
        family, cpu = n // 16, n // 8 % 2
        labels = (("cpu", str(cpu)), ("device", f"/dev/mmcblk0p{family}"), ("mode", MODES[n % 8]))
        rows.append((f"soak_node_subsystem_{family}_operations_total", labels))
        n += 1
    return rows


LAYOUT = layout()


def value_text(target, index, seq):
    """What series `index` of `target` shows in scrape number `seq`."""
    if index == 0:
        return str(seq)
    step = seq if index % 4 == 0 else seq // (9 + index % 40)
    base = mix(target, index) % 1_000_000
    form = index // 4 % 8
    if form in (0, 1):
        return str(base + step * (1 + index % 7))
    if form == 2:
        return f"{base + step * 0.25:.2f}"
    if form == 3:
        return str(mix(target, index, step) % 4096 * 4096)
    if form == 4:
        return f"{(base + 5e8) * (1 + step % 50):.8e}"
    if form == 5:
        return f"{base / 1000 + step * 0.001:.3f}"
    if form == 6 and index % 16 == 8:
        return repr(mix(target, index, step) / 2**63)
    return ("0", "1", "NaN", "+Inf", "-Inf", "-0", "4.9e-324", "-1")[(index + step) % 8]


def bits_of(text):
    if text == "NaN":
        return NORMAL_NAN
    return struct.unpack(">Q", struct.pack(">d", float(text)))[0]


def exposition(target, seq):
    """The whole answer to one scrape."""
    lines, family = [], None
    for index, (name, labels) in enumerate(LAYOUT):
        histogram = "_request_duration_" in name
        of = name.rsplit("_", 1)[0] if histogram else name
        if of != family:
            family = of
            kind = "histogram" if histogram else "gauge" if index == 0 else "counter"
            lines += [f"# HELP {of} Made for a soak test.", f"# TYPE {of} {kind}"]
        inner = ",".join(f'{k}="{v}"' for k, v in labels)
        lines.append(f"{name}{{{inner}}} {value_text(target, index, seq)}" if inner
                     else f"{name} {value_text(target, index, seq)}")
    return ("\n".join(lines) + "\n").encode()


class Target:
    """One target on its own port; `asked` and `answered` hold the times at which scrapes came in and were answered in full."""

    def __init__(self, number):
        self.number, self.asked, self.answered, self.lock = number, [], [], threading.Lock()
        target = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Header and body in separate segments would wait for delayed acknowledgements.
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_GET(self):
                target.asked.append(time.time())
                with target.lock:
                    body = exposition(target.number, len(target.answered))
                    self.send_response(200)
                    self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                    if "gzip" in self.headers.get("Accept-Encoding", ""):
                        body = gzip.compress(body, 1)
                        self.send_header("Content-Encoding", "gzip")
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)
                    self.wfile.flush()
                    target.answered.append(time.time())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
