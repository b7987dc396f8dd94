"""Tables in documents that a benchmark writes between marks, so that nobody copies a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

Rows = Sequence[Sequence[str]]


def with_tables(text: str, tables: Mapping[str, Rows]) -> str:
    """A document with tables in place of what stands between `<!-- name -->` and its end.

    Args:
        text: in Markdown, with `<!-- name -->` and `<!-- end of name -->` for every table.
        tables: rows of text by name, heads first.

    Raises:
        ValueError: a mark is missing.
    """
    for name, rows in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        if begin not in text or end not in text:
            raise ValueError(f"no '{begin}' or no '{end}' in the document; put both where it goes")
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}\n{_markdown(rows)}\n{end}{after}"
    return text


def _markdown(rows: Rows) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])
