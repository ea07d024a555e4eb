"""What the VM's start consists of: everything that it needs, and no driver of anything
else. An emulated processor takes seconds to load them."""

import driver
import pytest

pytestmark = pytest.mark.timeout(900)  # with the start of the lab
# Of a screen, a CD-ROM, a floppy, radio, and VMs in the VM.
UNUSED = {"bochs", "drm", "sr_mod", "libata", "floppy", "cfg80211", "kvm", "psmouse"}


def test_no_driver_is_loaded_that_has_nothing_to_drive(lab: driver.Lab) -> None:
    loaded = {line.split()[0] for line in lab.in_vm("cat /proc/modules").splitlines()}
    assert {"virtio_blk", "virtio_net", "9p", "ext4"} <= loaded
    assert not loaded & UNUSED


def test_every_unit_has_started(lab: driver.Lab) -> None:
    assert lab.in_vm("systemctl is-system-running --wait") == "running\n"


def test_devices_have_their_owners_and_modes(lab: driver.Lab) -> None:
    """udevd(8) sets them, though not for terminals: see vagrant/image/customize.sh."""
    listed = lab.in_vm("cd /dev && stat -c '%n %U:%G %a' null fuse vda mem")
    assert listed.splitlines() == [
        "null root:root 666",
        "fuse root:root 666",
        "vda root:disk 660",
        "mem root:kmem 640",
    ]


def test_python_had_nothing_to_compile_but_the_project(lab: driver.Lab) -> None:
    """JupyterLab has started, and the guide: the image has the bytecode of all that is
    installed, where Python looks for it."""
    cache = "/var/cache/workshop/pycache"
    find = f"sudo find {cache}/opt {cache}/usr -name '*.pyc'"
    assert int(lab.in_vm(f"{find} | wc -l")) > 1000
    assert lab.in_vm(f'{find} -newermt "$(uptime -s)"') == ""
