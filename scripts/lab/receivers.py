"""The real receivers of scripts/interop, each behind TLS and behind an uplink of its own that can be cut or trip.

Kinds: `rw1` and `rw2` are Prometheus without an out-of-order window, `rw1-ooo` and `rw2-ooo` with one of an hour, `vm` is VictoriaMetrics,
`influx` InfluxDB 1.x, which has no PromQL of its own: a Prometheus that reads from it over remote read answers for it.
"""

import json
import ssl
import threading
import urllib.parse
import urllib.request

import lab
from lab import until

KINDS = ("rw1", "rw2", "rw1-ooo", "rw2-ooo", "vm", "influx")


class Tripping(lab.Uplink):
    """An uplink that once, when told to, breaks in the middle of a request and does something to the receiver meanwhile."""

    def __init__(self, to_port):
        self.armed, self.expecting, self.tripped = None, False, threading.Event()
        super().__init__(to_port)

    def trip(self, where, then):
        """The next request breaks: `request`, half of it was let through; `answer`, the receiver has answered and nobody hears it."""
        self.tripped.clear()
        self.armed = (where, then)

    def _take(self, where):
        with self.lock:
            if self.armed is None or self.armed[0] != where:
                return None
            (_, then), self.armed = self.armed, None
        return then

    def _pump(self, source, sink):
        # The far side's socket is the one that was connected from here.
        upwards = sink.getpeername()[1] == self.to_port
        try:
            sent = requests = 0
            while data := source.recv(65536):
                # A request is longer than whatever a handshake sends at once: a resumed one stays below this.
                is_request = upwards and sent > 0 and len(data) > 600
                if is_request and (then := self._take("request")):
                    sink.sendall(data[:len(data) // 2])
                    self._break(source, sink, then)
                    return
                requests += is_request
                if requests > 1 and self.armed and self.armed[0] == "answer":
                    # Whatever comes back from now on is the answer: what a handshake leaves behind came with the first one.
                    self.expecting = True
                if not upwards and self.expecting and (then := self._take("answer")):
                    self.expecting = False
                    self._break(source, sink, then)
                    return
                sent += len(data)
                sink.sendall(data)
        except OSError:
            pass
        self._end(source, sink)

    def _break(self, source, sink, then):
        self.cut()
        then()
        self.restore()
        self.tripped.set()
        self._end(source, sink)


class Receiver:
    """One remote: the real program, its data kept over restarts."""

    def __init__(self, kind, programs, work, ca):
        self.name, self.work, self.ca = kind, work, ca
        self.port, self.starts = lab.free_port(), 0
        self.context = ssl.create_default_context(cafile=ca)
        self.is_prometheus = kind.startswith("rw")
        self.protocol = 2 if kind.startswith("rw2") else 1
        self.write_path, self.front = "/api/v1/write", None
        cert, key = work / "cert.pem", work / "key.pem"
        data = work / kind
        if kind == "vm":
            # An answer that was lost makes the sender send again: without deduplication VictoriaMetrics keeps both.
            self.command = [programs["victoria-metrics"], f"-httpListenAddr=127.0.0.1:{self.port}", "-tls", f"-tlsCertFile={cert}",
                            f"-tlsKeyFile={key}", f"-storageDataPath={data}", "-search.latencyOffset=1ms",
                            "-memory.allowedBytes=256MB", "-dedup.minScrapeInterval=1ms"]
        elif kind == "influx":
            self.write_path = "/api/v1/prom/write?db=prom"
            (work / "influx.conf").write_text(
                f'reporting-disabled = true\nbind-address = "127.0.0.1:{lab.free_port()}"\n[meta]\n  dir = "{data}/meta"\n[data]\n'
                f'  dir = "{data}/data"\n  wal-dir = "{data}/wal"\n  query-log-enabled = false\n[http]\n'
                f'  bind-address = "127.0.0.1:{self.port}"\n  https-enabled = true\n  https-certificate = "{cert}"\n'
                f'  https-private-key = "{key}"\n  log-enabled = false\n')
            self.command = [programs["influxdb"], "-config", work / "influx.conf"]
        else:
            self.command = self.prometheus(programs, kind, self.storage_config(kind))
        self.start()
        self.uplink = Tripping(self.port)
        if kind == "influx":
            self.call("/query", q="CREATE DATABASE prom")
            read = {"url": f"https://127.0.0.1:{self.port}/api/v1/prom/read?db=prom", "read_recent": True,
                    "tls_config": {"ca_file": str(ca)}}
            self.front = lab.free_port()
            command = self.prometheus(programs, "influx-front", {"remote_read": [read]}, self.front)
            lab.Process("influx-front", command, work / "influx-front.log")
            until(lambda: self.get("/-/ready"), 30)

    @staticmethod
    def storage_config(kind):
        return {"storage": {"tsdb": {"out_of_order_time_window": "1h"}}} if kind.endswith("-ooo") else {}

    def prometheus(self, programs, name, config, port=None):
        (self.work / f"{name}.yml").write_text(json.dumps(config))
        message = "io.prometheus.write.v2.Request" if self.protocol == 2 else "prometheus.WriteRequest"
        return [programs["prometheus"], f"--config.file={self.work / name}.yml", f"--storage.tsdb.path={self.work / name}",
                f"--web.listen-address=127.0.0.1:{port or self.port}", f"--web.config.file={self.work / 'web.yml'}",
                "--web.enable-remote-write-receiver", f"--web.remote-write-receiver.accepted-protobuf-messages={message}"]

    def start(self):
        self.starts += 1
        self.process = lab.Process(self.name, self.command, self.work / f"{self.name}-{self.starts}.log")
        return self.ready()

    def ready(self):
        path = {"vm": "/health", "influx": "/ping"}.get(self.name, "/-/ready")
        return until(lambda: self.call(path) is not None, 60)

    def restart(self):
        """Ends it without notice; VictoriaMetrics, which answers before it writes, in order."""
        if self.name == "vm":
            self.process.terminate(30)
        else:
            self.process.kill()
        self.start()

    def call(self, path, port=None, **arguments):
        """POST with arguments, GET without; the body of the answer."""
        data = urllib.parse.urlencode(arguments).encode() if arguments else None
        url = f"https://127.0.0.1:{port or self.port}{path}"
        with urllib.request.urlopen(url, data=data, timeout=10, context=self.context) as r:
            return r.read()

    def get(self, path, **arguments):
        """A question in PromQL's terms, to whoever answers them."""
        query = "?" + urllib.parse.urlencode(arguments) if arguments else ""
        return self.call(path + query, self.front)

    def query(self, expression):
        answer = json.loads(self.get("/api/v1/query", query=expression, nocache=1))
        return answer["data"]["result"]

    def raw(self, selector, window="20m"):
        """Every stored sample of one series: [(milliseconds, value text)]; None unless exactly one series matches."""
        result = self.query(f"{with_job(selector)}[{window}]")
        if len(result) != 1:
            return None
        return [(round(float(t) * 1000), v) for t, v in result[0]["values"]]

    def flush(self):
        if self.name == "vm":
            self.call("/internal/force_flush")


def with_job(selector):
    """The selector with the job's label, so that a receiver's own series never answer."""
    if selector.endswith("}"):
        return selector[:-1] + ',job="node"}'
    return selector + '{job="node"}'
