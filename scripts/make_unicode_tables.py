#!/usr/bin/env python3
"""Writes src/data/unicode_nfc_table.cpp from Python's unicodedata: scripts/make_unicode_tables.py > FILE

Canonical decompositions (one level, Hangul left to arithmetic) and combining classes, as text in hexadecimal:
  decompositions  "c0 41 300;"  code point, first, second (absent for singletons), "!" after pairs that never recombine
  classes         "300 314 e6;" first, last, class
"""
import sys
import unicodedata

LIMIT = 0x110000


def decompositions():
    for c in range(LIMIT):
        if 0xAC00 <= c < 0xD7A4 or 0xD800 <= c < 0xE000:
            continue
        d = unicodedata.decomposition(chr(c))
        if not d or d.startswith("<"):
            continue
        parts = [int(p, 16) for p in d.split()]
        recombines = unicodedata.normalize("NFC", chr(c)) == chr(c)
        yield f"{c:x} " + " ".join(f"{p:x}" for p in parts) + ("" if recombines else "!")


def classes():
    first = None
    for c in range(LIMIT + 1):
        now = unicodedata.combining(chr(c)) if c < LIMIT else 0
        if first is not None and now != kind:
            yield f"{first:x} {c - 1:x} {kind:x}"
            first = None
        if first is None and now:
            first, kind = c, now


def literal(entries):
    lines, line = [], ""
    for e in entries:
        if len(line) + len(e) + 1 > 92:
            lines.append(line)
            line = ""
        line += e + ";"
    lines.append(line)
    return "\n".join(f'    "{x}"' for x in lines)


print(f"""// Written by scripts/make_unicode_tables.py from Unicode {unicodedata.unidata_version}: do not edit.
// The format stands there; unicode_nfc.cpp reads it once, at first use.
#include "data/unicode_nfc.h"

namespace ft {{

// clang-format off
const char* const kCanonicalDecompositions =
{literal(decompositions())};

const char* const kCombiningClasses =
{literal(classes())};
// clang-format on

}}  // namespace ft""")
