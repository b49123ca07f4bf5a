#!/bin/sh
# Print the path of a Python that is new enough, has venv, and really runs: a pyenv shim may be on PATH and fail.
#
#   scripts/find_python.sh [PYTHON [VERSION]]
#
# Tried in turn: PYTHON, if it is not empty, and then nothing else; pyenv's version named in .python-version, or VERSION;
# python3.14, 3.13, 3.12 and python3 on PATH. With a VERSION, such as 3.12, a Python of another version is not usable.

only=${2:-}

usable() {
    "$1" -c 'import sys, venv, ensurepip
version, only = sys.version_info[:2], sys.argv[1]
sys.exit(version < (3, 12) or only not in ("", "%d.%d" % version))' "$only" >/dev/null 2>&1
}

if [ -n "${1:-}" ]; then
    if usable "$1"; then
        command -v "$1"
        exit 0
    fi
    echo "PYTHON=$1 does not run, is ${only:+not }${only:-older than 3.12}, or has no venv module." >&2
    exit 1
fi

wanted=${only:-$(cat "$(dirname "$0")/../.python-version")}
for candidate in "${PYENV_ROOT:-$HOME/.pyenv}/versions/$wanted"/bin/python \
    "${PYENV_ROOT:-$HOME/.pyenv}/versions/$wanted".*/bin/python \
    python3.14 python3.13 python3.12 python3; do
    if usable "$candidate"; then
        command -v "$candidate"
        exit 0
    fi
done

cat >&2 <<MESSAGE
No Python ${only:->= 3.12} with the venv module found (tried pyenv's $wanted, python3.14, python3.13, python3.12, python3).
Install one, for instance with \`pyenv install $wanted\`, or name one: make PYTHON=/path/to/python ...
MESSAGE
exit 1
