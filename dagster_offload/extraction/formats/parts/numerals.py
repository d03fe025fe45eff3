"""The numbers of list items as documents show them: i, B), 가., ①, 三."""

_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_SERIES = {
    "lower letter": _LETTERS,
    "upper letter": _LETTERS.upper(),
    "syllable": "가나다라마바사아자차카타파하",
    "jamo": "ㄱㄴㄷㄹㅁㅂㅅㅇㅈㅊㅋㅌㅍㅎ",
    "circled": "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳",
    "circled lower letter": "ⓐⓑⓒⓓⓔⓕⓖⓗⓘⓙⓚⓛⓜⓝⓞⓟⓠⓡⓢⓣⓤⓥⓦⓧⓨⓩ",
    "circled upper letter": "ⒶⒷⒸⒹⒺⒻⒼⒽⒾⒿⓀⓁⓂⓃⓄⓅⓆⓇⓈⓉⓊⓋⓌⓍⓎⓏ",
    "circled syllable": "㉮㉯㉰㉱㉲㉳㉴㉵㉶㉷㉸㉹㉺㉻",
    "circled jamo": "㉠㉡㉢㉣㉤㉥㉦㉧㉨㉩㉪㉫㉬㉭",
}
# Word continues with these after their last letter: aa, bb. Other series fall back to digits.
_REPEATED = frozenset({"lower letter", "upper letter"})
_MAX_REPEATS = 10
_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l")),
    *((40, "xl"), (10, "x"), (9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_MAX_ROMAN = 3999
_TENS = {"korean": ("일이삼사오육칠팔구", "십"), "ideograph": ("一二三四五六七八九", "十")}


def numeral(number: int, style: str) -> str:
    """Return `number` in a style, in digits if the style is unknown or does not reach that far."""
    series = _SERIES.get(style)
    if series is not None and 0 < number <= len(series):
        return series[number - 1]
    if series is not None and style in _REPEATED and 0 < number <= _MAX_REPEATS * len(series):
        return series[(number - 1) % len(series)] * (1 + (number - 1) // len(series))
    if style in ("lower roman", "upper roman") and 0 < number <= _MAX_ROMAN:
        roman = _roman(number)
        return roman.upper() if style == "upper roman" else roman
    if style in _TENS and 0 < number < 100:
        digits, ten = _TENS[style]
        tens, ones = divmod(number, 10)
        return (digits[tens - 1] if tens > 1 else "") + (ten if tens else "") + (digits[ones - 1] if ones else "")
    return f"{number:02}" if style == "two digits" else str(number)


def _roman(number: int) -> str:
    parts = []
    for value, letters in _ROMAN:
        count, number = divmod(number, value)
        parts.append(letters * count)
    return "".join(parts)
