"""HWP documents made for distribution (배포용 문서): their text is scrambled with a key that stands in the file itself.

Such a document may be read by everybody; it only asks programs not to edit, copy or print it. Source: Hancom's
published '한글 문서 파일 형식 5.0' (4.2, 배포용 문서) and FIPS 197 (AES).
"""

import struct
from functools import lru_cache

_KEY_DATA = 28  # the first record's tag
_KEY_BYTES = 256
_BLOCK = 16
_ROUNDS = 10


def unscrambled(stream: bytes) -> bytes:
    """A section's stream of `ViewText` as it stands in `BodyText` of other documents. Raises `ValueError`."""
    (header,) = struct.unpack_from("<I", stream)
    if header & 0x3FF != _KEY_DATA or header >> 20 != _KEY_BYTES:
        raise ValueError("no key data")
    key_data = _without_noise(stream[4 : 4 + _KEY_BYTES])
    offset = 4 + (key_data[0] & 0x0F)
    return aes_128_ecb_decrypted(stream[4 + _KEY_BYTES :], key_data[offset : offset + _BLOCK])


def _without_noise(data: bytes) -> bytes:
    """The key data without the random numbers (those of Microsoft's C library) it is mixed with; they follow its seed."""
    (state,) = struct.unpack_from("<I", data)
    out, noise, left = bytearray(data), 0, 0
    for place in range(_KEY_BYTES):
        if left == 0:
            state = (state * 214013 + 2531011) & 0xFFFFFFFF
            noise = state >> 16 & 0xFF
            state = (state * 214013 + 2531011) & 0xFFFFFFFF
            left = (state >> 16 & 0x0F) + 1
        if place >= 4:
            out[place] ^= noise
        left -= 1
    return bytes(out)


def aes_128_ecb_decrypted(data: bytes, key: bytes) -> bytes:
    """Whole blocks of 16 bytes, decrypted one by one; a rest is left out."""
    keys = _round_keys(key)
    return b"".join(_block(data[place : place + _BLOCK], keys) for place in range(0, len(data) - _BLOCK + 1, _BLOCK))


def _block(block: bytes, keys: list[bytes]) -> bytes:
    _, inverse, products = _tables()
    by_14, by_11, by_13, by_9 = products
    state = bytes(a ^ b for a, b in zip(block, keys[_ROUNDS], strict=True))
    for number in range(_ROUNDS - 1, -1, -1):
        # Rows shifted back, then the inverse of the substitution.
        state = bytes(
            inverse[state[(place - 4 * (place % 4)) % _BLOCK]] ^ keys[number][place] for place in range(_BLOCK)
        )
        if number:
            mixed = bytearray()
            for column in range(0, _BLOCK, 4):
                a, b, c, d = state[column : column + 4]
                mixed.append(by_14[a] ^ by_11[b] ^ by_13[c] ^ by_9[d])
                mixed.append(by_9[a] ^ by_14[b] ^ by_11[c] ^ by_13[d])
                mixed.append(by_13[a] ^ by_9[b] ^ by_14[c] ^ by_11[d])
                mixed.append(by_11[a] ^ by_13[b] ^ by_9[c] ^ by_14[d])
            state = bytes(mixed)
    return state


def _round_keys(key: bytes) -> list[bytes]:
    box, _, _ = _tables()
    words = [key[place : place + 4] for place in range(0, _BLOCK, 4)]
    constant = 1
    for number in range(4, 4 * (_ROUNDS + 1)):
        word = words[-1]
        if number % 4 == 0:
            turned = bytes(box[byte] for byte in word[1:] + word[:1])
            word = bytes((turned[0] ^ constant,)) + turned[1:]
            constant = _times(constant, 2)
        words.append(bytes(a ^ b for a, b in zip(word, words[-4], strict=True)))
    return [b"".join(words[place : place + 4]) for place in range(0, len(words), 4)]


@lru_cache(maxsize=1)
def _tables() -> tuple[bytes, bytes, tuple[bytes, bytes, bytes, bytes]]:
    """The substitution box, its inverse, and the products with 14, 11, 13 and 9 of every byte."""
    box = bytearray(256)
    for byte in range(256):
        inverse = next((other for other in range(256) if _times(byte, other) == 1), 0)
        turned = inverse
        for _ in range(4):
            inverse = (inverse << 1 | inverse >> 7) & 0xFF
            turned ^= inverse
        box[byte] = turned ^ 0x63
    back = bytearray(256)
    for byte, substitute in enumerate(box):
        back[substitute] = byte
    by_14, by_11, by_13, by_9 = (bytes(_times(byte, factor) for byte in range(256)) for factor in (14, 11, 13, 9))
    return bytes(box), bytes(back), (by_14, by_11, by_13, by_9)


def _times(one: int, other: int) -> int:
    """The product in the field of 256 elements that AES counts in."""
    product = 0
    while other:
        if other & 1:
            product ^= one
        one = (one << 1) ^ (0x11B if one & 0x80 else 0)
        other >>= 1
    return product
