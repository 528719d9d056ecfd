"""CPU profiles: built-in ones, and files that change them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gdbvmx import _core, profiles

PROCBASED_CTLS2 = 0x48B


def write(directory: Path, document: object) -> str:
    path = directory / "machine.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return str(path)


def setting(profile: _core.CpuProfile, name: str) -> str | None:
    return next((it["setting"] for it in profile.capabilities() if it["name"] == name), None)


def test_built_in_profiles_promise_nothing_that_is_not_honoured() -> None:
    for name in _core.CpuProfile.names():
        profile, warnings = profiles.load(name)
        assert (profile.name, warnings) == (name, [])
    assert profiles.load(None)[0].name == _core.CpuProfile.names()[0]


def test_minimal_has_none_of_what_came_later() -> None:
    profile, _ = profiles.load("minimal")
    assert setting(profile, "HLT exiting") == "allowed"
    assert setting(profile, "CR3-load exiting") == "required"
    assert setting(profile, "enable EPT") is None


def test_a_file_changes_its_base(tmp_path: Path) -> None:
    allowed = 0x0000_0002  # enable EPT
    document = {
        "base": "gdbvmx",
        "msrs": {hex(PROCBASED_CTLS2): hex(allowed << 32)},
        "cpuid": {"0x80000008:0": {"eax": "0x3024"}, "0x1": {"ebx": 0}},
    }
    profile, warnings = profiles.load(write(tmp_path, document))
    assert (profile.name, warnings) == ("machine", [])
    assert setting(profile, "enable EPT") == "allowed"
    assert setting(profile, "enable VPID") == "forbidden"
    assert profile.cpuid(0x8000_0008, 0)[0] == 0x3024


def test_all_parts_may_be_left_out(tmp_path: Path) -> None:
    profile, warnings = profiles.load(write(tmp_path, {}))
    assert warnings == []
    assert profile.capabilities() == profiles.default().capabilities()


def test_what_is_not_honoured_is_offered_with_a_warning(tmp_path: Path) -> None:
    enable_pconfig = 1 << 27
    document = {"msrs": {hex(PROCBASED_CTLS2): hex(enable_pconfig << 32)}}
    profile, warnings = profiles.load(write(tmp_path, document))
    assert setting(profile, "enable PCONFIG") == "allowed"
    assert len(warnings) == 1
    assert "0x48b" in warnings[0] and "enable PCONFIG" in warnings[0]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ([], "expected an object"),
        ({"bas": "gdbvmx"}, "'bas' is no part of a profile"),
        ({"base": 7}, "expected the name of a profile"),
        ({"base": "i486"}, "no CPU profile"),
        ({"msrs": {"0x10": "0x0"}}, "not a VMX capability MSR"),
        ({"msrs": {"0x480": "many"}}, "expected a number of 64 bits"),
        ({"msrs": {"0x480": -1}}, "expected a number of 64 bits"),
        ({"msrs": {"0x480": True}}, "expected a number of 64 bits"),
        ({"cpuid": {"one": {}}}, "expected a number of 32 bits"),
        ({"cpuid": {"0x1:0": {"efx": "0x0"}}}, "no register"),
        ({"cpuid": {"0x1:0": {"eax": "0x100000000"}}}, "expected a number of 32 bits"),
    ],
)
def test_a_bad_file_is_one_clear_line(tmp_path: Path, document: object, words: str) -> None:
    file = write(tmp_path, document)
    with pytest.raises(profiles.ProfileError) as error:
        profiles.load(file)
    message = str(error.value)
    assert words in message and message.startswith(file) and "\n" not in message


def test_a_missing_file_or_name_is_named(tmp_path: Path) -> None:
    with pytest.raises(profiles.ProfileError, match="No such file"):
        profiles.load(str(tmp_path / "absent.json"))
    with pytest.raises(profiles.ProfileError, match="no CPU profile"):
        profiles.load("nonesuch")


def test_features_are_added_and_taken_away(tmp_path: Path) -> None:
    pku, la57 = 1 << 3, 1 << 16
    assert profiles.default().cpuid(7)[2] & (pku | la57) == pku | la57
    profile, warnings = profiles.load("gdbvmx,-pku")
    assert (profile.name, warnings) == ("gdbvmx,-pku", [])
    assert profile.cpuid(7)[2] & (pku | la57) == la57
    file = write(tmp_path, {"base": "minimal", "cpuid": {"0x7": {"ecx": la57}}})
    assert profiles.load(f"{file},+pku,-la57")[0].cpuid(7)[2] == pku


def test_an_unknown_feature_is_named_beside_those_there_are() -> None:
    with pytest.raises(profiles.ProfileError, match=r'gdbvmx,-pqu: no CPUID feature "pqu"; there are .*pku'):
        profiles.load("gdbvmx,-pqu")
