# Sourced by bin/dev, bin/test and .ci/run from the project's folder: finds a Python.

# in_environment REQUIREMENTS ARGUMENTS…
# Ends in the Python of .venv with these arguments, as the same process. RECADO_VENV names
# an environment that is there already and used as it is.
in_environment() {
    recado_python=${RECADO_VENV:-.venv}/bin/python
    "$recado_python" -c '' 2>/dev/null || find_python || exit 1
    exec "$recado_python" -I bin/_environment.py "$@"
}

find_python() {
    recado_old= recado_bare=
    for recado_python in python3 python3.14 python3.13 python3.12 python3.11; do
        "$recado_python" -I -c '
import sys
if sys.version_info < (3, 11):
    sys.exit(3)
try:
    import ensurepip, venv
except ImportError:
    sys.exit(4)
' 2>/dev/null
        case $? in
        0) return 0 ;;
        3) recado_old=${recado_old:-$("$recado_python" -V 2>&1)} ;;
        4) recado_bare=${recado_bare:-$("$recado_python" -V 2>&1)} ;;
        esac
    done
    if [ -n "$recado_bare" ]; then
        recado_fault="$recado_bare is here, but not its module venv: install it (on Debian and Ubuntu: apt install python3-venv)."
    elif [ -n "$recado_old" ]; then
        recado_fault="Python 3.11 or newer is needed, and this machine's is $recado_old."
    else
        recado_fault="Python 3.11 or newer is needed, and there is no python3 in PATH."
    fi
    printf 'recado: %s\n' "$recado_fault" >&2
    return 1
}
