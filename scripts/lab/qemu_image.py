"""What scripts/qemu-test builds once: kernels, initramfs, the image of a system without tidegate; and how files get into images.

Everything is built below CACHE, beside its name and renamed.
"""

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

from . import CACHE as LAB_CACHE

CACHE = LAB_CACHE.resolve() / "qemu"
SUITE = "bookworm"
PACKAGES = "systemd,systemd-sysv,udev,kmod,iproute2,dbus,prometheus-node-exporter"
MODULES = ["virtio_pci", "virtio_mmio", "virtio_blk", "virtio_net", "ext4", "f2fs", "dm-mod", "dm-log-writes"]
ROOT_MIB = 640


def run(*command, **options):
    done = subprocess.run([str(c) for c in command], check=False, capture_output=True, text=True, **options)
    if done.returncode:
        sys.exit(f"qemu-test: {' '.join(map(str, command))}: {(done.stderr or done.stdout).strip()[-2000:]}")
    return done.stdout


def make(path, build):
    """`path`, built beside it and renamed: an interrupted build leaves nothing that looks whole."""
    if not path.exists():
        part = path.with_name(path.name + ".part")
        if part.is_dir():
            shutil.rmtree(part)
        part.unlink(missing_ok=True)
        print(f"building {path.name}", flush=True)
        build(part)
        part.rename(path)
    return path


def base_root(part):
    run("mmdebstrap", "--mode=root", "--format=tar", "--architectures=arm64", "--variant=minbase", f"--include={PACKAGES}",
        '--aptopt=Apt::Install-Recommends "false"', SUITE, part)


def download(part):
    """Kernel and busybox, unpacked only: the kernel's installation hooks take over ten minutes under emulation."""
    state = CACHE / "apt"
    shutil.rmtree(state, ignore_errors=True)
    for folder in ("lists/partial", "cache/archives/partial", "etc"):
        (state / folder).mkdir(parents=True)
    (state / "status").touch()
    for source in Path("/etc/apt").glob("sources.list.d/debian.sources"):
        shutil.copy(source, state / "etc")
    apt = ["apt-get", "-o", f"Dir::State::lists={state}/lists", "-o", f"Dir::Cache={state}/cache", "-o", f"Dir::State::status={state}/status",
           "-o", f"Dir::Etc::sourceparts={state}/etc", "-o", "APT::Architecture=arm64", "-o", "APT::Architectures=arm64",
           "-o", "APT::Sandbox::User=root"]
    if any((state / "etc").iterdir()):
        apt += ["-o", "Dir::Etc::sourcelist=/dev/null"]
    run(*apt, "update")
    plan = run(*apt, "--print-uris", "-y", "--no-install-recommends", "install", "linux-image-arm64")
    kernel = re.search(r"\b(linux-image-[0-9][0-9.\-]*-arm64)\b", plan).group(1)
    part.mkdir()
    run(*apt, "download", kernel, "busybox-static", "dmsetup", "libdevmapper1.02.1", "dropbear-bin", "libtomcrypt1",
        "libtommath1", cwd=part)
    for package in part.glob("*.deb"):
        run("dpkg", "-x", package, part / "files")
        package.unlink()
    version = next((part / "files/lib/modules").iterdir()).name
    run("depmod", "-b", part / "files", version)


def download_flash(part):
    part.mkdir()
    plan = run("apt-cache", "depends", "linux-image-amd64")
    kernel = re.search(r"(linux-image-[0-9][0-9.\-]*-amd64)", plan).group(1)
    run("apt-get", "download", kernel, "busybox-static:amd64", cwd=part)
    for package in part.glob("*.deb"):
        run("dpkg", "-x", package, part / "files")
        package.unlink()
    run("depmod", "-b", part / "files", next((part / "files/lib/modules").iterdir()).name)


def module_order(files, wanted):
    """Paths of the modules wanted, each after what it needs; those built in are left out."""
    folder = next((files / "lib/modules").iterdir())
    needs = {}
    for line in (folder / "modules.dep").read_text().splitlines():
        path, _, rest = line.partition(":")
        needs[path] = rest.split()
    # Asked for at run time, not as a dependency.
    soft = {"ext4": ["crc32c_generic"], "f2fs": ["crc32_generic"]}
    by_name = {Path(p).name.removesuffix(".ko").replace("-", "_"): p for p in needs}
    order = []
    for name in wanted:
        for one in [*soft.get(name, []), name]:
            path = by_name.get(one.replace("-", "_"))
            for p in [*reversed(needs[path]), path] if path else []:
                if p not in order:
                    order.append(p)
    return [folder / p for p in order]


def initramfs(part, files):
    tree = part.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    for folder in ("bin", "dev", "proc", "sys", "root", "modules"):
        (tree / folder).mkdir(parents=True)
    busybox = next(p for p in (files / "bin/busybox", files / "usr/bin/busybox") if p.exists())
    shutil.copy(busybox, tree / "bin/busybox")
    names = []
    for path in module_order(files, MODULES):
        shutil.copy(path, tree / "modules")
        names.append(path.name)
    load = "\n".join(f"$b insmod /modules/{name}" for name in names)
    (tree / "init").write_text(f"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t devtmpfs dev /dev
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
{load}
n=0
while [ ! -b /dev/vda1 ] && [ $n -lt 100 ]; do $b sleep 0.1; n=$((n + 1)); done
$b mount -t ext4 -o rw,noatime /dev/vda1 /root || exec $b sh
$b umount /proc
$b umount /sys
$b mount -o move /dev /root/dev
exec $b switch_root /root /lib/systemd/systemd
""")
    (tree / "init").chmod(0o755)
    pack(tree, part)


def pack(tree, archive):
    """`tree` as an initramfs; it is gone afterwards."""
    listing = "\n".join(sorted(str(p.relative_to(tree)) for p in tree.rglob("*")))
    done = subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=listing.encode(), capture_output=True, check=True)
    archive.write_bytes(gzip.compress(done.stdout, 6))
    shutil.rmtree(tree)
    return archive


NETWORK = "[Match]\nName=e*\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"
# Time by the emulated machine's own clock; nothing here needs these, and each costs seconds under emulation.
MASKED = ["systemd-timesyncd", "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap",
          "fstrim.timer", "motd-news.timer", "systemd-networkd-wait-online", "getty@tty1", "prometheus-node-exporter-collectors.target",
          "systemd-random-seed", "systemd-hwdb-update", "systemd-journal-catalog-update", "systemd-update-utmp",
          "systemd-update-utmp-runlevel", "systemd-firstboot", "ldconfig", "systemd-update-done", "systemd-logind", "systemd-user-sessions",
          "serial-getty@ttyAMA0", "console-getty", "systemd-journal-flush", "systemd-sysctl", "systemd-remount-fs", "kmod-static-nodes",
          "modprobe@configfs", "modprobe@drm", "modprobe@fuse", "modprobe@efi_pstore", "modprobe@loop", "modprobe@dm_mod", "dev-hugepages.mount",
          "dev-mqueue.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-fs-fuse-connections.mount", "logrotate.timer",
          "systemd-tmpfiles-clean.timer", "systemd-pstore", "systemd-modules-load", "systemd-machine-id-commit"]
# Two subsystems instead of every device of the machine, and a few collectors: the rest is minutes of emulated processor time.
COLDPLUG = "[Service]\nExecStart=\nExecStart=udevadm trigger --action=add --subsystem-match=net --subsystem-match=block\n"
EXPORTER = 'ARGS="--collector.disable-defaults --collector.meminfo --collector.loadavg --collector.stat --log.level=error"\n'


def system_image(part, tar):
    """A GPT with one ext4, as a card's image has it, without tidegate."""
    tree = part.with_suffix(".tree")
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    run("tar", "-C", tree, "--exclude=./dev/*", "--exclude=./usr/share/doc/*", "--exclude=./usr/share/locale/*", "-xf", tar)
    (tree / "etc/systemd/network/10-wired.network").write_text(NETWORK)
    (tree / "etc/hostname").write_text("box\n")
    (tree / "etc/fstab").write_text("/dev/vda1 / ext4 rw,noatime 0 0\n")
    (tree / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    (tree / "etc/default/prometheus-node-exporter").write_text(EXPORTER)
    (tree / "etc/systemd/system/systemd-udev-trigger.service.d").mkdir(parents=True)
    (tree / "etc/systemd/system/systemd-udev-trigger.service.d/few.conf").write_text(COLDPLUG)
    run("systemctl", f"--root={tree}", "enable", "systemd-networkd")
    run("systemctl", f"--root={tree}", "mask", *MASKED)
    filesystem = part.with_suffix(".ext4")
    filesystem.unlink(missing_ok=True)
    run("mkfs.ext4", "-q", "-d", tree, "-L", "root", filesystem, f"{ROOT_MIB}M")
    shutil.rmtree(tree)
    with open(part, "wb") as image:
        image.truncate((ROOT_MIB + 2) << 20)
    run("sfdisk", "--quiet", part, input=f"label: gpt\nstart=2048, size={ROOT_MIB * 2048}, name=root\n")
    run("dd", f"if={filesystem}", f"of={part}", "bs=1M", "seek=1", "conv=notrunc,sparse")
    filesystem.unlink()


class Mounted:
    """The root file system of an image, at a folder."""

    def __init__(self, image):
        self.image = image
        self.folder = CACHE / "mnt"

    def __enter__(self):
        self.folder.mkdir(exist_ok=True)
        run("mount", "-o", f"loop,offset={1 << 20},sizelimit={ROOT_MIB << 20}", self.image, self.folder)
        return self.folder

    def __exit__(self, *_):
        run("umount", self.folder)


def add_files(root, files, *names):
    """Programs and libraries of the packages that were only unpacked."""
    for name in names:
        found = next(p for p in (files / "files").rglob(name) if p.is_file())
        place = root / ("usr/sbin" if found.parent.name.endswith("bin") else "usr/lib/aarch64-linux-gnu") / name
        shutil.copy(found, place)
