"""Turn rows into requests that can be sampled, or into faults that say what to mend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from ddim_core.checkpoints.folder import size_rule
from ddim_core.checkpoints.pipelines import INVERTIBLE
from ddim_core.contracts.image_encoding import ImageFormat
from ddim_core.contracts.kinds import Invert
from ddim_core.contracts.request import Request
from ddim_core.contracts.sample import Size
from ddim_core.errors import Fault, InputError, RequestFaults, ScheduleError
from producer.requests.conditioning import fill_in
from producer.requests.custom_ids import Places
from producer.requests.expansion import NAME_SEPARATOR, expanded
from producer.requests.fleet_limits import FleetLimits
from producer.requests.input_images import Pictures
from producer.requests.long_prompts import MAX_WINDOWS, MODE, LongPromptCheck
from producer.requests.messages import got, rule_of, schedule_rule
from producer.requests.model import Model
from producer.requests.one_form import in_one_form, take_out_texts
from producer.requests.rows import Row

FAULTS_SHOWN = 20
"""More are counted but not kept: a wrong file may hold a million."""
SCHEDULES_REMEMBERED = 10_000

_OTHER_NAMES = {"jpeg": "jpg"}
"""What others call our image formats."""


class RequestChecker:
    """Checks rows one after another against a checkpoint, and remembers which ``custom_id`` stood where."""

    def __init__(
        self,
        model: Model,
        defaults: Mapping[str, Any],
        *,
        image_format: ImageFormat = "png",
        first_index: int = 0,
        pictures: Pictures | None = None,
        limits: FleetLimits = FleetLimits(),  # noqa: B008 - it is frozen
    ) -> None:
        """Take the fields that hold for every row which does not give them, and the first row's position in its run.

        Pictures that requests invert are copied into ``pictures``; without it there may be none. ``limits`` are those
        of the operator.

        Raises:
            RequestFaults: A default is one that no request can have.
        """
        self._model = model
        self._image_format = image_format
        self._pictures = pictures
        # What the model recommends, nobody named.
        self._names_guidance = defaults.get("guidance_scale") not in (None, model.recommended.get("guidance_scale"))
        standard = {
            "height": model.default_height,
            "width": model.default_width,
            "guidance_scale": model.guidance_scale,
        }
        self._defaults = {**standard, **defaults}
        scheduler = self._defaults.get("scheduler", {})
        self._scheduler = dict(scheduler) if isinstance(scheduler, Mapping) else {}
        self._count = first_index
        self._places = Places()
        self._possible: set[tuple[str, int, bool, bool]] = set()
        self._limits: FleetLimits | None = None  # for the defaults, too: each row may give something else
        self.prompts = LongPromptCheck(None, model.name, {})
        self._validated(Row("the run's defaults", None, self._any_subject()), "any")
        self._limits = limits if limits.limit_requests() else None
        self.prompts = LongPromptCheck(model.prompts, model.name, self._defaults)
        for name in (MODE, MAX_WINDOWS):  # requests whose prompts are short do not name them
            self._defaults.pop(name, None)

    def check(self, row: Row) -> Request:
        """Return the row's request with nothing left to guess; whether its prompts are too long, ``prompts`` knows.

        Raises:
            RequestFaults: It has other faults, or the ``custom_id`` of an earlier one.
        """
        index, self._count = self._count, self._count + 1
        request = self._validated(row, f"{index:09d}")
        assert request.custom_id is not None
        if (place := self._places.add(request.custom_id, row)) is not None:
            rule = f"must be unique, got {got(request.custom_id)}, which {place} has"
            raise RequestFaults([row.fault("custom_id", rule)])
        return self.prompts.decided(request)

    def place_of(self, custom_id: str) -> tuple[str, int] | None:
        """Return the source and the line of the request with this name, if one was checked."""
        return self._places.of(custom_id)

    def _validated(self, row: Row, custom_id: str) -> Request:
        faults = list(self._unexpected(row)) if row.expects else []
        fields = self._merged(row)
        faults += [row.fault(*fault) for fault in take_out_texts(fields)]
        faults += [row.fault(*fault) for fault in in_one_form(fields, typed=row.typed)]
        if faults:  # what was taken out of the row for its fault must not be missed as well
            fields = {**self._defaults, **fields}
        faults += [row.fault(*fault) for fault in fill_in(fields, self._model)]
        try:
            request = Request.model_validate({"custom_id": custom_id, **fields}, strict=row.typed)
        except ValidationError as exc:
            faults += [row.fault(*rule_of(error)) for error in exc.errors(include_url=False)]
            self.prompts.look_at(row, fields)
            raise RequestFaults(faults) from exc
        self.prompts.look_at(row, request.__dict__)
        if faults := [*faults, *self._unfit(request, row)]:
            raise RequestFaults(faults)
        return request if request.invert is None else self._with_picture(request, request.invert, row)

    def _with_picture(self, request: Request, invert: Invert, row: Row) -> Request:
        """Return the request with the name of its picture's copy in the run's folder."""
        assert request.height is not None and request.width is not None
        if self._pictures is None:
            raise RequestFaults([row.fault("invert", "must be left out here")])
        try:
            copy = self._pictures.add(invert.image, Size(request.height, request.width))
        except InputError as exc:
            raise RequestFaults([row.fault("invert.image", str(exc))]) from exc
        return request.model_copy(update={"invert": Invert(image=copy)})

    def _any_subject(self) -> dict[str, Any]:
        """Return what the defaults, which need not name one, are checked with."""
        if self._model.takes == "class_label":
            return {} if "class_label" in self._defaults else {"class_label": 0}
        return {"prompt": "any"} if self._model.takes == "prompt" else {}

    def _merged(self, row: Row) -> dict[str, Any]:
        fields = {**self._defaults, **row.fields}
        if "invert" in row.fields and "guidance_scale" not in row.fields and not self._names_guidance:
            fields["guidance_scale"] = 1.0  # with more, the way up and the way down differ by more
        if self._scheduler and isinstance(overrides := row.fields.get("scheduler"), dict):
            fields["scheduler"] = {**self._scheduler, **overrides}
        return fields

    def _unfit(self, request: Request, row: Row) -> Iterator[Fault]:
        """Yield what keeps this checkpoint from making a request that is in order by itself."""
        model = self._model
        sides = (("height", request.height, model.default_height), ("width", request.width, model.default_width))
        for name, side, default in sides:
            assert side is not None
            rule = size_rule(side, default=default, factor=model.size_factor, fixed=model.fixed_size)
            if rule is not None:
                yield row.fault(name, f"{rule} with {model.name}, got {side}")
        if request.invert is not None and not model.inverts:
            yield row.fault("invert", f"must be left out with {model.name}, which is no {INVERTIBLE}")
        for fault in self._limits.faults(request) if self._limits else ():
            yield row.fault(*fault)
        try:
            self._check_schedule(request)
        except ScheduleError as exc:
            yield row.fault(*schedule_rule(str(exc)))

    def _check_schedule(self, request: Request) -> None:
        """Make sure that there is a schedule; a million requests share a few, and the maths takes longer than all else.

        Raises:
            ScheduleError: There is none.
        """
        # Of eta, which is in its range, only whether it is 1: whether formulas divide by zero does not depend on it.
        key = (repr(request.scheduler), request.num_inference_steps, request.invert is not None, request.eta == 1)
        if key not in self._possible:
            request.schedule(self._model.schedule)
            if len(self._possible) < SCHEDULES_REMEMBERED:
                self._possible.add(key)

    def _unexpected(self, row: Row) -> Iterator[Fault]:
        """Yield what a line takes for granted of its run, and is not so."""
        model, image_format = row.expects.get("model"), row.expects.get("output_format")
        if model is not None and model not in (self._model.name, self._model.name.rpartition("/")[2]):
            yield row.fault("body.model", f"must be {self._model.name}, as the run's, or left out, got {got(model)}")
        if image_format is not None and _OTHER_NAMES.get(str(image_format), image_format) != self._image_format:
            rule = f"must be {self._image_format}, as the run's, or left out, got {got(image_format)}"
            yield row.fault("body.output_format", f"{rule}; --image-format sets the run's")


class _Found:
    """The faults of an input: counted, and the first of them kept."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self.total = 0

    def add(self, faults: Sequence[Fault]) -> None:
        self.total += len(faults)
        self.faults += faults[: FAULTS_SHOWN - len(self.faults)]

    def add_last(self, faults: Sequence[Fault]) -> None:
        """Add faults that are shown however many came before: each stands for many."""
        self.total += len(faults)
        self.faults += faults


def checked(
    rows: Iterable[Row | Fault],
    checker: RequestChecker,
    source: str,
    lists: Mapping[str, Sequence[str]] | None = None,
    separator: str = NAME_SEPARATOR,
) -> Iterator[Request]:
    """Yield the requests of all rows as long as none has a fault; find all faults, and raise them at the end.

    ``lists`` are those that every row's prompt may name; ``separator`` stands in the ids of rows that stand for many.

    Raises:
        RequestFaults: With the first ``FAULTS_SHOWN`` faults in the order of the input, then one for all long prompts.
        InputError: There is no row.
    """
    found = _Found()
    empty = True
    for row in rows:
        empty = False
        if isinstance(row, Fault):
            found.add([row])
            continue
        try:
            members = expanded(row, lists or {}, separator)
        except RequestFaults as exc:
            found.add(exc.faults)
            continue
        for request in _requests_of(members, checker, found):
            if not found.total and not checker.prompts.refused:
                yield request
    found.add_last(list(checker.prompts.faults()))
    if found.total:
        raise RequestFaults(found.faults, found.total)
    if empty:
        raise InputError(f"{source} must hold at least one request, got none")


def _requests_of(members: Iterable[Row], checker: RequestChecker, found: _Found) -> Iterator[Request]:
    """Yield the requests that a row becomes; a fault that many of them share is one fault."""
    told: set[Fault] = set()
    for member in members:
        try:
            yield checker.check(member)
        except RequestFaults as exc:
            found.add([fault for fault in exc.faults if fault not in told])
            told.update(exc.faults)
