"""QEMU inside Bochs: what is packed, kept and said, without Bochs."""

from __future__ import annotations

import base64
import io
import json
import os
import shlex
import stat
from pathlib import Path

import pytest

from gdbvmx.reference import medium
from gdbvmx.reference.inside import cpio, packages, places, system
from gdbvmx.reference.inside.request import End, Framing, Request


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """The entries of a cpio archive in the "newc" format: mode and contents by name."""
    found = {}
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * n : position + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        start = position + 110
        name = archive[start : start + name_size - 1].decode()
        data = (start + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (mode, archive[data : data + size])
        position = (data + size + 3) & ~3


def test_the_archive_holds_files_and_the_directories_above_them(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"12345")
    output = io.BytesIO()
    cpio.write(
        output, [cpio.Entry("/a/b/file", source, 0o644), cpio.Entry("/a/c"), cpio.Entry("/a/b/x", source)]
    )
    found = entries(output.getvalue())
    assert list(found) == ["a", "a/b", "a/b/file", "a/c", "a/b/x"]
    assert found["a/b/file"] == (stat.S_IFREG | 0o644, b"12345")
    assert found["a/c"] == (stat.S_IFDIR | 0o755, b"")


def fed(chunks: list[bytes]) -> tuple[bytes, End | None]:
    framing = Framing("t0ken")
    output = b""
    end = None
    for chunk in chunks:
        assert end is None
        more, end = framing.feed(chunk)
        output += more
    return output, end


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_the_guests_bytes_are_told_from_the_shells(step: int) -> None:
    complaint = base64.b64encode(b"qemu: warning\n")
    said = b"hello\x1e\x1et0ke\x1e \x1et0kenn\n"
    stream = b"noise \x1e\n\x1et0ken\x1e" + said + b"\x1et0ken\x1e3 77 " + complaint + b"\n"
    chunks = [stream[at : at + step] for at in range(0, len(stream), step)]
    assert fed(chunks) == (said, End(3, "qemu: warning", 77))


def test_output_is_passed_on_before_the_end() -> None:
    framing = Framing("t0ken")
    assert framing.feed(b"\x1et0ken\x1eprompt> ") == (b"prompt> ", None)


def test_a_shell_that_tells_no_status_is_a_failure() -> None:
    output, end = fed([b"\x1et0ken\x1eout\x1et0ken\x1esh: not found\n"])
    assert output == b"out"
    assert end is not None
    assert end.status == -1


def test_the_command_quotes_what_the_user_gave() -> None:
    request = Request("/a/my image.elf", append="x='1'; reboot", modules=["/b/my image.elf"], freeze=True)
    assert list(request.files()) == ["0/my image.elf", "1/my image.elf"]
    words = shlex.split(request.command("t0ken", 10240))
    assert words[words.index("-kernel") + 1] == "/run/image/0/my image.elf"
    assert words[words.index("-append") + 1] == "x='1'; reboot"
    assert words[words.index("-initrd") + 1] == "/run/image/1/my image.elf"
    assert "-S" in words
    assert "-gdb" not in words


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A cache whose system is made of next to nothing."""

    def unpack(package: str, directory: Path) -> str:
        for name in (
            "boot/vmlinuz-1",
            "bin/busybox",
            *(f"lib/modules/1/kernel/{m}.ko" for m in system._MODULES),
        ):
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(name)
        return f"{package}_1_amd64.deb"

    def make(work: Path, menu: str, loader: str, files: dict[str, Path], output: Path) -> None:
        output.write_text(
            menu + loader + "\n".join(f"{name}={path.stat().st_size}" for name, path in files.items())
        )

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(packages, "require", lambda: None)
    monkeypatch.setattr(packages, "dependency", lambda package, pattern: f"{package}-1")
    monkeypatch.setattr(packages, "unpack", unpack)
    monkeypatch.setattr(packages, "libraries", lambda program: {"/lib/libc.so.6": program})
    monkeypatch.setattr(medium, "make", make)
    return tmp_path / "gdbvmx" / "inside-bochs"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "qemu"
    path.write_text("#!")
    return path


def test_the_system_is_built_once(cache: Path, program: Path) -> None:
    (cache / "building-killed" / "packages").mkdir(parents=True)
    said: list[str] = []
    iso = system.ensure(program, said.append)
    assert iso.is_file()
    assert "system/usr/bin/qemu-system-x86_64=2" in iso.read_text()
    assert said[0].startswith("there is no system for Bochs to boot yet; building it")
    said.clear()
    assert system.ensure(program, said.append) == iso
    assert said == []
    assert sorted(path.name for path in cache.iterdir()) == ["lock", "manifest.json", "system.iso"]


@pytest.mark.parametrize(
    "damage", ["medium", "shorter", "manifest", "no manifest", "no medium", "not the shape"]
)
def test_a_damaged_system_is_built_anew(cache: Path, program: Path, damage: str) -> None:
    iso = system.ensure(program, lambda _: None)
    good = iso.read_bytes()
    manifest = cache / "manifest.json"
    match damage:
        case "medium":
            iso.write_bytes(good[:-1] + b"?")
        case "shorter":
            iso.write_bytes(good[:-1])
        case "manifest":
            manifest.write_text("{")
        case "no manifest":
            manifest.unlink()
        case "no medium":
            iso.unlink()
        case "not the shape":
            manifest.write_text(json.dumps([1]))
    said: list[str] = []
    system.ensure(program, said.append)
    assert "building it" in said[0]
    assert iso.read_bytes() == good


def test_another_qemu_makes_another_system(cache: Path, program: Path) -> None:
    system.ensure(program, lambda _: None)
    program.write_text("#!!")
    said: list[str] = []
    system.ensure(program, said.append)
    assert said[0].startswith("QEMU or the recipe of the system for Bochs has changed")


def test_a_build_that_fails_leaves_nothing_and_says_why(
    cache: Path, program: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise packages.PackageError("apt-get download busybox-static failed: no network")

    monkeypatch.setattr(packages, "unpack", fail)
    with pytest.raises(system.BuildError, match="no network"):
        system.ensure(program, lambda _: None)
    assert [path.name for path in cache.iterdir()] == ["lock"]


def test_without_debians_tools_it_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(packages.PackageError, match="apt-get, apt-cache, dpkg-deb not found"):
        packages.require()


def test_what_killed_keepers_left_is_swept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    runtime = places.runtime_directory()
    ended = runtime / "inside-4194305-abc"  # above the kernel's largest process id
    running = runtime / f"inside-{os.getpid()}-abc"
    for directory in (ended, running):
        directory.mkdir()
        (directory / "disk").touch()
    places.sweep()
    assert not ended.exists()
    assert running.exists()


def test_somebody_elses_runtime_directory_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    places.runtime_directory()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(PermissionError, match="belongs to somebody else"):
        places.runtime_directory()
