#!/bin/sh
# Build the root of an ARM board for the tests: Debian's arm64 python3, numpy and sshd, and the aarch64 wheel of
# onnxruntime, all of which run under qemu's user mode.
#
#   build.sh ROOT REQUIREMENT...        for example: build.sh ~/board onnxruntime==1.31.1 flatbuffers
#
# ROOT appears when it is complete; an attempt that was cut off is thrown away by the next one. About four minutes on
# two cores and 60 MB of downloads; 0.45 GB of disk. Must be root, for chroot and mounts, on Linux on x86-64.
# Needs Debian's packages debootstrap and qemu-user-static, and pip or uv for the wheels.
#
# The kernel is told that qemu runs arm64 programs (binfmt_misc), where it does not know yet. On a machine with an init
# system the package qemu-user-static does the same. It stays so until the machine starts anew.
set -eu

release=bookworm
qemu=/usr/bin/qemu-aarch64-static
root=$1
shift
mkdir -p "$(dirname "$root")"
exec 9>"$root.lock" # two that want it at once build it once
flock 9
if [ -e "$root" ]; then
    exit 0
fi
here=$(dirname "$0")
"$here/register.sh" "$qemu"

building=$root.building
rm -rf --one-file-system "$building"
mkdir -p "$building"

# Its default mirror; EDGEPRUNE_DEBIAN_MIRROR names another one.
debootstrap --arch=arm64 --foreign --variant=minbase --include=python3,python3-numpy,openssh-server \
    "$release" "$building" ${EDGEPRUNE_DEBIAN_MIRROR:+"$EDGEPRUNE_DEBIAN_MIRROR"}
# What the second stage mounts goes with its own view of the mounts.
unshare --mount --propagation private chroot "$building" /debootstrap/debootstrap --second-stage
# The board never installs anything again, and each server brings its own key.
rm -rf "$building"/var/cache/apt/*.bin "$building"/var/cache/apt/archives/*.deb "$building"/var/lib/apt/lists/* \
    "$building"/etc/ssh/ssh_host_*

version=$(chroot "$building" python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
packages=$building/usr/local/lib/python$version/dist-packages
if command -v uv >/dev/null; then
    set -- uv pip install --python-platform aarch64-manylinux_2_35 "$@"
else
    for number in 2_35 2_34 2_31 2_28 2_27 2_17; do
        set -- --platform "manylinux_${number}_aarch64" "$@"
    done
    set -- pip install --implementation cp --platform manylinux2014_aarch64 "$@"
fi
"$@" --quiet --no-deps --only-binary=:all: --python-version "$version" --target "$packages"
mv "$building" "$root"
