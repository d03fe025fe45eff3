"""The months that words name, in the languages of Europe, Turkish and Indonesian. Pure."""

import re

# By month. With `*`, any word that begins so. Some words are another month in another language.
_NAMES = (
    """jan january janua* januar* jänner janv* janeiro enero gener gennaio gen ianuar* ian jaanuar* stycz* sty leden ledna lednu
    január* tammik* ocak* oca янв* януар* јануар* січ* ιαν*""",
    """feb febr* fev fevereiro fév* febbr* veebr* luty lutego lut únor* helmik* şub* фев* фебр* лют* φεβ*""",
    """mar march mär märz maerz märts mars marts mart martie maret marzo março març mrt maart maalisk* marzec marca marcu marec
    březen března březnu brez* márc* март* мар берез* μαρτ* μάρτ*""",
    """apr april* avril avr abril abr kwiecień kwietni* kwi duben dubna dubnu ápr* aprí* huhtik* nisan* nis апр* квіт* απρ*""",
    """may mai maj maja maju mei mayo maig maio maijs mag maggio květen května květnu máj* toukok* mayıs* мая май мај мае трав*
    μαΐ* μαι* μάι*""",
    """jun june juni* iuni* junio junho junie juin juny juuni* jūn* giugno giu czerwiec czerwca czerwcu cze červen června červnu
    jún* kesäk* haziran* haz июн* юни јун* черв* ιουν* ιούν*""",
    """jul july juli* iuli* juliol julio julho julie juillet juil juuli* jūl* luglio lug lipiec lipca lipcu lip červenec července
    červenci júl* heinäk* temmuz* tem июл* юли јул* лип* ιουλ* ιούλ*""",
    """aug august* augus* agosto agost ago agustus août aout sierp* sie srpen srpna srpnu elok* ağustos* ağu авг* серп* αυγ*
    αύγ*""",
    """sep sept septe* septi* szept* sett* set setem* wrzesień wrześni* wrz září zář* syysk* eylül* eyl сен* септем*
    верес* σεπ*""",
    """oct octo* octu* okt okto* októ* ott ottobre out outubro październik* paź říjen října říjnu lokak* ekim* eki окт* жовт* οκτ*
    listopad listopada""",
    """nov novem* novie* noiem* marrask* listopad listopada listopadu lis kasım* kas нояб* листоп* ноем* новем* νοε* νοέ*""",
    """dec decem* dez dezem* des desem* déc* dic dicembre diciembre grudz* grudnia gru prosin* jouluk* aralık* ara дек* груд*
    δεκεμ* δεκέμ* децем*""",
)
_WORD = re.compile(r"[^\W\d_]{3,}")
_ROMAN = {"ii": 2, "iii": 3, "iv": 4, "vi": 6, "vii": 7, "viii": 8, "ix": 9, "xi": 11, "xii": 12}
_ROMAN_WORD = re.compile(r"\b[IVX]{2,4}\b")


def _by_word(*, is_start: bool) -> dict[str, frozenset[int]]:
    found: dict[str, set[int]] = {}
    for month, names in enumerate(_NAMES, 1):
        for name in names.casefold().split():
            if name.endswith("*") == is_start:
                found.setdefault(name.rstrip("*"), set()).add(month)
    return {name: frozenset(months) for name, months in found.items()}


_WHOLE, _STARTS = _by_word(is_start=False), _by_word(is_start=True)
_LENGTHS = range(min(map(len, _STARTS)), max(map(len, _STARTS)) + 1)


def months_of(word: str) -> frozenset[int]:
    """The months that a word can mean. Empty if it is none of these languages' names."""
    word = word.casefold()
    found = _WHOLE.get(word)
    if found is None:
        found = next((months for length in _LENGTHS if (months := _STARTS.get(word[:length]))), frozenset())
    return found


def months_in(text: str) -> set[int]:
    """The months that the words of a text name, also as 4.III.2025."""
    found = {month for word in _WORD.findall(text) for month in months_of(word)}
    return found | {_ROMAN[numeral.casefold()] for numeral in _ROMAN_WORD.findall(text) if numeral.casefold() in _ROMAN}
