#!/usr/bin/env bash
# A container engine for a machine without one, all of whose images and settings lie in FOLDER: podman and buildah from
# Debian, a base image by debootstrap in place of a registry's. Wants Debian or Ubuntu, root, and a package mirror.
#
#     eval "$(docker/engine.sh FOLDER)"      # sets ENGINE, COMPOSE and BUILD_OPTIONS
#     docker/engine.sh --remove FOLDER
#
# Builds see packages as this machine's pip does: its settings and certificates are mounted while they run, and are in no
# layer of an image.
set -euo pipefail

BASE=docker.io/library/python:3.11-slim-bookworm # so that the FROM line of the Dockerfile finds it
DEBIAN_PACKAGES="podman buildah runc netavark aardvark-dns catatonit iptables debootstrap ca-certificates"

main() {
    if [ "${1:-}" = --remove ]; then
        remove "${2:?which folder?}"
        return
    fi
    folder=$(realpath -m "${1:?which folder?}")
    [ "$(id -u)" = 0 ] || fail "setting up an engine wants root: install docker or podman, or run this as root"
    command -v apt-get > /dev/null || fail "no docker or podman here, and this sets one up on Debian and Ubuntu alone"
    mkdir -p "$folder/etc" "$folder/storage" "$folder/run" "$folder/tmp"
    {
        install_packages
        write_settings
        # shellcheck disable=SC1091
        . "$folder/environment"
        import_base
        install_compose
        write_pip_settings
    } >&2
    cat "$folder/environment"
}

fail() {
    echo "engine: $1" >&2
    exit 69
}

install_packages() {
    # shellcheck disable=SC2086
    dpkg --status $DEBIAN_PACKAGES > /dev/null 2>&1 && return
    echo "engine: installing $DEBIAN_PACKAGES"
    apt-get -o DPkg::Lock::Timeout=300 update -qq
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -qq --yes --no-install-recommends $DEBIAN_PACKAGES > /dev/null
}

# crun refuses machines with both versions of control groups; systemd and its journal may not run.
write_settings() {
    cat > "$folder/etc/containers.conf" << CONFIGURATION
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=20000:20000"]
log_driver = "k8s-file"
init_path = "$(command -v catatonit)"
[network]
network_backend = "netavark"
network_config_dir = "$folder/etc/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime = "runc"
CONFIGURATION
    cat > "$folder/etc/storage.conf" << CONFIGURATION
[storage]
driver = "overlay"
graphroot = "$folder/storage"
runroot = "$folder/run"
CONFIGURATION
    echo 'unqualified-search-registries = ["docker.io"]' > "$folder/etc/registries.conf"
    cat > "$folder/environment" << ENVIRONMENT
export CONTAINERS_CONF=$folder/etc/containers.conf
export CONTAINERS_STORAGE_CONF=$folder/etc/storage.conf
export CONTAINERS_REGISTRIES_CONF=$folder/etc/registries.conf
export TMPDIR=$folder/tmp
export BUILDAH_ISOLATION=chroot
export ENGINE=podman
export COMPOSE="$folder/compose/bin/podman-compose"
ENVIRONMENT
}

# Debian's Python stands in for the official image's: the same minor version, in another place.
import_base() {
    podman image exists "$BASE" && return
    echo "engine: making $BASE from Debian's packages"
    debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python3-pip bookworm "$folder/base" \
        > "$folder/debootstrap.log" || fail "debootstrap failed: $folder/debootstrap.log says why"
    rm -rf "$folder"/base/var/cache/apt/*.bin "$folder"/base/var/cache/apt/archives/*.deb "$folder"/base/var/lib/apt/lists/* \
        "$folder"/base/usr/share/doc/* "$folder"/base/usr/share/man/* "$folder"/base/usr/share/locale/*
    tar -C "$folder/base" -c . | podman import --quiet --change 'ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin' \
        - "$BASE" > /dev/null
    rm -rf "$folder/base"
}

install_compose() {
    [ -x "$folder/compose/bin/podman-compose" ] && return
    echo "engine: installing podman-compose"
    python3 -m venv "$folder/compose"
    "$folder/compose/bin/pip" install --quiet --disable-pip-version-check podman-compose==1.6.0
}

# What `pip config list` says, as the pip.conf of the build; folders and certificates that it names are mounted below /mnt,
# which is there in the base image, so that no layer has a trace of them.
write_pip_settings() {
    certificates=$(python3 -c 'import ssl; print(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt")')
    mkdir -p "$folder/mnt"
    touch "$folder/mnt/certificates.crt"
    python3 - "$folder" "$certificates" >> "$folder/environment" << 'PYTHON'
import ast
import re
import subprocess
import sys
from pathlib import Path

folder, certificates = sys.argv[1:]
found = {}
listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
for line in listed.stdout.splitlines():
    name, _, value = line.partition("=")
    key = name.rpartition(".")[2]
    if key in ("index-url", "extra-index-url", "find-links", "trusted-host", "proxy", "timeout", "retries"):
        words = found.setdefault(key, [])
        words += [word for word in ast.literal_eval(value).split() if word not in words]
mounts = {folder + "/mnt": "/mnt", certificates: "/mnt/certificates.crt"}
for word in [word for words in found.values() for word in words]:
    place = re.match(r"(?:file://)?(/[^/]+/[^/]+)", word)
    if place and Path(place[1]).is_dir():
        mounts[place[1]] = "/mnt" + place[1]
        Path(folder + mounts[place[1]]).mkdir(parents=True, exist_ok=True)
moved = {key: [re.sub(r"^(file://)?/", r"\1/mnt/", word) for word in words] for key, words in found.items()}
lines = [f"{key} = {' '.join(words)}" for key, words in moved.items()]
settings = Path(folder, "etc", "pip.conf")
settings.write_text("\n".join(["[global]", "cert = /mnt/certificates.crt", *lines, ""]))
# The Dockerfile's own indexes would win over the file's.
named = {"index-url": "PIP_INDEX_URL", "extra-index-url": "PIP_EXTRA_INDEX_URL", "find-links": "PIP_EXTRA_INDEX_URL"}
given = sorted({f"--build-arg {argument}=" for key, argument in named.items() if key in found})
options = [*given, f"--secret id=pip.conf,src={settings}", *(f"--volume {here}:{there}:ro" for here, there in mounts.items())]
print(f"export BUILD_OPTIONS='{' '.join(options)}'")
PYTHON
}

remove() {
    folder=$(realpath -m "$1")
    [ -f "$folder/environment" ] || fail "$folder was not made by this script"
    # shellcheck disable=SC1091
    . "$folder/environment"
    podman rm --all --force --time 0 > /dev/null || true
    podman network prune --force > /dev/null || true
    umount "$folder/storage/overlay" 2> /dev/null || true
    rm -rf "$folder"
}

main "$@"
