"""Steps with one thing broken: (step, what is taken out, what is put in, the fact that has
to notice)."""

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
        "test_host_name_is_the_one_asked_for",
    ),
    # 02_pid
    (
        "02_pid",
        "NAMESPACES |= linux.CLONE_NEWPID  # process ids: the command is PID 1",
        "",
        "test_process_of_the_host_cannot_be_killed",
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
        '    linux.mount(None, "/", None, linux.MS_REC | linux.MS_PRIVATE)  # ours stay ours\n',
        "",
        "test_root_is_the_image",
    ),
    (
        "03_mnt",
        '    linux.mount(args.image, "/mnt", None, linux.MS_BIND)\n',
        "",
        "test_root_is_the_image",
    ),
    (
        "03_mnt",
        '    os.chdir("/dev")  # the host\'s, in reach by relative paths even when / is another\n',
        "",
        "test_devices_work",
    ),
    (
        "03_mnt",
        "    linux.pivot_root(root, root)  # the old root lies on top of the new one, unseen\n",
        "",
        "test_file_of_the_host_is_out_of_reach",
    ),
    ("03_mnt", '"sysfs", linux.MS_RDONLY)', '"sysfs")', "test_sys_is_read_only"),
    (
        "03_mnt",
        '    linux.mount("sysfs", "/sys", "sysfs", linux.MS_RDONLY)\n',
        "",
        "test_mount_table_has_what_a_container_needs_and_no_more",
    ),
    (
        "03_mnt",
        'MOUNTS = {"/proc": "proc", "/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}',
        'MOUNTS = {"/dev": "tmpfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}',
        "test_proc_tells_of_the_containers_processes_only",
    ),
    (
        "03_mnt",
        '"/dev/pts": "devpts", ',
        "",
        "test_pseudo_terminals_are_the_containers_own",
    ),
    (
        "03_mnt",
        ', "/dev/shm": "tmpfs"',
        "",
        "test_tmp_shm_and_mqueue_are_the_containers_own",
    ),
    ("03_mnt", '"/dev": "tmpfs", ', "", "test_image_is_as_before"),
    (
        "03_mnt",
        'MOUNTS |= {"/dev/mqueue": "mqueue", "/tmp": "tmpfs"}',
        'MOUNTS |= {"/tmp": "tmpfs"}',
        "test_tmp_shm_and_mqueue_are_the_containers_own",
    ),
    ("03_mnt", ', "/tmp": "tmpfs"', "", "test_image_is_as_before"),
    (
        "03_mnt",
        '"/dev": "mode=755", ',
        "",
        "test_ordinary_user_inside_cannot_write_to_dev",
    ),
    (
        "03_mnt",
        "        linux.mount(kind, target, kind, linux.MS_NOSUID, OPTIONS.get(target))\n",
        "",
        "test_image_is_as_before",
    ),
    (
        "03_mnt",
        "    for target, kind in MOUNTS.items():",
        "    for target, kind in []:",
        "test_image_is_as_before",
    ),
    (
        "03_mnt",
        '        linux.mount(device, f"/dev/{device}", None, linux.MS_BIND)\n',
        "",
        "test_devices_work",
    ),
    ("03_mnt", ' ptmx=pts/ptmx"', '"', "test_dev_has_the_usual_devices_and_no_disk"),
    (
        "03_mnt",
        "fd=/proc/self/fd ",
        "",
        "test_dev_fd_and_its_kin_lead_to_the_open_files",
    ),
    (
        "03_mnt",
        '    linux.umount("/", linux.MNT_DETACH)\n',
        "",
        "test_mount_table_has_what_a_container_needs_and_no_more",
    ),
    (
        "03_mnt",
        '    os.chdir("/")\n',
        "",
        "test_working_directory_is_the_new_root",
    ),
]
