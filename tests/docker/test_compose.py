"""compose.yaml as compose reads it: profiles, confinement, addresses, and settings that are there."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from headwater_server.settings import Settings

pytestmark = pytest.mark.skipif(shutil.which("podman") is None, reason="podman-compose reads compose.yaml by podman")

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMMAND = [str(Path(sys.executable).parent / "podman-compose"), "--file", str(DOCKER / "compose.yaml")]
OWN = {"index", "llm", "headwater"}


def config(*profiles, **environment):
    """What `compose config` prints, with no variables but these."""
    chosen = [word for profile in profiles for word in ("--profile", profile)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HEADWATER_")}
    done = subprocess.run(
        [*COMMAND, *chosen, "config"], capture_output=True, text=True, check=True, env={**clean, **environment}
    )
    return yaml.safe_load(done.stdout)


@pytest.fixture(scope="module")
def cpu():
    return config("cpu")["services"]


def test_nothing_runs_without_a_profile():
    written = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    assert all(service["profiles"] for service in written["services"].values())


def test_the_profile_cpu_has_a_model_its_index_and_the_server(cpu):
    assert cpu.keys() == OWN
    assert cpu["headwater"]["depends_on"] == {
        "index": {"condition": "service_completed_successfully"},
        "llm": {"condition": "service_healthy"},
    }
    assert cpu["headwater"]["environment"]["HEADWATER_UPSTREAM"] == "http://llm:8001/v1"
    assert "restart" not in cpu["index"]  # one-shot


def test_what_is_ours_cannot_write_to_its_image_or_gain_a_privilege(cpu):
    for name, service in cpu.items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert "privileged" not in service
        assert "user" not in service  # the image's own, which is not root


def test_only_this_machine_reaches_what_is_published(cpu):
    assert cpu["headwater"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in cpu["llm"]
    assert cpu["llm"]["networks"] == ["inner"]
    names = cpu["headwater"]["environment"]["HEADWATER_ALLOWED_HOSTS"].split(",")
    assert "*" not in names
    assert "localhost" in names


def test_the_server_reads_the_index_and_does_not_write_it(cpu):
    assert "data:/data:ro" in cpu["headwater"]["volumes"]
    assert "data:/data:ro" in cpu["llm"]["volumes"]
    assert "data:/data" in cpu["index"]["volumes"]


def test_the_servers_settings_exist(cpu):
    names = {name for name in cpu["headwater"]["environment"] if name.startswith("HEADWATER_")}
    assert {name.removeprefix("HEADWATER_").lower() for name in names} <= set(Settings.model_fields)
    told = set(re.findall(r"HEADWATER_[A-Z_]+", (DOCKER / "prepare.py").read_text()))
    assert set(cpu["index"]["environment"]) <= told


def test_ones_own_model_corpus_and_port_are_taken():
    own = config(
        "cpu",
        HEADWATER_MODELS_FOLDER="/srv/models",
        HEADWATER_CORPUS_FOLDER="/srv/corpus",
        HEADWATER_MODEL="/models/mine",
        HEADWATER_DOCUMENTS="/corpus/all.jsonl",
        HEADWATER_PUBLISHED_PORT="9000",
    )["services"]
    assert own["headwater"]["ports"] == ["127.0.0.1:9000:8000"]
    assert own["llm"]["command"][2] == "/models/mine"
    assert own["index"]["environment"]["HEADWATER_MODEL"] == "/models/mine"
    assert "/srv/corpus:/corpus:ro" in own["index"]["volumes"]
    for name in OWN:
        assert "/srv/models:/models:ro" in own[name]["volumes"]


def test_the_profile_gpu_gives_each_its_own_gpu():
    services = config("gpu")["services"]
    assert services.keys() == {"index-gpu", "vllm", "headwater-gpu"}
    devices = {name: service["deploy"]["resources"]["reservations"]["devices"][0] for name, service in services.items()}
    assert all(device["capabilities"] == ["gpu"] for device in devices.values())
    assert {name: device["device_ids"] for name, device in devices.items()} == {
        "vllm": ["0"],
        "index-gpu": ["1"],
        "headwater-gpu": ["1"],
    }
    assert services["headwater-gpu"]["networks"]["default"]["aliases"] == ["headwater"]  # Prometheus asks by this name
    assert services["headwater-gpu"]["environment"]["HEADWATER_UPSTREAM"] == "http://vllm:8001/v1"


def test_the_profile_monitoring_mounts_files_that_are_there():
    services = config("monitoring")["services"]
    assert services.keys() == {"prometheus", "grafana"}
    for name, service in services.items():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"]), name
        mounted = [volume.partition(":")[0] for volume in service["volumes"] if volume.startswith("./")]
        assert len(mounted) > 1
        assert all((DOCKER / source).exists() for source in mounted)
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
        assert not service["image"].endswith("latest")
    passwords = [name for name in services["grafana"]["environment"] if "PASSWORD" in name]
    assert not passwords


def test_prometheus_asks_the_server_where_it_is(cpu):
    scraped = yaml.safe_load((DOCKER / "monitoring" / "prometheus.yml").read_text())["scrape_configs"]
    (target,) = scraped[0]["static_configs"][0]["targets"]
    assert target.split(":") == ["headwater", "8000"]
    assert "headwater" in cpu["headwater"]["environment"]["HEADWATER_ALLOWED_HOSTS"].split(",")
    mounted = config("monitoring", HEADWATER_METRICS_KEY_FILE="/srv/key")["services"]["prometheus"]["volumes"]
    assert f"/srv/key:{scraped[0]['authorization']['credentials_file']}:ro" in mounted
