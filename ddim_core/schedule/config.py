"""The parameters that fix a noise schedule and how it is sampled, as one checked, hashable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from math import inf
from typing import Any

from ddim_core.errors import ScheduleError
from ddim_core.schedule import checks
from ddim_core.schedule.checks import Interval
from ddim_core.schedule.nulls import without_nulls

BETA_SCHEDULES = ("linear", "scaled_linear", "squaredcos_cap_v2")
PREDICTION_TYPES = ("epsilon", "sample", "v_prediction")
TIMESTEP_SPACINGS = ("leading", "trailing", "linspace", "quad")
TIMESTEP_PAIRS = ("diffusers", "visited")
VARIANCES = ("ddim", "larger")
MAX_TRAIN_TIMESTEPS = 1_000_000  # models train on 1000; the limit keeps one typing error from filling the memory

_CHOICES = {
    "beta_schedule": BETA_SCHEDULES,
    "prediction_type": PREDICTION_TYPES,
    "timestep_spacing": TIMESTEP_SPACINGS,
    "timestep_pairs": TIMESTEP_PAIRS,
    "variance": VARIANCES,
}
_FLAGS = ("clip_sample", "set_alpha_to_one", "thresholding", "rescale_betas_zero_snr")
_WHOLE_NUMBERS = {"num_train_timesteps": (1, MAX_TRAIN_TIMESTEPS), "steps_offset": (0, MAX_TRAIN_TIMESTEPS)}
_NUMBERS = {
    "beta_start": Interval(0, 1, open_high=True),
    "beta_end": Interval(0, 1),
    "clip_sample_range": Interval(0, inf, open_low=True),
    "dynamic_thresholding_ratio": Interval(0, 1),
    "sample_max_value": Interval(0, inf, open_low=True),
}
_TRAINED_BETA = Interval(0, 1)


@dataclass(frozen=True, slots=True)
class ScheduleConfig:
    """A schedule's parameters, under the names and with the defaults of ``DDIMScheduler`` in diffusers and mindone.

    Every field is checked when the value is made, so a ``ScheduleConfig`` that exists is well-formed; whether a step
    count fits it shows when its timesteps are computed.

    Attributes:
        num_train_timesteps: T, the number of diffusion steps of the training.
        beta_start: First beta.
        beta_end: Last beta; 1 gives a zero terminal signal-to-noise ratio.
        beta_schedule: One of ``BETA_SCHEDULES``.
        trained_betas: All T betas, in place of ``beta_start``, ``beta_end`` and ``beta_schedule``.
        clip_sample: Clip x0 to ``[-clip_sample_range, clip_sample_range]`` at every step.
        set_alpha_to_one: After the last step alpha_bar is 1 (no noise is left), otherwise that of timestep 0.
        steps_offset: Added to every timestep of ``leading`` spacing, and of no other, as in diffusers.
        prediction_type: What the denoiser predicts, one of ``PREDICTION_TYPES``.
        thresholding: Dynamic thresholding of x0 (Saharia et al. 2022, arXiv:2205.11487); replaces clipping.
        dynamic_thresholding_ratio: The quantile of ``|x0|`` that becomes the threshold.
        clip_sample_range: The bound of ``clip_sample``.
        sample_max_value: Upper bound of the dynamic threshold.
        timestep_spacing: One of ``TIMESTEP_SPACINGS``; ``quad`` is the quadratic sub-sequence of the DDIM paper.
        rescale_betas_zero_snr: Rescale to a zero terminal signal-to-noise ratio.
        timestep_pairs: Where a step from t leads: ``diffusers`` goes to ``t - T // num_inference_steps``, as mindone
            and diffusers do; ``visited`` to the next timestep of the sequence, as the DDIM paper does.
        variance: Of the noise that a step adds: ``ddim`` is sigma of Eq. (16), which eta scales; ``larger`` is the
            sigma-hat of the paper's Table 1, for which eta must be 1.
    """

    num_train_timesteps: int = 1000
    beta_start: float = 0.0001
    beta_end: float = 0.02
    beta_schedule: str = "linear"
    trained_betas: tuple[float, ...] | None = None
    clip_sample: bool = True
    set_alpha_to_one: bool = True
    steps_offset: int = 0
    prediction_type: str = "epsilon"
    thresholding: bool = False
    dynamic_thresholding_ratio: float = 0.995
    clip_sample_range: float = 1.0
    sample_max_value: float = 1.0
    timestep_spacing: str = "leading"
    rescale_betas_zero_snr: bool = False
    timestep_pairs: str = "diffusers"
    variance: str = "ddim"

    def __post_init__(self) -> None:
        """Check every field and store it in its plain Python type.

        Raises:
            ScheduleError: A field has the wrong type or lies out of its range, or two fields contradict each other.
        """
        for name in _FLAGS:
            self._store(name, checks.flag(name, getattr(self, name)))
        for name, allowed in _CHOICES.items():
            self._store(name, checks.choice(name, getattr(self, name), allowed))
        for name, (low, high) in _WHOLE_NUMBERS.items():
            self._store(name, checks.whole(name, getattr(self, name), low, high))
        for name, interval in _NUMBERS.items():
            self._store(name, checks.number(name, getattr(self, name), interval))
        if self.trained_betas is not None:
            self._store("trained_betas", checks.numbers("trained_betas", self.trained_betas, _TRAINED_BETA))
        self._check_together()

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, ignore_unknown: bool = False) -> ScheduleConfig:
        """Return the schedule that a scheduler's configuration describes, with defaults for what it leaves out.

        Args:
            mapping: Parameters by name, for instance the content of a ``scheduler_config.json``.
            ignore_unknown: Take a saved configuration, which has private names (``_class_name``) and, when another
                scheduler class wrote it, that class's own: they are passed over, and nulls are taken as mindone does.

        Raises:
            ScheduleError: A value cannot be used, or a name is unknown and ``ignore_unknown`` is false.
        """
        known = {name: value for name, value in mapping.items() if name in PARAMETER_NAMES}
        if ignore_unknown:
            known = without_nulls(known)
        else:
            _refuse_unknown(mapping)
        return cls(**known)

    def to_mapping(self) -> dict[str, Any]:
        """Return all parameters by name; without ``variance`` at its default, so that version 0.1.0 can read them."""
        mapping = asdict(self)
        if self.variance == "ddim":
            del mapping["variance"]
        return mapping

    def replace_with(self, overrides: Mapping[str, Any]) -> ScheduleConfig:
        """Return this schedule with some parameters replaced; the result is checked like any other.

        Raises:
            ScheduleError: A name is unknown or the resulting configuration cannot be used.
        """
        _refuse_unknown(overrides)
        return replace(self, **overrides)

    def _store(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)  # the dataclass is frozen, and this runs only while it is made

    def _check_together(self) -> None:
        trained, count = self.trained_betas, self.num_train_timesteps
        if trained is not None and len(trained) != count:
            raise ScheduleError(
                f"trained_betas must hold num_train_timesteps={count} betas, got {len(trained)}; "
                f"set num_train_timesteps={len(trained)}"
            )
        if self.rescale_betas_zero_snr and count < 2:
            raise ScheduleError(
                f"num_train_timesteps must be at least 2 with rescale_betas_zero_snr, got {count}; "
                "one timestep cannot keep its first beta and end without signal"
            )
        if self.timestep_spacing == "quad" and self.timestep_pairs != "visited":
            raise ScheduleError(
                f"timestep_pairs must be visited with timestep_spacing=quad, got {self.timestep_pairs}; "
                "give timestep_pairs=visited, since quadratic timesteps do not lie t - T // N apart"
            )


PARAMETER_NAMES = tuple(field.name for field in fields(ScheduleConfig))


def _refuse_unknown(mapping: Mapping[str, Any]) -> None:
    unknown = sorted(str(name) for name in mapping if name not in PARAMETER_NAMES)
    if unknown:
        raise ScheduleError(
            f"scheduler parameters must be among {', '.join(PARAMETER_NAMES)}, got {', '.join(unknown)}"
        )
