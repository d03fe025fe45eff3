"""Token counts of a text: a high estimate, the lowest possible count, and how much text fits a context. Pure."""

import re

# The context used if neither a setting nor the server gives a size, and the limit for reported sizes: many servers report
# what the model could read (262,144), and a laptop that reads 300 tokens a second would exceed any read timeout.
DEFAULT_CONTEXT_TOKENS = 32_768

# The tokens reserved for rules, instruction and answer.
RESERVED_TOKENS = 2_000

# A smaller part contains too little text for a request.
LEAST_TEXT_TOKENS = 256

# The estimate counts thirds of a token by kind of character: 3 for digits, 2 for these signs, 1 for all other ASCII.
_DIGITS = b"0123456789"
_CAPITALS_AND_SIGNS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_HEAVY_ASCII = _DIGITS + _CAPITALS_AND_SIGNS
MOST_THIRDS_A_CHARACTER = 9


def text_tokens(context_tokens: int) -> int:
    """How many tokens of a document fit one request to a model with this context size."""
    return max(context_tokens - RESERVED_TOKENS, context_tokens // 4, LEAST_TEXT_TOKENS)


def estimated_tokens(text: str) -> int:
    """A high estimate of the tokens of `text`, in time linear in its length.

    Characters per token, measured with Qwen's vocabulary: English prose 3.8, Russian 3.4, Arabic 2.5, Thai and Japanese
    1.6, Korean and Chinese 1.5, Hindi 1.1, rows of numbers 1.0 (each digit is a token), base64 1.4, emoji 0.7. Ratio of
    this estimate to the true count: prose 1.3-1.6, Cyrillic 3, Korean 1.05, tables of numbers and base64 0.8-1.0.
    """
    return thirds_of_tokens(text) // 3 + 1


def thirds_of_tokens(text: str) -> int:
    """The estimate in thirds of a token, before rounding. The sum over pieces equals that of the whole text."""
    ascii_part = text.encode("ascii", "ignore")
    light = len(ascii_part.translate(None, _HEAVY_ASCII))
    digits = len(ascii_part) - len(ascii_part.translate(None, _DIGITS))
    medium = len(ascii_part) - light - digits
    others = len(text) - len(ascii_part)
    # Characters beyond U+FFFF are emoji and rare ideographs: up to three tokens each.
    beyond = len(text.encode("utf-16-le", "surrogatepass")) // 2 - len(text) if others else 0
    return light + 2 * medium + 3 * digits + 3 * others + 6 * beyond


# The longest text that can be one token, by script: a word (Latin, Greek, Cyrillic; Hebrew, Arabic), part of a word in
# scripts with marks on letters (Indic, Thai) or without blanks between words (Chinese, Japanese, Korean), a few digits.
# Signs and blanks count nothing: a vocabulary may have one token for a whole line of them.
_AT_MOST_ONE_TOKEN = re.compile(
    r"[A-Za-z\u00c0-\u024f\u0300-\u052f]{1,16}|[\u0590-\u06ff]{1,12}|[\u0900-\u109f]{1,6}"
    r"|[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3]{1,2}|[0-9]{1,3}"
)


def least_tokens(text: str) -> int:
    """The fewest tokens that `text` can have in any vocabulary in use, in time linear in its length.

    A server that counts fewer did not read all of it.
    """
    return sum(1 for _ in _AT_MOST_ONE_TOKEN.finditer(text))


_LETTERS = bytes(code for code in range(128) if chr(code).isalpha())
_ONLY_LETTERS = bytes(code if code in _LETTERS else 32 for code in range(256))


def least_tokens_at_most(text: str) -> int:
    """An upper bound of `least_tokens` in a tenth of its time. It is close for text in ASCII letters."""
    written = text.encode("ascii", "replace")
    words = len(written.translate(_ONLY_LETTERS).split())
    letters, digits = (len(written) - len(written.translate(None, kind)) for kind in (_LETTERS, _DIGITS))
    others = 0 if text.isascii() else len(text) - len(text.encode("ascii", "ignore"))
    return words + letters // 16 + digits + others
