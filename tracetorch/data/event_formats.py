"""Binary formats of event cameras. The bytes are of unknown origin: sizes in headers are compared with the data."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np

from tracetorch.data.samples import Array
from tracetorch.printable import printable

MICROSECOND, MILLISECOND = 1e-6, 1e-3
_BIN_EVENT = 5  # bytes
_BIN_OVERFLOW_ROW, _BIN_OVERFLOW = 240, 1 << 13  # an entry in this row adds 2¹³ µs to the times of all later events

_AEDAT = b"#!AER-DAT"
_PACKET = struct.Struct("<hhiiiiii")  # type, source, event size, time offset, time overflow, capacity, number, valid
_POLARITY, _POLARITY_BYTES = 1, 8
_MOST_LINE = 1 << 16  # bytes of a line of the header


class PixelEvents(NamedTuple):
    """Events of a camera as a file stores them, (events,) each."""

    times: Array  # in the unit of the file
    x: Array  # from 0
    y: Array  # from 0
    polarity: Array  # 0 and 1, or −1 and 1


def decode_bin(content: bytes, name: str) -> PixelEvents:
    """Decode the events of N-MNIST. Each has 40 bits, big endian: x (8), y (8), polarity (1), time in µs (23).

    Args: name: of the file, for messages.
    Raises: ValueError that names the file if its size is not a multiple of 5 bytes.
    """
    if len(content) % _BIN_EVENT:
        raise ValueError(
            f"{name} has {len(content):,} bytes; wanted: {_BIN_EVENT} for each event, so it is cut or of another kind"
        )
    raw = np.frombuffer(content, dtype=np.uint8).reshape(-1, _BIN_EVENT).astype(np.int64)
    x, y = raw[:, 0], raw[:, 1]
    times = (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]
    is_overflow = y == _BIN_OVERFLOW_ROW
    times += np.cumsum(is_overflow) * _BIN_OVERFLOW
    return PixelEvents(*(column[~is_overflow] for column in (times, x, y, raw[:, 2] >> 7)))


def decode_aedat(content: bytes, name: str) -> PixelEvents:
    """Decode the valid polarity events of an AEDAT 3.1 file; packets of other kinds are skipped.

    Args: name: of the file, for messages.
    Returns: events in the order of the file, with times in µs.
    Raises: ValueError that names the file if it has another version, is cut, or contradicts itself.
    """
    if not content.startswith(_AEDAT + b"3."):
        found = printable(content[:20].split(b"\n")[0].decode("latin-1"), 20)
        raise ValueError(f"{name} begins with {found!r}; wanted: an AEDAT 3.1 file, which begins with #!AER-DAT3.1")
    at = 0
    while content[at : at + 1] == b"#":
        end = content.find(b"\n", at, at + _MOST_LINE)
        if end < 0:
            raise ValueError(f"{name}: its header does not end")
        at = end + 1
    addresses, times = [], []
    while at < len(content):
        if len(content) - at < _PACKET.size:
            raise ValueError(f"{name} is cut: its last {len(content) - at} bytes are not a whole packet")
        kind, _, size, offset, overflow, capacity, number, _ = _PACKET.unpack_from(content, at)
        at += _PACKET.size
        left = len(content) - at
        if size < 1 or not 0 <= number <= capacity or size * capacity > left:
            raise ValueError(
                f"{name}: a packet says that it holds {number:,} of {capacity:,} events of {size:,} bytes, and "
                f"{left:,} bytes are left; the file is cut or damaged"
            )
        if kind == _POLARITY:
            if size != _POLARITY_BYTES or offset != 4 or overflow < 0:
                raise ValueError(
                    f"{name}: a packet has polarity events of {size} bytes with their time at byte {offset} and the "
                    f"overflow {overflow}; wanted: 8, 4 and at least 0"
                )
            words = np.frombuffer(content, dtype="<u4", count=2 * number, offset=at).reshape(-1, 2)
            addresses.append(words[:, 0])
            times.append(words[:, 1].astype(np.int64) + (overflow << 31))
        at += size * capacity
    address = np.concatenate(addresses) if addresses else np.zeros(0, np.uint32)
    when = np.concatenate(times) if times else np.zeros(0, np.int64)
    is_valid = address & 1 == 1
    address = address[is_valid]
    return PixelEvents(when[is_valid], address >> 17, address >> 2 & 0x7FFF, address >> 1 & 1)
