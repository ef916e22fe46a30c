# What the tools share. Sourced by them; sets TOP and enters it.
set -euo pipefail
TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$TOP"
export PATH="$PATH:/usr/sbin:/sbin"
unset PYTHONDONTWRITEBYTECODE PYTHONHOME PYTHONPATH VIRTUAL_ENV # byte code is to be cached; nobody else's modules
export PYTHONNOUSERSITE=1

die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    [ -z "${2:-}" ] || printf '  %s\n' "$2" >&2
    exit "${3:-1}"
}

# as_root COMMAND...: runs it as root, through sudo where we are not.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo -- "$@"
    else
        die "root is needed for: $*" "Run this once as root, or install sudo."
    fi
}

# need_packages PACKAGE...: installs those that are missing, and asks apt for nothing where none is.
need_packages() {
    local package missing=()
    command -v dpkg-query >/dev/null || die "this is not a Debian: no dpkg-query" "Install by hand what serves as: $*"
    for package; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    printf 'Installing %s\n' "${missing[*]}"
    as_root apt-get -qq update || die "apt-get update failed" "Is the network up, and are the apt sources right?"
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]}" "Install them by hand, then run this again."
}
