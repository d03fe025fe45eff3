"""Write compound files ([MS-CFB]), the container of old Office files, and the records of PowerPoint and drawings."""

import struct
from itertools import pairwise

_SECTOR = 512
_FREE, _END, _FAT = 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
_MIN_STREAM = 4096  # smaller streams would be in another place


def compound(streams: dict[str, bytes]) -> bytes:
    """A compound file with these streams. Short ones are padded with zeros. A stream `a/b` is in the storage `a`."""
    storages = list(dict.fromkeys(name.partition("/")[0] for name in streams if "/" in name))
    contents = [data.ljust(_MIN_STREAM, b"\0") for data in streams.values()]
    sizes = [-(-len(data) // _SECTOR) for data in contents]
    directory_sectors = -(-(1 + len(contents) + len(storages)) // 4)
    data_sectors = sum(sizes) + directory_sectors
    fat_sectors = 1
    while fat_sectors * 128 < data_sectors + fat_sectors:
        fat_sectors += 1
    fat: list[int] = []
    starts = []
    for count in (*sizes, directory_sectors):
        starts.append(len(fat))
        fat += [*range(len(fat) + 1, len(fat) + count), _END]
    first_fat = len(fat)
    fat += [_FAT] * fat_sectors
    fat += [_FREE] * (fat_sectors * 128 - len(fat))
    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(16) + struct.pack("<HHHHH", 0x3E, 3, 0xFFFE, 9, 6) + bytes(6)
    header += struct.pack("<IIIIIIIII", 0, fat_sectors, starts[-1], 0, _MIN_STREAM, _END, 0, _END, 0)
    difat = [first_fat + index for index in range(fat_sectors)]
    header += struct.pack("<109I", *difat, *[_FREE] * (109 - len(difat)))
    numbers = {name: number for number, name in enumerate((*streams, *storages), 1)}
    folders = {folder: [name for name in numbers if name.rpartition("/")[0] == folder] for folder in ("", *storages)}
    next_of = {one: numbers[other] for names in folders.values() for one, other in pairwise(names)}
    first_of = {folder: numbers[names[0]] for folder, names in folders.items() if names}
    entries = _entry("Root Entry", 5, _FREE, first_of.get("", _FREE), _END, 0)
    for (name, data), start in zip(zip(streams, contents, strict=True), starts, strict=False):
        entries += _entry(name.rpartition("/")[2], 2, next_of.get(name, _FREE), _FREE, start, len(data))
    for name in storages:
        entries += _entry(name, 1, next_of.get(name, _FREE), first_of[name], 0, 0)
    entries = entries.ljust(directory_sectors * _SECTOR, b"\0")
    body = b"".join(data.ljust(size * _SECTOR, b"\0") for data, size in zip(contents, sizes, strict=True))
    return header + body + entries + struct.pack(f"<{len(fat)}I", *fat)


def _entry(name: str, kind: int, following: int, child: int, start: int, size: int) -> bytes:
    encoded = name.encode("utf-16-le")
    head = encoded.ljust(64, b"\0") + struct.pack("<HBB", len(encoded) + 2, kind, 1)
    return head + struct.pack("<III", _FREE, following, child) + bytes(36) + struct.pack("<IQ", start, size)


def atom(kind: int, data: bytes = b"", instance: int = 0) -> bytes:
    """A record that holds data."""
    return struct.pack("<HHI", instance << 4, kind, len(data)) + data


def container(kind: int, *children: bytes, instance: int = 0) -> bytes:
    """A record that holds records."""
    data = b"".join(children)
    return struct.pack("<HHI", instance << 4 | 0xF, kind, len(data)) + data
