#!/bin/sh
# Installs the Debian packages that the sandbox, the toolchains and the corpus need, when a command or file of theirs is missing.
# As root directly, else through sudo, else says what to install.
set -eu

missing=""
need() { # need PROBE PACKAGE...: the packages are wanted when the probe fails
    probe=$1
    shift
    sh -c "$probe" >/dev/null 2>&1 || missing="$missing $*"
}
need "command -v bwrap" bubblewrap
need "command -v g++" g++
need "command -v javac" default-jdk-headless
need "test -e /usr/share/java/javatuples.jar" libjavatuples-java
need "command -v node" nodejs
need "command -v npm" npm
need "command -v git" git
need "python3 -c 'import ensurepip, venv'" python3-venv

[ -z "$missing" ] && exit 0
if ! command -v apt-get >/dev/null 2>&1; then
    echo "codechoir needs what these Debian packages hold; install their like:$missing" >&2
    exit 2
fi
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    if ! command -v sudo >/dev/null 2>&1; then
        echo "these Debian packages are missing, and there is no sudo; ask an administrator for:  apt-get install$missing" >&2
        exit 2
    fi
    as_root=sudo
fi
echo "installing Debian packages:$missing" >&2
$as_root apt-get update -qq >&2
# shellcheck disable=SC2086  # one word a package
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >&2
