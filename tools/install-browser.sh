#!/bin/sh
# Installs the headless browser that the playground's tests drive, when it is missing: Debian packages by apt, as root or
# through sudo. Where it cannot be had, that is told, and those tests are skipped.
set -eu

command -v chromium >/dev/null 2>&1 && command -v chromedriver >/dev/null 2>&1 && exit 0
as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n" # nobody is asked for a password where nobody may be there to answer
    [ -t 0 ] && as_root="sudo"
fi
if command -v apt-get >/dev/null 2>&1 && $as_root true; then
    echo "installing Debian packages: chromium chromium-driver" >&2
    $as_root apt-get update -qq >&2 || true
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium chromium-driver >&2 || true
fi
command -v chromedriver >/dev/null 2>&1 ||
    echo "no browser for the playground's tests; ask an administrator for: chromium chromium-driver" >&2
