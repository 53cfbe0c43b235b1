"""Turn rows into requests that can be sampled, or into faults that say what to mend."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from ddim_core.contracts.request import Request
from ddim_core.errors import Fault, InputError, RequestFaults, ScheduleError
from producer.model import Model
from producer.rows import Row
from producer.wording import got, rule_of, schedule_rule

FAULTS_SHOWN = 20
"""More are counted but not kept: a wrong file may hold a million."""

_WHOLE_NUMBERS = ("num_images_per_prompt", "seed", "num_inference_steps", "height", "width")


class RequestChecker:
    """Checks rows one after another against a checkpoint, and remembers which ``custom_id`` stood where."""

    def __init__(self, model: Model, defaults: Mapping[str, Any]) -> None:
        """Take the fields that hold for every row which does not give them.

        Raises:
            RequestFaults: A default is one that no request can have.
        """
        self._model = model
        self._defaults = defaults
        self._count = 0
        self._lines: dict[str, int | None] = {}
        self._validated(Row("the run's defaults", None, {"prompt": "any"}))

    def check(self, row: Row) -> Request:
        """Return the row's request with nothing left to guess.

        Raises:
            RequestFaults: It has faults, or the ``custom_id`` of an earlier one.
        """
        index, self._count = self._count, self._count + 1
        request = self._validated(row)
        custom_id = f"{index:09d}" if request.custom_id is None else request.custom_id
        if custom_id in self._lines:
            raise RequestFaults([row.fault("custom_id", _repeated(custom_id, self._lines[custom_id]))])
        self._lines[custom_id] = row.line
        return request.model_copy(
            update={
                "custom_id": custom_id,
                "height": request.height or self._model.default_height,
                "width": request.width or self._model.default_width,
            }
        )

    def _validated(self, row: Row) -> Request:
        try:
            request = Request.model_validate(self._merged(row), strict=row.typed)
        except ValidationError as exc:
            raise RequestFaults([row.fault(*rule_of(error)) for error in exc.errors(include_url=False)]) from exc
        if faults := list(self._unfit(request, row)):
            raise RequestFaults(faults)
        return request

    def _merged(self, row: Row) -> dict[str, Any]:
        fields = {**self._defaults, **row.fields}
        if isinstance(overrides := row.fields.get("scheduler"), dict):
            fields["scheduler"] = {**self._defaults.get("scheduler", {}), **overrides}
        for name in _WHOLE_NUMBERS:
            # 30.0 is a whole number: tables with gaps hold floats.
            if isinstance(value := fields.get(name), float) and value.is_integer():
                fields[name] = int(value)
        return fields

    def _unfit(self, request: Request, row: Row) -> Iterator[Fault]:
        """Yield what keeps this checkpoint from making a request that is in order by itself."""
        factor = self._model.size_factor
        for name, side in (("height", request.height), ("width", request.width)):
            if side is not None and side % factor:
                yield row.fault(name, f"must be a multiple of {factor} with {self._model.name}, got {side}")
        try:
            request.schedule(self._model.schedule)
        except ScheduleError as exc:
            yield row.fault(*schedule_rule(str(exc)))


def checked(rows: Iterable[Row | Fault], checker: RequestChecker, source: str) -> Iterator[Request]:
    """Yield the requests of all rows as long as none has a fault; find all faults, and raise them at the end.

    Raises:
        RequestFaults: With the first ``FAULTS_SHOWN`` faults, in the order of the input.
        InputError: There is no row.
    """
    faults: list[Fault] = []
    total, empty = 0, True
    for row in rows:
        empty = False
        try:
            if isinstance(row, Fault):
                raise RequestFaults([row])
            request = checker.check(row)
        except RequestFaults as exc:
            total += len(exc.faults)
            faults += exc.faults[: FAULTS_SHOWN - len(faults)]
            continue
        if not faults:
            yield request
    if faults:
        raise RequestFaults(faults, total)
    if empty:
        raise InputError(f"{source} must hold at least one request, got none")


def _repeated(custom_id: str, line: int | None) -> str:
    return f"must be unique, got {got(custom_id)}, which line {line} has"
