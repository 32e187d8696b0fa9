"""Targets that misbehave in every way a scraper has rules for; one path each on one port.

A script is a function of the scrape's number (0, 1, 2, ...) that gives an `Answer`. Two scrapers are told apart by their
User-Agent and get the same answers each, so what they send on can be compared.
"""

import gzip
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROTO = "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"


@dataclass
class Answer:
    body: bytes = b""
    kind: str = TEXT
    status: int = 200
    delay: float = 0.0
    headers: dict = field(default_factory=dict)
    # None: gzip if asked for. Otherwise these bytes go out as they are, with `headers`.
    raw: bytes | None = None
    # The Content-Length says this many bytes more than are sent.
    missing: int = 0
    # The connection ends without an answer.
    hang_up: bool = False


def text(*lines, **options):
    return Answer(("\n".join(lines) + "\n").encode(), **options)


def openmetrics(*lines, **options):
    return text(*lines, "# EOF", kind=OPENMETRICS, **options)


# Protobuf, as far as io.prometheus.client needs it.


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while True:
        out.append(n & 0x7F | (0x80 if n > 0x7F else 0))
        n >>= 7
        if not n:
            return bytes(out)


def zigzag(n):
    return n << 1 if n >= 0 else (-n << 1) - 1


def tag(number, wire):
    return varint(number << 3 | wire)


def number(field_number, n):
    return tag(field_number, 0) + varint(n)


def double(field_number, x):
    return tag(field_number, 1) + struct.pack("<d", x)


def blob(field_number, data):
    data = data.encode() if isinstance(data, str) else data
    return tag(field_number, 2) + varint(len(data)) + data


def label_pairs(labels):
    return b"".join(blob(1, blob(1, k) + blob(2, v)) for k, v in labels.items())


def stamp(field_number, seconds):
    return blob(field_number, number(1, int(seconds)) + number(2, int(seconds % 1 * 1e9)))


def proto_exemplar(labels, value, seconds=None):
    return label_pairs(labels) + double(2, value) + (stamp(3, seconds) if seconds else b"")


def family(name, kind, *metrics, help_text="Made for a comparison.", unit=None):
    body = blob(1, name) + blob(2, help_text) + number(3, kind) + b"".join(blob(4, m) for m in metrics)
    if unit:
        body += blob(5, unit)
    return varint(len(body)) + body


COUNTER, GAUGE, SUMMARY, UNTYPED, HISTOGRAM, GAUGE_HISTOGRAM = range(6)


def spans(field_number, *pairs):
    return b"".join(blob(field_number, number(1, zigzag(offset)) + number(2, length)) for offset, length in pairs)


def native(n, seconds):
    """An integer native histogram with both signs and a classic twin without buckets; it is reset in scrape 6."""
    k = n if n < 6 else n - 6
    return blob(7, number(1, 8 + 5 * k) + double(2, 1.5 + k) + number(5, zigzag(3)) + double(6, 1e-9)
                + number(7, 1 + k) + spans(9, (-2, 2)) + number(10, zigzag(2)) + number(10, zigzag(-1 + k))
                + spans(12, (0, 2), (3, 1)) + number(13, zigzag(1 + k)) + number(13, zigzag(1)) + number(13, zigzag(-1))
                + blob(16, proto_exemplar({"trace_id": f"n{n}"}, 0.25, seconds + n)))


def native_float(n):
    return blob(7, double(4, 6.5 + n) + double(2, 3.25 * (n + 1)) + number(5, zigzag(0)) + double(6, 0.001)
                + double(8, 0.5) + spans(12, (1, 2)) + double(14, 2.5 + n) + double(14, 3.5))


def mixed_histogram(n):
    """Classic and native buckets together."""
    classic = b"".join(blob(3, number(1, c) + double(2, b)) for c, b in ((1 + n, 0.1), (3 + n, 1), (5 + n, float("inf"))))
    return blob(7, number(1, 5 + n) + double(2, 7.5) + classic + number(5, zigzag(1)) + double(6, 1e-6) + number(7, 1)
                + spans(12, (0, 2)) + number(13, zigzag(2 + n)) + number(13, zigzag(-n)))


def protobuf(n, base):
    seconds = base / 1000
    return Answer(b"".join([
        family("p_requests_total", COUNTER,
               label_pairs({"code": "200"}) + blob(3, double(1, 10 + n) + blob(2, proto_exemplar({"id": str(n)}, 1, seconds + n))),
               label_pairs({"code": "500"}) + blob(3, double(1, 0))),
        family("p_temperature_celsius", GAUGE, blob(2, double(1, -3.5 + n)), unit="celsius"),
        family("p_untyped", UNTYPED, label_pairs({"x": "\u00e4\"\\\n"}) + blob(5, double(1, float("nan")))),
        family("p_summary", SUMMARY,
               blob(4, number(1, 4 + n) + double(2, 0.5) + blob(3, double(1, 0.5) + double(2, 0.1)) + blob(3, double(1, 0.99) + double(2, 0.2)))),
        family("p_classic", HISTOGRAM,
               blob(7, number(1, 4 + n) + double(2, 2.5) + blob(3, number(1, 1 + n) + double(2, 1)) + blob(3, number(1, 2 + n) + double(2, 1e6)))),
        family("p_native", HISTOGRAM, label_pairs({"path": "/"}) + native(n, seconds)),
        family("p_native_float", HISTOGRAM, native_float(n)),
        family("p_mixed", HISTOGRAM, mixed_histogram(n)),
        family("p_stamped", GAUGE, blob(2, double(1, n)) + number(6, base + 1000 * n)),
        family("p_goes", HISTOGRAM, native(n, seconds)) if n % 4 < 2 else b"",
    ]), PROTO)


def churn(n):
    return text("# TYPE c gauge", *(f'c{{i="{i}"}} {i}.{n}' for i in range(n % 3, 12, 1 + n % 4)))


def explicit(n, base):
    t = base + 1000 * n
    return text(f"e_rising 1{n} {t}", f"e_same {n} {base}", f"e_back {n} {base + (9 - n) * 1000}",
                f"e_future {n} {t + 1_200_000}", f"e_old {n} {t - 7_200_000}", f"e_zero {n} 0", f"e_plain {n}",
                f"e_switch {n}" + (f" {t - 3_600_000}" if n % 4 > 1 else ""), *([f"e_goes 1 {t + 300_000}"] if n % 3 else []),
                f"e_ahead {n}" + (f" {t + 300_000}" if n == 6 else ""),
                f"e_twice 1 {t - 500}", f"e_twice 2 {t}", f"e_twice 3 {t}")


def om_exemplars(n, base):
    t = base / 1000 + n
    return openmetrics(
        "# HELP o_requests Requests.", "# TYPE o_requests counter",
        f'o_requests_total{{code="200"}} {5 + n} # {{trace_id="a{n}"}} {n}.5 {t:.3f}',
        f'o_requests_created{{code="200"}} {base / 1000 - 3600:.3f}',
        f'o_requests_total{{code="500"}} {n // 3} # {{trace_id="same"}} 1 {base / 1000:.3f}',
        "# TYPE o_latency_seconds histogram", "# UNIT o_latency_seconds seconds",
        f'o_latency_seconds_bucket{{le="0.1"}} {1 + n} # {{trace_id="b{n}",span_id="\u00e9"}} 0.05',
        f'o_latency_seconds_bucket{{le="1"}} {2 + n}',
        f'o_latency_seconds_bucket{{le="+Inf"}} {3 + n} # {{long="{"x" * 130}"}} 3',
        f"o_latency_seconds_count {3 + n}", f"o_latency_seconds_sum {n}.25",
        "# TYPE o_build info", 'o_build_info{version="1"} 1',
        "# TYPE o_state stateset", 'o_state{o_state="on"} 1', 'o_state{o_state="off"} 0',
        "# TYPE o_summary summary", f'o_summary{{quantile="0.5"}} {n}', f'o_summary{{quantile="1"}} {n}',
        "# TYPE o_unknown unknown", f"o_unknown {n} {t:.3f}", "# TYPE o_gh gaugehistogram",
        'o_gh_bucket{le="1"} 1', 'o_gh_bucket{le="+Inf"} 2', "o_gh_gcount 2", "o_gh_gsum 3")


def histograms(n):
    """Classic histograms that convert, and some that do not; one goes and comes, one has fractions in every third scrape."""
    fraction = 0.5 if n % 3 == 1 else 0

    def buckets(name, labels, counts):
        return [f'{name}_bucket{{{labels}le="{le}"}} {c}' for le, c in counts]

    goes = ["# TYPE nh_goes histogram", *buckets("nh_goes", "", [("1", n), ("+Inf", n)]), f"nh_goes_count {n}"] if n % 4 < 2 else []
    return [
        "# HELP nh_d Durations.", "# TYPE nh_d histogram",
        *buckets("nh_d", 'path="/a",', [("0.1", n), ("0.5", n), ("1", n), ("2.5", n), ("5", n), ("10", 2 * n + 1), ("+Inf", 3 * n + 1)]),
        f'nh_d_sum{{path="/a"}} {n}.25', f'nh_d_count{{path="/a"}} {3 * n + 1}',
        *buckets("nh_d", 'path="/b",', [("0.1", n + fraction), ("0.5", n + 1), ("+Inf", n + 1)]), f'nh_d_sum{{path="/b"}} NaN', f'nh_d_count{{path="/b"}} {n + 1}',
        "# TYPE nh_one histogram", *buckets("nh_one", "", [("+Inf", 5)]), "nh_one_sum -3", "nh_one_count 5",
        "# TYPE nh_without histogram", *buckets("nh_without", 'x="no count",', [("1", 1), ("2", 3)]),
        *buckets("nh_without", 'x="no inf",', [("1", 1)]), 'nh_without_count{x="no inf"} 4', 'nh_without_sum{x="sum alone"} 7',
        "# TYPE nh_gauge gauge", f"nh_gauge {n}", "# TYPE nh_order histogram", 'nh_order_count{a="1",b="2"} 3', 'nh_order_bucket{b="2",le="+Inf",a="1"} 3',
        'nh_order_bucket{a="1",b="2",le="1"} 1', 'nh_order_bucket{a="1",b="2",le="1"} 2', "# TYPE nh_odd histogram", 'nh_odd_bucket{le="x"} 1', "nh_odd_bucket 2",
        "nh_odd 3", 'nh_odd_other{le="1"} 4', "# TYPE nh_falls histogram", *buckets("nh_falls", "", [("1", 5), ("2", 4), ("+Inf", 6)]), "nh_falls_count 6",
        "# TYPE nh_empty histogram", *buckets("nh_empty", "", [("1", 0), ("2", 0), ("+Inf", 0)]), "nh_empty_sum 0", "nh_empty_count 0",
        *goes, "# TYPE nh_last histogram", *buckets("nh_last", "", [("1", 1e15), ("+Inf", 1e16)]),
    ]


def stamped_histograms(n, base):
    """Explicit timestamps: a histogram has that of the line that was read last."""
    # Far from the time of any scrape.
    t = base + 1000 * n + 200_000
    return ["# TYPE nh_stamped histogram", *(f'nh_stamped_bucket{{i="{i}",le="+Inf"}} {n} {t - 100 * i}' for i in (1, 2, 3)),
            f'nh_stamped_count{{i="3"}} {n} {t - 301}', "# a comment", f'nh_stamped_bucket{{i="4",le="1"}} {n} {t - 400}', "# a comment in the middle",
            f'nh_stamped_bucket{{i="5",le="1"}} {n} {t - 500}']


def om_histograms(n, base):
    t = base / 1000 + n
    return openmetrics(
        *(line for line in histograms(n) if line not in ("nh_odd 3",) and "comment" not in line),
        "# TYPE nh_exemplars histogram",
        f'nh_exemplars_bucket{{le="1"}} {n} # {{trace_id="late{n}"}} 0.5 {t:.3f}', f'nh_exemplars_bucket{{le="2"}} {n} # {{trace_id="early{n}"}} 1.5 {t - 0.5:.3f}',
        f'nh_exemplars_bucket{{le="+Inf"}} {n + 1} # {{trace_id="untimed"}} 3', f"nh_exemplars_sum {n}", f"nh_exemplars_count {n + 1}",
        "# TYPE nh_gh gaugehistogram", 'nh_gh_bucket{le="1"} 1', 'nh_gh_bucket{le="+Inf"} 2', "nh_gh_gcount 2", "nh_gh_gsum 3")


def stable(n):
    return text("# HELP s_a A.", "# TYPE s_a counter", f"s_a {n}", "# TYPE s_b gauge", f's_b{{x="1"}} {-n}', f's_b{{x="2"}} 7')


def between(fault):
    """Fine, except for scrapes 3, 4 and 8: what is sent then, and how it recovers."""
    return lambda n: fault(n) if n in (3, 4, 8) else stable(n)


def gzip_cut(_):
    return Answer(raw=gzip.compress(stable(1).body)[:-9], headers={"Content-Encoding": "gzip"})


SCRIPTS = {
    "normal": lambda n, base: text(
        "# HELP n_requests_total Requests \\\\ and\\n lines.", "# TYPE n_requests_total counter",
        f'n_requests_total{{method="get",code="200"}} {100 + 3 * n}', f'n_requests_total{{code="500",method="get"}} {n // 2}',
        "# TYPE n_temperature gauge", f"n_temperature {20 + n / 8}", "# HELP n_untyped", f"n_untyped {n * 1e300:e}",
        "# TYPE n_duration_seconds histogram", *(f'n_duration_seconds_bucket{{le="{le}"}} {c + n}' for c, le in enumerate((".5", "1", "10", "1e6", "+Inf"))),
        f"n_duration_seconds_sum {n}.5", f"n_duration_seconds_count {4 + n}",
        "# TYPE n_rpc summary", f'n_rpc{{quantile="0.50"}} {n}', f'n_rpc{{quantile="1"}} NaN', f"n_rpc_sum {n}", "n_rpc_count 3",
        "n_inf +Inf", "n_ninf -Inf", "n_nan NaN", "n_tiny 4.9e-324", "n_negative -1", "n_big 18446744073709551615",
        'n_escapes{a="q\\"uote",b="back\\\\slash",c="new\\nline",d="\\x"} 1', 'n_empty{a="",b="x"} 1'),
    "churn": lambda n, base: churn(n),
    "explicit": explicit,
    "explicit-dishonoured": explicit,
    "explicit-tracked": explicit,
    "exemplars": om_exemplars,
    "protobuf": protobuf,
    "protobuf-classic": protobuf,
    "nhcb": lambda n, base: text(*histograms(n), *stamped_histograms(n, base)),
    "nhcb-classic": lambda n, base: text(*histograms(n), *stamped_histograms(n, base)),
    "nhcb-openmetrics": om_histograms,
    "nhcb-openmetrics-classic": om_histograms,
    "nhcb-created": lambda n, base: openmetrics("# TYPE nh_c histogram", f'nh_c_bucket{{le="+Inf"}} {n}', f"nh_c_count {n}", f"nh_c_created {base / 1000}"),
    "nhcb-protobuf": protobuf,
    "nhcb-limit": lambda n, base: text(*(histograms(n) if n % 3 else stable(n).body.decode().splitlines())),
    "nhcb-relabelled": lambda n, base: text(*histograms(n)),
    "duplicates": lambda n, base: text(f"d 1", f"d {n}", f"d 3", 'd2{a="1",b="2"} 1', 'd2{a="1",b="2"} 2', f"other {n}"),
    "exposes-labels": lambda n, base: text(
        f'h{{job="own",instance="i",site="s"}} {n}', 'h2{job="",instance=""} 1', 'h3{exported_job="e",job="j"} 1', "h4 1"),
    "exposes-labels-honoured": lambda n, base: text(
        f'h{{job="own",instance="i",site="s"}} {n}', 'h2{job="",instance=""} 1', 'h3{exported_job="e",job="j"} 1', "h4 1"),
    "utf8": lambda n, base: text('{"u.requests","http.status"="200"} ' + str(n), '{"\u00fcml\u00e4ut"} 1', f'u_plain{{"a-b"="1",c="2"}} {n}'),
    "relabelled": lambda n, base: text(
        f'r_keep{{env="prod",id="{n % 3}"}} {n}', 'r_drop{env="dev"} 1', 'r_map{pre_a="1",pre_b="2"} 1', 'r_hash{path="/x"} 1', 'r_name{x="y"} 3'),
    "empty-body": lambda n, base: between(lambda _: Answer())(n),
    "comments-only": lambda n, base: between(lambda _: text("# nothing", "# TYPE a gauge"))(n),
    "status-500": lambda n, base: between(lambda _: text("s_a 1", status=500))(n),
    "status-204": lambda n, base: between(lambda _: Answer(status=204))(n),
    "hang-up": lambda n, base: between(lambda _: Answer(hang_up=True))(n),
    "slow": lambda n, base: between(lambda _: text("s_a 1", delay=1.9))(n),
    "truncated": lambda n, base: between(lambda _: text("s_a 1", "s_b 2", missing=40))(n),
    "gzip-cut": lambda n, base: between(gzip_cut)(n),
    "not-gzip": lambda n, base: between(lambda _: Answer(raw=b"s_a 1\n", headers={"Content-Encoding": "gzip"}))(n),
    "invalid-line": lambda n, base: between(lambda k: text(f"s_a {k}", f"s_new {k}", "s_b{ 2", "s_c 3"))(n),
    "invalid-value": lambda n, base: between(lambda k: text(f"s_a {k}", "s_b 0x1p3"))(n),
    "no-eof": lambda n, base: Answer(f"m_a {n}\n".encode() + (b"" if n in (3, 4) else b"# EOF\n"), OPENMETRICS),
    "wrong-type": lambda n, base: between(lambda _: text("s_a 1", kind="application/json"))(n),
    "no-type": lambda n, base: between(lambda _: text("s_a 1", kind=""))(n),
    "no-type-fallback": lambda n, base: between(lambda k: text(f"s_a {k}", kind=""))(n),
    "redirect": lambda n, base: Answer(status=302, headers={"Location": "/redirected"}) if n % 2 else stable(n),
    "redirect-loop": lambda n, base: between(lambda _: Answer(status=302, headers={"Location": "/redirect-loop"}))(n),
    "sample-limit": lambda n, base: text(*(f'l{{i="{i}"}} {n}' for i in range(3 if n % 5 else 9))),
    "label-limit": lambda n, base: text("l 1", *(['l2{a="1",b="2",c="3",d="4"} 1'] if n % 5 == 3 else [])),
    "label-value-limit": lambda n, base: text("l 1", *([f'l2{{a="{"v" * 30}"}} 1'] if n % 5 == 3 else [])),
    "body-limit": lambda n, base: text("l 1", *(["#" + "x" * 3000] if n % 5 == 3 else [])),
    "never-answers": lambda n, base: Answer(hang_up=True),
    "uncompressed": lambda n, base: stable(n),
    "parameters": lambda n, base: stable(n),
    "legacy-names": lambda n, base: text(f"s_a {n}", *(['{"s.b"} 1'] if n in (3, 4) else [])),
    "removed": lambda n, base: stable(n),
    "exposes-up": lambda n, base: text("up 7", f"scrape_samples_scraped 9", f"s_a {n}"),
}


# The target that a reload takes away.
REMOVED = "removed"


class Farm:
    """All targets behind one port, each at the path of its name; from scrape `limit` on nothing is answered any more, so
    that both scrapers have seen the same. `requests` holds the last request of each: method, query, headers of interest."""

    INTEREST = ("accept", "accept-encoding", "x-prometheus-scrape-timeout-seconds", "authorization", "x-own")

    def __init__(self, base, limit):
        self.base, self.limit, self.lock = base, limit, threading.Lock()
        self.counts, self.requests = {}, {}
        farm = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_GET(self):
                farm.serve(self)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        # A scraper that has ended mid-way is no fault of a target.
        self.server.handle_error = lambda *_: None
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def scrapes(self, scraper, name):
        with self.lock:
            return self.counts.get((scraper, name), 0)

    def serve(self, handler):
        scraper = handler.headers.get("User-Agent", "").split("/")[0]
        path, _, query = handler.path.partition("?")
        name = path.strip("/")
        if name == "redirected":
            answer = stable(1)
        elif name not in SCRIPTS:
            answer = Answer(status=404)
        else:
            with self.lock:
                n = self.counts.get((scraper, name), 0)
                self.counts[scraper, name] = n + 1
            shown = {k: v for k, v in ((k.lower(), v) for k, v in handler.headers.items()) if k in self.INTEREST}
            self.requests[scraper, name] = (handler.command, query, shown)
            answer = SCRIPTS[name](n, self.base) if n < self.limit or name == REMOVED else Answer(hang_up=True)
        time.sleep(answer.delay)
        try:
            self.send(handler, answer)
        except OSError:
            handler.close_connection = True

    @staticmethod
    def send(handler, answer):
        if answer.hang_up:
            handler.close_connection = True
            return
        body, headers = answer.body, dict(answer.headers)
        if answer.raw is not None:
            body = answer.raw
        elif "gzip" in handler.headers.get("Accept-Encoding", "") and body:
            body = gzip.compress(body, 1)
            headers["Content-Encoding"] = "gzip"
        handler.send_response(answer.status)
        if answer.kind:
            handler.send_header("Content-Type", answer.kind)
        for key, value in headers.items():
            handler.send_header(key, value)
        if answer.status != 204:
            handler.send_header("Content-Length", str(len(body) + answer.missing))
        handler.end_headers()
        handler.wfile.write(body)
        handler.wfile.flush()
        if answer.missing:
            handler.close_connection = True
