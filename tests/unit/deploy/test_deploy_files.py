"""Files under ``deploy/`` are well-formed, and name only commands, options and files that exist."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from ddim_core.broker_url import BROKER_VARIABLE
from producer.main import COMMANDS
from workers.__main__ import command as worker_command

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
TEXTS = sorted(path for path in DEPLOY.rglob("*") if path.is_file())


def documents() -> dict[tuple[str, str], Any]:
    """Return every Kubernetes object by kind and name."""
    found = [each for path in MANIFESTS for each in yaml.safe_load_all(path.read_text()) if "metadata" in each]
    return {(each["kind"], each["metadata"]["name"]): each for each in found}


def pod_spec(kind: str, name: str) -> Any:
    """Return the pod that an object makes."""
    return documents()[kind, name]["spec"]["template"]["spec"]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Yield where it stands and the arguments of every ``ddim-fleet`` command line for people and machines."""
    for path in (*TEXTS, ROOT / "docs" / "operations.md", ROOT / "docs" / "storage.md"):
        for line in re.findall(r"(?:`|\$ |bin/|\")ddim-fleet ([a-z][^`#|\"\n]*)", path.read_text()):
            yield path.name, shlex.split(line)
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    yield "compose worker", ["worker", *compose["worker"]["command"]]
    yield "compose submit", compose["submit"]["command"]
    yield "worker.yaml", ["worker", *pod_spec("Deployment", "ddim-fleet-worker")["containers"][0]["args"]]
    yield "submit.example.yaml", pod_spec("Job", "ddim-fleet-submit")["containers"][0]["args"]
    environment = dict(re.findall(r"^(\w+)=(.*)$", (DEPLOY / "systemd" / "worker.env").read_text(), re.MULTILINE))
    yield "worker.env", ["worker", *shlex.split(environment["DDIM_FLEET_WORKER_OPTIONS"])]


def options_of(name: str, arguments: list[str]) -> set[str]:
    """Return the options that a command has."""
    command: click.Command = worker_command if name == "worker" else import_module(f"producer.commands.{name}").command
    if isinstance(command, click.Group) and arguments and arguments[0] in command.commands:
        command = command.commands[arguments[0]]
    return {flag for parameter in command.params for flag in parameter.opts}


def test_every_command_line_exists_with_its_options() -> None:
    """What is written for people and machines to run is what the program has."""
    lines = list(command_lines())
    assert len(lines) > 20
    for place, (name, *arguments) in lines:
        assert name in COMMANDS, (place, name)
        used = {argument for argument in arguments if argument.startswith("--")}
        assert not used or used <= options_of(name, arguments), (place, name, used)


def test_the_worker_is_started_with_the_variable_that_it_reads() -> None:
    """A misspelt variable would have workers look for Redis on their own host."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    names = {entry["name"] for entry in pod_spec("Deployment", "ddim-fleet-worker")["containers"][0]["env"]}
    assert BROKER_VARIABLE in names
    assert BROKER_VARIABLE in compose["worker"]["environment"]
    assert f"{BROKER_VARIABLE}=" in (DEPLOY / "systemd" / "worker.env").read_text()


def test_compose_builds_from_files_that_exist_and_lets_workers_finish() -> None:
    """Paths are relative to the repository's root; Redis is up before anyone asks it."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    for name in ("worker", "submit"):
        assert (ROOT / services[name]["build"]["dockerfile"]).is_file()
        assert services[name]["depends_on"] == {"redis": {"condition": "service_healthy"}}
    assert services["worker"]["stop_grace_period"]


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.worker"])
def test_images_copy_files_that_exist_and_that_are_not_ignored(name: str) -> None:
    """A path left out of the build context fails only when somebody builds."""
    allowed = re.findall(r"^!(\S+)$", (DEPLOY / f"{name}.dockerignore").read_text(), re.MULTILINE)
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (DEPLOY / name).read_text(), re.MULTILINE)
    sources = [source for line in copied for source in line.split()]
    assert sorted(sources) == sorted(allowed)
    # The example prompts come with the program, and need not be there to build what is tested here.
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_kustomize_lists_files_that_exist() -> None:
    """Examples are applied by hand, after they were filled in."""
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {p.name for p in MANIFESTS if ".example." not in p.name} - {"kustomization.yaml"}


def test_secrets_that_pods_ask_for_are_in_the_example() -> None:
    """By name and by key."""
    for kind, name in (
        ("Deployment", "ddim-fleet-redis"),
        ("Deployment", "ddim-fleet-worker"),
        ("Job", "ddim-fleet-submit"),
    ):
        container = pod_spec(kind, name)["containers"][0]
        for entry in container.get("env", []):
            wanted = entry["valueFrom"]["secretKeyRef"]
            assert wanted["key"] in documents()["Secret", wanted["name"]]["stringData"]
        for source in container.get("envFrom", []):
            assert ("Secret", source["secretRef"]["name"]) in documents()


def test_services_and_policies_select_the_pods_they_mean() -> None:
    """A selector that matches nothing is accepted by Kubernetes without a word."""
    redis = documents()["Deployment", "ddim-fleet-redis"]["spec"]["template"]["metadata"]["labels"]
    assert documents()["Service", "ddim-fleet-redis"]["spec"]["selector"].items() <= redis.items()
    assert documents()["NetworkPolicy", "ddim-fleet-redis"]["spec"]["podSelector"]["matchLabels"] == redis
    for kind, name in documents():
        if kind == "Deployment":
            spec = documents()[kind, name]["spec"]
            assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_a_worker_pod_has_one_npu_named_in_one_place_and_time_to_drain() -> None:
    """Whoever has another chip changes one line."""
    text = (DEPLOY / "kubernetes" / "worker.yaml").read_text()
    named = [line for line in text.splitlines() if "huawei.com/" in line and not line.strip().startswith("#")]
    assert [line.strip() for line in named] == ["huawei.com/Ascend910: 1"]
    assert pod_spec("Deployment", "ddim-fleet-worker")["terminationGracePeriodSeconds"] >= 600


def test_the_unit_restarts_always_and_leaves_draining_to_the_supervisor() -> None:
    """With systemd's default KillMode each process would get two signals, and the second one kills."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(DEPLOY / "systemd" / "ddim-fleet-worker.service")
    service = dict(unit["Service"])
    assert (service["Restart"], service["KillMode"], service["KillSignal"]) == ("always", "mixed", "SIGTERM")
    assert int(service["TimeoutStopSec"]) >= 600
    assert service["EnvironmentFile"] == "/etc/ddim-fleet/worker.env"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """All but the user and the program, which this host does not have."""
    unit = (DEPLOY / "systemd" / "ddim-fleet-worker.service").read_text()
    unit = re.sub(r"ExecStart=\S+", "ExecStart=/bin/true", unit).replace("User=ddim-fleet", "User=root")
    (tmp_path / "ddim-fleet-worker.service").write_text(unit)
    verify = ["systemd-analyze", "verify", str(tmp_path / "ddim-fleet-worker.service")]
    done = subprocess.run(verify, check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("home", ["toolkit", "toolkit/latest"])
def test_cann_is_set_up_where_it_is_and_not_missed_where_it_is_not(tmp_path: Path, home: str) -> None:
    """The toolkit's variable points at the toolkit or at a version of it."""
    (tmp_path / home).mkdir(parents=True)
    (tmp_path / "toolkit" / "set_env.sh").write_text("export CANN=found\n")
    show = [str(DEPLOY / "with-cann"), "sh", "-c", 'echo "${CANN-none}"']
    paths = {"PATH": "/usr/bin:/bin"}
    found = subprocess.run(
        show, env={**paths, "ASCEND_TOOLKIT_HOME": str(tmp_path / home)}, capture_output=True, check=True
    )
    missing = subprocess.run(show, env={**paths, "ASCEND_TOOLKIT_HOME": "/none"}, capture_output=True, check=True)
    assert (found.stdout, missing.stdout) == (b"found\n", b"none\n")
