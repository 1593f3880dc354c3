"""Delimited text: delimiters, quotes, headers and encodings. All of it made here."""

from __future__ import annotations

import bz2
import csv
import gzip
import lzma

import pyarrow as pa

from tests.cases.case import HEADER, PEOPLE, Case, Values, lines, text

H = "id,age,colour,notes"
TITLES = ["Export of 31 January 2026", "", "Ward 7"]
UMLAUTS: dict[str, Values] = {
    "K1": (41.5, "grün", "müde – Preis 5 €"),
    "K2": (7.25, "weiß", "schläft, hustet"),
}
POLISH: dict[str, Values] = {
    "K1": (1.5, "czerwony", "zmęczony, źle śpi"),
    "K2": (2.5, "żółty", "gorączka i kaszel, ból głowy"),
}
RUSSIAN: dict[str, Values] = {
    "K1": (1.5, "красный", "кашель и жар"),
    "K2": (2.5, "жёлтый", "устал и плохо спит"),
}
FINE: dict[str, Values] = {"K1": (1.5, "red", "fine"), "K2": (2.5, "blue", "ok")}
SAID: dict[str, Values] = {"K1": (1.5, "red", 'said "hi", left'), "K2": (2.5, "blue", "C:\\new")}

DELIMITERS = [
    Case("a05", "tabs in a file named .txt", text("\t", end="\r\n"), "t.txt",
         read_as={"format": "delimited", "delimiter": "\t"}),
    Case("a05", "bars in a file without an ending", text("|"), "table", read_as={"delimiter": "|"}),
    Case("a05", "tabs in a file named .csv", text("\t"), read_as={"delimiter": "\t"}),
    Case("a05", "line ends of old Macs", text("\t", end="\r"), "t.tab",
         read_as={"delimiter": "\t"}),
    Case("a05", "blanks as delimiters are none", lines("id age colour notes", "K1 1 red x"),
         refused="table_no_id", words=["'id age colour notes'", "this is one column"]),
    Case("a06", "semicolons, decimal commas, a byte order mark",
         text(";", comma=True, codec="utf-8-sig", end="\r\n"), numbers=",",
         read_as={"delimiter": ";", "encoding_because": "its byte order mark says so"}),
    Case("a06", "a decimal comma in quotes between commas",
         lines(H, 'K1,"1,5",red,fine', 'K2,"2,5",blue,ok'), records=FINE, numbers=","),
    Case("a06", "tabs with decimal commas", text("\t", comma=True), numbers=",",
         read_as={"delimiter": "\t"}),
    Case("a06", "a decimal comma without quotes between commas",
         lines(H, "K1,1,5,red,fine", "K2,2,5,blue,ok"), refused="table_width",
         words=["5 fields under a header of 4", "quote fields"]),
    Case("a13", "sep=; above the header", text(";", above=["sep=;"]),
         read_as={"delimiter": ";", "separator_line": True, "header_line": 2}),
    Case("a13", "sep= and a tab", text("\t", above=["sep=\t"]),
         read_as={"delimiter": "\t", "separator_line": True}),
    Case("a13", "a sign that only sep= tells", text("^", above=["sep=^"]),
         read_as={"delimiter": "^"}),
    Case("a13", "sep= in quotes, in UTF-16", text(";", above=['"sep=;"'], codec="utf-16"),
         read_as={"encoding": "utf-16", "separator_line": True}),
    Case("a13", "a sep= that is wrong", text(",", above=["sep=;"]), read_as={"delimiter": ","}),
]  # fmt: skip

QUOTES = [
    Case("a10", "line breaks and quotes in a field",
         lines(H, 'K1,1.5,red,"one', 'two ""quoted""', 'three"', "K2,2.5,blue,ok", end="\r\n"),
         records={"K1": (1.5, "red", 'one\r\ntwo "quoted"\r\nthree'), "K2": FINE["K2"]}),
    Case("a10", "every field in quotes", text(quoting=csv.QUOTE_ALL)),
    Case("a10", "single quotes around every field",
         lines("'id','age','colour','notes'", "'K1','1.5','red','it''s, well'"),
         records={"K1": (1.5, "red", "it's, well")}, read_as={"quote": "'"}),
    Case("a10", "single quotes around texts",
         lines(H, "'K1',1.5,'red','fine'", "'K2',2.5,'blue','ok'"), records=FINE,
         read_as={"quote": "'"}),
    Case("a10", "apostrophes that are no quotes",
         lines(H, "K1,1.5,red,'tis cold", "K2,2.5,blue,it's 5'"),
         records={"K1": (1.5, "red", "'tis cold"), "K2": (2.5, "blue", "it's 5'")},
         read_as={"quote": None}),
    Case("a10", "backslashes before quotes, as Spark and MySQL write them",
         lines(H, 'K1,1.5,red,"said \\"hi\\", left"', 'K2,2.5,blue,"C:\\new"'), records=SAID,
         read_as={"escape": "\\"}),
    Case("a10", "a backslash before a quote after 3,000 plain rows",
         lines(H, *[f"r{n},1,red,x" for n in range(3000)], 'K1,1.5,red,"said \\"hi\\", left"'),
         records={**{f"r{n}": (1.0, "red", "x") for n in range(3000)}, "K1": SAID["K1"]}),
    Case("a10", "a blank after each delimiter",
         lines("id, age, colour, notes", 'K1, 41.5, red, "fine, x"', "K2, 7.25, blue, y"),
         records={"K1": (41.5, "red", "fine, x"), "K2": (7.25, "blue", "y")},
         read_as={"blanks_around_fields": True}),
    Case("a10", "a blank before quotes in rows alone",
         lines(H, 'K1, 1.5, red, "fine"', 'K2, 2.5, blue, "ok"'), records=FINE,
         read_as={"blanks_around_fields": True}),
    Case("a10", "a table drawn with bars",
         lines("| id | age | colour | notes |", "| K1 | 1.5 | red | fine |",
               "| K2 | 2.5 | blue | ok |"),
         records=FINE, read_as={"delimiter": "|", "columns_without_name": [1, 6]}),
    Case("a10", "an inch sign in a field", lines(H, 'K1,1.5,red,5" pipe', "K2,2.5,blue,ok"),
         records={"K1": (1.5, "red", '5" pipe'), "K2": FINE["K2"]}),
    Case("a10", "a quote that is never closed", lines(H, "K2,2.5,blue,ok", 'K1,1.5,red,"fine'),
         refused="table_quotes", words=["never closed", "line 3"]),
    Case("a10", "each row quoted as a whole", lines(*(f'"{row}"' for row in (H, "K1,1.5,red,x"))),
         refused="table_no_id", words=["do not quote a row as a whole"]),
]  # fmt: skip

HEADERS = [
    Case("a11", "the index of pandas",
         lines("," + H, "0,K1,1.5,red,fine", "1,K2,2.5,blue,ok"), records=FINE,
         read_as={"columns_without_name": [1]}),
    Case("a11", "an index that pandas has named",
         lines("Unnamed: 0," + H, "0,K1,1.5,red,fine", "1,K2,2.5,blue,ok"), records=FINE,
         read_as={"columns_without_name": [1]}),
    Case("a11", "two of them", lines(",Unnamed: 0," + H, "0,0,K1,1.5,red,fine",
         "1,1,K2,2.5,blue,ok"), records=FINE, read_as={"columns_without_name": [1, 2]}),
    Case("a11", "the names of rows as R writes them, without a name above",
         lines('"id","age","colour","notes"', '"1","K1",1.5,"red","fine"'),
         refused="table_width", words=["5 fields under a header of 4", "each column a name"]),
    Case("a12", "two empty columns at the end",
         lines(H + ",,", "K1,1.5,red,fine,,", "K2,2.5,blue,ok,,"), records=FINE,
         read_as={"columns_without_name": [5, 6]}),
    Case("a12", "a delimiter at the end of each row, none in the header",
         lines(H, "K1,1.5,red,fine,", "K2,2.5,blue,ok,"), records=FINE),
    Case("a12", "rows that stop before the columns without a name",
         lines(H + ",,", "K1,1.5,red,fine", "K2,2.5,blue,ok,,"), records=FINE),
    Case("a12", "a row that is wider by empty fields",
         lines(H, "K1,1.5,red,fine,,,", "K2,2.5,blue,ok"), records=FINE),
    Case("a12", "a row that is wider by a value",
         lines(H, "K1,1.5,red,fine,,note", "K2,2.5,blue,ok"), records={"K2": FINE["K2"]},
         rejects={2: "row_width"}, words=["6 fields under a header of 4"]),
    Case("a15", "other case and blanks", text(header=[" ID ", " Age", "Colour", "notes "]),
         read_as={"renamed": {"ID": "id", "Age": "age", "Colour": "colour"}}),
    Case("a15", "signs that nobody sees",
         text(header=["\ufeffid", "\u00a0age", "col\u200bour", "notes\u00a0"])),
    Case("a15", "another Unicode form", text(header=["ｉｄ", "age", "colour", "notes"]),
         read_as={"renamed": {"ｉｄ": "id"}}),
    Case("a15", "a name in another case beside the right one",
         lines("id,ID,age,colour,notes", "K1,9,1.5,red,fine"), records={"K1": FINE["K1"]},
         read_as={"renamed": None}),
    Case("a15", "two that may be one", lines("ID,Id,age,colour,notes", "K1,K1,1,red,x"),
         refused="table_header", words=["may be 'id'", "'ID', 'Id'"]),
    Case("a15", "a name twice", lines("id,age,age,colour,notes", "K1,1,2,red,x"),
         refused="table_header", words=["more than one column is named 'age'"]),
    Case("a15", "a name twice that nobody asks for",
         lines(H + ",x,x", "K1,1.5,red,fine,1,2", "K2,2.5,blue,ok,1,2"), records=FINE,
         read_as={"columns_named_twice": ["x"]}),
    Case("a15", "other names", lines("Nummer,age,colour,notes", "K1,1,red,x"),
         refused="table_no_id", words=["'Nummer'", "no column is named 'id'"]),
    Case("above", "a title", text(above=TITLES), read_as={"header_line": 4}),
    Case("above", "a title as wide as the table",
         text(above=["Ward 7,,,", ",,,"]), read_as={"header_line": 3}),
    Case("above", "comments", text(above=["# made by hand", "#"]), read_as={"header_line": 3}),
    Case("above", "what may be a row", lines("a,b,c,d", H, "K1,1.5,red,fine"),
         refused="table_header", words=["line 2 looks like the header", "line 1"]),
    Case("above", "only a header", lines(H), records={}),
    Case("above", "nothing", b"", refused="file_type", words=["no content"]),
    Case("above", "only blank lines", b"\n\r\n\n", refused="table_header", words=["no header"]),
    Case("above", "a web page", b"<html><table><tr><td>id</td></tr></table></html>", "t.xls",
         refused="file_type", words=["HTML"]),
    Case("a18", "blank rows at the end",
         lines(H, "K1,1.5,red,fine", "K2,2.5,blue,ok", *[",,,"] * 50), records=FINE, blank_rows=50),
    Case("a18", "blank rows of blanks and quotes, between and below",
         lines(H, "K1,1.5,red,fine", " , ,\t,", '"","","",""', "K2,2.5,blue,ok", "", "\t"),
         records=FINE, blank_rows=2),
    Case("a18", "the sign that ends a file in DOS",
         lines(H, "K1,1.5,red,fine", "K2,2.5,blue,ok") + b"\x1a", records=FINE),
    Case("lock", "a small table", lines(H, "K1,1.5,red,fine"), records={"K1": FINE["K1"]}),
]  # fmt: skip

ENCODINGS = [
    Case("a07", "Windows-1252", text(";", codec="cp1252", people=UMLAUTS), records=UMLAUTS,
         read_as={"encoding": "windows-1252"}),
    Case("a07", "Polish in Windows-1250", text(";", codec="cp1250", people=POLISH, comma=True),
         records=POLISH, read_as={"encoding": "windows-1250"}, numbers=","),
    Case("a07", "Russian in Windows-1251", text(";", codec="cp1251", people=RUSSIAN),
         records=RUSSIAN, read_as={"encoding": "windows-1251"}),
    Case("a07", "a mixture", lines(H, "K1,1,grün,x", "K2,1,weiß,x", "K3,1,blau,über")
         + "K4,1,grün,x\n".encode("cp1252"),
         refused="table_encoding", words=["not utf-8", "line 5"]),
    Case("a08", "Excel's Unicode text", text("\t", codec="utf-16", end="\r\n"), "t.txt",
         read_as={"encoding": "utf-16", "delimiter": "\t"}),
    Case("a08", "UTF-16 without a mark", text("\t", codec="utf-16-le", end="\r\n"), "t.txt",
         read_as={"encoding": "utf-16"}),
    Case("a08", "big-endian, without a mark", text("\t", codec="utf-16-be"),
         read_as={"encoding": "utf-16"}),
    Case("a09", "gzip", gzip.compress(text()), "t.csv.gz",
         read_as={"compression": "gzip", "format": "delimited"}),
    Case("a09", "xz", lzma.compress(text()), "t.csv.xz", read_as={"compression": "xz"}),
    Case("a09", "bzip2, under a wrong name", bz2.compress(text()),
         read_as={"compression": "bzip2"}),
    Case("a09", "Zstandard", pa.compress(text(), "zstd", asbytes=True), "t.csv.zst",
         read_as={"compression": "zstd"}),
    Case("a09", "gzip of Windows-1252 with decimal commas",
         gzip.compress(text(";", codec="cp1252", comma=True, people=UMLAUTS)), "t.csv.gz",
         records=UMLAUTS, numbers=",", read_as={"encoding": "windows-1252"}),
    Case("a09", "gzip, cut short", gzip.compress(text() * 50)[:-20], "t.csv.gz",
         refused="table_compressed", words=["cut short"]),
    Case("a09", "gzip around gzip", gzip.compress(gzip.compress(text())), "t.csv.gz",
         refused="table_compressed", words=["compressed twice"]),
]  # fmt: skip

TEXT_CASES = [*DELIMITERS, *QUOTES, *HEADERS, *ENCODINGS]
assert PEOPLE.keys() - HEADER  # IDs are no names of columns
