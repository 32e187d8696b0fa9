"""Remote write bodies: snappy block format, WriteRequest (1.0) and Request (2.0), with the rules a receiver may rely on.

`decode` returns series as (labels, [(milliseconds, value bits)]) and a list of broken rules. Written from the format
descriptions, independent of any sender. Slow and strict: a test peer, nothing else.
"""

V1 = "prometheus.WriteRequest"
V2 = "io.prometheus.write.v2.Request"


class Malformed(Exception):
    """The body is not what its headers say."""


def varint(data, at):
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise Malformed("varint runs over the end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def unsnappy(data):
    """Snappy block format: a length, then literals and copies."""
    length, at = varint(data, 0)
    if length > 32 << 20:
        raise Malformed(f"{length} bytes claimed")
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        kind = tag & 3
        if kind == 0:
            size = tag >> 2
            if size >= 60:
                extra = size - 59
                size = int.from_bytes(data[at : at + extra], "little")
                at += extra
            size += 1
            if at + size > len(data):
                raise Malformed("literal runs over the end")
            out += data[at : at + size]
            at += size
            continue
        if kind == 1:
            size, offset = ((tag >> 2) & 7) + 4, (tag >> 5) << 8 | data[at]
            at += 1
        else:
            width = 2 if kind == 2 else 4
            size, offset = (tag >> 2) + 1, int.from_bytes(data[at : at + width], "little")
            at += width
        if not 0 < offset <= len(out):
            raise Malformed(f"copy from {offset} back, {len(out)} bytes so far")
        start = len(out) - offset
        if offset >= size:
            out += out[start : start + size]
        else:
            for i in range(size):
                out.append(out[start + i])
    if len(out) != length:
        raise Malformed(f"{len(out)} bytes, {length} claimed")
    return bytes(out)


def fields(data):
    """(number, wire type, value) of one message; varints as numbers, the rest as bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value = data[at : at + size]
            at += size
        elif kind == 2:
            size, at = varint(data, at)
            value = data[at : at + size]
            at += size
        else:
            raise Malformed(f"wire type {kind}")
        if at > len(data):
            raise Malformed("field runs over the end")
        yield number, kind, value


def sample(data):
    """(milliseconds, bits); proto3 leaves zeros out."""
    stamp, bits = 0, 0
    for number, _, value in fields(data):
        if number == 1:
            bits = int.from_bytes(value, "little")
        elif number == 2:
            stamp = value - (1 << 64) if value >> 63 else value
    return stamp, bits


def label(data):
    pair = ["", ""]
    for number, _, value in fields(data):
        if number in (1, 2):
            pair[number - 1] = value.decode()
    return tuple(pair)


def decode_v1(data):
    series = []
    for number, _, value in fields(data):
        if number != 1:
            continue
        labels, samples = [], []
        for inner, _, part in fields(value):
            if inner == 1:
                labels.append(label(part))
            elif inner == 2:
                samples.append(sample(part))
        series.append((tuple(labels), samples))
    return series, []


def decode_v2(data):
    symbols, rows, faults = [], [], []
    for number, _, value in fields(data):
        if number == 4:
            symbols.append(value.decode())
        elif number == 5:
            rows.append(value)
    if not symbols or symbols[0]:
        faults.append("symbols do not begin with the empty string")
    if len(set(symbols)) != len(symbols):
        faults.append("a symbol stands twice")
    series = []
    for row in rows:
        refs, samples = [], []
        for number, kind, value in fields(row):
            if number == 1 and kind == 2:
                at = 0
                while at < len(value):
                    ref, at = varint(value, at)
                    refs.append(ref)
            elif number == 1:
                refs.append(value)
            elif number == 2:
                samples.append(sample(value))
        if len(refs) % 2 or any(ref >= len(symbols) for ref in refs):
            raise Malformed("label references do not fit the symbols")
        names = [symbols[ref] for ref in refs]
        series.append((tuple(zip(names[::2], names[1::2])), samples))
    return series, faults


def message_of(headers):
    """V1 or V2 by Content-Type, or None."""
    kind, _, rest = headers.get("content-type", "").partition(";")
    if kind.strip() != "application/x-protobuf":
        return None
    proto = rest.strip().removeprefix("proto=").strip('"') if rest else V1
    return proto if proto in (V1, V2) else None


def decode(headers, body):
    """Series and broken rules of one request."""
    message = message_of(headers)
    series, faults = (decode_v2 if message == V2 else decode_v1)(unsnappy(body))
    wanted = {"content-encoding": "snappy",
              "x-prometheus-remote-write-version": "2.0.0" if message == V2 else "0.1.0"}
    for name, value in wanted.items():
        if headers.get(name) != value:
            faults.append(f"{name} is {headers.get(name)!r}, expected {value!r}")
    if not headers.get("user-agent"):
        faults.append("no user-agent")
    for labels, samples in series:
        names = [name for name, _ in labels]
        if names != sorted(set(names)):
            faults.append(f"labels not sorted or not unique: {names}")
        if "__name__" not in names:
            faults.append(f"no name: {labels}")
        if any(not value for _, value in labels):
            faults.append(f"empty label value: {labels}")
        if not samples:
            faults.append(f"series without samples: {labels}")
        if any(a[0] >= b[0] for a, b in zip(samples, samples[1:])):
            faults.append(f"samples of a series not in order: {labels}")
    return series, faults
