"""Prompts of several windows against mindone's text encoders, called by hand with one window after the other."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ddim_core.checkpoints import CheckpointInfo, describe, resolve
from ddim_core.contracts.sample import SampleSpec
from tests.reference.by_hand import Array, encode_windows
from tests.tiny_checkpoints import write_sdxl

pytestmark = [pytest.mark.mindspore, pytest.mark.slow, pytest.mark.usefixtures("cpu")]

LONG = (
    "a large red circle on a white background and a small blue star at the top of a grey background and a pink ring "
    "and a large green square and a small circle"
)
NEGATIVE = "a small yellow star"
WINDOWS = 3
# The reference encodes one window at a time, we eight: the matrices are of other shapes, and so is the order of sums.
TOLERANCE = 2e-6


@dataclass(frozen=True)
class Texts:
    """A checkpoint that takes prompts: our model of it, and its tokenizers and text encoders as mindone loads them."""

    info: CheckpointInfo
    model: Any
    encoders: list[tuple[Any, Any]]

    @property
    def xl(self) -> bool:
        """Whether there are two of them, and pooled texts."""
        return len(self.encoders) == 2

    def spec(self, prompt: str, negative_prompt: str = NEGATIVE, *, windows: int = WINDOWS) -> SampleSpec:
        """Return a sample in so many windows."""
        size = self.info.default_height, self.info.default_width
        spec = SampleSpec(prompt, negative_prompt, 0, 0, 4, 4.0, 0.0, 0.0, *size, self.info.schedule)
        return replace(spec, long_prompts="chunk", windows=windows)

    def conditions(self, *specs: SampleSpec) -> list[tuple[list[Array], list[Array]]]:
        """Return our conditions of specs, positive and negative."""
        return [(_arrays(first), _arrays(second)) for first, second in self.model.conditions(specs)]

    def by_hand(self, text: str, windows: int = WINDOWS) -> list[Array]:
        """Return the conditions of a text as the convention has them."""
        return encode_windows(self.encoders, text, windows)


def _arrays(conditions: tuple[Any, ...]) -> list[Array]:
    return [condition.asnumpy() for condition in conditions]


@pytest.fixture(scope="module", params=["shapes", "sdxl"])
def texts(request: pytest.FixtureRequest, cpu: None, tmp_path_factory: pytest.TempPathFactory) -> Texts:
    """Load a checkpoint's networks; nothing is compiled."""
    from ddim_core.sampling.device import quiet_import

    with quiet_import(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ddim_core.sampling.models.load import load_model

        folder = resolve("shapes") if request.param == "shapes" else write_sdxl(tmp_path_factory.mktemp("sdxl"))
        info = describe(folder)
        return Texts(info, load_model(info, "float32"), list(_encoders(folder)))


def _encoders(folder: Path) -> list[tuple[Any, Any]]:
    from mindone.transformers import CLIPTextModel, CLIPTextModelWithProjection
    from transformers import CLIPTokenizer

    found = [("tokenizer", "text_encoder", CLIPTextModel)]
    if (folder / "text_encoder_2").exists():
        found.append(("tokenizer_2", "text_encoder_2", CLIPTextModelWithProjection))
    loaded: Callable[[Any, str], Any] = lambda kind, name: kind.from_pretrained(folder / name)  # noqa: E731
    return [
        (loaded(CLIPTokenizer, tokenizer), loaded(kind, encoder).set_train(False)) for tokenizer, encoder, kind in found
    ]


def test_conditions_are_those_of_the_windows_one_by_one(texts: Texts) -> None:
    """Every word of a long prompt counts; the shorter text is filled up with windows of the empty one."""
    [(positive, negative)] = texts.conditions(texts.spec(LONG))
    length = texts.encoders[0][0].model_max_length
    for ours, text in ((positive, LONG), (negative, NEGATIVE)):
        expected = texts.by_hand(text)
        assert ours[0].shape == expected[0].shape == (WINDOWS * length, expected[0].shape[1])
        for mine, theirs in zip(ours, expected, strict=False):  # behind them are SDXL's sizes
            assert np.abs(mine - theirs).max() <= TOLERANCE * max(1, np.abs(theirs).max())
    empty = texts.by_hand("", 1)[0]
    assert np.abs(negative[0][length:] - np.concatenate([empty, empty])).max() <= TOLERANCE * np.abs(empty).max()


def test_one_window_more_leaves_those_before_it_as_they_were(texts: Texts) -> None:
    """To the bit, and so does the company that a text is encoded in: eight windows at a time."""
    length = texts.encoders[0][0].model_max_length
    specs = [texts.spec(LONG, windows=windows) for windows in (1, 2, 3)]
    one, two, three = (positive for positive, _ in texts.conditions(*specs))
    assert one[0].tobytes() == two[0][:length].tobytes() == three[0][:length].tobytes()
    assert two[0][length:].tobytes() == three[0][length : 2 * length].tobytes()
    assert [array.tobytes() for array in one[1:]] == [array.tobytes() for array in three[1:]]
    others = [texts.spec(f"a {colour} star", LONG) for colour in ("red", "green", "blue", "pink", "grey")]
    texts.model._prompts._remembered.clear()
    again = texts.conditions(*others, specs[2])[-1][0]
    assert [array.tobytes() for array in again] == [array.tobytes() for array in three]


def test_a_text_that_is_cut_has_one_window_as_it_always_had(texts: Texts) -> None:
    """What the tokenizer itself cuts and pads, to the bit of the same words alone."""
    tokenizer = texts.encoders[0][0]
    length = tokenizer.model_max_length
    cut = replace(texts.spec(LONG, windows=1), long_prompts="cut")
    ids = tokenizer(LONG, padding="max_length", max_length=length, truncation=True).input_ids
    seen = replace(cut, prompt=tokenizer.decode(ids, skip_special_tokens=True))
    first, second = (positive for positive, _ in texts.conditions(cut, seen))
    assert [array.tobytes() for array in first] == [array.tobytes() for array in second]


def test_zeros_for_an_empty_negative_prompt_are_zeros_in_every_window(texts: Texts) -> None:
    """SDXL's way, where the checkpoint says so; others have the empty text in each."""
    [(positive, negative)] = texts.conditions(texts.spec(LONG, ""))
    assert negative[0].shape == positive[0].shape
    if texts.xl:
        assert not negative[0].any() and not negative[1].any() and positive[1].any()
    else:
        assert np.abs(negative[0] - texts.by_hand("")[0]).max() <= TOLERANCE * np.abs(negative[0]).max()
