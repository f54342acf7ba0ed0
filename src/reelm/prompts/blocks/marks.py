"""Texts of strangers, made unable to pass for marks of a chat template or a processor."""

import unicodedata

MARKS = str.maketrans({"<": "‹", ">": "›", "[": "(", "]": ")", "{": "(", "}": ")"})
"""`<title>`, `<image>`, `<|im_end|>`, `[INST]`, `{{`: whatever ends a block or opens a turn."""
CUT = " …"


def unmarked(text: str, longest: int | None = None) -> str:
    """A text on one line, without signs that marks are made of, at most `longest` characters.

    Compatibility forms are composed first (NFKC), since tokenizers do that too and would make
    marks of their wide forms; control and format characters become blanks.
    """
    if longest is not None:
        text = text[: 4 * longest]
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    if not text.isprintable():
        text = "".join(c if unicodedata.category(c)[0] != "C" else " " for c in text)
    line = " ".join(text.translate(MARKS).split())
    if longest is None or len(line) <= longest:
        return line
    return (line[: max(0, longest - len(CUT))] + CUT)[:longest]
