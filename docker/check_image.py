"""What is promised of the image, asked of the image: who it runs as, what is not in it, how it starts and ends.

    ENGINE=podman IMAGE=headwater:cpu DATA=headwater_data pytest docker/check_image.py

DATA is a volume with an index, as prepare.py leaves it. docker/verify.sh runs this.
"""

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import httpx2

import headwater

ENGINE = os.environ.get("ENGINE", "docker")
IMAGE = os.environ.get("IMAGE", "headwater:cpu")
DATA = os.environ.get("DATA", "headwater_data")
CONFINED = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
SERVING = ["--volume", f"{DATA}:/data:ro", "--env", "HEADWATER_ALLOW_UNAUTHENTICATED=true"]
HEALTH = ["python", "/opt/headwater/bin/healthcheck.py"]
LEFT_OUT = r"""
find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path '/usr/*' \) -prune -o \( -name tests -o -name pip \
    -o -name .cache -o -name .git -o -name '.env*' -o -name pip.conf -o -name '*.key' -o -name 'id_rsa*' \
    -o -name '*.whl' -o -path '/opt/headwater/*test*' -o -path '/mnt/*' -o -path '/locks*' \) -print
"""  # /usr is the base image's own


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The engine's command; whoever asks looks at the status."""
    return subprocess.run([ENGINE, *arguments], capture_output=True, text=True, timeout=300, check=False)


def inside(*command: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return run("run", "--rm", *CONFINED, *options, IMAGE, *command)


@contextmanager
def container(*options: str) -> Iterator[str]:
    """One that runs with the image's own command as its first process."""
    started = run("run", "--detach", *CONFINED, *SERVING, *options, IMAGE)
    assert started.returncode == 0, started.stderr
    name = started.stdout.strip()
    try:
        yield name
    finally:
        run("rm", "--force", "--volumes", name)


@contextmanager
def serving() -> Iterator[tuple[str, str]]:
    """A container and its address, once it is ready."""
    with container("--publish", "127.0.0.1::8000") as name:
        url = f"http://{run('port', name, '8000').stdout.split()[-1]}"
        wait_until(lambda: status(f"{url}/readyz") == 200, 180)
        yield name, url


def stop(name: str) -> tuple[str, float]:
    """Exit code, and the seconds that it took after SIGTERM."""
    began = time.monotonic()
    run("stop", "--time", "40", name)
    seconds = time.monotonic() - began
    return run("inspect", name, "--format", "{{.State.ExitCode}}").stdout.strip(), seconds


def status(url: str) -> int:
    try:
        return httpx2.get(url, trust_env=False, timeout=5).status_code
    except httpx2.TransportError:
        return 0


def wait_until(holds: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.1)


def test_it_does_not_run_as_root() -> None:
    done = inside("id")
    assert done.stdout.startswith("uid=10001(headwater) gid=10001(headwater)"), done


def test_it_holds_no_tests_caches_secrets_or_traces_of_the_build() -> None:
    done = inside("sh", "-c", LEFT_OUT, options=("--user", "0", "--cap-add", "DAC_READ_SEARCH"))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    config = json.loads(run("image", "inspect", IMAGE).stdout)[0]["Config"]
    names = {line.partition("=")[0].upper() for line in config["Env"]}
    assert not [name for name in names if name.startswith("PIP_") or "KEY" in name or "PROXY" in name]


def test_none_of_its_files_can_be_written_by_its_user() -> None:
    done = run("run", "--rm", IMAGE, "sh", "-c", "id -un && find /opt /usr /etc -writable -not -type l")
    assert done.stdout == "headwater\n"


def test_it_ends_with_the_documented_codes() -> None:
    no_key = inside()
    assert (no_key.returncode, "--allow-unauthenticated" in no_key.stderr) == (78, True), no_key
    no_index = inside("headwater-serve", "/tmp", "--allow-unauthenticated")
    assert (no_index.returncode, "/tmp" in no_index.stderr) == (65, True), no_index
    no_option = inside("headwater-serve", "--no-such-option")
    assert no_option.returncode == 2, no_option
    half = inside("python", "/opt/headwater/bin/prepare.py", options=("--env", "HEADWATER_MODEL=/models/mine"))
    assert (half.returncode, "HEADWATER_DOCUMENTS" in half.stderr) == (78, True), half


def test_it_is_healthy_only_when_it_answers() -> None:
    alone = inside(*HEALTH)
    assert (alone.returncode, "readyz" in alone.stderr) == (1, True), alone
    with serving() as (name, _):
        assert run("exec", name, *HEALTH).returncode == 0
    health = json.loads(run("image", "inspect", IMAGE).stdout)[0]
    assert HEALTH[1] in json.dumps(health), "the image has no HEALTHCHECK: podman keeps it with --format docker alone"


def test_it_answers_what_it_has_taken_when_it_is_stopped() -> None:
    statuses: list[int] = []

    def ask() -> None:
        with headwater.Client(base_url=url, max_retries=0) as client:
            try:
                client.attribute(prompt="The with statement", response=" wraps the execution of a block." * 20, top_k=5)
                statuses.append(200)
            except headwater.APIStatusError as error:
                statuses.append(error.status_code)

    with serving() as (name, url):
        askers = [threading.Thread(target=ask) for _ in range(24)]
        for asker in askers:
            asker.start()
        wait_until(lambda: bool(statuses), 60)
        code, _ = stop(name)
        for asker in askers:
            asker.join()
        told = run("logs", name)
    assert code == "0", told.stderr
    assert (len(statuses), set(statuses) <= {200, 503}) == (24, True), statuses
    assert statuses.count(200) > 1
    assert "Headwater has stopped." in told.stdout + told.stderr


def test_it_ends_at_once_when_it_is_stopped_while_it_starts() -> None:
    with container() as name:
        wait_until(lambda: run("inspect", name, "--format", "{{.State.Running}}").stdout.strip() == "true", 30)
        time.sleep(1)
        code, seconds = stop(name)
    # Before Python listens to signals the shell's number for SIGTERM, and then 0.
    assert (code in ("0", "143"), seconds < 15) == (True, True), (code, seconds)


def test_the_indexer_ends_at_once_when_it_is_stopped() -> None:
    started = run("run", "--detach", *CONFINED, IMAGE, "python", "/opt/headwater/bin/prepare.py")
    name = started.stdout.strip()
    try:
        wait_until(lambda: "weights" in run("logs", name).stderr, 120)  # the demo's model is being trained
        code, seconds = stop(name)
    finally:
        run("rm", "--force", "--volumes", name)
    assert (code, seconds < 15) == ("143", True), (code, seconds)
