#!/bin/sh
# ext4.sh [VERB]: ext4 on a loop device; common.sh says what the verbs do.
. "$(dirname "$0")/common.sh"
name=ext4
size=64M
. "$here/disk.sh"

make() {
	# Nothing is left to a thread that initialises in the background.
	mkfs.ext4 -q -F -b 4096 -N 512 -U 11111111-2222-4333-8444-555555555501 \
		-E hash_seed=11111111-2222-4333-8444-555555555502,lazy_itable_init=0,lazy_journal_init=0,nodiscard "$image"
}

extra() {
	:
}

verify() {
	quietly e2fsck -fn "$image"
}

verb "$1"
