#!/bin/sh
# Turns nested VT on in this host's KVM, now and at each boot: a guest of QEMU with `-cpu host,+vmx` then has VMX.
# Root only, and no virtual machine may be running: kvm_intel is loaded anew.
set -eu

nested=/sys/module/kvm_intel/parameters/nested
conf=/etc/modprobe.d/kvm-intel-nested.conf

die() { echo "nested-vt: $*" >&2; exit 1; }

[ "$(id -u)" = 0 ] || die "run it as root"
grep -qw vmx /proc/cpuinfo || die "this processor shows no VMX: turn VT-x on in the firmware's set-up"
echo 'options kvm_intel nested=1' >"$conf"
case "$(cat $nested 2>/dev/null)" in
    Y | 1) echo "nested-vt: it is on already; $conf keeps it so"; exit 0 ;;
esac
modprobe -r kvm_intel || die "kvm_intel is in use: end the virtual machines, and run this again"
modprobe kvm_intel
case "$(cat $nested)" in
    Y | 1) echo "nested-vt: on, and by $conf at each boot" ;;
    *) die "kvm_intel was loaded anew, but $nested is $(cat $nested)" ;;
esac
