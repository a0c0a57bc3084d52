#!/bin/sh
# xfs.sh [VERB]: XFS on a loop device; common.sh says what the verbs do.
. "$(dirname "$0")/common.sh"
name=xfs
# 300 MB is the least that mkfs.xfs makes; the file is sparse.
size=320M
. "$here/disk.sh"

make() {
	# A new UUID every time: XFS mounts none twice, and an earlier one may never have come off.
	mkfs.xfs -q -f -K -d agcount=2 "$image"
}

extra() {
	reflink
}

verify() {
	quietly xfs_repair -n "$image"
}

verb "$1"
