#!/usr/bin/env bash
# Installs what gdbvmx needs: system packages (Debian's, by apt), a Rust toolchain if there is none, and the
# Python packages in .venv. Nothing is done twice: what is there is found by looking for it, and the Python
# packages carry a stamp.
#
#   scripts/setup.sh                 all of it
#   scripts/setup.sh --no-references without QEMU and Bochs (comparison and benchmarks then skip, saying so)
set -euo pipefail
cd "$(dirname "$0")/.."

references=yes
case "${1-}" in
    "") ;;
    --no-references) references=no ;;
    *) echo "setup: unknown option '$1' (known: --no-references)" >&2; exit 2 ;;
esac

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# --- system packages -------------------------------------------------------------------------------------
# probe|packages: a command on the PATH, or a file, that shows that the packages are installed.
required='
gdb|gdb
gcc|gcc libc6-dev
make|make
ld|binutils
'
reference='
qemu-system-x86_64|qemu-system-x86
bochs|bochs
/usr/share/bochs/BIOS-bochs-latest|bochsbios
/usr/share/vgabios/vgabios.bin|vgabios
/boot/memtest86+x64.bin|memtest86+
grub-mkrescue|grub-common
/usr/lib/grub/i386-pc/boot.img|grub-pc-bin
xorriso|xorriso
mformat|mtools
'

present() {
    case "$1" in
        /*) [ -e "$1" ] ;;
        *) command -v "$1" >/dev/null ;;
    esac
}

missing_of() { # the packages of the table $1 whose probe fails
    local probe packages
    while IFS='|' read -r probe packages; do
        [ -z "$probe" ] || present "$probe" || printf '%s ' $packages
    done <<<"$1"
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600 "$@"; }

install() { # PURPOSE PACKAGE…
    local purpose=$1
    shift
    local by_hand="apt-get install --no-install-recommends $*"
    command -v apt-get >/dev/null || { say "$purpose: this is no Debian; install the equivalents of: $*"; return 1; }
    if [ "$(id -u)" != 0 ] && ! sudo -n true 2>/dev/null; then
        say "$purpose: not root and no passwordless sudo; run: sudo $by_hand"
        return 1
    fi
    say "$purpose: installing $*"
    # A fresh image has no package lists, an old one has stale ones: refresh only when the install needs it.
    apt install --no-install-recommends "$@" >/dev/null 2>&1 && return
    apt update >/dev/null || true
    apt install --no-install-recommends "$@" >/dev/null || { say "$purpose: this failed: $by_hand"; return 1; }
}

packages=$(missing_of "$required")
[ -z "$packages" ] || install "system packages" $packages || die "cannot go on without: $packages"
if [ "$references" = yes ]; then
    packages=$(missing_of "$reference")
    [ -z "$packages" ] || install "reference targets" $packages || say "going on without the reference targets"
fi

# --- Rust ------------------------------------------------------------------------------------------------
minimum=85 # of rustc 1.x; core/Cargo.toml states the same
PATH=$PATH:$HOME/.cargo/bin
rust_minor() { rustc --version 2>/dev/null | sed -nE 's/^rustc 1\.([0-9]+)\..*/\1/p'; }
if ! command -v cargo >/dev/null || [ "$(rust_minor)" -lt "$minimum" ] 2>/dev/null; then
    # Debian 12's plain rustc is 1.63; rustc-web is the newer one that it keeps for its browsers.
    install "Rust toolchain" rustc-web cargo-web || install "Rust toolchain" rustc cargo \
        || die "no Rust: install rustc and cargo 1.$minimum or later"
fi
minor=$(rust_minor)
[ "${minor:-0}" -ge "$minimum" ] || die "found $(rustc --version 2>&1 || true), but rustc 1.$minimum or later is needed"

# --- Python ----------------------------------------------------------------------------------------------
python=${PYTHON:-python3}
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
    || die "'$python' is not Python 3.11 or later; name one: PYTHON=/path/to/python3.11 make setup"

stamp=.venv/.stamp
# The stamp is the inputs themselves: the interpreter and the file that lists the packages.
wanted=$({ "$python" -V; cat pyproject.toml; } | cksum)
if [ ! -x .venv/bin/python ] || [ "$(cat $stamp 2>/dev/null)" != "$wanted" ]; then
    # Debian's python3 has venv and ensurepip in a package of their own.
    "$python" -c 'import venv, ensurepip' 2>/dev/null || install "Python" python3-venv \
        || die "'$python' has no venv module: install python3-venv"
    say "Python packages into .venv"
    "$python" -m venv .venv
    .venv/bin/python - >.venv/packages.txt <<'PY'
import tomllib

project = tomllib.load(open("pyproject.toml", "rb"))["project"]
extras = project["optional-dependencies"]
print(*project["dependencies"], *extras["test"], *extras["dev"], sep="\n")
PY
    grep -v '^gdbvmx\[' .venv/packages.txt | xargs .venv/bin/pip install --quiet --disable-pip-version-check
    echo "$wanted" >$stamp
fi
say "ready ($(.venv/bin/python -V), $(rustc --version | cut -d' ' -f1,2), $(gdb --version | head -1))"
