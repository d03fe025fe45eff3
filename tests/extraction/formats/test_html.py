"""HTML pages: blocks, lists, tables, forms, and what a browser does not show."""

import pytest

from dagster_offload.extraction.formats.html import html_text, html_text_and_title


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>one  two\n three<p>four", "one two three\n\nfour"),
        ("<div>Dear Sir</div><div>the boiler</div>", "Dear Sir\nthe boiler"),
        ("a<br>b <b>c</b><i>d</i>", "a\nb cd"),
        ("<h2>Rent\n of <i>May</i></h2>text", "## Rent of May\n\ntext"),
        ("<ul><li>a<ul><li>b</ul><li>c</ul>end", "- a\n  - b\n- c\n\nend"),
        ("<ol start=3><li>a<li>b</ol>", "3. a\n4. b"),
        ("<pre>a  b\n  c</pre>", "a  b\n  c"),
        ("<dl><dt>Rent<dd>700</dl>", "Rent\n700"),
        ("&lt;b&gt; &amp; &euro;&nbsp;5", "<b> & €\xa05"),
        ('see <a href="https://x.example/?id=4711">the offer</a>', "see the offer"),
        ('<img src="cid:1" alt="Organigramm">', "Organigramm"),
    ],
)
def test_a_page_is_read_block_by_block(page: str, text: str) -> None:
    assert html_text(page) == text


def test_a_table_keeps_its_cells_apart() -> None:
    page = "<table><thead><tr><th>Month<th>Sum</thead><tr><td>May<td><p>12</p><p>paid</p></table>after"
    assert html_text(page) == "| Month | Sum |\n| --- | --- |\n| May | 12 paid |\n\nafter"


def test_tables_that_arrange_a_page_are_not_tables_in_its_text() -> None:
    inner = "<table><tr><td>Rent<td>700</table>"
    page = f"<table><tr><td><h1>News</h1><td>{inner}</table><table><tr><td>one<tr><td>two</table>"
    assert html_text(page) == "# News\n\n| Rent | 700 |\n| --- | --- |\n\none\n\ntwo"


def test_what_a_browser_does_not_show_is_left_out() -> None:
    page = (
        "<head><title>Mein &amp; Dein</title><style>p{}</style></head><body><script>var x</script><p hidden>a"
        '<p style="color:red; DISPLAY : none">b<svg><title>c</title><text>d</text></svg><noscript>e</noscript>'
        "<template>f</template><!-- g --><dialog>h</dialog><p style='visibility:hidden'>i</p><p>shown<dialog open>too</dialog>"
    )
    assert html_text_and_title(page) == ("shown\n\ntoo", "Mein & Dein")


@pytest.mark.parametrize(
    "page",
    [
        '<body style="visibility: hidden"><p>a',
        '<p style="visibility: hidden; animation-name: none">a',
        "<p style='color:red'>a",
    ],
)
def test_what_becomes_visible_while_a_person_reads_is_kept(page: str) -> None:
    assert html_text(page) == "a"


def test_a_long_style_is_searched_in_bounded_time() -> None:
    assert html_text(f'<p style="font:{"1" * 200_000}">a') == "a"


def test_a_small_page_that_asks_for_a_huge_table_keeps_its_words() -> None:
    page = f"<table><tr>{'<td>a' * 20_000}{'<tr><td>b<td>c' * 20_000}</table>"
    assert html_text(page).endswith("| b | c |")


def test_form_values_are_read() -> None:
    page = (
        '<form><label>Name <input value="Yuna"></label><input type=hidden value=h><input type=password value=p>'
        "<input type=checkbox checked> paid <input type=radio> later <select><option>red<option selected>blue</select>"
        "<textarea>two\nlines</textarea><button>Send</button></form>"
    )
    assert html_text(page) == "Name Yuna[x] paid [ ] later bluetwo\nlines\n\nSend"


@pytest.mark.parametrize(
    ("how", "shown"), [("", "red"), ("size=1", "red"), ("multiple", ""), ("size=4", ""), ("multiple=x size=1", "")]
)
def test_a_list_in_which_nothing_is_chosen_has_no_value(how: str, shown: str) -> None:
    assert html_text(f"<select {how}><option>red<option>blue</select>") == shown
    assert html_text(f"<select {how}><option>red<option selected>blue</select>") == "blue"


@pytest.mark.parametrize("opening", ["<title>", "<svg>", "<a ", "<p>", "<td>", "<!--", "<script>", "</p>"])
def test_many_unclosed_tags_end_without_text(opening: str) -> None:
    assert html_text(opening * 50_000) == ""


def test_a_list_whose_first_number_is_absurd_is_read() -> None:
    assert html_text(f"<ol start={'1' * 5_000}><li>first<li>second</ol>") == "1. first\n2. second"


def test_deeply_nested_lists_and_tables_are_read() -> None:
    assert html_text("<ul><li>x" * 500).count("x") == 500
    assert html_text("<table><tr><td>y" * 500).count("y") == 500


def test_an_xhtml_element_with_a_name_without_end_is_read_in_linear_time() -> None:
    # With backtracking into the name, this takes hours, and the timeout of the tests ends it.
    page = (
        f'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><body>Rent<{"a" * 1_000_000}></body></html>'
    )
    assert html_text(page) == "Rent"


def test_an_endless_style_is_read_in_linear_time() -> None:
    # With a search to the end at each of its declarations, this takes hours, and the timeout of the tests ends it.
    assert html_text(f"<p style='{'text-decoration:' * 200_000}'>Rent</p>") == "Rent"


def test_elements_that_xhtml_closes_at_once_do_not_swallow_the_page() -> None:
    page = (
        '<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"><head><title/><script src="a.js"/></head>'
        '<body><p><a id="top"/>one<br/>two</p><table><tr><td/><td>x</td></tr></table></body></html>'
    )
    assert html_text(page) == "one\ntwo\n\n|  | x |\n| --- | --- |"
    assert html_text("<p>a<b/>c</p>") == "ac"


def test_cells_over_several_columns_or_rows_keep_the_others_in_their_columns() -> None:
    page = (
        "<table><tr><th rowspan=2>Place<th colspan=2>2024<th>2025</tr><tr><td>May<td>June<td>May</tr>"
        "<tr><td>Pier<td>1<td>2<td>3</tr></table>"
    )
    assert html_text(page) == (
        "| Place | 2024 |  | 2025 |\n| --- | --- | --- | --- |\n|  | May | June | May |\n| Pier | 1 | 2 | 3 |"
    )


def test_columns_in_which_no_cell_begins_are_left_out() -> None:
    row = "<tr><td colspan=3>a<td>b</tr>"
    assert html_text(f"<table>{row}{row}</table>") == "| a | b |\n| --- | --- |\n| a | b |"
    assert html_text("<table><tr><td colspan=12>a</tr><tr><td colspan=12>b</tr></table>") == "a\n\nb"


@pytest.mark.parametrize("span", ["0", "-1", "x", "", "99999999999999999999"])
def test_a_span_that_is_no_number_of_columns_counts_as_one(span: str) -> None:
    page = f"<table><tr><td colspan='{span}' rowspan='{span}'>a<td>b</tr><tr><td>c<td>d</tr></table>"
    assert html_text(page) == "| a | b |\n| --- | --- |\n| c | d |"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<ol type=a start=3><li>c<li>d</ol>", "c. c\nd. d"),
        ("<ol type=I><li>a<li>b</ol>", "I. a\nII. b"),
        ("<ol style='list-style-type: lower-roman'><li>a<li>b</ol>", "i. a\nii. b"),
        ("<ol><li>a<li value=7>b<li>c</ol>", "1. a\n7. b\n8. c"),
        ("<ol reversed><li>a<li>b<li>c</ol>", "3. a\n2. b\n1. c"),
        ("<ol start=0><li>a<li>b</ol>", "0. a\n1. b"),
        ("<ol type=x start=x><li value=>a</ol>", "1. a"),
    ],
)
def test_the_items_of_a_list_have_the_numbers_that_a_browser_shows(page: str, text: str) -> None:
    assert html_text(page) == text


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ('<font face="Wingdings">&uuml;</font> done', "✓ done"),
        ('<span style="font-family:Wingdings;mso-ascii-font-family:Calibri">à</span> there', "→ there"),
        ("<span style='color:red;font-family:\"Wingdings\"'>J</span>", "☺"),
        ("<b style='font-family:Symbol'>&middot;<i style='font:7.0pt \"Times New Roman\"'>n </i></b>rent", "•n rent"),
        ("<span style='font-family:Symbol'>D&nbsp;<span style='font-family:Arial'>T</span>x</span> x", "Δ\xa0Tξ x"),
        ("<span style='font-family:Symbol'>Ω</span>", "Ω"),
        ("<span style='font-family:Arial, Symbol'>abc</span>", "abc"),
        ("<p title='font-family:Symbol'>abc", "abc"),
    ],
)  # fmt: skip
def test_letters_in_a_font_of_symbols_are_read_as_the_symbols(page: str, text: str) -> None:
    assert html_text(page) == text
