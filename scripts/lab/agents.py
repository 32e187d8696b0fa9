"""Prometheus' own agent and tidegate side by side: the same jobs, a recording receiver each, and what differs between the recordings."""

import json
import os
import signal
import struct

from . import Process, free_port, peers, record, tidegate_binary, wire

SCRAPERS = ("Prometheus", "tidegate")


def configuration(jobs, receiver, interval):
    return {
        "global": {"scrape_interval": f"{interval}s", "scrape_timeout": f"{int(interval * 750)}ms",
                   "external_labels": {"origin": "box", "site": "external"}},
        "scrape_configs": jobs,
        "remote_write": [{
            "url": f"http://127.0.0.1:{receiver.port}/api/v1/write", "protobuf_message": receiver.message,
            "send_exemplars": True, "send_native_histograms": True, "metadata_config": {"send_interval": "2s"},
            "queue_config": {"batch_send_deadline": "1s"},
            "write_relabel_configs": [{"source_labels": ["__name__"], "regex": "never_sent", "action": "drop"}]}],
    }


class Sender:
    """One of `SCRAPERS`, scraping `jobs`. Keys that only tidegate knows are in `own`, those of the whole file in `shared`."""

    def __init__(self, scraper, work, jobs, message, interval, own=(), shared=()):
        self.scraper, self.work, self.interval = scraper, work, interval
        self.own, self.shared = dict(own), dict(shared)
        self.receiver = record.Receiver(message)
        self.path = work / f"{scraper}.yml"
        self.write(jobs)
        if scraper == "tidegate":
            command = [tidegate_binary(), "run", "--config", self.path]
        else:
            command = [peers()["prometheus"], "--agent", f"--config.file={self.path}",
                       f"--storage.agent.path={work / 'agent'}", f"--web.listen-address=127.0.0.1:{free_port()}",
                       "--enable-feature=native-histograms,exemplar-storage"]
        self.process = Process(scraper, command, work / f"{scraper}.log")

    def write(self, jobs):
        config = {**configuration(json.loads(json.dumps(jobs)), self.receiver, self.interval), **self.shared}
        if self.scraper == "tidegate":
            # The peer's version switches this on by a flag, for all jobs.
            for one in config["scrape_configs"]:
                if "PrometheusProto" in one["scrape_protocols"]:
                    one["scrape_native_histograms"] = True
            config["tidegate"] = {"listen_address": "", "clock": {"trust": "always"},
                                  "ring": {"path": str(self.work / "ring"), "size": "4MiB"},
                                  "memory": {"max_series": 2000, "max_concurrent_scrapes": 16}, **self.own}
        self.path.write_text(json.dumps(config, indent=1))

    def reload(self, jobs):
        self.write(jobs)
        os.kill(self.process.pid, signal.SIGHUP)


def times_of(recording):
    """Job -> timestamps of its scrapes, by `up`."""
    times = {}
    for labels, rows in recording.samples.items():
        by = dict(labels)
        if by.get("__name__") == "up" and "instance" in by and by["instance"] == by.get("job"):
            stamps = {stamp for stamp, value in rows if not record.stale(value)}
            times[by["job"]] = sorted(times.get(by["job"], set()) | stamps)
    return times


class View:
    """A recording in terms that do not depend on when the sender ran."""

    def __init__(self, recording, base, scrapes, job_of=None, removed=None):
        self.job_of, self.removed = job_of or (lambda labels: dict(labels).get("job")), removed
        self.times = times_of(recording)
        self.numbers = {job: {stamp: n for n, stamp in enumerate(stamps)} for job, stamps in self.times.items()}
        self.base, self.scrapes = base, scrapes
        self.samples, self.exemplars, self.ends = {}, {}, set()
        for labels, rows in recording.samples.items():
            for stamp, value in rows:
                self.sample(labels, stamp, value)
        for labels, rows in recording.exemplars.items():
            for stamp, bits, own in rows:
                when = self.when(self.job_of(labels), stamp)
                if when is not None:
                    self.exemplars.setdefault(labels, set()).add((when, bits, own))
        self.metadata = recording.metadata

    def when(self, job, stamp):
        """("scrape", number), ("own", milliseconds from the base), None for what came after the last common scrape."""
        number = self.numbers.get(job, {}).get(stamp)
        if number is None:
            return "own", stamp - self.base
        return ("scrape", number) if number <= self.scrapes else None

    def sample(self, labels, stamp, value):
        job, by = self.job_of(labels), dict(labels)
        when = self.when(job, stamp)
        if when is None:
            return
        if record.stale(value):
            if job == self.removed:
                self.ends.add(labels)
                return
            value = "stale"
        if job == self.removed and (when[0] == "own" or when[1] >= self.scrapes):
            return
        if by.get("__name__") == "scrape_duration_seconds":
            value = "duration" if value != "stale" else value
        self.samples.setdefault(labels, []).append((when, value))


def show(value):
    if isinstance(value, int):
        return repr(struct.unpack("<d", struct.pack("<Q", value))[0]) + f" ({value:016x})"
    return str(value)


def named(labels):
    by = dict(labels)
    return by.pop("__name__", "") + "{" + ",".join(f"{k}={v!r}" for k, v in by.items() if k not in ("site", "origin")) + "}"


def differences(views, message):
    """(job, kind, text) of everything that is not the same."""
    peer, own = views
    job_of = peer.job_of
    for labels in sorted(peer.samples.keys() | own.samples.keys()):
        a, b = sorted(peer.samples.get(labels, []), key=repr), sorted(own.samples.get(labels, []), key=repr)
        if a == b:
            continue
        job = job_of(labels)
        missing = [row for row in a if row not in b]
        added = [row for row in b if row not in a]
        for who, rows in (("only Prometheus", missing), ("only tidegate", added)):
            if rows:
                text = ", ".join(f"{w[0]} {w[1]}: {show(v)}" for w, v in rows[:3]) + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")
                yield job, "samples", f"{named(labels)}: {who}: {text}"
        if not missing and not added:
            yield job, "samples", f"{named(labels)}: a sample twice: {len(a)} and {len(b)}"
    for labels in sorted(peer.exemplars.keys() | own.exemplars.keys()):
        a, b = peer.exemplars.get(labels, set()), own.exemplars.get(labels, set())
        for who, rows in (("only Prometheus", a - b), ("only tidegate", b - a)):
            if rows:
                yield job_of(labels), "exemplars", f"{named(labels)}: {who}: {sorted(rows)[:2]} of {len(rows)}"
    kind = "metadata of 2.0" if message == wire.V2 else "metadata"
    for who, rows in (("only Prometheus", peer.metadata - own.metadata), ("only tidegate", own.metadata - peer.metadata)):
        for row in sorted(rows):
            yield "all", kind, f"{who}: {row}"
    for labels in sorted(peer.ends ^ own.ends):
        yield peer.removed, "markers at removal", f"{named(labels)}: only {'Prometheus' if labels in peer.ends else 'tidegate'}"
