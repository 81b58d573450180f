#!/bin/sh
# Tell the kernel that the program given runs arm64 programs, unless something does already.
set -eu
rules=/proc/sys/fs/binfmt_misc
[ -e "$rules/register" ] || mount -t binfmt_misc binfmt_misc "$rules"
if [ -e "$rules/qemu-aarch64" ]; then
    exit 0
fi
# An ELF header of 64 bits, little endian, of a program or library (the last bit of the type is masked out) for arm64.
# F: the interpreter is opened now and so is found in a chroot too; P: programs see the name they were called by.
magic='\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
printf '%s' ":qemu-aarch64:M::$magic:$mask:$1:PF" >"$rules/register"
