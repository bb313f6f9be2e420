#!/usr/bin/env python3
"""Writes html_entities.inc beside this file: the WHATWG names as Python's html.entities.html5 has them, and the
upper-case spellings that ftfy accepts besides (ftfy/chardata.py _build_html_entities). Both sorted by bytes.

    python3 src/text/make_html_entities.py
"""
import html
import html.entities
import os


def c_string(text):
    return '"' + "".join(f"\\{b:03o}" for b in text.encode()) + '"'


def rows(table):
    return [f'    {{"{name}", {c_string(value)}}},\n' for name, value in sorted(table.items())]


html5 = html.entities.html5
upper = {}
for name, value in html5.items():
    if name.endswith(";") and name == name.lower():
        other = name.upper()
        if html.unescape("&" + other) == "&" + other:
            upper[other] = value.upper()

path = os.path.join(os.path.dirname(os.path.abspath(__file__)), "html_entities.inc")
with open(path, "w", encoding="ascii") as out:
    out.write("/* Written by make_html_entities.py; not to be edited. */\n// clang-format off\n")
    out.write("static const html_entity html5_entities[] = {\n")
    out.writelines(rows(html5))
    out.write("};\n\n/* Spellings that only ftfy accepts. */\nstatic const html_entity upper_entities[] = {\n")
    out.writelines(rows(upper))
    out.write("};\n// clang-format on\n")
