"""The encodings of Windows charsets, which the fonts of RTF files, metafiles and old Word documents declare."""

_CODECS = {
    77: "mac_roman", 128: "cp932", 129: "cp949", 130: "johab", 134: "gb18030", 136: "cp950", 161: "cp1253",
    162: "cp1254", 163: "cp1258", 177: "cp1255", 178: "cp1256", 186: "cp1257", 204: "cp1251", 222: "cp874",
    238: "cp1250", 254: "cp437", 255: "cp850",
}  # fmt: skip
SYMBOL = 2


def codec_of_charset(charset: int) -> str | None:
    """Return the Python name of a charset's encoding, or None for Western and unknown charsets."""
    return _CODECS.get(charset)
