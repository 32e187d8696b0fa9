#!/usr/bin/env python3
"""Reads a tidegate ring image and prints what is in it.

Written from src/wal/FORMAT.md alone, to show that the page is enough. Plain Python 3 (3.8 or newer), standard library only.

usage: read_ring.py [--openmetrics] IMAGE

  (default)      every segment, restart and record; every frame with its samples, values as bit patterns; losses. scripts/check-format
                 compares it with what tidegate's own code says
  --openmetrics  samples as OpenMetrics-like lines with times in seconds; frames whose wall time is unknown are left out

IMAGE is a file ring, an image of a block device, or an image of raw NOR or NAND without spare areas. It is only read. Exit code: 0 read, 1 no ring,
2 wrong arguments. Memory: the whole image, and about 200 bytes per series.
"""

import struct
import sys

# --- integers -----------------------------------------------------------------------------------------------------------------

MASK64 = (1 << 64) - 1
I64_MIN = -(1 << 63)


def signed64(value):
    """The low 64 bits of `value` as a signed number: sums of the format wrap."""
    value &= MASK64
    return value - (1 << 64) if value >> 63 else value


def unzigzag(value):
    return (value >> 1) ^ -(value & 1)


class Malformed(Exception):
    """A record that passed its checksum and does not decode."""


class Bytes:
    """A cursor over bytes that refuses to run past the end."""

    def __init__(self, data):
        self.data = data
        self.at = 0

    def left(self):
        return len(self.data) - self.at

    def take(self, n):
        if n > self.left():
            raise Malformed("%d bytes wanted, %d left" % (n, self.left()))
        part = self.data[self.at : self.at + n]
        self.at += n
        return part

    def u8(self):
        return self.take(1)[0]

    def varint(self):
        value = shift = 0
        while True:
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                break
            if shift > 63:
                raise Malformed("varint longer than 10 bytes")
        if value > MASK64:
            raise Malformed("varint above 64 bits")
        return value

    def zz(self):
        return unzigzag(self.varint())

    def string(self):
        return self.take(self.varint())

    def rest(self):
        return self.take(self.left())


# --- CRC-32C ------------------------------------------------------------------------------------------------------------------


def crc_table():
    table = []
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
        table.append(crc)
    return table


CRC_TABLE = crc_table()


def crc32c(*parts):
    crc = 0xFFFFFFFF
    table = CRC_TABLE
    for part in parts:
        for byte in part:
            crc = (crc >> 8) ^ table[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# --- snappy block format ------------------------------------------------------------------------------------------------------


def unsnappy(data):
    source = Bytes(data)
    size = source.varint()
    out = bytearray()
    while source.left():
        tag = source.u8()
        kind = tag & 3
        if kind == 0:
            length = tag >> 2
            if length >= 60:
                length = int.from_bytes(source.take(length - 59), "little")
            out += source.take(length + 1)
            continue
        if kind == 1:
            length = (tag >> 2 & 7) + 4
            offset = (tag >> 5) << 8 | source.u8()
        elif kind == 2:
            length = (tag >> 2) + 1
            offset = int.from_bytes(source.take(2), "little")
        else:
            length = (tag >> 2) + 1
            offset = int.from_bytes(source.take(4), "little")
        if offset == 0 or offset > len(out):
            raise Malformed("snappy copy from before the beginning")
        for _ in range(length):
            out.append(out[-offset])
    if len(out) != size:
        raise Malformed("snappy gave %d bytes, %d promised" % (len(out), size))
    return bytes(out)


# --- codec state (section 6) --------------------------------------------------------------------------------------------------


class State:
    """What both codecs remember of one series."""

    __slots__ = ("word", "delta", "offset", "scale", "cls", "history", "zeros", "seen", "bits", "slope", "near", "nh", "rh")

    def __init__(self):
        self.word = self.delta = self.offset = self.scale = self.cls = self.history = 0
        self.zeros = 63
        self.seen = self.bits = self.slope = self.near = False
        self.nh = self.rh = 0

    def pattern(self):
        """The bits of the value, 64 of them."""
        if self.bits:
            return self.word & MASK64
        value = float(self.word) / float(10 ** -self.scale)
        return (struct.unpack("<Q", struct.pack("<d", value))[0] + self.offset) & MASK64

    def expected(self):
        return self.delta if self.slope else 0

    def advance(self, d):
        d = signed64(d)
        self.slope = abs(signed64(d - self.delta)) < abs(d)
        self.seen = True
        self.word = signed64(self.word + d)
        self.delta = d if -(1 << 31) <= d < 1 << 31 else 0
        return d

    def set_scale(self, scale):
        if scale < -22:
            raise Malformed("scale %d" % scale)
        power = self.scale - scale
        if abs(power) > 18:
            self.word = 0
        elif power >= 0:
            self.word = signed64(self.word * 10**power)
        else:
            part = abs(self.word) // 10**-power
            self.word = -part if self.word < 0 else part
        self.scale = scale
        self.delta = 0

    def enter_bits(self):
        self.word = signed64(self.pattern())
        self.delta = self.offset = 0
        self.cls = 40
        self.bits = True

    def leave_bits(self):
        self.word = self.delta = 0
        self.bits = False


# --- TC0 ----------------------------------------------------------------------------------------------------------------------


class Tc0:
    """Runs of unchanged series and varint deltas."""

    def __init__(self):
        self.states = {}

    def decode(self, layout, data):
        source = Bytes(data)
        states = self.states
        values = []
        before = 0
        at = 0
        while at < len(layout):
            token = source.varint()
            run, op = token >> 2, token & 3
            if run > len(layout) - at:
                raise Malformed("run past the layout")
            for index in layout[at : at + run]:
                state = states.setdefault(index, State())
                state.seen = True
                values.append(state.pattern())
            at += run
            if at == len(layout):
                break
            state = states.setdefault(layout[at], State())
            if op == 0:
                d = source.zz() + state.expected()
            elif op == 1:
                state.set_scale(-source.u8())
                if state.bits:
                    state.leave_bits()
                d = source.zz()
            elif op == 2:
                d = before
            else:
                if not state.bits:
                    state.enter_bits()
                d = source.zz()
            before = state.advance(d)
            values.append(state.pattern())
            at += 1
        return values


# --- TC1 ----------------------------------------------------------------------------------------------------------------------


class RangeDecoder:
    def __init__(self, data):
        self.data = data
        self.at = 4
        self.range = 0xFFFFFFFF
        self.code = int.from_bytes((data + b"\0\0\0\0")[:4], "big")

    def renormalise(self):
        while self.range < 1 << 24:
            self.range = (self.range << 8) & 0xFFFFFFFF
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.at += 1
            self.code = (self.code << 8 | byte) & 0xFFFFFFFF

    def bit(self, slots, index, limit=7):
        slot = slots[index]
        chance = (slot & 0x7FFF) >> 3 if slot & 0x8000 else (slot & 0x3FF) << 2
        chance = min(max(chance, 24), 4072)
        bound = (self.range >> 12) * chance
        if self.code < bound:
            bit = 0
            self.range = bound
        else:
            bit = 1
            self.code -= bound
            self.range -= bound
        slots[index] = learn(slot, bit, limit)
        if self.range < 1 << 24:
            self.renormalise()
        return bit

    def raw(self, n):
        value = 0
        while n:
            step = min(n, 16)
            self.range >>= step
            bits = self.code // self.range
            self.code -= bits * self.range
            self.renormalise()
            value = value << step | bits
            n -= step
        return value

    def tree(self, slots, n):
        node = 1
        for _ in range(n):
            node = node << 1 | self.bit(slots, node, 5)
        return node - (1 << n)


def learn(slot, bit, limit):
    def moved(p, k, most):
        return p - (p >> k) if bit else p + ((most - p) >> k)

    if slot & 0x8000:
        return 0x8000 | moved(slot & 0x7FFF, limit, 0x7FFF)
    n = slot >> 10
    k = n + 1 if n < 2 else 3 + (n - 2) // 4
    if k < limit:
        return (n + 1) << 10 | moved(slot & 0x3FF, k, 0x3FF)
    return 0x8000 | moved((slot & 0x3FF) << 5 | 16, limit, 0x7FFF)


def fresh(n):
    return [0x0200] * n


class Tc1:
    """Adaptive binary range coder over the same model."""

    def __init__(self):
        self.states = {}
        self.changed = fresh(144)
        self.first_changed = fresh(4)
        self.bits_mode = fresh(3)
        self.first_scale = fresh(32)
        self.scale_differs = fresh(1)
        self.scale = fresh(32)
        self.neighbours = fresh(32)
        self.repeat = fresh(8)
        self.sign = fresh(16)
        self.offset_moves = fresh(4)
        self.offset_sign = fresh(2)
        self.aligned = fresh(32)
        self.size64 = fresh(19)
        self.size = [fresh(64) for _ in range(19)]
        self.mantissa = [fresh(4) for _ in range(64)]

    def decode(self, layout, data):
        self.coder = RangeDecoder(data)
        self.recent = self.neighbour = 0
        values = []
        for index in layout:
            state = self.states.get(index)
            if state is None:
                state = self.states[index] = State()
            self.series(state)
            values.append(state.pattern())
        return values

    def series(self, state):
        bit = self.coder.bit
        first = not state.seen
        if first:
            changed = bit(self.first_changed, self.recent & 3)
        else:
            ones = bin(state.history).count("1")
            changed = bit(self.changed, ones << 4 | (state.history & 3) << 2 | self.recent & 3)
        state.history = (state.history << 1 | changed) & 0xFF
        self.recent = (self.recent << 1 | changed) & 0xFF
        if not changed:
            state.seen = True
            return
        if bit(self.bits_mode, 0 if first else 1 + state.bits):
            if not state.bits:
                state.enter_bits()
            self.delta(state, first)
            return
        if first:
            state.set_scale(-self.coder.tree(self.first_scale, 5))
        elif bit(self.scale_differs, 0):
            state.set_scale(-self.coder.tree(self.scale, 5))
        if state.bits:
            state.leave_bits()
            first = True
        self.delta(state, first)
        self.move_offset(state, first)

    def delta(self, state, first):
        bit = self.coder.bit
        hit = 0
        d = 0
        if self.neighbour != 0 and not first:
            same = state.delta == self.neighbour
            hit = bit(self.neighbours, state.nh | (self.recent >> 1 & 1) << 2 | state.bits << 3 | same << 4)
            state.nh = (state.nh << 1 | hit) & 3
            d = self.neighbour
        if not hit and state.delta != 0 and state.delta != self.neighbour:
            hit = bit(self.repeat, state.rh | state.bits << 2)
            state.rh = (state.rh << 1 | hit) & 3
            d = state.delta
        if not hit:
            d = state.expected() + self.residual(state, first)
        self.neighbour = state.advance(d)

    def residual(self, state, first):
        bit = self.coder.bit
        negative = bit(self.sign, state.slope | (not first) << 1 | state.bits << 2 | (state.delta < 0) << 3)
        z = state.zeros if not first and 2 <= state.zeros < 60 else 0
        if first:
            context = 16
        elif state.bits:
            context = 17
        else:
            context = min(max(state.cls - z, 0) // 2, 15)
        if z > 0 and bit(self.aligned, min(z // 4, 15) | state.bits << 4):
            z = 0
        r = (self.magnitude(context) << z) & MASK64
        if not first and r != 0:
            t = (r & -r).bit_length() - 1
            state.zeros = t if state.zeros == 63 else min(state.zeros, t)
        state.cls = (state.cls + r.bit_length() + 1) // 2
        return -r if negative else r

    def magnitude(self, context):
        if self.coder.bit(self.size64, context, 5):
            length = 64
        else:
            length = self.coder.tree(self.size[context], 6)
        if length < 2:
            return length
        node = 1
        top = min(length - 1, 2)
        for _ in range(top):
            node = node << 1 | self.coder.bit(self.mantissa[length % 64], node, 6)
        rest = length - 1 - top
        return node << rest | self.coder.raw(rest)

    def move_offset(self, state, first):
        context = 0 if first else 1 if not state.near else 2 + (state.offset != 0)
        if not self.coder.bit(self.offset_moves, context):
            return
        negative = self.coder.bit(self.offset_sign, state.offset < 0)
        m = self.magnitude(18)
        offset = (state.offset + (-m if negative else m)) & 0xFFFF
        state.offset = offset - 0x10000 if offset >> 15 else offset
        if state.offset != 0:
            state.near = True


# --- geometry (section 1) -----------------------------------------------------------------------------------------------------


class Geometry:
    def __init__(self, uuid, block, segment, slots, first_off, write_once, label=b""):
        self.uuid, self.block, self.segment, self.slots = uuid, block, segment, slots
        self.first_off, self.write_once, self.label = first_off, write_once, label


def superblock(image, at):
    page = image[at : at + 512]
    if len(page) < 512 or page[:8] != b"TGATERNG" or crc32c(page[:508]) != struct.unpack_from("<I", page, 508)[0]:
        return None
    major, _minor, incompat = struct.unpack_from("<HHI", page, 8)
    if major != 1 or incompat != 0:
        raise SystemExit("superblock: major %d, incompat %08x: made for another version" % (major, incompat))
    medium, log_b, log_s, _flags, slots, first_off = struct.unpack_from("<BBBBIQ", page, 40)
    label = page[64:96].rstrip(b"\0")
    return Geometry(page[24:40], 1 << log_b, 1 << log_s, slots, first_off, medium == 1, label)


def erase_header(image, at):
    page = image[at : at + 40]
    if len(page) < 40 or page[:4] != b"TGEH" or crc32c(page[:36]) != struct.unpack_from("<I", page, 36)[0] or page[4] != 1:
        return None
    slot, slots = struct.unpack_from("<II", page, 8)
    geometry = Geometry(page[16:32], 1 << page[5], 1 << page[6], slots, 0, True)
    geometry.first_off = at - slot * geometry.segment
    return geometry


def from_segment_header(image, at):
    """Geometry from a block that may begin with SEGHDR: the header names the identity its own block's checksum needs."""
    if image[at : at + 3] != b"TG\x01" or not image[at + 3] & FIRST:
        return None
    used = struct.unpack_from("<H", image, at + 10)[0]
    source = Bytes(image[at + 32 : at + 32 + used])
    try:
        if source.u8() != 0x01:
            return None
        header = segment_header(Bytes(source.string()))
    except Malformed:
        return None
    index = struct.unpack_from("<H", image, at + 8)[0]
    first_off = at - header["slot"] * (1 << header["log_s"]) - index * (1 << header["log_b"])
    geometry = Geometry(header["uuid"], 1 << header["log_b"], 1 << header["log_s"], header["slots"], first_off, index == 1)
    return geometry if first_off >= 0 and Block.read(image, at, geometry, header["slot"], index) else None


def find_geometry(image):
    for at in (0, len(image) - 4096):
        if at >= 0:
            found = superblock(image, at)
            if found:
                return found
    for at in range(0, len(image), 256):
        found = erase_header(image, at) or from_segment_header(image, at)
        if found:
            return found
    return None


# --- blocks and streams (section 2) -------------------------------------------------------------------------------------------

FIRST, SYNC, RESUME, NEWDICT = 1, 2, 4, 8


class Block:
    @staticmethod
    def read(image, at, geometry, slot, index):
        """The block at offset `at`, or None if it does not hold."""
        head = image[at : at + 32]
        if len(head) < 32 or head[:3] != b"TG\x01":
            return None
        flags, seq, idx, used, first_rec, dictionary, ack, stream_off, epoch, crc = struct.unpack("<BIHHHHIIII", head[3:])
        if idx != index or used == 0 or used > geometry.block - 32:
            return None
        payload = image[at + 32 : at + 32 + used]
        if len(payload) < used or crc32c(geometry.uuid, struct.pack("<I", slot), head[:28], payload) != crc:
            return None
        block = Block()
        block.flags, block.seq, block.idx, block.first_rec = flags, seq, idx, first_rec
        block.dictionary, block.ack, block.stream_off, block.epoch, block.payload = dictionary, ack, stream_off, epoch, payload
        return block


def newer(a, b):
    """Sequence arithmetic on 32 bits."""
    return 0 < ((a - b) & 0xFFFFFFFF) < 1 << 31


def slot_blocks(image, geometry, slot):
    """Blocks of the newest segment of a slot, in stream order, without copies; and all of its blocks that hold."""
    start = geometry.first_off + slot * geometry.segment
    found = []
    for index in range(geometry.segment // geometry.block):
        block = Block.read(image, start + index * geometry.block, geometry, slot, index)
        if block:
            found.append(block)
    if not found:
        return [], []
    head = found[0].seq
    for block in found:
        if newer(block.seq, head):
            head = block.seq
    found = [block for block in found if block.seq == head]
    ordered = {}
    for block in found:
        ordered.setdefault((block.epoch, block.stream_off), block)
    order = [ordered[key] for key in sorted(ordered)]
    begins = max((at for at, block in enumerate(order) if block.flags & FIRST), default=0)
    return order[begins:], found


def records(blocks):
    """Yields ("restart", block) and ("record", type, payload) in stream order; a record cut short is not visible."""
    epoch = next_off = None
    pending = b""
    for block in blocks:
        restart = block.flags & (FIRST | SYNC | RESUME)
        if (block.epoch, block.stream_off) == (epoch, next_off):
            pending += block.payload
        elif restart:
            pending = block.payload[block.first_rec :] if block.first_rec != 0xFFFF else b""
        else:
            continue
        epoch, next_off = block.epoch, block.stream_off + len(block.payload)
        if restart or block.flags & NEWDICT:
            yield ("restart", block, None)
        while True:
            source = Bytes(pending)
            try:
                kind = source.u8()
                payload = source.string()
            except Malformed:
                break
            pending = pending[source.at :]
            yield ("record", kind, payload)


# --- records (section 3) ------------------------------------------------------------------------------------------------------

REASONS = ("lapped", "damaged", "rejected", "write_error", "too_big", "stopped", "6", "7")


def segment_header(source):
    header = {"major": source.varint(), "minor": source.varint(), "uuid": source.take(16), "seq": source.varint(), "slots": source.varint()}
    header["log_b"], header["log_s"], header["slot"] = source.u8(), source.u8(), source.varint()
    for name in ("tail_seq", "frame_no", "dropped_samples", "dropped_segments", "config_crc"):
        header[name] = source.varint()
    header["codec"] = source.u8()
    for name in ("ack", "prior", "tail_frame", "counted_frame", "frames", "samples"):
        header[name] = source.varint()
    header["wall_ms"], header["max_series"] = source.zz(), source.varint()
    header["ledgers"] = [[source.varint(), source.varint(), source.zz(), source.zz()] for _ in range(8)]
    return header


def start_record(source):
    start = {"epoch": source.varint(), "boot_id": source.take(16), "mono_ms": source.varint(), "wall_ms": source.zz(), "clock": source.u8()}
    for name in ("error_ms", "frame_no", "prior", "config_crc"):
        start[name] = source.varint()
    start["boot"] = crc32c(start["boot_id"])
    return start


def clock_record(source):
    clock = {"boot": source.varint(), "mono_ms": source.varint(), "wall_ms": source.zz(), "error_ms": source.varint()}
    clock["source"] = source.u8()
    return clock


def drop_record(source):
    drop = {"first": source.varint(), "last": source.varint(), "samples": source.varint(), "reason": source.u8()}
    drop["frames"], drop["first_ms"], drop["last_ms"] = source.varint(), source.zz(), source.zz()
    return drop


def dictionary_entries(source):
    """A DICT record: target, then (index, type, text) of each series."""
    target, first, count = source.u8(), source.varint(), source.varint()
    method, raw_len = source.u8(), source.varint()
    data = source.rest()
    if method == 1:
        data = unsnappy(data)
    elif method != 0:
        raise Malformed("dictionary method %d" % method)
    if len(data) != raw_len:
        raise Malformed("dictionary of %d bytes, %d promised" % (len(data), raw_len))
    source = Bytes(data)
    entries = []
    before = b""
    for index in range(first, first + count):
        kind, prefix, suffix = source.u8(), source.u8(), source.u8()
        middle = source.string()
        if prefix > len(before) or suffix > len(before):
            raise Malformed("entry shares more than there is")
        before = before[:prefix] + middle + (before[len(before) - suffix :] if suffix else b"")
        entries.append((index, kind, before))
    return target, first, entries


# --- labels (section 4) -------------------------------------------------------------------------------------------------------


def split_labels(body):
    """`a="b",c="d"` as a list of (name, value as written)."""
    labels = []
    at = 0
    while at < len(body):
        equals = body.find(b'="', at)
        if equals < 0:
            raise Malformed("label without value in %r" % body)
        end = equals + 2
        while end < len(body) and body[end] != 0x22:
            end += 2 if body[end] == 0x5C else 1
        labels.append((body[at:equals], body[equals + 2 : end]))
        at = end + 2
    return labels


def full_text(entry, target):
    """`name{labels}` of a series with the labels of its target."""
    name, _, body = entry.partition(b"\xff")
    labels = split_labels(body)
    own = {label for label, _ in labels}
    labels += [pair for pair in split_labels(target) if pair[0] not in own]
    labels = sorted(pair for pair in labels if pair[1])
    text = name + b"{" + b",".join(label + b'="' + value + b'"' for label, value in labels) + b"}"
    return text.decode("utf-8", "backslashreplace")


# --- frames (section 5) -------------------------------------------------------------------------------------------------------

FAILED, LAYOUT, TIMES, NOCLOCK, STALE, COUNTS, EXTRAS, NOTES = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80


def series_list(source, count=None):
    count = source.varint() if count is None else count
    if count > 65535 * 2:
        raise Malformed("list of %d series" % count)
    listed = []
    at = 0
    while len(listed) < count:
        at += source.zz()
        run = source.varint()
        if run == 0 or run > count - len(listed) or at < 0 or at + run > 65536:
            raise Malformed("run of %d series from %d" % (run, at))
        listed.extend(range(at, at + run))
        at += run
    return listed


def new_layout(source, last):
    """The series of a frame, listed or as an edit of `last`, the target's list before it (None: there is none)."""
    mode = source.varint()
    count = mode >> 1
    if mode & 1 == 0:
        return series_list(source, count)
    if last is None:
        raise Malformed("edit of a layout that is not known")
    listed = []
    taken = at = 0
    for _ in range(source.varint()):
        keep, change = source.varint(), source.varint()
        if keep > len(last) - taken or change >> 1 == 0:
            raise Malformed("edit keeps %d series, then %d" % (keep, change >> 1))
        listed.extend(last[taken : taken + keep])
        taken += keep
        if change & 1 == 0:
            taken += change >> 1
            if taken > len(last):
                raise Malformed("edit leaves out more than there is")
        else:
            at += source.zz()
            if at < 0 or at + (change >> 1) > 65535 or change >> 1 > count:
                raise Malformed("run of %d series from %d" % (change >> 1, at))
            listed.extend(range(at, at + (change >> 1)))
            at += change >> 1
    listed.extend(last[taken:])
    if len(listed) != count:
        raise Malformed("edit makes %d series of %d" % (len(listed), count))
    return listed


def extras(source, samples):
    """What samples carry, as lines of the dump."""
    found = []
    start_position = start_ms = 0
    while source.left():
        kind = source.u8()
        item = Bytes(source.string())
        if kind == 0x01:
            position = item.varint()
            found.append("histogram %d %s" % (position, item.rest().hex()))
        elif kind == 0x82:
            position = item.varint()
            bits = struct.unpack("<Q", item.take(8))[0]
            time = item.zz()
            found.append("exemplar %d %016x at=%s {%s}" % (position, bits, "-" if time == I64_MIN else time, printable(item.rest())))
        elif kind == 0x83:
            position = start_position = start_position + item.varint()
            start_ms += item.zz()
            found.append("start %d at=%d" % (position, start_ms))
        elif kind & 0x80:
            continue
        else:
            raise Malformed("extra of kind %02x" % kind)
        if position >= samples:
            raise Malformed("extra of sample %d of %d" % (position, samples))
    return found


def notes(source):
    """What is said of the scrape, as lines of the dump."""
    found = []
    bits = source.u8()
    if bits & 0x01:
        found.append("ended")
    if bits & 0x02:
        found.append("timeout=%d limit=%d body=%d" % (source.varint(), source.varint(), source.zz()))
    return found


class Frame:
    pass


class Segment:
    """Decodes the records of one segment. Calls back `out` with what it finds."""

    def __init__(self, out):
        self.out = out
        self.header = None
        self.dictionary_ok = False
        self.defined = 0
        self.targets = {}
        self.series = {}
        self.codec = None
        self.layouts = {}
        self.timing = {}
        self.number = self.time = self.boot = None

    def read(self, blocks):
        for what, first, payload in records(blocks):
            if what == "restart":
                self.restart(first)
                continue
            try:
                if not self.record(first, Bytes(payload)):
                    return
            except Malformed as error:
                self.out.malformed(first, error)
                self.codec = None
                if first in (0x03, 0x04):
                    # As good as missing.
                    self.dictionary_ok = False

    def restart(self, block):
        if block.flags & (FIRST | NEWDICT):
            self.dictionary_ok = True
            self.defined = block.dictionary
            self.targets, self.series = {}, {}
        elif block.dictionary != self.defined & 0xFFFF:
            self.dictionary_ok = False
        self.out.restart(block, self.dictionary_ok)

    def record(self, kind, source):
        """False ends the segment."""
        if kind == 0x01:
            self.header = segment_header(source)
            self.out.segment(self.header)
            return self.header["major"] == 1
        if kind == 0x02:
            self.start(start_record(source))
        elif kind == 0x03:
            self.defined += 1
            index = source.u8()
            self.targets[index] = source.string()
            self.out.target(index, self.targets[index])
        elif kind == 0x04:
            self.defined += 1
            target, first, entries = dictionary_entries(source)
            self.out.dictionary(target, first, len(entries))
            for index, metric_type, text in entries:
                self.series[index] = (target, metric_type, text)
        elif kind == 0x05:
            self.frame(source)
        elif kind == 0x06:
            self.out.clock(clock_record(source))
        elif kind == 0x87:
            self.out.drop(drop_record(source))
        elif kind == 0x8E:
            self.out.delivered(source.u8(), source.varint(), source.varint())
        elif kind == 0x89:
            self.out.ack(source.varint(), source.varint())
        elif kind & 0x80:
            self.out.skipped(kind, source.left())
        else:
            self.out.stopped(kind, source.left())
            return False
        return True

    def start(self, start):
        self.codec = Tc1() if self.header["codec"] == 1 else Tc0()
        self.layouts = {}
        # By target: the times of its last two frames, or one, and the last one's duration.
        self.timing = {}
        self.number, self.time, self.boot = start["frame_no"], start["mono_ms"], start["boot"]
        self.out.start(start)

    def frame(self, source):
        if self.codec is None:
            self.out.undecodable(None)
            return
        frame = Frame()
        frame.number = self.number
        self.number += 1
        frame.boot = self.boot
        frame.target, frame.flags = source.u8(), source.u8()
        times, duration = self.timing.get(frame.target, ([], 0))
        if len(times) == 2:
            self.time = 2 * times[1] - times[0]
        self.time = (self.time + source.zz()) & MASK64
        frame.mono_ms = self.time
        frame.duration = duration + source.zz()
        if not 0 <= frame.duration < 1 << 32:
            raise Malformed("duration of %d" % frame.duration)
        self.timing[frame.target] = (times + [self.time])[-2:], frame.duration
        counts = [source.varint() for _ in range(3)] if frame.flags & COUNTS else None
        stale = series_list(source) if frame.flags & STALE else []
        if frame.flags & LAYOUT:
            self.layouts[frame.target] = new_layout(source, self.layouts.get(frame.target))
        layout = []
        if not frame.flags & FAILED:
            if frame.target not in self.layouts:
                raise Malformed("frame without layout")
            layout = self.layouts[frame.target]
        times = self.times(source) if frame.flags & TIMES else {}
        frame.extras = extras(Bytes(source.string()), len(layout)) if frame.flags & EXTRAS else []
        frame.notes = notes(Bytes(source.string())) if frame.flags & NOTES else []
        patterns = self.codec.decode(layout, source.rest())
        if len(set(layout)) != len(layout):
            del self.layouts[frame.target]
        frame.counts = counts or [len(layout), len(layout), 0]
        if not self.dictionary_ok:
            self.out.undecodable(frame.number)
            return
        try:
            frame.stale = [(index, self.series[index][2]) for index in stale]
            frame.samples = [(index, self.series[index][2], bits, times.get(at)) for at, (index, bits) in enumerate(zip(layout, patterns))]
            frame.target_labels = self.targets[frame.target]
        except KeyError:
            self.out.undecodable(frame.number)
            return
        self.out.frame(frame)

    @staticmethod
    def times(source):
        times = {}
        at = -1
        stamp = 0
        for _ in range(source.varint()):
            at += 1 + source.varint()
            stamp += source.zz()
            times[at] = stamp
        return times


# --- the ring -----------------------------------------------------------------------------------------------------------------


class Report:
    """Collects what is found: lines about the structure, and the frames."""

    def __init__(self):
        self.lines = []
        self.frames = []
        self.unreadable = 0
        self.clocks = {}
        self.expected = None
        self.next_number = 0
        self.ledgers = None

    def line(self, text, *values):
        self.lines.append((text % values) if values else text)

    def restart(self, block, _dictionary_ok):
        self.line("restart flags=%02x", block.flags)

    def segment(self, header):
        if header["major"] != 1:
            return
        codec = ("tc0", "tc1")[header["codec"]]
        self.line("segment %d slot=%d codec=%s frame=%d prior=%d", header["seq"], header["slot"], codec, header["frame_no"], header["prior"])
        self.line("  tail=%d tail_frame=%d counted=%d", header["tail_seq"], header["tail_frame"], header["counted_frame"])
        self.line("  ack=%d frames=%d samples=%d wall=%d", header["ack"], header["frames"], header["samples"], header["wall_ms"])
        self.line("  config=%08x max_series=%d", header["config_crc"], header["max_series"])
        self.ledgers = [list(ledger) for ledger in header["ledgers"]]

    def start(self, start):
        if self.expected is not None and start["prior"] > self.expected:
            self.line("missing %d..%d", self.expected, start["prior"])
        self.expected = max(start["frame_no"], self.expected or 0)
        self.line("start epoch=%d boot=%08x mono=%d wall=%s clock=%d error=%d", start["epoch"], start["boot"], start["mono_ms"],
                  "-" if start["wall_ms"] == I64_MIN else start["wall_ms"], start["clock"], start["error_ms"])
        self.line("  frame=%d prior=%d config=%08x", start["frame_no"], start["prior"], start["config_crc"])
        if start["wall_ms"] != I64_MIN and start["clock"] != 0:
            self.wall(start["boot"], start["mono_ms"], start["wall_ms"])

    def target(self, index, body):
        self.line("target %d %s", index, printable(body))

    def dictionary(self, target, first, count):
        self.line("dict target=%d first=%d count=%d", target, first, count)

    def clock(self, clock):
        self.line("clock boot=%08x mono=%d wall=%d error=%d source=%d", clock["boot"], clock["mono_ms"], clock["wall_ms"],
                  clock["error_ms"], clock["source"])
        if clock["wall_ms"] != I64_MIN and clock["source"] != 0:
            self.wall(clock["boot"], clock["mono_ms"], clock["wall_ms"])

    def wall(self, boot, mono_ms, wall_ms):
        """The statement latest in the boot holds."""
        if boot not in self.clocks or mono_ms >= self.clocks[boot][0]:
            self.clocks[boot] = (mono_ms, wall_ms - mono_ms)

    def drop(self, drop):
        self.line("drop %d..%d samples=%d reason=%d frames=%d from=%d to=%d", drop["first"], drop["last"], drop["samples"], drop["reason"],
                  drop["frames"], drop["first_ms"], drop["last_ms"])
        if drop["reason"] < 8 and self.ledgers:
            ledger = self.ledgers[drop["reason"]]
            ledger[0] += drop["frames"]
            ledger[1] += drop["samples"]
            for place, pick in ((2, min), (3, max)):
                times = [time for time in (ledger[place], drop[("first_ms", "last_ms")[place - 2]]) if time != 0]
                ledger[place] = pick(times) if times else 0

    def delivered(self, reason, frames, samples):
        self.line("delivered samples=%d reason=%d frames=%d", samples, reason, frames)
        if reason < 8 and self.ledgers:
            ledger = self.ledgers[reason]
            ledger[0] = max(ledger[0] - frames, 0)
            ledger[1] = max(ledger[1] - samples, 0)

    def ack(self, remote, frame):
        self.line("ack remote=%08x frame=%d", remote, frame)

    def skipped(self, kind, _length):
        self.line("unknown %02x", kind)

    stopped = skipped

    def malformed(self, kind, error):
        self.line("malformed %02x", kind)
        print("record of type %02x: %s" % (kind, error), file=sys.stderr)
        self.unreadable += kind == 0x05

    def undecodable(self, number):
        self.unreadable += 1
        if number is not None:
            self.number_seen(number)

    def number_seen(self, number):
        self.expected = max(number + 1, self.expected or 0)

    def frame(self, frame):
        self.number_seen(frame.number)
        if frame.number >= self.next_number:
            self.next_number = frame.number + 1
            self.frames.append(frame)

    def wall_of(self, frame):
        known = self.clocks.get(frame.boot)
        return frame.mono_ms + known[1] if known else None


def printable(text):
    """Bytes of the ring as text of one line."""
    return text.decode("utf-8", "surrogateescape").replace("\n", "\\n")


def entry_text(entry):
    name, _, body = entry.partition(b"\xff")
    return printable(name) + "{" + printable(body) + "}"


def read_ring(image, geometry):
    report = Report()
    found = []
    headless = []
    acknowledged = 0
    for slot in range(geometry.slots):
        blocks, kept = slot_blocks(image, geometry, slot)
        if not blocks:
            continue
        header = first_header(blocks)
        if header is None:
            headless.append("headless slot=%d" % slot)
        elif header["major"] != 1:
            headless.append("version slot=%d major=%d" % (slot, header["major"]))
        else:
            found.append((header["seq"], header, blocks, kept))
    for _, header, blocks, kept in sorted(found, key=lambda segment: segment[0]):
        highest = max(((acks(block) - header["ack"] + (1 << 31)) & 0xFFFFFFFF) - (1 << 31) for block in kept)
        acknowledged = max(acknowledged, header["ack"] + max(highest, 0))
        Segment(report).read(blocks)
    report.lines += headless
    return report, acknowledged


def acks(block):
    return block.ack


def first_header(blocks):
    """SEGHDR of a segment, None if it is headless."""
    for what, kind, payload in records(blocks):
        if what == "record":
            try:
                return segment_header(Bytes(payload)) if kind == 0x01 else None
            except Malformed:
                return None
    return None


# --- output -------------------------------------------------------------------------------------------------------------------


def canonical(geometry, report, acknowledged):
    yield "ring uuid=%s medium=%s block=%d segment=%d slots=%d" % (
        geometry.uuid.hex(), "write-once" if geometry.write_once else "rewritable", geometry.block, geometry.segment, geometry.slots)
    yield from report.lines
    for frame in report.frames:
        wall = report.wall_of(frame)
        yield "frame %d %s at=%d wall=%s took=%d counts=%d,%d,%d {%s}" % (
            frame.number, "down" if frame.flags & FAILED else "up", frame.mono_ms, "-" if wall is None else wall, frame.duration,
            frame.counts[0], frame.counts[1], frame.counts[2], printable(frame.target_labels))
        for _, entry, bits, time in frame.samples:
            yield "  %016x %s%s" % (bits, entry_text(entry), "" if time is None else " @%d" % time)
        for _, entry in frame.stale:
            yield "  stale %s" % entry_text(entry)
        for line in frame.extras + frame.notes:
            yield "  " + line
    for reason, ledger in zip(REASONS, report.ledgers or []):
        yield "loss %s frames=%d samples=%d from=%d to=%d" % (reason, *ledger)
    yield "acknowledged %d" % acknowledged
    yield "unreadable %d" % report.unreadable


STALE_NAN = 0x7FF0000000000002


def number_text(bits):
    value = struct.unpack("<d", struct.pack("<Q", bits))[0]
    if value != value:
        return "NaN"
    return {float("inf"): "+Inf", float("-inf"): "-Inf"}.get(value, repr(value))


def openmetrics(report):
    """One line per sample, `up` first. Times are seconds."""
    for frame in report.frames:
        wall = report.wall_of(frame)
        if wall is None:
            continue
        target = frame.target_labels
        yield "%s %d %s" % (full_text(b"up\xff", target), 0 if frame.flags & FAILED else 1, seconds(wall))
        for _, entry, bits, time in frame.samples:
            if bits != STALE_NAN:
                yield "%s %s %s" % (full_text(entry, target), number_text(bits), seconds(wall if time is None else time))
    yield "# EOF"


def seconds(ms):
    sign = "-" if ms < 0 else ""
    return "%s%d.%03d" % (sign, abs(ms) // 1000, abs(ms) % 1000)


def main(arguments):
    mode = canonical
    if arguments and arguments[0] == "--openmetrics":
        arguments = arguments[1:]
        mode = openmetrics
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    with open(arguments[0], "rb") as file:
        image = file.read()
    geometry = find_geometry(image)
    if geometry is None:
        print("%s: no ring" % arguments[0], file=sys.stderr)
        return 1
    report, acknowledged = read_ring(image, geometry)
    lines = openmetrics(report) if mode is openmetrics else canonical(geometry, report, acknowledged)
    write = sys.stdout.buffer.write
    for line in lines:
        write(line.encode("utf-8", "surrogateescape") + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
