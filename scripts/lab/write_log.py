"""The log of dm-log-writes (drivers/md/dm-log-writes.c of Linux): which writes came before which flush, and the disk as it was after one."""

import shutil
import struct
import sys

# Entries of dm-log-writes (drivers/md/dm-log-writes.c): flags, and what its first sector says.
LOG_FLUSH, LOG_FUA, LOG_DISCARD, LOG_MARK = 1, 2, 4, 8
LOG_MAGIC = 0x6A736677736872


def log_entries(path):
    """Writes as the device took them: sector, flags, data; of a mark its text. Those after a flush come after it in the log."""
    with open(path, "rb") as log:
        magic, _, count, sector = struct.unpack("<QQQI", log.read(28))
        if magic != LOG_MAGIC:
            sys.exit("qemu-test: dm-log-writes has written no log")
        at = sector
        for _ in range(count):
            log.seek(at)
            head = log.read(sector)
            start, sectors, flags, length = struct.unpack_from("<QQQQ", head)
            at += sector
            if flags & LOG_MARK:
                yield 0, flags, head[32 : 32 + length]
            elif flags & LOG_DISCARD:
                yield start * sector, flags, bytes(sectors * sector)
            else:
                log.seek(at)
                yield start * sector, flags, log.read(sectors * sector)
                at += sectors * sector


def replay(before, log, stop, out):
    """The disk after the first `stop` entries."""
    shutil.copyfile(before, out)
    with open(out, "r+b") as disk:
        for number, (offset, flags, data) in enumerate(log_entries(log)):
            if number >= stop:
                break
            if data and not flags & LOG_MARK:
                disk.seek(offset)
                disk.write(data)
