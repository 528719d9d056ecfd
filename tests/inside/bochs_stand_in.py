"""Stands in for Bochs with Linux in it: does on this machine what the shell in there is told.

It connects its serial lines as the configuration says, and gives the lines that come to a shell here, whose
QEMU runs by TCG. BOCHS_STAND_IN in the environment makes it misbehave: `panic` ends at once, `hang` boots for
ever.
"""

from __future__ import annotations

import os
import pty
import re
import socket
import subprocess
import sys
import threading
import time
import tty
from pathlib import Path


def connect(configuration: str, line: str) -> socket.socket:
    match = re.search(rf"^{line}: .*dev=([\d.]+):(\d+)$", configuration, re.MULTILINE)
    assert match is not None
    return socket.create_connection((match[1], int(match[2])))


def pump(source: int, target: int) -> None:
    while data := os.read(source, 4096):
        os.write(target, data)


def main() -> None:
    how = os.environ.get("BOCHS_STAND_IN", "")
    if how == "panic":
        sys.exit("[HD    ] ata0-0: could not open hard drive image file")
    work = Path.cwd()
    (work / "pid").write_text(str(os.getpid()))
    configuration = Path(sys.argv[sys.argv.index("-f") + 1]).read_text()
    control, stub = connect(configuration, "com1"), connect(configuration, "com2")
    master, slave = pty.openpty()
    tty.setraw(slave)
    for source, target in ((master, stub.fileno()), (stub.fileno(), master)):
        threading.Thread(target=pump, args=(source, target), daemon=True).start()
    control.sendall(b"gdbvmx: Linux is up\n")
    if how == "hang":
        time.sleep(3600)
    control.sendall(b"gdbvmx: ready\n")
    (work / "tracing" / "events" / "kvm" / "kvm_nested_vmexit").mkdir(parents=True)
    recorded = Path(__file__).with_name("kvm-trace.txt")  # of minivisor, in a real Bochs
    places = {
        "cat /sys/kernel/tracing/trace": f"cat {recorded}",
        "/sys/kernel/tracing": str(work / "tracing"),
        "/dev/sdb": str(work / "disk"),
        "/run/": f"{work}/run-",
        "/dev/ttyS1": os.ttyname(slave),
        "-accel kvm -cpu host,+vmx": "-accel tcg -cpu max",
    }
    line = b""
    while byte := control.recv(1):
        line += byte
        if byte != b"\n":
            continue
        script = line.decode()
        for theirs, ours in places.items():
            script = script.replace(theirs, ours)
        script = f"blockdev() {{ :; }}\n{script}"
        subprocess.run(["sh", "-c", script], stdin=control, stdout=control, stderr=control, check=False)
        line = b""


main()
