"""What the scripts with peers and loads share: certificates, ports, processes, an uplink that can be cut.

`agents`, `record` and `faulty` are for comparisons with Prometheus' own agent, `exposed` and `wire` for checks bit for bit, `receivers` for real
receivers; `qemu_image`, `qemu_box`, `qemu_uplink` and `write_log` are parts of scripts/qemu-test.

Standard library only, loopback only. Everything started here is stopped at exit, by its own process id.
"""

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CACHE = Path(os.environ.get("TIDEGATE_CACHE", ROOT / ".cache"))

failures = 0


def check(ok, text):
    """Prints one line per check and remembers failures."""
    global failures
    failures += not ok
    print(("ok   " if ok else "FAIL ") + text, flush=True)
    return ok


def say(text):
    print(f"     {time.strftime('%H:%M:%S')} {text}", flush=True)


def work_dir(name):
    """A fresh folder below the cache, kept after the run for a look at logs."""
    CACHE.mkdir(parents=True, exist_ok=True)
    path = (CACHE / name).resolve()
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def free_port():
    """A port of the loopback address that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def until(condition, seconds, step=0.25):
    """Waits for a true value of `condition` and returns it, or None after `seconds`."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            value = condition()
        except OSError:
            value = None
        if value:
            return value
        time.sleep(step)
    return None


def make_ca(path):
    """A private CA (`ca.pem`) and a certificate for the loopback address (`cert.pem`, `key.pem`), by openssl."""

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=path, check=True, capture_output=True)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "3", "-subj", "/CN=lab CA",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", *key, "-keyout", "key.pem", "-out", "cert.csr", "-subj", "/CN=localhost")
    (path / "cert.ext").write_text(
        "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=critical,CA:FALSE\nextendedKeyUsage=serverAuth\n")
    openssl("x509", "-req", "-in", "cert.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-out", "cert.pem", "-days", "3", "-extfile", "cert.ext")
    return path / "ca.pem"


class Process:
    """A child with its output in a file; ended at exit whatever happens.

    With `piped` the file is written here instead of by the child, so that its own writes can be counted.
    """

    def __init__(self, name, command, log, piped=False):
        self.name, self.log = name, Path(log)
        with open(self.log, "ab") as out:
            self.child = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL,
                                          stdout=subprocess.PIPE if piped else out, stderr=subprocess.STDOUT,
                                          cwd=self.log.parent)
        if piped:
            threading.Thread(target=self._copy, daemon=True).start()
        atexit.register(self.kill)

    def _copy(self):
        with open(self.log, "ab", buffering=0) as out:
            for line in self.child.stdout:
                out.write(line)

    @property
    def pid(self):
        return self.child.pid

    def alive(self):
        return self.child.poll() is None

    def kill(self):
        if self.alive():
            self.child.kill()
        self.child.wait()

    def terminate(self, seconds):
        """SIGTERM; the exit code, or None when it had to be killed after `seconds`."""
        if self.alive():
            self.child.terminate()
        try:
            return self.child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            return None

    def tail(self, lines=12):
        return "".join(f"       {line}\n" for line in self.log.read_text(errors="replace").splitlines()[-lines:])


class Cuttable:
    """A TCP listener on a fixed loopback port that can go away and come back, with all its connections."""

    def __init__(self):
        self.port = free_port()
        self.lock = threading.Lock()
        self.open = set()
        self.listener = None

    def serve(self, connection):
        raise NotImplementedError

    def restore(self):
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.listen(16)
        self.listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self):
        with self.lock:
            listener, self.listener = self.listener, None
            connections, self.open = list(self.open), set()
        # shutdown, not close alone: it wakes a thread that sits in accept.
        for s in [listener, *connections]:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()

    def _accept(self, listener):
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                if listener is not self.listener:
                    connection.close()
                    return
                self.open.add(connection)
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection):
        try:
            self.serve(connection)
        except OSError:
            pass
        finally:
            with self.lock:
                self.open.discard(connection)
            connection.close()


class Uplink(Cuttable):
    """Forwards bytes both ways to a receiver."""

    def __init__(self, to_port):
        super().__init__()
        self.to_port = to_port
        self.restore()

    def serve(self, connection):
        with socket.create_connection(("127.0.0.1", self.to_port)) as far:
            with self.lock:
                self.open.add(far)
            back = threading.Thread(target=self._pump, args=(far, connection), daemon=True)
            back.start()
            self._pump(connection, far)
            back.join()
            with self.lock:
                self.open.discard(far)

    def _pump(self, source, sink):
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        self._end(source, sink)

    @staticmethod
    def _end(source, sink):
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def first_of_all(*pids):
    """Puts processes, and this one, before all others on the machine; whether that was allowed."""
    try:
        for pid in (*pids, os.getpid()):
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setscheduler(int(task), os.SCHED_RR, os.sched_param(1))
    except PermissionError:
        return False
    return True


def proc_status(pid):
    """VmRSS, RssAnon, VmHWM in KiB, Threads, entries of task/."""
    text = Path(f"/proc/{pid}/status").read_text()
    status = {k: int(v) for k, v in re.findall(r"^(VmRSS|RssAnon|VmHWM|Threads):\s+(\d+)", text, re.M)}
    status["tasks"] = len(os.listdir(f"/proc/{pid}/task"))
    return status


def proc_io(pid):
    """Counters of /proc/PID/io."""
    return {k: int(v) for k, v in (line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())}


def proc_cpu_seconds(pid):
    """CPU time of all threads; nanosecond resolution, dead threads not counted."""
    total = 0
    for task in os.listdir(f"/proc/{pid}/task"):
        total += int(Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1e9


def tidegate_binary():
    """$TIDEGATE, or built here."""
    if path := os.environ.get("TIDEGATE"):
        return Path(path).resolve()
    say("building tidegate (set TIDEGATE to use another file)")
    subprocess.run(["cargo", "build", "--locked", "--release", "--bin", "tidegate"], cwd=ROOT, check=True)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")).resolve() / "release" / "tidegate"


def peers(*packages):
    """Paths of the real peers by package name; without names those of most scripts."""
    out = subprocess.run([ROOT / "scripts" / "fetch-peers", *packages], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = {}
    for line in out.splitlines():
        name, path, version, suite = line.split()
        say(f"{name} {version} ({suite})")
        found[name] = Path(path)
    return found


# A plain SIGTERM would skip atexit, and leave the children behind.
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
