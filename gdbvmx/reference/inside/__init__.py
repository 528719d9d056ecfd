"""QEMU with nested VT where there is no hardware VT: in a Linux with KVM inside Bochs."""
