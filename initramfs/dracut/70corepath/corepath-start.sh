#!/bin/sh
# Before any uevent is replayed: the daemon listens first, so no path is seen by others before it is claimed.
getargbool 1 rd.corepath && getargbool 1 rd.multipath && ! getarg nompath && [ "$(getarg multipath=)" != off ] && @corepath daemon </dev/null >/dev/kmsg 2>&1 &
