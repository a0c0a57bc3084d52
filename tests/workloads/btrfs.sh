#!/bin/sh
# btrfs.sh [VERB]: btrfs on a loop device, with a subvolume and a snapshot; common.sh says what the verbs do.
. "$(dirname "$0")/common.sh"
name=btrfs
size=192M
. "$here/disk.sh"

make() {
	# A new UUID every time: mkfs refuses one that exists, and a failed mount can leave a device that the kernel holds
	# for ever (6.12: btrfs_fill_super does not close the devices when super_setup_bdi fails).
	mkfs.btrfs -q -f -K "$image"
}

extra() {
	reflink
	step btrfs subvolume create "$mix/subvolume"
	step append "$mix/subvolume/file" "in a subvolume"
	step btrfs subvolume snapshot "$mix/subvolume" "$mix/snapshot"
	step append "$mix/snapshot/file" "and in its snapshot"
	step btrfs subvolume delete -c "$mix/snapshot"
}

verify() {
	quietly btrfs check "$image"
}

verb "$1"
