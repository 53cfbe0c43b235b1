"""Each finding says what was found, whether it is bad, and how to mend it."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.broker import Broker
from producer.local import doctor
from producer.local.doctor import Finding

OFF = "off, as it must be: MindSpore's gives a process another one's graphs"


@pytest.mark.parametrize(
    ("finding", "verdict", "found", "remedy"),
    [
        (doctor.python((3, 9)), "fail", "3.9", "make a virtual environment with Python 3.10 to 3.12"),
        (doctor.python((3, 13)), "fail", "3.13", "make a virtual environment with Python 3.10 to 3.12"),
        (doctor.messaging({"celery": "5.6.3", "kombu": "5.7.0"}), "ok", "celery 5.6.3, kombu 5.7.0", ""),
        (
            doctor.messaging({"celery": "5.7.0", "kombu": "5.7.0"}),
            "warn",
            "celery 5.7.0, kombu 5.7.0",
            "pip install celery==5.6.3 kombu==5.7.0; others lose their connection to Redis",
        ),
        (doctor.sampling({"mindspore": "2.7.2", "mindone": "0.5.0"}), "ok", "mindspore 2.7.2, mindone 0.5.0", ""),
        (
            doctor.sampling({"mindspore": None, "mindone": None}),
            "warn",
            "mindspore not installed, mindone not installed",
            "pip install 'ddim-fleet[worker]', where images are to be made; not needed to submit runs",
        ),
        (
            doctor.sampling({"mindspore": "2.9.0", "mindone": "0.5.0"}),
            "warn",
            "mindspore 2.9.0, mindone 0.5.0",
            "pip install 'ddim-fleet[worker]'; 2.9 and later are very slow on the CPU",
        ),
        (doctor.compile_cache({}), "ok", OFF, ""),
        (doctor.compile_cache({"MS_COMPILER_CACHE_ENABLE": "0"}), "ok", OFF, ""),
        (
            doctor.compile_cache({"MS_COMPILER_CACHE_ENABLE": "1"}),
            "fail",
            "MS_COMPILER_CACHE_ENABLE=1",
            "unset MS_COMPILER_CACHE_ENABLE: with the cache on, MindSpore gives wrong images. It numbers graphs in the "
            "order in which they were compiled, so that a process that compiles in another order takes another "
            "function's",
        ),
        (doctor.own_redis("/bin/redis-server"), "ok", "/bin/redis-server", ""),
        (
            doctor.own_redis(None),
            "warn",
            "not found",
            "install your system's redis (Debian: apt-get install redis-server); only `ddim-fleet run` needs it",
        ),
    ],
)
def test_a_finding_has_verdict_and_remedy(finding: Finding, verdict: str, found: str, remedy: str) -> None:
    """What is in order needs no remedy."""
    assert (finding.verdict, finding.found, finding.remedy) == (verdict, found, remedy)


def test_redis_is_a_failure_only_if_it_was_asked_for() -> None:
    """A run on one machine brings its own."""
    nobody = Broker("redis://:pw@127.0.0.1:1/0")
    assert [finding.verdict for finding in doctor.redis(nobody, asked_for=True)] == ["fail"]
    (finding,) = doctor.redis(nobody, asked_for=False)
    assert finding.verdict == "warn" and "pw" not in finding.found
    assert finding.remedy == "start it, or name another with --broker; `ddim-fleet run` needs none"


def test_an_output_is_tried_and_left_clean(tmp_path: Path) -> None:
    """A file where the folder should be is found, too."""
    assert doctor.store(str(tmp_path)) == Finding("output", "ok", f"{tmp_path} is writable")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    finding = doctor.store(str(tmp_path / "file"))
    assert finding.verdict == "fail" and "is a file" in finding.found


def test_devices_come_with_their_health() -> None:
    """A sick NPU is not used unasked, and the survey's own error is passed on."""
    npu = {"device": "npu:0", "name": "910B3", "health": "OK"}
    sick = {"device": "npu:1", "name": "910B3", "health": "Alarm"}
    found = list(doctor.devices({"npu_smi": True, "error": None, "devices": [npu, sick]}))
    assert [(finding.what, finding.verdict) for finding in found] == [
        ("npu-smi", "ok"),
        ("npu:0", "ok"),
        ("npu:1", "warn"),
    ]
    assert found[2].remedy == "see npu-smi info; it is not used unless named in --devices"
    (without,) = doctor.devices({"npu_smi": False, "error": None, "devices": []})
    assert (without.verdict, without.found) == ("warn", "not found; images are made on the CPU")
    (failed,) = doctor.devices({"error": "npu-smi must answer within 30 s"})
    assert (failed.verdict, failed.found) == ("fail", "npu-smi must answer within 30 s")


def test_the_kernels_of_a_cpu_are_named() -> None:
    """Without the fused ones images take two to three times as long, unnoticed; NPUs have no use for them."""
    fused = {"kernels": "fused-1", "kernels_found": "fused-1 (x86-64-v4)", "kernels_missing": ""}
    assert list(doctor.kernels(fused)) == [Finding("CPU kernels", "ok", "fused-1 (x86-64-v4)")]
    plain = {"kernels": "mindspore", "kernels_found": "mindspore (not built)", "kernels_missing": "not built"}
    [finding] = doctor.kernels(plain)
    assert (finding.verdict, finding.found) == ("warn", "mindspore (not built)")
    assert "DDIM_FLEET_KERNELS=native" in finding.remedy
    assert list(doctor.kernels({"devices": []})) == []
