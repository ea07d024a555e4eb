"""Steps with one thing broken: (step, the text to take out, the text to put in, the
fact that must fail). A line that an earlier step added may be broken there instead of
in the last step."""

# Lines of the last step that make no difference to the facts, and why.
NO_DIFFERENCE = {
    'if __name__ == "__main__":': "no program imports a container.py",
}

MUTANTS = [
    # 01_uts
    (
        "01_uts",
        "NAMESPACES = linux.CLONE_NEWUTS | linux.CLONE_NEWIPC  # host name; message queues",
        "NAMESPACES = linux.CLONE_NEWIPC",
        "test_host_name_changed_inside_stays_inside",
    ),
    (
        "01_uts",
        "linux.CLONE_NEWUTS | linux.CLONE_NEWIPC",
        "linux.CLONE_NEWUTS",
        "test_message_queue_of_the_host_is_invisible",
    ),
    (
        "01_uts",
        "    linux.sethostname(args",
        "    (args",
        "test_option_hostname_sets_the_host_name",
    ),
    # 02_pid
    (
        "02_pid",
        "NAMESPACES |= linux.CLONE_NEWPID  # process ids: the command is PID 1",
        "",
        "test_process_of_the_host_cannot_be_killed",
    ),
    (
        "02_pid",
        "NAMESPACES |= linux.CLONE_NEWPID  # process ids: the command is PID 1",
        "",
        "test_death_of_pid_1_ends_all_processes_of_the_container",
    ),
    # 03_mnt
    (
        "03_mnt",
        "NAMESPACES |= linux.CLONE_NEWNS  # the mount table",
        "",
        "test_mount_inside_stays_inside",
    ),
    (
        "03_mnt",
        '    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)  # no propagation\n',
        "",
        "test_root_is_the_image",
    ),
    (
        "03_mnt",
        "linux.MS_REC | linux.MS_PRIVATE",
        "linux.MS_PRIVATE",
        "test_mounts_disappear_when_the_runtime_is_killed",
    ),
    (
        "03_mnt",
        "linux.MS_REC | linux.MS_PRIVATE",
        "linux.MS_REC | 1 << 19",  # MS_SLAVE: mounts on the host still appear inside
        "test_mount_made_on_the_host_does_not_appear_inside",
    ),
    (
        "03_mnt",
        '    linux.umount("/", linux.MNT_DETACH)\n'
        '    os.chdir("/")\n'
        "    for path, tree in trees.items():\n"
        "        process.attach(tree, path)\n",
        "    for path, tree in trees.items():\n"
        "        process.attach(tree, path)\n"
        '    linux.umount("/", linux.MNT_DETACH)\n'
        '    os.chdir("/")\n',
        "test_link_in_an_image_never_leads_to_the_host",
    ),
    (
        "03_mnt",
        "        process.attach(tree, path)\n",
        "        os.makedirs(path, exist_ok=True)\n"
        "        linux.move_mount(tree, path)\n",
        "test_devices_work",
    ),
    (
        "03_mnt",
        '    linux.umount("/", linux.MNT_DETACH)\n',
        "",
        "test_chroot_escape_finds_no_way_out",
    ),
    (
        "03_mnt",
        '    linux.mount(args.image, "/mnt", None, linux.MS_BIND)\n',
        "",
        "test_root_is_the_image",
    ),
    (
        "03_mnt",
        "    linux.pivot_root(root, root)  # the host is at /.. until the umount\n",
        "",
        "test_file_of_the_host_is_out_of_reach",
    ),
    (
        "03_mnt",
        '{"/sys": "ro", ',
        "{",
        "test_sys_is_read_only",
    ),
    (
        "03_mnt",
        'MOUNTS = {"/sys": "sysfs", "/tmp": "tmpfs", "/dev": "tmpfs", "/dev/pts": "devpts"}',
        'MOUNTS = {"/tmp": "tmpfs", "/dev": "tmpfs", "/dev/pts": "devpts"}',
        "test_mount_table_has_the_specified_mounts_and_no_others",
    ),
    (
        "03_mnt",
        ', "/proc": "proc"}',
        "}",
        "test_proc_shows_only_the_containers_processes",
    ),
    (
        "03_mnt",
        ', "/dev/pts": "devpts"}',
        "}",
        "test_container_has_its_own_pseudo_terminals",
    ),
    (
        "03_mnt",
        'MOUNTS |= {"/dev/shm": "tmpfs", "/dev/mqueue": "mqueue", "/proc": "proc"}',
        'MOUNTS |= {"/dev/mqueue": "mqueue", "/proc": "proc"}',
        "test_container_has_its_own_tmp_shm_and_mqueue",
    ),
    (
        "03_mnt",
        ' "/dev/mqueue": "mqueue",',
        "",
        "test_container_has_its_own_tmp_shm_and_mqueue",
    ),
    (
        "03_mnt",
        '"/dev": "tmpfs", ',
        "",
        "test_files_in_dev_and_tmp_do_not_reach_the_image",
    ),
    (
        "03_mnt",
        ' "/tmp": "tmpfs",',
        "",
        "test_files_in_dev_and_tmp_do_not_reach_the_image",
    ),
    (
        "03_mnt",
        'OPTIONS = {"/sys": "ro", "/dev": "nosuid,mode=755", "/dev/pts": "nosuid,ptmxmode=666"}',
        'OPTIONS = {"/sys": "ro", "/dev": "nosuid", "/dev/pts": "nosuid,ptmxmode=666"}',
        "test_ordinary_user_inside_cannot_create_files_in_dev",
    ),
    (
        "03_mnt",
        '"nosuid,ptmxmode=666"',
        '"nosuid"',
        "test_ordinary_user_inside_can_open_a_terminal",
    ),
    (
        "03_mnt",
        '    trees = {p: linux.fsmount(fs, OPTIONS.get(p, "nosuid")) for p, fs in MOUNTS.items()}\n',
        '    trees = {p: linux.fsmount(fs, OPTIONS.get(p, "")) for p, fs in MOUNTS.items()}\n',
        "test_mounts_ignore_set_user_id_bits",
    ),
    (
        "03_mnt",
        '"/dev": "nosuid,mode=755"',
        '"/dev": "mode=755"',
        "test_mounts_ignore_set_user_id_bits",
    ),
    (
        "03_mnt",
        '    trees |= {f"/dev/{name}": linux.open_tree(f"/dev/{name}") for name in DEVICES}\n',
        "",
        "test_devices_work",
    ),
    (
        "03_mnt",
        'DEVICES = "full", "null", ',
        'DEVICES = "null", ',
        "test_dev_has_the_usual_devices_and_no_disk",
    ),
    (
        "03_mnt",
        'LINKS |= {"ptmx": "pts/ptmx"}\n',
        "",
        "test_dev_has_the_usual_devices_and_no_disk",
    ),
    (
        "03_mnt",
        '"fd": "/proc/self/fd", ',
        "",
        "test_links_in_dev_lead_to_the_open_files",
    ),
    (
        "03_mnt",
        '        os.symlink(target, f"/dev/{name}")\n',
        "        pass\n",
        "test_links_in_dev_lead_to_the_open_files",
    ),
    (
        "03_mnt",
        '    linux.umount("/", linux.MNT_DETACH)\n',
        "",
        "test_mount_table_has_the_specified_mounts_and_no_others",
    ),
    (
        "03_mnt",
        '    os.chdir("/")\n',
        "",
        "test_working_directory_is_the_new_root",
    ),
    # 04_net
    (
        "04_net",
        "NAMESPACES |= linux.CLONE_NEWNET  # network devices, addresses, routes, ports",
        "",
        "test_abstract_socket_of_the_host_is_out_of_reach",
    ),
    (
        "04_net",
        '    linux.link_up("lo")\n',
        "",
        "test_container_without_a_network_has_loopback_only",
    ),
    (
        "04_net",
        "        connect(container.pid)\n",
        "        pass\n",
        "test_container_reaches_the_host_over_the_bridge",
    ),
    (
        "04_net",
        "    process.await_parent()\n",
        "    import time; time.sleep(0)\n",
        "test_command_waits_until_its_network_is_ready",
    ),
    (
        "04_net",
        '        process.attach(dns, "/etc/resolv.conf")\n',
        "        pass\n",
        "test_dns_name_is_resolved",
    ),
    (
        "04_net",
        'dns = linux.open_tree("/run/workshop/dns")',
        'dns = linux.open_tree("/etc/resolv.conf")',
        "test_writing_to_resolv_conf_inside_does_not_change_the_hosts",
    ),
    (
        "04_net",
        'process.run(f"ip link add {cable}", hint="as root after sudo steps/network.sh on")',
        'process.run(f"ip link add {cable}")',
        "test_error_for_a_missing_bridge_says_what_to_type",
    ),
    (
        "04_net",
        '    address = f"{a}.{int(b) + (pid >> 16)}.{pid >> 8 & 255}.{pid & 255}/10"',
        '    address = "100.64.0.2/10"',
        "test_many_containers_at_once_have_different_addresses",
    ),
    (
        "04_net",
        'input=setup + f"{a}.{b}.0.1"',
        'input=setup.rpartition("\\n")[0]',
        "test_container_reaches_the_internet_through_nat",
    ),
    (
        "04_net",
        'process.read("/run/workshop/pool").split(".")',
        '"100.64.0.0/10".split(".")',
        "test_address_is_in_the_pool_of_network_sh",
    ),
    (
        "04_net",
        '    process.run(f"nsenter -t {pid} -n ip -batch -", input=setup + f"{a}.{b}.0.1")\n',
        "",
        "test_ip_address_is_derived_from_the_pid",
    ),
    # 05_user
    (
        "05_user",
        "NAMESPACES |= linux.CLONE_NEWUSER  # users, groups and what root may do",
        "",
        "test_device_file_cannot_be_made",
    ),
    (
        "05_user",
        "    map_users(container.pid)\n",
        "",
        "test_uid_and_gid_maps_are_as_specified",
    ),
    (
        "05_user",
        "trees = [linux.idmapped(args.image, container.pid)] if BY_ROOT else []",
        "trees = [linux.open_tree(args.image)] if BY_ROOT else []",
        "test_files_of_the_image_belong_to_root_inside_and_on_disk",
    ),
    (
        "05_user",
        "        os.setgroups([])  # drops the caller's, such as disk; only root may\n",
        "        pass\n",
        "test_groups_of_the_caller_are_dropped",
    ),
    ("05_user", "    os.setgid(0)\n", "", "test_root_inside_is_user_100000_outside"),
    ("05_user", "    os.setuid(0)\n", "", "test_root_inside_is_user_100000_outside"),
    (
        "05_user",
        '    linux.move_mount(trees[0], "/mnt")\n',
        "",
        "test_file_written_inside_has_the_same_owner_on_disk",
    ),
    (
        "05_user",
        '    process.write(f"/proc/{pid}/setgroups", "allow" if BY_ROOT else "deny")\n',
        "",
        "test_container_of_an_ordinary_user_has_loopback_only_and_a_single_id",
    ),
    (
        "05_user",
        '        process.write(f"/proc/{pid}/{file}", ids)\n',
        "        pass\n",
        "test_uid_and_gid_maps_are_as_specified",
    ),
    (
        "05_user",
        '"0 100000 65536"',
        '"0 0 65536"',
        "test_root_inside_is_user_100000_outside",
    ),
    (
        "05_user",
        '"0 100000 65536"',
        '"0 0 65536"',
        "test_resolv_conf_shared_by_all_containers_cannot_be_written",
    ),
    (
        "05_user",
        '"0 100000 65536"',
        '"0 0 65536"',
        "test_kernel_settings_cannot_be_changed",
    ),
    (
        "05_user",
        '"0 100000 65536"',
        '"0 0 65536"',
        "test_root_inside_cannot_inspect_or_signal_the_hosts_processes",
    ),
    # 06_cgroup
    (
        "06_cgroup",
        "NAMESPACES |= linux.CLONE_NEWCGROUP  # its own cgroup looks like the root cgroup",
        "",
        "test_container_sees_its_cgroup_as_the_root",
    ),
    (
        "06_cgroup",
        'MOUNTS |= {"/sys/fs/cgroup": "cgroup2"}\n',
        "",
        "test_container_sees_its_cgroup_as_the_root",
    ),
    (
        "06_cgroup",
        ", cgroup=cgroup)",
        ")",
        "test_process_beyond_the_pids_limit_is_refused",
    ),
    (
        "06_cgroup",
        ", cgroup=cgroup)\n",
        ")\n    if cgroup:\n"
        '        process.write(f"{cgroup}/cgroup.procs", str(container.pid))\n',
        "test_container_is_born_in_its_cgroup",
    ),
    (
        "06_cgroup",
        'process.complain(f"killed by the kernel: out of memory, limit {args.memory}")',
        "pass",
        "test_memory_hog_is_killed_at_its_limit",
    ),
    (
        "06_cgroup",
        '    process.write("/sys/fs/cgroup/cgroup.subtree_control", controllers)\n',
        "",
        "test_limits_of_an_ordinary_user_give_a_one_line_error",
    ),
    (
        "06_cgroup",
        "    cgroup = process.temporary_directory(CGROUPS, os.rmdir, mode=0o755)\n",
        '    os.makedirs(cgroup := f"{CGROUPS}/{os.getpid()}")\n',
        "test_cgroup_is_removed_with_the_container",
    ),
    (
        "06_cgroup",
        '    process.write(f"{CGROUPS}/cgroup.subtree_control", controllers)\n',
        "",
        "test_process_beyond_the_pids_limit_is_refused",
    ),
    (
        "06_cgroup",
        '"memory.max": args.memory, ',
        "",
        "test_memory_hog_is_killed_at_its_limit",
    ),
    (
        "06_cgroup",
        '"memory.max": args.memory, ',
        "",
        "test_memory_limit_includes_files_in_a_tmpfs",
    ),
    (
        "06_cgroup",
        ', "memory.swap.max": args.memory and "0"',
        "",
        "test_container_sees_its_cgroup_as_the_root",
    ),
    (
        "06_cgroup",
        '"pids.max": args.pids, ',
        "",
        # Not the fork bomb's fact: here nothing would stop the bomb.
        "test_process_beyond_the_pids_limit_is_refused",
    ),
    (
        "06_cgroup",
        ', "cpu.max": args.cpus and quota',
        "",
        "test_half_a_cpu_gives_half_a_second_per_second",
    ),
    (
        "06_cgroup",
        '        process.write(f"{cgroup}/{file}", value or "max")\n',
        "        pass\n",
        "test_process_beyond_the_pids_limit_is_refused",
    ),
    # 07_overlay
    (
        "07_overlay",
        '    box = process.temporary_directory(f"{STATE}/containers", process.remove_tree)\n',
        '    os.makedirs(box := f"{STATE}/containers/{os.getpid()}")\n',
        "test_thin_layer_is_removed_with_the_container",
    ),
    (
        "07_overlay",
        '    box = process.temporary_directory(f"{STATE}/containers", process.remove_tree)\n',
        '    box = process.temporary_directory(f"{STATE}/containers", os.rmdir)\n',
        "test_thin_layer_is_removed_with_the_container",
    ),
    (
        "07_overlay",
        'layers = process.read_lines(f"{STATE}/images/{args.image}", most=228)',
        'layers = process.read_lines(f"{STATE}/images/{args.image}", most=228)[:1]',
        "test_app_finds_its_interpreter_in_the_layer_below",
    ),
    (
        "07_overlay",
        'layers = process.read_lines(f"{STATE}/images/{args.image}", most=228)',
        'layers = process.read_lines(f"{STATE}/images/{args.image}", most=228)[::-1]',
        "test_every_layer_is_visible_and_the_top_one_wins",
    ),
    (
        "07_overlay",
        "    trees = [linux.idmapped(p, container.pid) for p in args.paths if BY_ROOT]\n",
        "    trees = [linux.open_tree(p) for p in args.paths if BY_ROOT]\n",
        "test_files_of_every_layer_keep_their_owners",
    ),
    (
        "07_overlay",
        "    trees = [linux.idmapped(p, container.pid) for p in args.paths if BY_ROOT]\n",
        "    trees = [linux.idmapped(p, container.pid) for p in args.paths[:1] if BY_ROOT]\n"
        "    trees += [linux.open_tree(p) for p in args.paths[1:] if BY_ROOT]\n",
        "test_files_of_every_layer_keep_their_owners",
    ),
    (
        "07_overlay",
        "or [linux.open_tree(p) for p in args.paths]",
        "or [linux.open_tree(p) for p in args.paths[:2]]",
        "test_ordinary_user_can_use_layers",
    ),
    (
        "07_overlay",
        'else os.path.expanduser("~/.workshop")',
        'else "/var/lib/workshop"',
        "test_ordinary_user_can_use_layers",
    ),
    (
        "07_overlay",
        ", most=228)",
        ", most=300)",
        "test_bad_list_of_layers_gives_status_125_and_a_short_line",
    ),
    ("07_overlay", "    stack(trees)\n", "", "test_root_is_an_overlay"),
    (
        "07_overlay",
        "    stack(trees)\n",
        '    linux.move_mount(trees[1], "/mnt")\n',
        "test_writes_vanish_with_the_container",
    ),
    (
        "07_overlay",
        '        linux.move_mount(tree, "/mnt")  # hides the tree before, which is still open\n',
        "        pass\n",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        "upperdir={box}/upper,workdir={box}/work",
        "ro",
        "test_writes_vanish_with_the_container",
    ),
    (
        "07_overlay",
        '    linux.mount("overlay", "/mnt", "overlay", 0, f"{options},userxattr")\n',
        "",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        '"overlay", 0, f"{options},userxattr")',
        '"overlay", 0, options)',
        "test_whiteouts_and_opaque_directories_in_a_layer_take_effect",
    ),
]

# The lines of step 07 that come from earlier steps, so that every line has a mutant. Only
# `./lab proof` runs these, because most of them start no container at all.
EVERY_LINE = [
    (
        "07_overlay",
        "import os\nimport sys\n",
        "import sys\n",
        "test_root_is_an_overlay",
    ),
    ("07_overlay", "import os\nimport sys\n", "import os\n", "test_root_is_an_overlay"),
    (
        "07_overlay",
        'sys.path[:0] = [os.path.join(sys.path[0], where) for where in ("../steps", "..")]\n',
        "",
        "test_root_is_an_overlay",
    ),
    ("07_overlay", "import linux\n", "", "test_root_is_an_overlay"),
    ("07_overlay", "import process\n", "", "test_root_is_an_overlay"),
    (
        "07_overlay",
        'USAGE = "run [--hostname NAME] [--net bridge|none]"',
        'USAGE = "run [--net bridge|none]"',
        "test_option_hostname_sets_the_host_name",
    ),
    (
        "07_overlay",
        'USAGE = "run [--hostname NAME] [--net bridge|none]"',
        'USAGE = "run [--hostname NAME] [--net KIND]"',
        "test_unknown_kind_of_network_is_refused",
    ),
    (
        "07_overlay",
        'USAGE += " [--memory SIZE] [--pids COUNT] [--cpus CPUS] IMAGE COMMAND..."',
        'USAGE += " [--memory N] [--pids N] [--cpus N] IMAGE COMMAND..."',
        "test_bad_limit_is_refused_before_anything_is_created",
    ),
    (
        "07_overlay",
        "BY_ROOT = os.geteuid() == 0",
        "BY_ROOT = True",
        "test_ordinary_user_is_root_inside_and_keeps_their_id_outside",
    ),
    (
        "07_overlay",
        "BY_ROOT = os.geteuid() == 0",
        "BY_ROOT = False",
        "test_uid_and_gid_maps_are_as_specified",
    ),
    (
        "07_overlay",
        'STATE = "/var/lib/workshop" if BY_ROOT',
        'STATE = "/var/tmp" if BY_ROOT',
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        'CGROUPS = "/sys/fs/cgroup/workshop"',
        'CGROUPS = "/sys/fs/cgroup"',
        "test_container_is_born_in_its_cgroup",
    ),
    (
        "07_overlay",
        "    layers = [args.image]\n",
        "    layers = []\n",
        "test_image_can_be_given_as_a_path",
    ),
    (
        "07_overlay",
        '    if "/" not in args.image:\n',
        "    if True:\n",
        "test_image_can_be_given_as_a_path",
    ),
    ("07_overlay", '    os.mkdir(f"{box}/upper")\n', "", "test_root_is_an_overlay"),
    ("07_overlay", '    os.mkdir(f"{box}/work")\n', "", "test_root_is_an_overlay"),
    (
        "07_overlay",
        "    args.paths = [box, *layers]\n",
        "    args.paths = [*layers, box]\n",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        'args.net or ("bridge" if BY_ROOT else "none")',
        'args.net or "bridge"',
        "test_container_of_an_ordinary_user_has_loopback_only_and_a_single_id",
    ),
    (
        "07_overlay",
        'args.net or ("bridge" if BY_ROOT else "none")',
        'args.net or "none"',
        "test_default_network_is_the_bridge",
    ),
    (
        "07_overlay",
        "    cgroup = limit(args) if args.memory or args.pids or args.cpus else None\n",
        "    cgroup = limit(args)\n",
        "test_container_without_limits_gets_no_cgroup",
    ),
    (
        "07_overlay",
        "if args.memory or args.pids or args.cpus else",
        "if args.memory else",
        "test_process_beyond_the_pids_limit_is_refused",
    ),
    (
        "07_overlay",
        "if args.memory or args.pids or args.cpus else",
        "if args.memory or args.pids else",
        "test_half_a_cpu_gives_half_a_second_per_second",
    ),
    (
        "07_overlay",
        '    if args.net != "none":\n        connect(container.pid)\n',
        "    connect(container.pid)\n",
        "test_container_without_a_network_has_loopback_only",
    ),
    (
        "07_overlay",
        "    status = process.wait(container, trees)\n",
        "    status = process.wait(container)\n",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        '    if args.memory and process.read_counts(f"{cgroup}/memory.events")["oom_kill"]:\n',
        "    if args.memory:\n",
        "test_allocation_below_the_limit_succeeds",
    ),
    (
        "07_overlay",
        '    if args.memory and process.read_counts(f"{cgroup}/memory.events")["oom_kill"]:\n',
        "    if False:\n",
        "test_memory_hog_is_killed_at_its_limit",
    ),
    (
        "07_overlay",
        "    return status\n",
        "    return 0\n",
        "test_runtime_exits_with_the_status_of_its_command",
    ),
    (
        "07_overlay",
        "    if BY_ROOT:\n        os.setgroups",
        "    if True:\n        os.setgroups",
        "test_ordinary_user_is_root_inside_and_keeps_their_id_outside",
    ),
    (
        "07_overlay",
        '    if args.net != "none":\n        dns',
        "    if True:\n        dns",
        "test_container_without_a_network_has_loopback_only",
    ),
    (
        "07_overlay",
        '    if args.net != "none":\n        # This is network.sh',
        "    if True:\n        # This is network.sh",
        "test_container_without_a_network_has_loopback_only",
    ),
    (
        "07_overlay",
        '    enter_root("/mnt")\n',
        "",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        "    process.execute(args.command)\n",
        "",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        "    for path, tree in trees.items():\n        process",
        "    for path, tree in ():\n        process",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        "    for name, target in LINKS.items():\n",
        "    for name, target in list(LINKS.items())[1:]:\n",
        "test_links_in_dev_lead_to_the_open_files",
    ),
    (
        "07_overlay",
        'DEVICES = "full", ',
        "DEVICES = ",
        "test_dev_has_the_usual_devices_and_no_disk",
    ),
    (
        "07_overlay",
        'LINKS = {"fd": "/proc/self/fd", ',
        "LINKS = {",
        "test_links_in_dev_lead_to_the_open_files",
    ),
    (
        "07_overlay",
        "up master workshop0 type",
        "up type",
        "test_container_reaches_the_host_over_the_bridge",
    ),
    (
        "07_overlay",
        'peer name eth0 netns {pid}"',
        'peer name eth1 netns {pid}"',
        "test_container_reaches_the_host_over_the_bridge",
    ),
    (
        "07_overlay",
        '    setup = f"link set eth0 up\\naddress',
        '    setup = f"address',
        "test_container_reaches_the_host_over_the_bridge",
    ),
    (
        "07_overlay",
        '("uid_map", os.getuid()), ("gid_map", os.getgid())',
        '("uid_map", os.getuid()), ("uid_map", os.getuid())',
        "test_uid_and_gid_maps_are_as_specified",
    ),
    (
        "07_overlay",
        'ids = "0 100000 65536" if BY_ROOT else f"0 {own} 1"',
        'ids = "0 100000 65536"',
        "test_ordinary_user_is_root_inside_and_keeps_their_id_outside",
    ),
    (
        "07_overlay",
        '    controllers = "+cpu +memory +pids"',
        '    controllers = "+cpu +memory"',
        "test_process_beyond_the_pids_limit_is_refused",
    ),
    (
        "07_overlay",
        '    quota = f"{float(args.cpus or 0) * 100000:.0f} 100000"\n',
        '    quota = f"{float(args.cpus or 0) * 200000:.0f} 100000"\n',
        "test_half_a_cpu_gives_half_a_second_per_second",
    ),
    (
        "07_overlay",
        '        process.write(f"{cgroup}/{file}", value or "max")\n',
        "        pass\n",
        "test_process_beyond_the_pids_limit_is_refused",
    ),
    (
        "07_overlay",
        "    return cgroup\n",
        "    return None\n",
        "test_container_is_born_in_its_cgroup",
    ),
    (
        "07_overlay",
        "    for tree in trees:\n",
        "    for tree in trees[1:]:\n",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        '    box, *layers = [f"/proc/self/fd/{tree}" for tree in trees]\n',
        '    box, *layers = [f"/proc/self/fd/{tree}" for tree in trees[:2]]\n',
        "test_app_finds_its_interpreter_in_the_layer_below",
    ),
    (
        "07_overlay",
        "    process.main(parent, USAGE)\n",
        "    pass\n",
        "test_root_is_an_overlay",
    ),
    (
        "07_overlay",
        "    for file, value in limits.items():\n",
        "    for file, value in ():\n",
        "test_process_beyond_the_pids_limit_is_refused",
    ),
]
