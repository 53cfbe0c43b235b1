"""The tokens of prompts in windows: all of them, in their order, as the tokenizer would write each window alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ddim_core.checkpoints import resolve
from ddim_core.contracts.sample import BatchShape, SampleSpec, Size
from ddim_core.errors import PromptTooLongError, code_of
from ddim_core.sampling.windows import TokenWindows
from ddim_core.schedule import ScheduleConfig

BOS, EOS, PAD = 901, 902, 900
LENGTH = 7
ROOM = LENGTH - 2
SPEC = SampleSpec("a", "", 7, 0, 10, 4.0, 0.0, 0.0, 64, 64, ScheduleConfig())

# One token a character, so that counts are plain.
WINDOWS = TokenWindows(lambda text: [ord(letter) for letter in text], BOS, EOS, PAD, LENGTH)

quick = settings(derandomize=True, deadline=None, max_examples=60)


@quick
@given(text=st.text("abc", max_size=4 * ROOM), count=st.integers(1, 5))
def test_windows_hold_every_token_once_and_in_order(text: str, count: int) -> None:
    """Up to their room; what is left over are the windows of the empty text."""
    windows = WINDOWS.of(text, count)
    held = [token for window in windows for token in window if token not in (BOS, EOS, PAD)]
    assert held == [ord(letter) for letter in text][: count * ROOM]
    assert [len(window) for window in windows] == [LENGTH] * count
    needed = max(1, -(-len(text) // ROOM))
    assert windows[needed:] == WINDOWS.of("", max(0, count - needed))
    for window in windows:
        end = window.index(EOS)
        assert window[0] == BOS and set(window[end + 1 :]) <= {PAD}


@quick
@given(text=st.text("ab", max_size=3 * ROOM), count=st.integers(1, 3), other=st.text("ab", max_size=2))
def test_a_window_does_not_depend_on_how_many_there_are_nor_on_what_follows(text: str, count: int, other: str) -> None:
    """So that the memory of encoded windows serves all texts that begin alike."""
    assert WINDOWS.of(text, count) == WINDOWS.of(text, count + 1)[:count]
    assert WINDOWS.of(text + other, count)[: len(text) // ROOM] == WINDOWS.of(text, count)[: len(text) // ROOM]


@quick
@given(text=st.text(max_size=80))
def test_one_window_is_what_the_tokenizer_makes_of_a_text(tokenizer: Any, text: str) -> None:
    """Cut and padded by itself, as images were made before there were windows; CJK, accents and emoji included."""
    length = tokenizer.model_max_length
    windows = TokenWindows(
        lambda given: tokenizer(given, add_special_tokens=False).input_ids,
        tokenizer.bos_token_id,
        tokenizer.eos_token_id,
        tokenizer.pad_token_id,
        length,
    )
    expected = tokenizer(text, padding="max_length", max_length=length, truncation=True).input_ids
    assert windows.of(text, 1) == [tuple(expected)]
    assert windows.of(text, 3)[:1] == [tuple(expected)]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """Give the packaged checkpoint's tokenizer, with a padding of its own, as those of Stable Diffusion 2 and XL."""
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(resolve("shapes") / "tokenizer", local_files_only=True)
    tokenizer.pad_token = "!"
    return tokenizer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt": "a" * 6, "long_prompts": "refuse"}, "prompt must have at most 7 tokens, got 8"),
        ({"negative_prompt": "a" * 9, "long_prompts": "refuse"}, "negative_prompt must have at most 7 tokens, got 11"),
        ({"prompt": "a" * 6, "long_prompts": "chunk"}, "windows must be at least 2 for the prompt, got 1"),
        (
            {"prompt": "a" * 11, "long_prompts": "chunk", "windows": 2},
            "windows must be at least 3 for the prompt, got 2",
        ),
    ],
)
def test_a_text_that_its_windows_do_not_hold_is_refused(changes: dict[str, Any], message: str) -> None:
    """With its own word for programs; nothing of it is made in silence."""
    with pytest.raises(PromptTooLongError, match=rf"^{message}$") as refused:
        WINDOWS.check(replace(SPEC, **changes))
    assert code_of(refused.value) == "prompt_too_long"


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": "a" * 100, "negative_prompt": "a" * 100, "long_prompts": "cut"},
        {"prompt": "a" * 5, "negative_prompt": "a" * 5, "long_prompts": "refuse"},
        {"prompt": "a" * 15, "negative_prompt": "a" * 4, "long_prompts": "chunk", "windows": 3},
        {"prompt": "a", "negative_prompt": "a" * 10, "long_prompts": "chunk", "windows": 2},
    ],
)
def test_a_text_that_fits_or_may_be_cut_is_taken(changes: dict[str, Any]) -> None:
    """To the last token that there is room for."""
    WINDOWS.check(replace(SPEC, **changes))


def test_samples_share_a_batch_with_those_of_as_many_windows() -> None:
    """The text of what they share names windows where they are more than one, so that older names stay."""
    chunked = replace(SPEC, long_prompts="chunk", windows=2)
    assert chunked.batch_shape == BatchShape(Size(64, 64), 2) != SPEC.batch_shape
    assert [str(spec.batch_shape) for spec in (SPEC, chunked)] == ["64x64", "64x64/2w"]
