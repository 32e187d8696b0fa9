"""The emulated machines of scripts/qemu-test: the arm64 board, and an x86-64 one with a raw flash chip."""

import re
import shutil
import signal
import subprocess
import sys
import time

from . import ROOT
from .qemu_image import CACHE, module_order, pack, run

BOARD = "qemu-virt-aarch64"
# What the board's configuration says; the promise is measured against it.
INTERVAL, COMMIT = 5, 10


class Box:
    """One power-on of the emulated machine.

    A killed emulator has handed every finished write to this machine, flushed or not: `cache=unsafe` changes nothing but the time that flushes
    take here. What a disk loses that was not flushed is the business of `filesystems`.
    """

    def __init__(self, command, log):
        self.log = log
        log.unlink(missing_ok=True)
        self.started = time.time()
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=open(str(log) + ".qemu", "wb"))

    def cut(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        return time.time()

    def text(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def wait(self, condition, seconds, what):
        end = time.time() + seconds
        while time.time() < end:
            if condition():
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.25)
        tail = "\n".join(self.text().splitlines()[-30:])
        self.cut()
        sys.exit(f"qemu-test: {what}: not within {seconds} s\n{tail}")


def arm_box(image, files, log, extra=(), clock="utc", forward=""):
    """The board: its kernel, its disk as /dev/vda."""
    kernel = next((files / "files/boot").glob("vmlinuz-*"))
    command = ["qemu-system-aarch64", "-M", "virt", "-cpu", "cortex-a57", "-smp", "1", "-m", "512", "-display", "none",
               "-monitor", "none", "-serial", f"file:{log}", "-no-reboot", "-kernel", kernel, "-initrd", CACHE / "initramfs",
               "-accel", "tcg,tb-size=256", "-append", "console=ttyAMA0 quiet loglevel=3 mitigations=off nokaslr "
                          "systemd.show_status=0 systemd.log_level=warning systemd.journald.forward_to_console=1",
               "-drive", f"file={image},format=raw,if=none,id=d,cache=unsafe", "-device", "virtio-blk-pci,drive=d",
               "-netdev", f"user,id=n{forward}", "-device", "virtio-net-pci,netdev=n,romfile=", "-rtc", f"base={clock}", *extra]
    return Box(command, log)


def drives(*paths):
    words = []
    for number, path in enumerate(paths):
        words += ["-drive", f"file={path},format=raw,if=none,id=e{number},cache=unsafe", "-device", f"virtio-blk-pci,drive=e{number}"]
    return words


def flashed(name, target, receiver, board=BOARD):
    """A copy of the system image with tidegate on it, by scripts/flash."""
    image = CACHE / f"{name}.img"
    shutil.copyfile(CACHE / "system.img", image)
    print(run(ROOT / "scripts/flash", board, "--image", image, "--config", configuration(name, target, receiver, board)).strip())
    return image


def configuration(name, target, receiver, board=BOARD):
    """The board's, with this machine's target and receiver, and the intervals of the emulated board."""
    text = (ROOT / "boards" / board / "tidegate.yml").read_text()
    text = re.sub(r"(?m)^( *scrape_interval:) .*$", rf"\1 {INTERVAL}s", text)
    text = re.sub(r"(?m)^( *commit_interval:) .*$", rf"\1 {COMMIT}s", text)
    text = text.replace("https://prometheus.example/api/v1/write", f"http://10.0.2.2:{receiver.port}/write")
    text = text.replace("scrape_configs:\n", f"scrape_configs:\n  - job_name: count\n    static_configs:\n      - targets: ['10.0.2.2:{target.port}']\n", 1)
    text = text.replace("remote_write:\n  - url", "remote_write:\n  - queue_config: {min_backoff: 1s, max_backoff: 2s}\n    url")
    # A backlog that is older than a minute because booting took that long is no region coming back.
    text += "  uplink: {slow_start: 0s}\n"
    config = CACHE / f"{name}.yml"
    config.write_text(text)
    return config


FLASH_INIT = """#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
@LOAD@
$b ifconfig lo 127.0.0.1 up
$b ifconfig eth0 10.0.2.15 up
@CHIP@
$b cat /proc/mtd
$b sleep 0.5
/tidegate ring format /dev/mtd0 @SHAPE@
$b cat /sys/class/mtd/mtd0/type
while :; do
    /tidegate run --config /tidegate.yml &
    p=$!
    # Until the other end hangs up.
    $b nc 10.0.2.2 @CONTROL@ </dev/null >/dev/null
    $b kill -9 $p
    wait $p
done
"""
CHIPS = {
    # The ring's partition of a serial chip: 64 erase blocks of 64 KiB.
    "nor": ("for d in /sys/bus/pci/devices/*; do [ \"$($b cat $d/device)\" = 0x1110 ] && a=$($b sed -n '3s/ .*//p' $d/resource); done\n"
            "$b insmod /modules/phram.ko phram=ring,$a,4Mi,64ki", "--size 4MiB --segment-size 64KiB --block-size 1KiB", ["mtd"]),
    # 256 MiB, pages of 2 KiB, erase blocks of 128 KiB; the first 64 of them.
    "nand": ("$b insmod /modules/nandsim.ko id_bytes=0x20,0xaa,0x00,0x15 parts=64", "--size 8MiB --segment-size 128KiB --block-size 2KiB",
             ["nand"]),
}


def flash_machine(kind, target, receiver, control, binary, files):
    """Kernel, and an initramfs that is the whole system."""
    chip, shape, modules = CHIPS[kind]
    tree = CACHE / f"{kind}.tree"
    shutil.rmtree(tree, ignore_errors=True)
    for folder in ("bin", "dev", "proc", "sys", "modules"):
        (tree / folder).mkdir(parents=True)
    shutil.copy(next(p for p in (files / "bin/busybox", files / "usr/bin/busybox") if p.exists()), tree / "bin/busybox")
    shutil.copy(binary, tree / "tidegate")
    last = "phram.ko" if kind == "nor" else "nandsim.ko"
    names = []
    for path in module_order(files, ["virtio_pci", "virtio_net", *modules, last.removesuffix(".ko")]):
        shutil.copy(path, tree / "modules")
        names.append(path.name)
    load = "\n".join(f"$b insmod /modules/{name}" for name in names if name != last)
    text = configuration(kind, target, receiver).read_text()
    text = re.sub(r"(?m)^    (path|size|commit_interval): .*\n", "", text)
    sizes = dict(zip(("size", "segment_size", "block_size"), shape.split()[1::2]))
    text = text.replace("  ring:\n", f"  ring:\n    path: /dev/mtd0\n    commit_interval: {COMMIT}s\n" + "".join(f"    {k}: {v}\n" for k, v in sizes.items()))
    (tree / "tidegate.yml").write_text(text)
    init = FLASH_INIT.replace("@LOAD@", load).replace("@CHIP@", chip).replace("@SHAPE@", shape).replace("@CONTROL@", str(control.port))
    (tree / "init").write_text(init)
    (tree / "init").chmod(0o755)
    return pack(tree, CACHE / f"{kind}.initramfs")
