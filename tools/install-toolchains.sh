#!/bin/sh
# Installs every language's compiler or interpreter that is missing: Debian packages by apt, as root or through sudo, and
# TypeScript's compiler from npm. What cannot be had here is told and left out: `codechoir doctor` tells what it takes.
# The one argument is the Python that has codechoir.
set -eu

python=$1
missing=$("$python" - <<'END'
from codechoir.sandbox.toolchains.finding import missing_parts
from codechoir.sandbox.toolchains.table import TOOLCHAINS

packages = [
    package
    for toolchain in TOOLCHAINS.values()
    if set(missing_parts(toolchain)) - {"tsc"}
    for package in toolchain.packages
]
print(" ".join(dict.fromkeys(packages)))
END
)

as_root=""
if [ "$(id -u)" -ne 0 ]; then
    as_root="sudo -n" # nobody is asked for a password where nobody may be there to answer
    [ -t 0 ] && as_root="sudo"
fi
install() {
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}
if [ -n "$missing" ]; then
    if command -v apt-get >/dev/null 2>&1 && $as_root true; then
        echo "installing Debian packages: $missing" >&2
        $as_root apt-get update -qq >&2 || true
        # shellcheck disable=SC2086  # one word a package
        install $missing || for package in $missing; do install "$package" || true; done
    else
        echo "not installed, for want of apt or of the right to use it; ask an administrator for: $missing" >&2
    fi
fi

"$python" - <<'END'
import sys

from codechoir.errors import UserError
from codechoir.sandbox.toolchains.typescript import install_typescript

try:
    install_typescript()
except UserError as error:
    print(error, file=sys.stderr)
END
