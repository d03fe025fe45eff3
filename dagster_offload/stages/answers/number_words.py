"""Whether words without a digit can state a number: `zwölf`, `due per cento`, `삼만 원`, `Chapter XIV`, `free of charge`. Pure.

A word of a larger number is recognized, not read: `twelve hundred` states any number. A wrong reading would drop a right
value. Only what is not always meant as a number is compared: nought, one, words such as `due`, East Asian and Roman numerals.
The words were checked against num2words 0.5: 1 to 100 and round numbers, as cardinals and ordinals, in 26 languages.
"""

import re
import unicodedata
from collections.abc import Iterator

from dagster_offload.stages.answers.written_numbers import CHARACTERS, east_asian_numbers

# The words of each language. With `*`, any word that begins so.
_NUMBER_WORDS = {
    "English": """
        two* three* third* four* forty fortieth five* fif* six* seven* eight* nine* nint* ten tens tenth* eleven*
        twelve* twelfth* twent* thirt* hundr* thousand* million* billion* trillion* dozen* half halves quarter*
        second* twice thrice doubl* tripl* both pair couple
    """,
    "German": """
        zwei* zwo* drei* dritt* vier* fünf* fuenf* sech* sieb* acht achte achten achter achtes achtz* achth* achtt*
        achtund* achtj* achtm* achtf* neun* zehn* elf elft* elfh* elfj* elfm* zwölf* zwanzig* hundert* einhundert*
        tausend* eintausend* einund* milliard* halb* hälfte* anderthalb* dutzend* doppel* paar beid*
    """,
    "Dutch": """
        twee* drie* derde* vijf* zes* zeven* negen* tien tiend* twaalf* dertien* dertig* veert* twint* honderd*
        duizend* miljoen* miljard* eenen* helft dubbel* achten* achtste* tachtig* elfd*
    """,
    "French": """
        deux* trois* quatr* cinq* sept septi* huit* neuf* dix* onz* douz* treiz* quatorz* quinz* seiz* vingt* trent*
        quarant* soixant* septant* octant* nonant* cent cents centaine* mille millier* demi* moitié* tiers neuvièm*
        centièm* millièm*
    """,
    "Spanish": """
        dos tres cuatr* cinc* seis* siet* ocho* ochent* octav* nueve noven* novec* diez* diec* doce* trece* catorc*
        quinc* veint* treint* cuarent* sesent* setent* seteci* cien cient* doscient* trescient* quinient* miles
        millon* millón* segund* tercer* tercio* cuart* quint* sext* séptim* décim* medio media mitad doble cuadrag*
        quadrag* sexag* septuag* octog* nonag* centés* centes* ducent* tricent* cuadrigent* quingent* sexcent*
        octigent* noningent* milés* dosm* tresm*
    """,
    "Portuguese": """
        dois duas três sete oito* oitent* nove dez dezen* dezes* dezo* vinte* trinta* quarenta* sessenta* cem cento*
        duzent* quinhent* seiscent* milh* metade meio meia dobro terceir* nono nona oitav* sétim* vigésim* trigésim*
        doze* treze* catorze* quatorze* quinze* dezass* dezan* setecent* quadrag* quinquag* sexag* septuag* octog*
        nonag* centés* ducent* tricent* quadrigent* quingent* octigent* nongent* milés* dúzia*
    """,
    "Italian": """
        duec* duem* seic* seim* tre tred* trec* trem* quattr* sette settec* settemila settant* settimo settima otto*
        ottant* ottav* novant* dieci* undic* dodic* quindic* sedic* diciass* diciott* diciann* venti* ventun*
        ventott* sessant* mila milion* metà mezz* doppi* terz* quarto quinto sesto entrambi entrambe quattord*
        ventes* centes* milles* decimo decima
    """,
    "Swedish": """
        två tva fyr* fem femt* femh* sext* sexh* sju sjut* sjätt* sjund* åtta åtti* åtto* nio nitt* nion* tio tiond*
        elva elft* tolv* tolft* trett* fjort* arton* aderton* tjug* tusen* miljo* tredje* fjärd* fjerd* andra båda
        dussin* förti* tvåhund* trehund* sjuhund* åttahund* niohund* etttus* tvåtus* tretus* ettus*
    """,
    "Danish and Norwegian": """
        seks* syv* otte* elleve* nitten* tyve* tredive* fyrre* tres firs* firet* fireh* titus* tusind* åtte* tjue*
        førti* sytti* enog* ethund* etth* ettus* halv* dobbel* begge toog* treog* fireog* femog* niog* tohund*
        trehund* nihund* totus* tretus* nitus* niende* sjette* ellevt* sytten* atten attende femti* nitti* tretti*
    """,
    "Finnish": """
        kaksi* kahd* kaht* kolm* nelj* viisi* viid* viit* kuusi* kuude* kuut* seitsem* yhdeks* kymmen* yksito*
        yhdento* sata* sada* sato* tuhat* tuhan* tuhen* puoli* puolet toinen toise* tusina*
    """,
    "Polish": """
        dwa dwie dwóch dwom dwoma dwu* dwad* dwan* dwieś* trzy* trzec* trzem* czter* czwart* pięć* pięt* piąt* sześ*
        szóst* siedem* siedm* siódm* osiem* ośm* ósm* dziewię* dziewią* dziesię* dziesią* jedenast* sto stu setn*
        setk* tysiąc* tysięc* miliard* pół połow* drugi drugiego drugiej druga oba obie podw* jedenaś* szesna*
        szesć* pięcio*
    """,
    "Czech, Slovak and Croatian": """
        dva dvě dve dvou dvěma dvan* dvac* dvad* tři tri třem třin* třic* třet* tret* čtyř* čtvr* štyr* štvr* četir*
        pět* päť* pát* šest* sedm* sedem* sedam* osm* osem* osam* devět* devät* devet* deset* desat* desia* desá*
        jedenáct* jedenásť* stovek stě tisíc* tisuć* hiljad* půl* polovin* druhý druhá druhé druhého dvoj* čtrn*
        devaten* padesát* šedesát* devades* dvěst* třist* šesť* deväť* desať* trinás* štrnás* pätnás* tridsa*
        stopät* dvesto* tristo* dvetis* tritis* milió* pádesat* patnác*
    """,
    "Hungarian": """
        két* kett* harm* háro* négy* negy* öt* hatv* hatod* hatsz* hatez* hét* nyolc* kilenc* tíz* tiz* húsz* husz*
        száz* egyszáz* ezer* ezr* egyezer* millió* fél féléves másfél* másod* dupla hetv* hetedik* egymill*
    """,
    "Romanian": """
        doi două doua doilea trei* patr* șase* şase* sase* șai* şai* șapte* şapte* sapte* optul optulea optz*
        optspr* nouă* zece* zeci* unspr* doispr* sut* mii mie jumătate* dublu* ambele optlea paispr* douăzec*
        douazec* mielea
    """,
    "Turkish": """
        iki* üç* dört* dörd* beş* altı* yedi* sekiz* dokuz* onbir* oniki* onbeş* yirmi* otuz* kırk* elli* altmış*
        yetmiş* seksen* doksan* yüz* milyon* milyar* yarı* çeyrek* onuncu* onüç* onalt* onyedi* onsekiz* ondokuz*
        bininci* birmil* ondör*
    """,
    "Indonesian": """
        dua* tiga* empat* lima* enam* tujuh* delapan* lapan* sembilan* sepuluh* sebelas* seratus* seribu* ratus*
        ribu* juta* puluh* belas* setengah* kedua ketiga* keempat* kelima keenam ketujuh kedelapan kesembilan
        kesepuluh keseratus
    """,
    "Vietnamese": """
        bốn sáu bảy tám chín mười mươi trăm nghìn ngàn triệu tỷ nửa
    """,
    "Russian and Ukrainian": """
        две двух двум двумя двое двен* двес* дві двох два* три трёх трех трем тремя трьох трид* трин* трис* трет*
        четыр* чотир* четв* пят* ять* ятн* ятд* ятс* шест* шіст* шост* семь семи семн* семьд* семьс* сім сімн* сімд*
        седьм* сьом* восем* восьм* вісім* девят* десят* одиннад* одинад* сорок* девян* сто ста сотн* тысяч* тисяч*
        миллион* мільйон* миллиард* мільярд* полов* полтор* пол пів оба обе второ* втора* другого семид* сотый сотая
        сотой сотого сотий двухс* двухт* трёхс* трехс* трёхт* трехт* трёхм* семис* яности* яносто* яти* двіст*
        двохс* двохт* трьохс* трьохт* трьохм* сімс*
    """,
    "Greek": """
        δύο δυο τρεις τρία τριών τρίτ* τριάντα* τριακ* τέσσερ* τεσσάρ* τέταρτ* πέντε* πέμπτ* πενήντα* πεντακ* έξι
        έκτ* εξήντα* εξακ* επτά* εφτά* έβδομ* εβδομ* οκτώ* οχτώ* όγδο* ογδόντα* εννέα* εννιά* ένατ* ενενήντα* δέκα*
        δεκα* έντεκα* ένδεκα* δώδεκα* δωδέκατ* είκοσι* εικοστ* σαράντα* εκατ* χίλι* χιλιάδ* δισεκατ* μισό* ήμισυ
        διπλ* δεύτερ*
    """,
    "Korean": """
        둘* 셋* 넷* 다섯* 여섯* 일곱* 여덟* 아홉* 열한* 열두* 열세* 열네* 열다* 열여* 열일* 열아*
        스물* 스무* 서른* 마흔* 쉰* 예순* 일흔* 여든* 아흔* 절반*
    """,
    "Serbian and Slovene": """
        dvanaest* trinaest* četrnaest* petnaest* šesnaest* jedanaest* trideset* četrdeset* pedeset* šezdes* peti
        petog petih dvesta dvesto dvjest* trista tristo četrst* šest* hiljad* tisoč* štiri* četrt* petnajst*
        trinajst* enajst* dvanajst* dvajset* petdeset* petst* tretj* devedes* stotin* stoti enain* dvain* triin*
        petin*
    """,
    "Lithuanian": """
        dvi dviej* dviem* dvidešimt* dvyl* trys trij* treč* trylik* ketur* ketvirt* penk* šeš* septyn* septin*
        aštuon* aštunt* devyn* devint* dešimt* vienuolik* šimt* tūkst* milijon* trims pusę pusant* pusmet* antras
        antra antro antroji tris trisdeš* tristo
    """,
    "Latvian": """
        trīs* triju trijām treš* četr* ceturt* piekt* seš* septi* astoņ* astot* deviņ* devīt* desmit* vienpad* simt*
        tūksto* miljon* pāris* divi divu divas diviem divām divos divdes* divpad* divsimt* divtūk* divarp* pieci
        piecu piecas pieciem piecām piecpad* piecdes* piecsim* sestais sestā otrais otrā otro puse pusi pusgad*
        pusmēn* pusot*
    """,
    "Estonian": """
        kaks kahe* kolm* neli nelja* viis viie* kuus kuue* seitse* üheksa* kümme* kümne* üksteist* sada tuhat*
        tuhande* miljon* teise* poolteis* poolaasta*
    """,
    "Icelandic": """
        tveir tvær tveim* tveggja* tvö* þrír þrjár þrjú* þrem* þrigg* þrja* þrett* þrítu* þriðj* fjór* fjög* fimm*
        fimt* sjö* sjau* sautj* átt* átján* níu* nítj* tíu* ellef* tólf* tutt* tvít* hundr* þúsund* milljón* hálf*
        önnur annar* annað* sextán* sextíu* sexhund* þrját* fjörut*
    """,
    "Bulgarian": """
        две двама двата двете три четири* пети* шест* седем* осем* девет* десет* едина* дванад* тринад* петнад*
        двадес* двайс* тридес* трийс* петдес* сто двест* трист* хиляд* милион* половин* втори втора второ третия
        трети трета трето
    """,
    "Catalan": """
        quatre* cinc cinquè* vuit* onze* dotze* tretze* catorz* quinz* disset* divuit* dinou* quarant* cinquant*
        seixant* setant* norant* doscent* milió* meitat* mitja vint setze segon segona quart quarta sisè setè novè
        desè dotzè setzè dinovè milè
    """,
}
_NOUGHT = """
    zero zeros nulis nulle núll nič nil nought no none not nothing without free waived exempt* null kein* nicht* ohne
    kostenlos* kostenfrei* gratis frei freie freien freies entfäll* zéro aucun* sans gratuit* pas cero ningún* ningun*
    sin nada nenhum* sem não senza nessun* niente nulla non nul geen zonder kosteloos niet noll nolla ingen* inga
    inget utan inte uden uten ikke ilman ilmai* ei żad* bez bezpłat* brak nie žádn* bezplat* zdarma není nula nulla
    nincs* nem ingyen* nélkül* semmi* niciun* fără nu sıfır* yok* ücretsiz* hiç* nol tidak* tanpa không miễn ноль нуль
    нет ни без бесплат* безоплат* немає μηδέν* κανέν* χωρίς δωρεάν δεν
"""
_ONE = """
    a an one ones once single sole each every ein eine einem einen einer eines eins einmal* einfach* je un une unique
    chaque uno una único única cada um uma ciascun* ogni een één en ett et hver yksi yhde* joka jeden jedn* každ* egy*
    unu fiecare bir biri* satu sebuah seorang một mỗi один одна одно одного jedan vienas viens einn ένα ένας μία μια 매
    매월 매년 매달 하나*
"""
_FIRST = """
    first erst* premi* primeir* перв* primer* primo prima eerst* första første ensimm* pierwsz* první* prvého první
    prvog prvi első* ilk primul pertama первое первого перш* πρώτη* πρώτο* 첫*
"""
# Number words of one language that are ordinary words of another one.
_OWN_VALUES = {
    "mig": 0.5, "due": 2, "dues": 2, "to": 2, "hai": 2, "du": 2, "anden": 2, "andet": 2, "andre": 2, "ba": 3, "fire": 4,
    "năm": 5, "pet": 5, "hat": 6, "sei": 6, "sex": 6, "sis": 6, "set": 7, "opt": 8, "ni": 9, "nou": 9, "on": 10, "ti": 10,
    "deu": 10, "열": 10, "once": 11, "sta": 100, "bin": 1000, "mil": 1000,
}  # fmt: skip
# Words that mean one number in every language, also beside digits: `three months from 1 May`.
_SMALL = {
    2: "two zwei deux dos dois duas twee två dwa dwie dva dvě két kettő doi două iki dua kaksi два две дві δύο",
    3: "three drei trois tres três tre drie trzy tři három trei üç tiga kolme три τρεις τρία",
    4: "four vier quatre cuatro quatro quattro fyra cztery čtyři négy patru dört empat neljä четыре чотири τέσσερις",
    5: "five fünf cinq cinco cinque vijf fem pięć pět öt cinci beş lima viisi пять πέντε",
    6: "six sechs seis zes seks sześć šest șase altı enam kuusi шесть шість έξι",
    7: "seven sieben siete sete sette zeven sju syv siedem sedm hét șapte yedi tujuh seitsemän семь сім επτά",
    8: "eight acht huit ocho oito otto åtta otte osiem osm nyolc sekiz delapan kahdeksan восемь вісім οκτώ",
    9: "nine neun neuf nueve nove negen nio dziewięć devět kilenc nouă dokuz sembilan yhdeksän девять εννέα",
    10: "ten zehn dix diez dez dieci tien dziesięć deset tíz zece sepuluh kymmenen десять δέκα",
    12: "twelve zwölf douze doce doze dodici twaalf tolv dwanaście dvanáct tizenkettő doisprezece двенадцать δώδεκα",
    14: "fourteen vierzehn quatorze catorce catorze quattordici veertien fjorton czternaście čtrnáct четырнадцать",
    15: "fifteen fünfzehn quinze quince quindici vijftien femton piętnaście patnáct пятнадцать",
    20: "twenty zwanzig vingt veinte vinte venti twintig tjugo dwadzieścia dvacet húsz двадцать",
    24: "vierundzwanzig veinticuatro ventiquattro vierentwintig tjugofyra",
    30: "thirty dreißig trente treinta trinta trenta dertig trettio trzydzieści třicet harminc тридцать",
    60: "sixty sechzig soixante sesenta sessenta sessanta zestig sextio sześćdziesiąt šedesát hatvan шестьдесят",
    90: "ninety neunzig noventa novanta negentig nittio dziewięćdziesiąt devadesát kilencven девяносто",
}
_SMALL_WORDS = {word.casefold(): number for number, words in _SMALL.items() for word in words.split()}
_FEW = re.compile(r"[二三四五六七八九十](?=[かヶカヵケ個箇个]?月|[年日週回人名件部通枚])")
_OWN_CHARACTERS = CHARACTERS | {"한": 1, "두": 2, "세": 3, "네": 4, "半": 0.5, "반": 0.5}
_NOUGHT_SIGN = re.compile(r"[無无免없]|なし|ない|ゼロ|무료|무상|공짜|(?<!\w)[-‐-―−]\W{0,9}$")  # `Total: —`
_PART_SIGN = re.compile(rf"[{''.join(CHARACTERS)}](?:割|折|分|成|할)")  # 三割 is 30 percent, 三分の一 is a third
# The scripts from Armenian to Georgian, and those of Ethiopia to India: their number words are not listed here.
_OTHER_SCRIPT = re.compile("[\u0530-\u10ff\u1200-\u1cff]")
_WORD = re.compile(r"[^\W\d_]+")
_ROMAN = re.compile(r"\b(?=[IVXLCDM]+\b)M{0,3}(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})(?!\w)")
_ROMAN_DIGITS = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}


class _Words:
    """A list of words and of beginnings of words."""

    def __init__(self, written: str) -> None:
        words = written.casefold().split()
        self._whole = frozenset(word.rstrip("*") for word in words)
        self._starts = frozenset(word[:-1] for word in words if word.endswith("*"))
        self._longest = max(map(len, self._starts))

    def __contains__(self, word: str) -> bool:
        most = min(len(word), self._longest)
        return word in self._whole or any(word[:length] in self._starts for length in range(1, most + 1))


_ANY = _Words(" ".join(_NUMBER_WORDS.values()))
_NOUGHT_WORDS, _ONE_WORDS, _FIRST_WORDS = map(_Words, (_NOUGHT, _ONE + _FIRST, _FIRST))


def words_state(number: float, text: str) -> bool:
    """Whether a text without digits can state this number."""
    words = [word.casefold() for word in _WORD.findall(text)]
    if number == 0:
        return (
            any(word in _NOUGHT_WORDS for word in words)
            or _NOUGHT_SIGN.search(text) is not None
            or number in _own(text)
        )
    return (
        (number == 1 and any(word in _ONE_WORDS for word in words))
        or any(_OWN_VALUES.get(word) == number or word in _ANY for word in words)
        or any(sign.search(text) for sign in (_PART_SIGN, _OTHER_SCRIPT))
        or any(abs(own * factor - number) < 1e-9 for own in _own(text) for factor in (1, 0.1, 0.01))
    )


def words_state_day(of_month: int, text: str) -> bool:
    """Whether a text without digits can state this day of a month. An article is no first day."""
    if of_month > 1:
        return words_state(of_month, text)
    return (
        any(word.casefold() in _FIRST_WORDS for word in _WORD.findall(text)) or _OTHER_SCRIPT.search(text) is not None
    )


def _own(text: str) -> Iterator[float]:
    """The numbers in East Asian and Roman numerals, also where they may be a part of a word."""
    yield from east_asian_numbers(text)
    for character in text:
        value = _OWN_CHARACTERS.get(character, unicodedata.numeric(character, None))  # also ½, ③ and Ⅳ
        if value is not None:
            yield value
    for numeral in _ROMAN.findall(text):
        values = [_ROMAN_DIGITS[digit] for digit in numeral]
        yield sum(-value if value < after else value for value, after in zip(values, [*values[1:], 0], strict=True))


def small_numbers(text: str) -> Iterator[float]:
    """The small numbers that words in a text with digits state: `three months from 1 May`, `三か月`."""
    for word in _WORD.findall(text):
        number = _SMALL_WORDS.get(word.casefold())
        if number is not None:
            yield number
    yield from (CHARACTERS[character] for character in _FEW.findall(text))
