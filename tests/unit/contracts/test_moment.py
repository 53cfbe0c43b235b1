"""Points in time in files."""

import pytest
from pydantic import TypeAdapter, ValidationError

from ddim_core.contracts.moment import Moment


@pytest.mark.parametrize("text", ["2026-01-31T12:00:00+00:00", "2026-01-31T12:00:00Z"])
def test_a_moment_is_kept_as_it_was_written(text: str) -> None:
    """What is read and written again must not change."""
    assert TypeAdapter(Moment).validate_python(text) == text


def test_a_damaged_moment_is_refused_where_the_file_is_read() -> None:
    """Who computes with it later would not know the file to blame."""
    with pytest.raises(ValidationError, match="Invalid isoformat string"):
        TypeAdapter(Moment).validate_python("2026-01-31T12:0x:00")
