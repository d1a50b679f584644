#!/usr/bin/env bash
# The engine's tests with a Python for Windows, under Wine; the command for the figures
# in docs/windows.md.
#
#     bash ci/under_wine/run.sh PYTHON [TEST...]
#
#   PYTHON   a folder: python.org's "Windows embeddable package (64-bit)", 3.11 or
#            newer, unpacked; it is copied, and stays as it is
#   TEST     what pytest is to run, from the top of the checkout; tests/engine
#
# Needs wine64, and pip of a Python here that has PyPI. Where Go and bbolt are
# (CONTRIBUTING.md), bbolt for Windows is built and held against the engine, too.
# A process for each file of tests: a crash of Wine's takes one of them along. Exits
# with 1 when one failed. About ten minutes.
set -uo pipefail
cd "$(dirname "$0")/../.."
source=${1:?usage: bash ci/under_wine/run.sh PYTHON [TEST...]}
shift
work=$(mktemp -d)
export WINEPREFIX=$work/prefix WINEDEBUG=-all WINEDLLOVERRIDES="mscoree,mshtml,winedbg.exe=" DISPLAY=
trap 'wineserver -k 2>/dev/null; rm -rf "$work"' EXIT
unset PYTHONPATH PYTHONHOME

cp -r "$source" "$work/python"
# Wine has no answer to what `platform` asks through it.
rm -f "$work/python/_wmi.pyd"
archive=$(basename "$work"/python/python3??.zip)
pth=("$work"/python/python3*._pth)
windows() { printf 'Z:%s\n' "${1//\//\\}"; }
{
    printf '%s\n.\n' "$archive"
    windows "$work/site"
    windows "$PWD/engine"
    windows "$PWD/faultinject"
    windows "$PWD/models"
    printf 'import site\n'
} >"${pth[0]}"
version=${archive#python3}
"${HOST_PYTHON:-python3}" -m pip install -q --target "$work/site" --platform win_amd64 \
    --python-version "3.${version%.zip}" --only-binary=:all: \
    pytest pytest-xdist hypothesis psutil rich colorama || exit 1

# With a file as standard output Python ends at once under Wine: a pipe.
python() { timeout 600 wine "$work/python/python.exe" "$@" </dev/null 2>&1 | tr -d '\r' | cat; }
wine wineboot -i >/dev/null 2>&1
python -c 'import sys; print(sys.version)'

failed=0
if [ "$#" -eq 0 ]; then
    # As a folder, or what is not collected there would be.
    python -m pytest --collect-only -q -p no:cacheprovider tests/engine >"$work/log"
    if grep '^ERROR' "$work/log"; then
        failed=1
    fi
    mapfile -t tests < <(sed -n 's/::.*//p' "$work/log" | sort -u)
    set -- "${tests[@]}"
fi

for test in "$@"; do
    python -m pytest -q -p no:cacheprovider "$test" >"$work/log"
    last=$(tail -n 1 "$work/log")
    printf '%-40s %s\n' "$(basename "$test")" "$last"
    case $last in
        *failed* | *error*) failed=1 && cat "$work/log" ;;
        *passed* | *skipped*) ;;
        *) failed=1 && tail -n 40 "$work/log" ;;
    esac
done

if command -v go >/dev/null && [ -d /usr/share/gocode/src/go.etcd.io/bbolt ]; then
    if GO111MODULE=off GOPATH=/usr/share/gocode GOOS=windows GOARCH=amd64 \
        GOCACHE=$work/gocache go build -o "$work/holder.exe" ci/under_wine/holder.go; then
        mkdir "$work/both"
        said=$(python "$(windows "$PWD/ci/under_wine/beside_bbolt.py")" \
            "$(windows "$work/holder.exe")" "$(windows "$work/both")")
        printf '%s\n' "$said"
        case $said in "bbolt and shearbolt keep"*) ;; *) failed=1 ;; esac
    else
        failed=1
    fi
fi
exit "$failed"
