"""Decrypt HWP documents made for distribution (배포용 문서). The key is in the file itself.

Everyone may read such a document. The encryption only asks programs not to edit, copy or print it. Specifications:
Hancom's '한글 문서 파일 형식 5.0' (4.2, 배포용 문서) and FIPS 197 (AES).
"""

import struct
from functools import lru_cache

_KEY_DATA = 28  # the first record's tag
_KEY_BYTES = 256
_BLOCK = 16
_ROUNDS = 10


def unscramble(stream: bytes) -> bytes:
    """Decrypt a section's stream of `ViewText` to the form that `BodyText` has in other documents.

    Raises `ValueError` if the stream holds no key.
    """
    (header,) = struct.unpack_from("<I", stream)
    if header & 0x3FF != _KEY_DATA or header >> 20 != _KEY_BYTES:
        raise ValueError("no key data")
    key_data = _without_noise(stream[4 : 4 + _KEY_BYTES])
    offset = 4 + (key_data[0] & 0x0F)
    return aes_128_ecb_decrypted(stream[4 + _KEY_BYTES :], key_data[offset : offset + _BLOCK])


def _without_noise(data: bytes) -> bytes:
    """Remove the pseudorandom bytes that are mixed into the key data. Microsoft's C library generates them from the seed
    at its start."""
    (state,) = struct.unpack_from("<I", data)
    out, noise, left = bytearray(data), 0, 0
    for offset in range(_KEY_BYTES):
        if left == 0:
            state = (state * 214013 + 2531011) & 0xFFFFFFFF
            noise = state >> 16 & 0xFF
            state = (state * 214013 + 2531011) & 0xFFFFFFFF
            left = (state >> 16 & 0x0F) + 1
        if offset >= 4:
            out[offset] ^= noise
        left -= 1
    return bytes(out)


def aes_128_ecb_decrypted(data: bytes, key: bytes) -> bytes:
    """Decrypt whole blocks of 16 bytes, each by itself. Drops an incomplete last block. The key has 16 bytes."""
    keys = _round_keys(key)
    return b"".join(_block(data[offset : offset + _BLOCK], keys) for offset in range(0, len(data) - _BLOCK + 1, _BLOCK))


def _block(block: bytes, keys: list[bytes]) -> bytes:
    _, inverse, products = _tables()
    by_14, by_11, by_13, by_9 = products
    state = bytes(a ^ b for a, b in zip(block, keys[_ROUNDS], strict=True))
    for number in range(_ROUNDS - 1, -1, -1):
        # Inverse of the row shift, then of the substitution.
        state = bytes(
            inverse[state[(offset - 4 * (offset % 4)) % _BLOCK]] ^ keys[number][offset] for offset in range(_BLOCK)
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
    words = [key[offset : offset + 4] for offset in range(0, _BLOCK, 4)]
    constant = 1
    for number in range(4, 4 * (_ROUNDS + 1)):
        word = words[-1]
        if number % 4 == 0:
            turned = bytes(box[byte] for byte in word[1:] + word[:1])
            word = bytes((turned[0] ^ constant,)) + turned[1:]
            constant = _times(constant, 2)
        words.append(bytes(a ^ b for a, b in zip(word, words[-4], strict=True)))
    return [b"".join(words[offset : offset + 4]) for offset in range(0, len(words), 4)]


@lru_cache(maxsize=1)
def _tables() -> tuple[bytes, bytes, tuple[bytes, bytes, bytes, bytes]]:
    """Return the substitution box, its inverse, and the products of every byte with 14, 11, 13 and 9."""
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
    """Multiply in the finite field of 256 elements that AES uses."""
    product = 0
    while other:
        if other & 1:
            product ^= one
        one = (one << 1) ^ (0x11B if one & 0x80 else 0)
        other >>= 1
    return product
