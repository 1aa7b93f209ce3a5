#!/bin/bash
# dracut module: root on a multipathed disk by one static binary. No file of the image depends on the storage: which disk is
# claimed is decided at boot from VPD 0x83 and the kernel command line.

check() {
    require_binaries corepath || return 1
    if [[ $hostonly ]] || [[ $mount_needs ]]; then
        local dm
        for dm in /sys/block/dm-*/dm/uuid; do
            [[ -e $dm ]] && [[ $(< "$dm") == mpath-* ]] && return 0
        done
        return 255
    fi
    return 0
}

depends() {
    # Not `dm`, which brings dmsetup, its libraries and all of drivers/md: our rules make the links of our maps where dm's are not.
    echo rootfs-block
    return 0
}

installkernel() {
    # Named one by one: symbol matching misses selectors, and the kernel asks for them only when a table is loaded.
    hostonly='' instmods dm_mod dm_multipath dm_service_time dm_queue_length dm_round_robin \
        =drivers/scsi/device_handler sd_mod sg
    hostonly='' instmods -o dm_historical_service_time dm_io_affinity
}

install() {
    inst_binary corepath
    # Started under this name, systemd and others leave it alive across switch_root (first byte of argv[0]).
    ln_r "$(command -v corepath)" /usr/sbin/@corepath
    inst_multiple -o /etc/multipath.conf "/etc/multipath/conf.d/*.conf"
    inst_rules 60-corepath.rules
    inst_simple /usr/lib/modprobe.d/corepath.conf
    if dracut_module_included systemd; then
        inst_simple "$systemdsystemunitdir/corepath.service"
        inst_simple "$systemdsystemunitdir/corepath-wait-root.service"
        # Has the two started, unless the kernel's command line is against it.
        ln_r "$(command -v corepath)" "$systemdutildir/system-generators/corepath-generator"
    else
        inst_hook pre-trigger 02 "$moddir/corepath-start.sh"
        inst_hook pre-mount 02 "$moddir/corepath-wait.sh"
    fi
    # Before the jobs of its queue, whose names begin with letters.
    inst_hook initqueue/settled 00 "$moddir/corepath-wait.sh"
    inst_hook shutdown 20 "$moddir/corepath-shutdown.sh"
}
