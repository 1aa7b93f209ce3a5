#!/bin/sh
# Root's own map, and nothing else, must be live before root is mounted, and before a job of dracut's queue (lvm_scan) opens what root is in.
# Once: the queue comes here in each round. Not in the queue where a job of it has to log in to the disk first.
if [ ! -e /tmp/.corepath-wait ] && ! { [ "$main_loop" ] && { getargbool 0 rd.neednet || getargbool 0 rd.iscsi.firmware ||
    getarg ip= || getarg netroot= || getarg fcoe= || getarg rd.nvmf.discover=; } >/dev/null; }; then
    : >/tmp/.corepath-wait
    if [ ! "$DRACUT_SYSTEMD" ]; then
        corepath boot --cmdline
    elif [ -e /run/systemd/generator/initrd-root-device.target.wants/corepath-wait-root.service ]; then
        systemctl start corepath-wait-root.service
    fi
fi
