#!/bin/sh
# Run a command of the emulated board.
#
#   enter.sh ROOT FOLDER COMMAND...     FOLDER is seen there as /mnt
#
# The board's own files are read-only and its HOME, /run and /tmp are in memory: what runs there leaves nothing behind.
# All mounts are the command's own and go with it. There is no /sys: this machine's tells of a processor of another kind,
# on which the library that ONNX Runtime asks about its processor crashes.
set -eu
here=$(dirname "$0")
"$here/register.sh" /usr/bin/qemu-aarch64-static
exec unshare --mount --propagation private sh -eu -c '
    root=$1
    folder=$2
    shift 2
    mount --bind "$root" "$root"
    mount -o remount,bind,ro "$root"
    mount -t proc proc "$root/proc"
    mount --rbind /dev "$root/dev"
    for name in root run tmp; do
        mount -t tmpfs -o size=512m tmpfs "$root/$name"
    done
    mkdir -m 755 "$root/run/sshd"
    mount --bind "$folder" "$root/mnt"
    exec chroot "$root" "$@"
' enter "$@"
