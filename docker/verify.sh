#!/usr/bin/env bash
# Builds the CPU images, brings the profile `cpu` up on nothing, asks through the SDK and the gateway, checks what is promised
# of the image, and takes all of it down again. With docker or podman as they are; where there is neither, docker/engine.sh
# sets one up in a temporary folder (Debian, root).
#
#     docker/verify.sh [--keep]      # --keep leaves the volumes, and the engine if it was set up
#
# PYTHON is of the environment that `make environment` makes.
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-.venv/bin/python}
PORT=${HEADWATER_PUBLISHED_PORT:-8000}
PROJECT=headwater-verify # its volumes are not those of a stack that is in use
keep=
[ "${1:-}" != --keep ] || keep=yes
began=$(date +%s)
folder=

step() {
    echo
    echo "== $1 ($(($(date +%s) - began)) s)"
}

# An engine will do if it can have the base image.
find_engine() {
    base=$(sed -n 's/^ARG PYTHON_IMAGE=//p' docker/Dockerfile)
    if docker compose version > /dev/null 2>&1 && docker pull --quiet "$base" > /dev/null 2>&1; then
        ENGINE=docker COMPOSE="docker compose"
    elif podman-compose --version > /dev/null 2>&1 && podman pull --quiet "$base" > /dev/null 2>&1; then
        ENGINE=podman COMPOSE=podman-compose
    else
        folder=${HEADWATER_ENGINE_FOLDER:-$(mktemp -d /var/tmp/headwater-engine.XXXXXX)}
        settings=$(docker/engine.sh "$folder")
        eval "$settings"
    fi
    export ENGINE
}

compose() {
    $COMPOSE --project-name $PROJECT --file docker/compose.yaml --profile cpu "$@"
}

build() {
    # Without Docker's format podman leaves HEALTHCHECK out.
    format=$([ "$ENGINE" = docker ] || echo "--format docker --network host")
    # shellcheck disable=SC2086
    $ENGINE build $format ${BUILD_OPTIONS:-} --file docker/Dockerfile "$@" .
}

finish() {
    status=$?
    if [ -z "$keep" ]; then
        compose down --volumes > /dev/null 2>&1 || true
        [ -z "$folder" ] || docker/engine.sh --remove "$folder"
    fi
    [ $status -eq 0 ] && step "all of it holds" || step "failed with $status"
}

step "engine"
find_engine
trap finish EXIT
$ENGINE --version

step "images"
build --target server --tag headwater:cpu
build --target llm --tag headwater:cpu-llm
$ENGINE images | grep -E '^REPOSITORY|headwater'

step "the profile cpu, from nothing"
compose down --volumes > /dev/null 2>&1 || true
compose up --detach --no-build
"$PYTHON" docker/ask.py "http://127.0.0.1:$PORT" --patience 900 || { compose logs --tail 50 >&2; exit 1; }

step "again, with what is there"
compose down
compose up --detach --no-build
"$PYTHON" docker/ask.py "http://127.0.0.1:$PORT" --patience 180
compose down

step "the image"
IMAGE=headwater:cpu DATA=${PROJECT}_data "$PYTHON" -m pytest -v -p no:cacheprovider -p no:randomly docker/check_image.py
