"""MkDocs hook: formulas as MathML, which browsers draw by themselves, without scripts or fonts from elsewhere."""

from __future__ import annotations

import html
import re
from typing import Any

from latex2mathml.converter import convert

# What pymdownx.arithmatex makes of $...$ and of math fences.
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
# What browsers would set too wide or too tight.
_MENDED = (
    (r"<mo>(min|max)</mo>", r"<mi>\1</mi>"),
    # tanh z, but tanh(z), and cosh with a power.
    (r"(?<!<msup>)(?<!<msub>)(?<!<munder>)(<mi>[a-z]{2,}</mi>)(?!<mo|</)", r'\1<mspace width="0.167em"/>'),
    (r"(</mi>|</msub>|</msup>|&#x00029;</mo>)(?=<mi>log</mi>)", r'\1<mspace width="0.167em"/>'),
    (r"<msup>(<mi>[^<]*</mi>)<mi>&#x02032;</mi></msup>", r'\1<mo lspace="0" rspace="0">&#x02032;</mo>'),
    (r"<mo>&#x0007C;</mo>", '<mo lspace="0" rspace="0" stretchy="false">&#x0007C;</mo>'),
    # A minus after an opening parenthesis, a comma, or an equality sign.
    (r"((?:&#x00028;|&#x0002C;|&#x0003D;)</mo>)<mo>(&#x02212;|&#x000B1;)", r'\1<mo form="prefix">\2'),
)


def _mathml(match: re.Match[str]) -> str:
    inline = match[2] == "("
    formula = convert(html.unescape(match[3]).strip(), display="inline" if inline else "block")
    for pattern, mend in _MENDED:
        formula = re.sub(pattern, mend, formula)
    return formula if inline else f'<div class="formula">{formula}</div>'


def on_page_content(content: str, **_: Any) -> str:
    return _FORMULA.sub(_mathml, content)
