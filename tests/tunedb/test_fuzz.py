"""No text whatsoever ends a parser otherwise than with a record, a rejection that has a reason, or an error of ours."""

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.tunedb import logs, samples
from tunedb.errors import FormatError
from tunedb.formats.common import About, Parsed, Rejected
from tunedb.formats.native import Record, encode
from tunedb.formats.registry import FORMATS
from tunedb.formats.source import Source, open_source
from tuner.errors import ScheduleError, WorkloadError
from tuner.schedule import Schedule
from tuner.target import Target, TargetError
from tuner.workload import parse

NATIVE = encode(Record(samples.trial(0), ((0.25, 0.5),), {"seed": 1}, samples.EPOCH))
LINES = {
    "tunedb": NATIVE,
    "autotvm": logs.autotvm(),
    "ansor": logs.ansor(),
    "metaschedule": logs.metaschedule(),
    "kernel-tuner": json.dumps(logs.kernel_tuner()),
    "t4": json.dumps(logs.t4()),
}
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([2**31, 2**63, 10**400])
JSON = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)) | st.integers(
    1, 2000
).map(lambda depth: Nested("[" * depth + "]" * depth))


class Nested(str):
    """Text that goes into JSON as it is: json itself would not write so many levels."""


@st.composite
def changed(draw: st.DrawFn, good: Any) -> bytes:
    """The JSON of ``good`` with another value at one place; or with other bytes, or cut, or given twice over."""
    value = json.loads(json.dumps(good))
    holder, key, place = None, None, value
    while isinstance(place, list | dict) and place and (holder is None or draw(st.booleans())):
        holder = place
        key = draw(st.sampled_from(list(place) if isinstance(place, dict) else list(range(len(place)))))
        place = place[key]
    new = draw(JSON)
    if holder is not None:
        holder[key] = "@@" if isinstance(new, Nested) else new
    text = json.dumps(value).replace('"@@"', new if isinstance(new, Nested) else '"@@"').encode()
    start, end = sorted((draw(st.integers(0, len(text))), draw(st.integers(0, len(text)))))
    damaged = text[:start] + draw(st.binary(max_size=8)) + text[end:]
    return draw(st.sampled_from([text, damaged, text[:end], text + b"\n" + text]))


def assert_in_words(read: Callable[[], Any]) -> None:
    with contextlib.suppress(FormatError):
        for each in read():
            assert isinstance(each, Parsed) or (isinstance(each, Rejected) and each.reason)


@pytest.mark.parametrize("name", [name for name in LINES if name != "metaschedule"])
@given(data=st.data())
@settings(max_examples=200)
def test_a_reader_ends_in_words(name: str, data: st.DataObject) -> None:
    text = data.draw(changed(json.loads(LINES[data.draw(st.sampled_from([name, name, name, *LINES]))])))
    read = FORMATS[name].read
    assert read is not None
    assert_in_words(lambda: read(Source("some", io.BufferedReader(io.BytesIO(text))), About()))


@given(records=changed(json.loads(LINES["metaschedule"])), workloads=changed(json.loads(logs.METASCHEDULE_WORKLOAD)))
@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_the_reader_of_two_files_ends_in_words(tmp_path: Path, records: bytes, workloads: bytes) -> None:
    (tmp_path / "database_tuning_record.json").write_bytes(records)
    (tmp_path / "database_workload.json").write_bytes(workloads)
    read = FORMATS["metaschedule"].read
    assert read is not None
    with contextlib.suppress(FormatError), open_source(str(tmp_path / "database_tuning_record.json")) as source:
        assert_in_words(lambda: read(source, About()))


@given(st.binary(max_size=300) | st.sampled_from(list(LINES.values())).map(str.encode))
def test_every_beginning_is_told_by_a_format_or_by_none(head: bytes) -> None:
    for each in FORMATS.values():
        assert each.knows is None or each.knows(head) in (True, False)


KEYS = [
    "resnet18.C2",
    "matmul(m=1,k=2,n=3)",
    "resnet18.C2(layout=NCHW16c)",
    "conv2d(n=1,ci=3,h=8,w=8,co=4,k=(3,1),pad=1)",
]


@given(st.sampled_from(KEYS), st.text(alphabet="mkn=(),.0123456789ci \u0660-e") | st.text(), st.data())
@settings(max_examples=300)
def test_a_workload_is_read_or_refused(key: str, more: str, data: st.DataObject) -> None:
    start, end = sorted((data.draw(st.integers(0, len(key))), data.draw(st.integers(0, len(key)))))
    text = data.draw(st.sampled_from([more, key[:start] + more + key[end:]]))
    with contextlib.suppress(WorkloadError):
        workload = parse(text)
        assert parse(workload.key) == workload


@given(changed(samples.TARGET.to_json()))
def test_a_target_is_read_or_refused(text: bytes) -> None:
    for value in values(text):
        with contextlib.suppress(TargetError):
            assert Target.from_json(value).to_json() == value


@given(changed(samples.trial(0).schedule.to_json()))
def test_a_schedule_is_read_or_refused(text: bytes) -> None:
    for value in values(text):
        with contextlib.suppress(ScheduleError):
            assert Schedule.from_json(value).to_json() == value


def values(text: bytes) -> list[Any]:
    try:
        return [json.loads(text)]
    except (ValueError, RecursionError):
        return []
