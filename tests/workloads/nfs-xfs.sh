#!/bin/sh
# nfs-xfs.sh mount|mix|cleanup: NFS over loopback on ext4, and XFS; common.sh says what the verbs do.
. "$(dirname "$0")/common.sh"

case $1 in
mount)
	sh "$here/xfs.sh" mount && sh "$here/nfs.sh" mount
	;;
mix)
	sh "$here/nfs.sh" mix
	sh "$here/xfs.sh" mix
	;;
cleanup)
	sh "$here/nfs.sh" cleanup
	sh "$here/xfs.sh" cleanup
	;;
*) die "usage: $0 mount|mix|cleanup" ;;
esac
