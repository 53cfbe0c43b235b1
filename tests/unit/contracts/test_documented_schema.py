"""The table of columns in the documentation is the schema that parts are written in."""

from __future__ import annotations

import re
from pathlib import Path

from ddim_core.contracts.record import RECORD_SCHEMA

STORAGE = Path(__file__).parents[3] / "docs" / "storage.md"


def test_the_documentation_lists_every_column_with_its_type_and_whether_it_may_be_missing() -> None:
    """In the order of the file."""
    rows = re.search(r"## Rows\n.*?\n\n\| column .*?\n\|---.*?\n(.*?)\n\n", STORAGE.read_text(), re.S)
    assert rows is not None
    listed = [[cell.strip() for cell in line.split("|")[1:4]] for line in rows[1].splitlines()]
    assert listed == [[f"`{field.name}`", str(field.type), "yes" if field.nullable else ""] for field in RECORD_SCHEMA]
