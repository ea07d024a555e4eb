"""Finds out whether hardware virtualization works, by trying it once per boot."""

from __future__ import annotations

import os
import pathlib
import subprocess
import time

from host import processes, qemu_argv
from host.lab import Lab

BOOT_ID = pathlib.Path("/proc/sys/kernel/random/boot_id")
KVM = pathlib.Path("/dev/kvm")
PROBE_SECONDS = 10
WORKS = b"lab: this machine works"  # printed by vagrant/init
NO_DEVICE = (
    "there is no /dev/kvm: virtualization is off in the firmware, "
    "or this is a VM itself"
)
NO_PERMISSION = (
    "you may not use /dev/kvm; type sudo usermod -aG kvm YOUR-NAME, then log in again"
)
NOTHING_RUNS = "/dev/kvm exists, but a VM does not run with it"


def choose(lab: Lab) -> tuple[str, str]:
    """Returns kvm, or tcg and the reason. Tries KVM at most once per boot."""
    if lab.settings.is_emulated:
        return "tcg", "the VM's processor differs from this machine's"
    boot, answer = BOOT_ID.read_text().strip(), lab.settings.state / "accel"
    try:
        when, accel, *reason = answer.read_text().split()
        if when == boot:
            return accel, " ".join(reason)
    except (FileNotFoundError, ValueError):
        pass
    why_not = try_kvm(lab)
    accel = "tcg" if why_not else "kvm"
    answer.write_text(f"{boot} {accel} {why_not}\n")
    return accel, why_not


def announce(lab: Lab, accel: str, reason: str) -> None:
    if accel != "kvm":
        lab.say(
            "no hardware virtualization, so the VM is emulated: "
            f"it works, but more slowly ({reason})"
        )


def probe_argv(lab: Lab) -> list[str]:
    """Returns QEMU's command line for a VM that says that it works and stops."""
    settings = lab.settings
    hardware = qemu_argv.Hardware(settings.arch, "kvm", 256, settings.image)
    words = [*processes.DIES_WITH_US, *qemu_argv.processor(hardware)]
    words += ["-display", "none", "-monitor", "none", "-no-reboot"]
    words += ["-kernel", f"{settings.image}/vmlinuz"]
    words += ["-initrd", f"{settings.image}/initrd"]
    words += ["-append", f"console={settings.arch.console} lab.probe"]
    return [*words, "-serial", "stdio"]


def try_kvm(lab: Lab) -> str:
    """Returns why KVM does not work here, or an empty string. On many cloud machines
    /dev/kvm exists, but does not work."""
    if not KVM.exists():
        return NO_DEVICE
    if not os.access(KVM, os.R_OK | os.W_OK):
        return NO_PERMISSION
    log = lab.log("kvm")
    with (
        open(log, "wb") as output,
        subprocess.Popen(
            probe_argv(lab), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        ) as process,
    ):
        deadline = time.monotonic() + PROBE_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            said = log.read_bytes()
            if WORKS in said or b"KVM internal error" in said:
                break
            time.sleep(0.1)
        process.kill()
    return "" if WORKS in log.read_bytes() else NOTHING_RUNS
